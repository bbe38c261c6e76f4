"""Bias and variance of estimators on one prompt: computed, written, drawn."""

import csv
import functools
import math
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from maxrl_jax import estimators, evaluation, objectives, plotting


class Settings(NamedTuple):
  """What is studied; the flags of experiments.gradient_study say more."""

  estimators: tuple[str, ...]
  orders: tuple[str, ...]
  baselines: tuple[str, ...]
  alpha: float
  rollouts: int
  arms: int
  pass_rate: float
  continuous: bool
  groups: int
  seed: int


_SETTINGS = ("pass_rate", "rollouts", "arms", "seed")
_NOT_STUDIED = {
  "series": "needs coefficients of its own; study maxrl, power or pass_at_k",
  "vimco": "follows E[log mean l], which is no function of the pass rate;"
  " study self_normalized",
}
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


def write(rows: list[dict], settings: Settings, path: pathlib.Path) -> None:
  """The rows as a table, each with what it was measured on."""
  shared = {name: getattr(settings, name) for name in _SETTINGS}
  with open(path, "w", newline="") as file:
    writer = csv.DictWriter(file, (*_COLUMNS, *_SETTINGS))
    writer.writeheader()
    writer.writerows(row | shared for row in rows)


def text(rows: list[dict]) -> str:
  """The rows as lines of columns."""
  lines = []
  for row in (dict(zip(_COLUMNS, _COLUMNS, strict=True)), *rows):
    cells = (f"{x:.4g}" if isinstance(x, float) else x for x in row.values())
    lines.append("  ".join(f"{cell!s:<14}" for cell in cells).rstrip())
  return "\n".join(lines)


def study(settings: Settings) -> list[dict]:
  """One row for each estimator, order and baseline."""
  logits, likelihoods = _prompt(settings)
  num = settings.rollouts
  enumerates = logits.shape[0] ** num <= 2**16
  rows = []
  for name, order, baseline in _studied(settings):
    estimator, target, label = _estimator(settings, name, order, baseline)
    if enumerates:
      moments = evaluation.enumerated_moments(
        estimator, logits, likelihoods, num
      )
    else:
      moments = evaluation.sampled_moments(
        jax.random.key(settings.seed + 1),
        estimator,
        logits,
        likelihoods,
        num,
        settings.groups // 1024 * 1024,
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


def _prompt(settings: Settings):
  """Logits and likelihoods of the arms, with E[l] the pass rate asked for."""
  rng = np.random.default_rng(settings.seed)
  arms, p = settings.arms, settings.pass_rate
  if not 0 < p < 1:
    raise ValueError(f"pass_rate = {p}: must be between 0 and 1")
  policy = rng.dirichlet(np.full(arms, 3.0))
  if settings.continuous:
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


def _studied(settings: Settings) -> list[tuple]:
  """(estimator, order or '', baseline or '') to study.

  Raises:
    ValueError: naming the flag, before anything is computed.
  """
  num = settings.rollouts
  orders = _orders(settings)
  baselines = [_number_or_name(b) for b in settings.baselines]
  for flag in ("estimators", "baselines"):
    if not getattr(settings, flag):
      raise ValueError(f"{flag} is empty: name at least one")
  rows = []
  for name in settings.estimators:
    if name not in estimators.ESTIMATORS:
      able = sorted(set(estimators.ESTIMATORS) - set(_NOT_STUDIED))
      raise ValueError(f"estimators: {name!r} is none of {able}")
    if name in _NOT_STUDIED:
      raise ValueError(f"estimators: {name!r} {_NOT_STUDIED[name]}")
    pairs: list[tuple] = [("", "")]
    if name in ("maxrl", "power", "pass_at_k"):
      pairs = [(order, baseline) for baseline in baselines for order in orders]
    for order, baseline in pairs:
      estimator, *_ = _estimator(settings, name, order, baseline)
      # Traced only: an order or a baseline that cannot be is told here.
      jax.eval_shape(estimator, jnp.zeros(num))
      rows.append((name, order, baseline))
  return rows


def _orders(settings: Settings) -> list[int]:
  num = settings.rollouts
  if not settings.orders:
    return sorted({1, max(num // 2, 1), max(num - 1, 1)})
  try:
    return [int(order) for order in settings.orders]
  except ValueError:
    raise ValueError(
      f"orders = {','.join(settings.orders)}: must be whole numbers from 1 to"
      f" rollouts = {num}"
    ) from None


def _number_or_name(baseline: str) -> str | float:
  try:
    number = float(baseline)
  except ValueError:
    return baseline
  if not math.isfinite(number):
    raise ValueError(f"baselines: {baseline}: must be finite")
  return number


def _estimator(settings: Settings, name: str, order, baseline):
  """The estimator, the objective it is held against, and that one's name."""
  function = estimators.ESTIMATORS[name]
  if name == "maxrl":
    options = {"order": order, "baseline": baseline}
    target = objectives.maxrl(order), f"MaxRL T={order}"
  elif name == "power":
    alpha = settings.alpha
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
      "maxrl_paper": _order_below(settings),
      "tail_rl": _order_below(settings),
      "self_normalized": (objectives.maximum_likelihood(), "log p"),
    }.get(name, (objectives.rl(), "p"))
  return functools.partial(function, **options), *target


def _order_below(settings: Settings):
  order = max(settings.rollouts - 1, 1)
  return objectives.maxrl(order), f"MaxRL T={order}"


def draw(rows: list[dict], path: pathlib.Path) -> None:
  """Bars of bias and variance, one of each a row."""
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
