"""Study estimators on one prompt, without training.

    python -m experiments.gradient_study --estimators=maxrl,grpo,rloo \
      --rollouts=8 --orders=1,4,7 --pass_rate=0.05 --workdir=runs/study

A softmax policy over `--arms` actions; of each estimator, the expected gradient
against the exact one it claims (bias) and its variance, exactly by enumerating
all outcomes where there are few enough, else by sampling. Writes study.csv and
study.png, and prints the table.
"""

import csv
import functools
import pathlib

import matplotlib

matplotlib.use("Agg")  # Before pyplot: no display is needed.

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from absl import flags

from experiments import console, workdirs
from maxrl_jax import estimators, evaluation, objectives, plotting

_ESTIMATORS = flags.DEFINE_list(
  "estimators", "maxrl,rloo,grpo", "Names from estimators.ESTIMATORS."
)
_ORDERS = flags.DEFINE_list(
  "orders", None, "T of maxrl and power, K of pass_at_k; default 1, N/2, N−1."
)
_BASELINES = flags.DEFINE_list(
  "baselines", "centred", "Baselines of maxrl, power and pass_at_k."
)
_ALPHA = flags.DEFINE_float("alpha", 0.5, "α of power.")
_ROLLOUTS = flags.DEFINE_integer("rollouts", 8, "N, rollouts a group.", 1)
_ARMS = flags.DEFINE_integer("arms", 4, "Actions of the policy.", 2)
_PASS_RATE = flags.DEFINE_float("pass_rate", 0.1, "p of the prompt.", 0, 1)
_CONTINUOUS = flags.DEFINE_bool(
  "continuous", False, "Likelihoods in [0, 1] rather than right or wrong."
)
_GROUPS = flags.DEFINE_integer(
  "groups", 2**16, "Groups to sample where outcomes are too many.", 1024
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the policy and the samples.")
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Folder for results; made if need be.", required=True
)
_SETTINGS = ("pass_rate", "rollouts", "arms", "seed")
_COLUMNS = (
  "estimator",
  "order",
  "baseline",
  "target",
  "bias",
  "bias_error",
  "variance",
  "how",
)


def main(argv) -> None:
  console.no_arguments(argv)
  rows = study()
  workdir = pathlib.Path(_WORKDIR.value)
  workdirs.make(workdir)
  with open(workdir / "study.csv", "w", newline="") as file:
    writer = csv.DictWriter(file, (*_COLUMNS, *_SETTINGS))
    writer.writeheader()
    settings = {name: flags.FLAGS[name].value for name in _SETTINGS}
    writer.writerows(row | settings for row in rows)
  _draw(rows, workdir / "study.png")
  for row in (dict(zip(_COLUMNS, _COLUMNS, strict=True)), *rows):
    cells = (f"{x:.4g}" if isinstance(x, float) else x for x in row.values())
    print("  ".join(f"{cell!s:<14}" for cell in cells).rstrip())
  print(f"{workdir / 'study.csv'}, {workdir / 'study.png'}")


def study() -> list[dict]:
  """One row for each estimator, order and baseline."""
  logits, likelihoods = _prompt()
  num = _ROLLOUTS.value
  enumerates = logits.shape[0] ** num <= 2**16
  rows = []
  for name, order, baseline in _settings():
    estimator, target, label = _estimator(name, order, baseline)
    if enumerates:
      moments = evaluation.enumerated_moments(
        estimator, logits, likelihoods, num
      )
    else:
      moments = evaluation.sampled_moments(
        jax.random.key(_SEED.value + 1),
        estimator,
        logits,
        likelihoods,
        num,
        _GROUPS.value // 1024 * 1024,
      )
    truth = evaluation.exact_gradient(target, logits, likelihoods)
    size = jnp.linalg.norm(truth)
    cells = (
      name,
      order,
      baseline,
      label,
      float(jnp.linalg.norm(moments.mean - truth) / size),
      float(jnp.linalg.norm(moments.standard_error) / size),
      float(moments.variance),
      "enumerated" if enumerates else "sampled",
    )
    rows.append(dict(zip(_COLUMNS, cells, strict=True)))
  return rows


