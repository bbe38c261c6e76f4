"""Numbers written by a transformer: labels, likelihoods, sampled gradients."""

from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from configs import noisy_regression
from experiments.figures import noisy_probes, set_steps, warm_ups
from experiments.figures import regression_methods as methods
from experiments.figures.noisy_drawings import (
  EVALUATIONS,
  LABELS,
  MSE,
  draw,
  draw_scores,
  gradient_table,
  table,
)
from experiments.reports.results import Claim, Drawing, Result, bounded, larger
from maxrl_jax import plotting, stats
from maxrl_jax.config import make_task
from maxrl_jax.runs import dataset, study, workers
from maxrl_jax.runs.measure import Measure

FIELDS = (
  *methods.FIELDS,
  "estimator.order",
  "likelihood.name",
  "likelihood.scale",
)


class Settings(NamedTuple):
  """Choices of the figure.

  All methods start from one warm-up on labels, in `stages`: values of
  `task.positive`, of which the last must be 0. The gradients of `prompts`
  prompts are estimated `draws` times with each of `gradient_rollouts`, along
  runs of exact maximum likelihood.
  """

  size: str = "small"  # Of the config.
  orders: tuple[int, ...] = (1, 8, 63)
  others: tuple[str, ...] = (MSE, "GRPO on l")
  batch_size: int = 32  # Prompts per step of the methods.
  rollouts: int = 64
  rate: float = 1e-3
  stages: tuple[float, ...] = (1.0, 0.7, 0.0)
  warmup: int = 320  # Steps of each stage.
  warmup_rate: float = 2e-3
  steps: int = 150
  seeds: int = 5
  gradient_orders: tuple[int, ...] = (1, 4, 16, 63)
  gradient_rollouts: tuple[int, ...] = (8, 64, 512)
  gradient_seeds: int = 2
  prompts: int = 32
  draws: int = 4


PRESETS = {
  "quick": Settings(),
  "full": Settings(
    size="tokens100",
    orders=(1, 2, 4, 8, 16, 32, 63),
    others=(*Settings().others, "IWAE", "VIMCO", "TailRL"),
    warmup=4000,
    warmup_rate=1e-3,
    steps=36_000,
    prompts=128,
    draws=32,
  ),
}


