"""Many target dimensions: one group of products, or one group per dimension."""

import itertools
from typing import NamedTuple

import numpy as np

from experiments.figures import regression_methods as methods
from experiments.figures import set_steps
from experiments.reports.results import Claim, Drawing, Result, Table, larger
from maxrl_jax import plotting, stats
from maxrl_jax.config import default
from maxrl_jax.runs import dataset, study
from maxrl_jax.runs.measure import Measure

_FIELDS = ("estimator.name", "estimator.factorized")
_METHODS = {
  "exact ML": ("cross_entropy", None),
  "factorized": ("maxrl", True),
  "joint": ("maxrl", False),
}
COLOURS = {
  "exact ML": "black",
  "factorized": plotting.COLOURS["maxrl"],
  "joint": "#882255",
}


class Settings(NamedTuple):
  """Choices of the figure; without rates, every method has the config's."""

  dims: tuple[int, ...] = (1, 4, 32)
  rollouts: int = 32
  rates: tuple[float, ...] = ()
  steps: int = 1000
  seeds: int = 5


PRESETS = {
  "quick": Settings(),
  "full": Settings(
    dims=(1, 2, 4, 8, 16, 32),
    rates=(1e-3, 3e-3, 1e-2, 3e-2),
    steps=4000,
    seeds=10,
  ),
}


def _config(settings: Settings):
  config = default(task="teacher")
  config.likelihood.scale = 0.5
  config.policy.name, config.policy.policy_scale = "normal", 0.5
  config.policy.hidden = ()
  config.rollouts, config.batch_size = settings.rollouts, 64
  set_steps(config, settings.steps, evaluations=4)
  config.optimizer.name, config.optimizer.learning_rate = "adam", 1e-2
  return config


def studies(settings: Settings, runs) -> dict[str, study.Study]:
  """Exact ML, factorized and joint estimation, for every D."""
  del runs
  grid = {_FIELDS: list(_METHODS.values()), "task.num_dims": settings.dims}
  measure = Measure(ks=(1,), probe=methods.clean_and_noisy)
  seeds = methods.seeds(settings)
  return {"methods": study.study(_config(settings), grid, seeds, measure)}


def figure(settings: Settings, runs) -> Result:
  """E[l] of D dimensions together, and what each way of estimating learns."""
  what = studies(settings, runs)["methods"]
  labels = itertools.product(_METHODS, settings.dims)
  data = methods.at_best_rates(what, labels, settings.rates, runs)
  errors = {
    (label, dims): dataset.final(run, "test_mse_clean") / dims
    for (label, dims), run in data.items()
  }
  collapse = {
    dims: [
      float(dataset.final(data["exact ML", dims], f"probe_{name}").mean())
      for name in ("log_p_clean", "log_p")
    ]
    for dims in sorted(settings.dims)
  }
  rate = methods.rate_in_words(_config(settings), settings.rates)
  caption = (
    "Linear teacher with D independent dimensions, SNR 4. Normal policy whose"
    " scale is that of the noise; MaxRL of order N − 1 ="
    f" {settings.rollouts - 1}, Adam, {rate}, {settings.steps} steps,"
    f" {settings.seeds} seeds. Left: E[l] of all dimensions together, of the"
    " policy that exact ML trained, at targets without noise and at the noisy"
    " ones of training. Right: joint estimation has one group with the product"
    " of D likelihoods, factorized estimation one group per dimension."
  )
  return Result(
    "Factorized against joint estimation",
    [Drawing("factorized", _draw(collapse, errors), caption)],
    _claims(collapse, errors),
    [_table(errors)],
  )


def _draw(collapse, errors):
  drawing, (left, right) = plotting.axes(columns=2, width=4.6, height=3.3)
  _draw_collapse(left, collapse)
  every = list(collapse)
  for label, colour in COLOURS.items():
    values = [errors[label, dims] for dims in every]
    plotting.mean_curve(right, every, values, colour=colour, label=label)
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
  theory = 2.0 ** (-every / 2)
  ax.plot(every, theory, "--", color="0.5", label="2^(−D/2)")
  theory = theory * np.exp(-every / 4)
  ax.plot(every, theory, ":", color="0.5", label="2^(−D/2) e^(−D/4)")
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
    "Squared error to the clean target, per dimension: mean ± half the 95 %"
    " interval over seeds.",
    ["method", *(f"D = {dims}" for dims in every)],
    rows,
  )
