"""Many target dimensions: one group of products, or one group a dimension."""

import numpy as np

from experiments.figures import regression_looks
from experiments.reports.results import Claim, Drawing, Result, Table, larger
from experiments.runs import regression_probes, regression_runs
from experiments.shell import output
from maxrl_jax import plotting, stats
from maxrl_jax.config import default

_DIMS = {"quick": (1, 4, 32), "full": (1, 2, 4, 8, 16, 32)}
_STEPS = {"quick": 1000, "full": 4000}
_RATES = {"quick": (), "full": (1e-3, 3e-3, 1e-2, 3e-2)}
_SEEDS = {"quick": 5, "full": 10}
_METHODS = {
  "exact ML": "black",
  "factorized": plotting.COLOURS["maxrl"],
  "joint": "#882255",
}


def figure(preset: str, workdir) -> Result:
  """E[l] of D dimensions together, and what each way of estimating learns."""
  every, runs = _DIMS[preset], {}
  settings = [(label, dims) for label in _METHODS for dims in every]
  for label, dims in output.bar(settings, desc="factorized", unit="run"):
    found = regression_runs.train(
      _config(label, dims, _STEPS[preset]),
      _SEEDS[preset],
      workdir / "runs",
      f"factorized {label} D{dims}",
      rates=_RATES[preset],
      probe=regression_probes.clean_and_noisy,
    )
    runs[label, dims] = regression_runs.at_point(found, 0)
  errors = {key: run["mse_clean"][:, -1] / key[1] for key, run in runs.items()}
  collapse = {
    dims: [
      float(runs["exact ML", dims][name][:, -1].mean())
      for name in ("log_p_clean", "log_p")
    ]
    for dims in every
  }
  rate = regression_looks.rate_in_words("1e-2", _RATES[preset])
  caption = (
    "Linear teacher with D independent dimensions, SNR 4. Normal policy whose"
    " scale is that of the noise; MaxRL of order N − 1 = 31, Adam,"
    f" {rate}, {_STEPS[preset]} steps, {_SEEDS[preset]} seeds. Left: E[l] of"
    " all dimensions together, of the policy that exact ML trained, at targets"
    " without noise and at the noisy ones that training sees."
    " Right: joint estimation sees the product of D likelihoods, factorized one"
    " group a dimension."
  )
  return Result(
    "Factorized against joint estimation",
    [Drawing("factorized", _draw(collapse, errors), caption)],
    _claims(collapse, errors),
    [_table(errors)],
  )


def _config(label: str, dims: int, steps: int):
  config = default()
  config.task.name, config.task.num_dims = "teacher", dims
  config.likelihood.scale = 0.5
  config.policy.name, config.policy.policy_scale = "normal", 0.5
  config.policy.hidden = ()
  config.rollouts, config.batch_size = 32, 64
  config.steps, config.log_every = steps, steps // 4
  config.eval_every = config.log_every
  config.optimizer.name, config.optimizer.learning_rate = "adam", 1e-2
  if label == "exact ML":
    config.estimator.name = "cross_entropy"
  else:
    config.estimator.factorized = label == "factorized"
  return config


def _draw(collapse, errors):
  drawing, (left, right) = plotting.axes(columns=2, width=4.6, height=3.3)
  _draw_collapse(left, collapse)
  every = list(collapse)
  for label, colour in _METHODS.items():
    values = np.stack([errors[label, dims] for dims in every], 1)
    plotting.interval_curve(
      right,
      every,
      stats.mean_interval(values),
      colour=colour,
      label=label,
    )
  right.set(
    yscale="log",
    xlabel="target dimensions D",
    ylabel="squared error to clean target / D",
    title="after training, test split",
  )
  right.legend()
  for ax in (left, right):
    plotting.every_tick(ax, every, base=2)
  return drawing


def _draw_collapse(ax, collapse) -> None:
  every = np.array(list(collapse))
  clean, noisy = np.exp(np.array(list(collapse.values()))).T
  ax.plot(every, clean, "o", color="black", label="clean targets")
  ax.plot(every, noisy, "s", color="#882255", label="noisy targets")
  ax.plot(every, 2.0 ** (-every / 2), "--", color="0.5", label="2^(−D/2)")
  ax.plot(
    every,
    2.0 ** (-every / 2) * np.exp(-every / 4),
    ":",
    color="0.5",
    label="2^(−D/2) e^(−D/4)",
  )
  ax.set(
    yscale="log",
    xlabel="target dimensions D",
    ylabel="E[l], geometric mean over prompts",
    title="the joint likelihood collapses",
  )
  ax.legend()


def _claims(collapse, errors) -> list[Claim]:
  per_dimension = np.array(
    [[log_p / dims for log_p in pair] for dims, pair in collapse.items()]
  )
  theory = np.array([-np.log(2) / 2, -np.log(2) / 2 - 0.25])
  ratio_to_theory = per_dimension / theory[None]
  largest = max(collapse)
  ratio = (
    errors["factorized", largest].mean() / errors["exact ML", largest].mean()
  )
  return [
    Claim(
      "factorized.collapse",
      "design, scale",
      "E[l] of D dimensions together falls as 2^(−D/2) at clean targets, and"
      " as 2^(−D/2) e^(−D/4), geometrically averaged, at noisy ones.",
      "exponent by theory's: "
      + ", ".join(f"{a:.3f} and {b:.3f}" for a, b in ratio_to_theory),
      "1 ± 0.05 at every D",
      bool(np.abs(ratio_to_theory - 1).max() <= 0.05),
    ),
    larger(
      "factorized.better",
      "own",
      f"At D = {largest} joint estimation ends with a larger error than"
      " factorized.",
      errors["joint", largest],
      errors["factorized", largest],
      digits=4,
    ),
    Claim(
      "factorized.exact",
      "own",
      f"At D = {largest} factorized estimation is within a factor of 2 of exact"
      " ML in squared error.",
      f"ratio {ratio:.2f}",
      "≤ 2",
      bool(ratio <= 2),
    ),
  ]


def _table(errors) -> Table:
  rows, every = [], sorted({dims for _, dims in errors})
  for label in _METHODS:
    row = [label]
    for dims in every:
      mean, low, _ = stats.mean_interval(errors[label, dims])
      row.append(f"{mean:.2g} ± {mean - low:.1g}")
    rows.append(row)
  return Table(
    "Squared error to the clean target, a dimension.",
    ["method", *(f"D = {dims}" for dims in every)],
    rows,
  )