def config_of(settings: Any) -> ConfigDict:
  """The config of a figure's runs, without its method."""
  config = noisy_regression.get_config(settings.size)
  set_steps(config, settings.steps, EVALUATIONS)
  config.batch_size, config.rollouts = settings.batch_size, settings.rollouts
  config.optimizer.learning_rate = settings.rate
  config.optimizer.warmup = min(50, settings.steps // 4)
  return config


def warmed_up(
  settings: Any, runs, fields: dict[str, Any] | None = None
) -> ConfigDict:
  """The config of all methods, from the end of the warm-up.

  Args:
    settings: of the figure: `Settings`, or others with the same names.
    runs: folder of cached runs.
    fields: of the config, changed for the methods. If they change the task, the
      warm-up ends with one more stage on it.
  """
  if settings.stages and settings.stages[-1] != 0:
    raise ValueError(
      f"stages = {settings.stages}: must end with 0, the task of the figure"
    )
  config = config_of(settings)
  changed = {
    name: value
    for name, value in (fields or {}).items()
    if name.startswith("task.") and attrgetter(name)(config) != value
  }
  stages: list[dict] = [{"task.positive": x} for x in settings.stages]
  checkpoint = None
  for stage in [*stages, *([changed] if changed else [])]:
    warming = _warm_up_config(settings)
    warming.update_from_flattened_dict(stage)
    warming.policy.checkpoint = checkpoint
    steps = settings.warmup
    checkpoint = str(warm_ups.trained(warming, steps, runs, "numbers"))
  config.update_from_flattened_dict(fields or {})
  config.policy.checkpoint = checkpoint
  return config


def _warm_up_config(settings: Any) -> ConfigDict:
  """A stage of the warm-up; does not depend on the runs that follow."""
  config = noisy_regression.get_config(settings.size)
  set_steps(config, settings.warmup, 4)
  config.estimator.name = "cross_entropy"
  config.likelihood.name, config.likelihood.scale = "exact_match", None
  config.optimizer.learning_rate = settings.warmup_rate
  config.optimizer.warmup = min(50, settings.warmup // 8)
  return config


def methods_of(settings: Any, scale: float) -> dict[str, tuple]:
  """Values of `FIELDS` by label, with a likelihood of this scale."""
  table: dict[str, tuple] = {
    LABELS: ("cross_entropy", None, None, "exact_match", None),
    "exact ML": ("cross_entropy", None, None, "gaussian", scale),
  }
  for order in sorted(settings.orders):
    table[f"T = {order}"] = ("maxrl", None, order, "gaussian", scale)
  for label in settings.others:
    table[label] = (*methods.METHODS[label], None, "gaussian", scale)
  return table


def measure_of(config: ConfigDict, during: bool = True) -> Measure:
  """What is measured of every method, also during training and at its start."""
  options = (("dim", config.task.dim),)
  splits = ("test",) if during else ()
  return Measure(splits, (1,), noisy_probes.scores, options, at_start=during)


def train(what: study.Study, runs, labels) -> dict[Any, Any]:
  """The runs of every point, by its label."""
  data = study.run(what, runs, workers=workers.per_core())
  return dataset.by_point(data, labels)


def studies(settings: Settings, runs) -> dict[str, study.Study]:
  """All methods; and gradients along runs of exact maximum likelihood."""
  config = warmed_up(settings, runs)
  measure = measure_of(config)
  grid = {FIELDS: list(methods_of(settings, config.likelihood.scale).values())}
  trained = study.study(config, grid, methods.seeds(settings), measure)
  options: tuple = (
    ("orders", settings.gradient_orders),
    ("rollouts", settings.gradient_rollouts),
    ("prompts", settings.prompts),
    ("draws", settings.draws),
  )
  measure = Measure((), (1,), noisy_probes.alignment, options, at_start=True)
  exact = methods.with_method(config, "exact ML")
  seeds = range(1, settings.gradient_seeds + 1)
  return {
    "methods": trained,
    "gradients": study.study(exact, None, seeds, measure),
  }


def figure(settings: Settings, runs) -> Result:
  """Scores over steps by method; cosine and norm of sampled gradients."""
  every = studies(settings, runs)
  config = config_of(settings)
  labels = methods_of(settings, config.likelihood.scale)
  by_label = train(every["methods"], runs, labels)
  gradients = study.run(every["gradients"], runs, workers=workers.per_core())
  best = noisy_probes.references(make_task(config), config.task.dim)
  fitted = {label: fitted_nll(run) for label, run in by_label.items()}
  task = config.task
  caption = (
    f"d = {task.dim}, n = {task.context} pairs, σ = {task.noise:g}, K ="
    f" {task.num_values} numbers of base {task.base}; AdamW,"
    f" {settings.rate:g}, {settings.steps} steps of {config.batch_size} fresh"
    f" prompts from one warm-up on labels ({len(settings.stages)} ×"
    f" {settings.warmup} steps), N = {settings.rollouts}, Gaussian likelihood"
    f" of scale {config.likelihood.scale:g};"
    f" {plotting.seeds_in_words(settings.seeds)}."
    " Left: NLL of the target's number, test split, with the normal noise added"
    " to the policy that fits the validation split best; grey, what ridge"
    " regression reaches (other methods and references in the table). Middle"
    " and right: sampled MaxRL gradients against the exact one of the same"
    f" parameters, {settings.prompts} prompts, along exact maximum likelihood."
  )
  title = "Numbers written by a transformer: from labels or from likelihoods"
  return Result(
    title,
    [
      Drawing(
        "noisy_regression", draw(fitted, gradients, best, settings), caption
      ),
      Drawing(
        "noisy_regression_scores",
        draw_scores(by_label, settings),
        "The same runs on the test split: squared error of the policy's mean to"
        " the signal without noise; largest distance between the distribution"
        " of P(Y ≤ y) and the uniform one, under the method's own likelihood (0"
        " if calibrated); entropy of the policy.",
      ),
    ],
    _claims(
      {label: x[:, -1] for label, x in fitted.items()},
      _mismatch(by_label[LABELS]),
      gradients["probe_cosine"].values,
      settings,
    ),
    [table(by_label, fitted, best), gradient_table(gradients, settings)],
  )


def fitted_nll(run) -> np.ndarray:
  """Test NLL [S, steps] with the noise that fits the validation split best."""
  smoothed = run["probe_smoothed"].values  # [S, steps, split, noise].
  best = np.argmin(smoothed[:, :, :1], -1)[..., None]
  return np.take_along_axis(smoothed[:, :, 1:], best, -1)[:, :, 0, 0]


def _mismatch(run) -> tuple[np.ndarray, np.ndarray]:
  """NLL [S] of the numbers after another prompt's pairs, and their own."""
  names = ("probe_mismatched", "test_digit_nll")
  other, matching = (dataset.final(run, name) for name in names)
  return other, matching


def _claims(nll, mismatch, cosine, settings: Settings) -> list[Claim]:
  """From final NLL by label, `_mismatch`, and cosines [S, …, N, T]."""
  least, most = methods.ends(settings)
  rl = "RL (T = 1)" if least == "T = 1" else least
  gap = stats.difference_interval(nll[most], nll["exact ML"])
  across = np.mean(cosine, (0, 1))  # [N, T], NaN at T ≥ N.
  falls = np.diff(across[-1])
  rises = np.diff(across[:, 0])
  return [
    bounded(
      "noisy_regression.exact",
      "own, from equation 7",
      f"MaxRL of order {max(settings.orders)} ends within 0.05 nats of exact"
      " maximum likelihood.",
      gap,
      below=0.05,
    ),
    larger(
      "noisy_regression.order",
      "own",
      f"{rl} ends with a larger NLL than MaxRL of order"
      f" {max(settings.orders)}.",
      nll[least],
      nll[most],
    ),
    larger(
      "noisy_regression.context",
      "own",
      "The transformer uses its context: with the pairs of another prompt its"
      " NLL is larger (trained from labels).",
      *mismatch,
    ),
    Claim(
      "noisy_regression.gradients",
      "own",
      f"With {settings.gradient_rollouts[-1]} rollouts the cosine with the"
      " exact gradient falls as T grows, and at T ="
      f" {settings.gradient_orders[0]} it rises with N.",
      "by T: "
      + ", ".join(f"{x:.3f}" for x in across[-1])
      + "; by N: "
      + ", ".join(f"{x:.3f}" for x in across[:, 0]),
      "every step in that direction",
      bool((falls < 0).all() and (rises > 0).all()),
      "After the warm-up it rises with T at every scale of the likelihood from"
      " 0.02 to 1: the size of E[l] does not decide it.",
    ),
  ]