def _prompt():
  """Logits and likelihoods of the arms, with E[l] the pass rate asked for."""
  rng = np.random.default_rng(_SEED.value)
  arms, p = _ARMS.value, _PASS_RATE.value
  if not 0 < p < 1:
    raise ValueError(f"pass_rate = {p}: must be between 0 and 1")
  policy = rng.dirichlet(np.full(arms, 3.0))
  if _CONTINUOUS.value:
    # E[l^c] falls from 1 to 0 as c grows.
    base = rng.uniform(size=arms)
    low, high = 0.0, 1e9
    for _ in range(100):
      power = (low + high) / 2
      low, high = (power, high) if policy @ base**power > p else (low, power)
    likelihoods: np.ndarray = base**power
  else:
    right = max(arms // 2, 1)
    policy[:right] *= p / policy[:right].sum()
    policy[right:] *= (1 - p) / policy[right:].sum()
    likelihoods = np.arange(arms) < right
  return jnp.log(jnp.asarray(policy)), jnp.asarray(likelihoods)


def _settings():
  """(estimator, order or '', baseline or '') to study."""
  num = _ROLLOUTS.value
  default = sorted({1, max(num // 2, 1), max(num - 1, 1)})
  orders = [int(t) for t in _ORDERS.value or default]
  baselines = [_number_or_name(b) for b in _BASELINES.value]
  for flag, values in (("estimators", _ESTIMATORS), ("baselines", _BASELINES)):
    if not values.value:
      raise ValueError(f"{flag} is empty: name at least one")
  for name in _ESTIMATORS.value:
    if name not in estimators.ESTIMATORS:
      raise ValueError(
        f"estimators: {name!r} is none of {sorted(estimators.ESTIMATORS)}"
      )
    if name == "series":
      raise ValueError(
        "estimators: 'series' needs coefficients of its own; study maxrl, power"
        " or pass_at_k"
      )
    if name in ("maxrl", "power", "pass_at_k"):
      for baseline in baselines:
        yield from ((name, order, baseline) for order in orders)
    else:
      yield name, "", ""


def _number_or_name(baseline: str) -> str | float:
  try:
    return float(baseline)
  except ValueError:
    return baseline


def _estimator(name: str, order, baseline):
  """The estimator, the objective it is held against, and that one's name."""
  function = estimators.ESTIMATORS[name]
  if name == "maxrl":
    options = {"order": order, "baseline": baseline}
    target = objectives.maxrl(order), f"MaxRL T={order}"
  elif name == "power":
    alpha = _ALPHA.value
    options = {"alpha": alpha, "order": order, "baseline": baseline}
    whole = objectives.power(alpha)
    assert whole.coefficients is not None
    series = objectives.series(whole.coefficients(order))
    target = series, f"power {alpha:g} T={order}"
  elif name == "pass_at_k":
    options = {"k": order, "baseline": baseline}
    target = objectives.pass_at_k(order), f"pass@{order}"
  else:
    options = {}
    target = {
      "grpo": (objectives.grpo(), "2 arcsin √p"),
      "maxrl_paper": _order_below(),
      "tail_rl": _order_below(),
      "self_normalized": (objectives.maximum_likelihood(), "log p"),
    }.get(name, (objectives.rl(), "p"))
  return functools.partial(function, **options), *target


def _order_below():
  order = max(_ROLLOUTS.value - 1, 1)
  return objectives.maxrl(order), f"MaxRL T={order}"


def _draw(rows: list[dict], path: pathlib.Path) -> None:
  with plotting.styled():
    height = 1.2 + 0.24 * len(rows)
    figure, (left, right) = plotting.axes(columns=2, height=height)
    names = [
      " ".join(str(row[c]) for c in _COLUMNS[:3] if row[c] != "")
      for row in rows
    ]
    colours = [plotting.COLOURS[row["estimator"]] for row in rows]
    errors = [row["bias_error"] for row in rows]
    left.barh(names, [r["bias"] for r in rows], xerr=errors, color=colours)
    left.set(xlabel="bias / length of the exact gradient")
    right.barh(names, [row["variance"] for row in rows], color=colours)
    right.set(xlabel="variance (trace)", yticklabels=[])
    for ax in (left, right):
      ax.invert_yaxis()
      ax.locator_params(axis="x", nbins=4)
    figure.savefig(path)
    plt.close(figure)


if __name__ == "__main__":
  console.run(main)
