"""Numbers written by a transformer: scales of likelihoods, a fixed pool."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from experiments.figures import noisy_drawings as drawings
from experiments.figures import regression_methods as methods
from experiments.figures import set_steps
from experiments.figures.noisy_regression import (
  FIELDS,
  config_of,
  fitted_nll,
  measure_of,
  methods_of,
  train,
  warmed_up,
)
from experiments.reports.results import (
  Claim,
  Drawing,
  Result,
  Table,
  bounded,
  larger,
)
from maxrl_jax import plotting, stats
from maxrl_jax.runs import dataset, study


class Settings(NamedTuple):
  """Choices of the figures; those of `noisy_regression` mean the same."""

  size: str = "small"
  orders: tuple[int, ...] = (1, 8, 63)
  others: tuple[str, ...] = (drawings.MSE,)
  batch_size: int = 32
  rollouts: int = 64
  rate: float = 1e-3
  stages: tuple[float, ...] = (1.0, 0.7, 0.0)
  warmup: int = 320
  warmup_rate: float = 2e-3
  steps: int = 150
  seeds: int = 5
  noises: tuple[float, ...] = (0.3, 2.0)  # σ of all prompts.
  scales: tuple[float, ...] = (0.05, 0.1, 0.3, 1.0)  # Of the likelihood.
  pool: int = 128  # Training prompts.


PRESETS = {
  "quick": Settings(),
  "full": Settings(
    orders=(1, 2, 4, 8, 16, 32, 63),
    warmup=640,
    steps=1500,
    noises=(0.05, 0.1, 0.3, 1.0, 2.0),
    scales=(0.05, 0.1, 0.2, 0.5, 1.0, 2.0),
    pool=512,
  ),
}


def study_of(
  settings: Settings,
  runs,
  situation: dict[str, Any],
  grid: Mapping,
  evaluations: int = 1,
) -> study.Study:
  """A grid of methods from the warm-up of a situation.

  Args:
    settings: of the figure.
    runs: folder of cached runs.
    situation: fields of the config.
    grid: of the study.
    evaluations: during a run; more than one begin at its start.
  """
  config = warmed_up(settings, runs, situation)
  set_steps(config, settings.steps, evaluations)
  measure = measure_of(config, during=evaluations > 1)
  return study.study(config, grid, methods.seeds(settings), measure)


def final_nll(run) -> np.ndarray:
  """NLL [S] after training, with fitted noise."""
  return fitted_nll(run)[:, -1]


def describe(settings: Settings) -> str:
  """What the runs have in common, for a caption."""
  config = config_of(settings)
  return (
    f"{settings.steps} steps of {config.batch_size} prompts, N ="
    f" {settings.rollouts}, AdamW, {settings.rate:g}, from a warm-up on labels"
    f" ({len(settings.stages)} × {settings.warmup} steps); NLL of the target's"
    " number, test split, with the normal noise added to each policy that fits"
    " the validation split best"
  )


def scale_studies(settings: Settings, runs) -> dict[str, study.Study]:
  """Every order and exact maximum likelihood, at every scale."""
  grid = {FIELDS: [*_points(settings).values()]}
  return {"methods": study_of(settings, runs, {}, grid)}


def _points(settings: Settings) -> dict[tuple[float, str], tuple]:
  labels = ("exact ML", *(f"T = {t}" for t in settings.orders))
  return {
    (scale, label): methods_of(settings, scale)[label]
    for scale in settings.scales
    for label in labels
  }


def scale(settings: Settings, runs) -> Result:
  """Which order is needed at which scale of the likelihood."""
  trained = train(
    scale_studies(settings, runs)["methods"], runs, _points(settings)
  )
  nll = {point: final_nll(run) for point, run in trained.items()}
  needed = {
    point: 1 / dataset.final(run, "test_pass_rate")
    for point, run in trained.items()
  }
  caption = (
    "Left: NLL minus that of exact maximum likelihood with the same scale."
    " Right: 1/E[l] after training, the order from which the weight hardly"
    f" grows. {describe(settings)}; {plotting.seeds_in_words(settings.seeds)}."
  )
  rows = [[*point, x, needed[point]] for point, x in nll.items()]
  return Result(
    "Numbers written by a transformer: order and scale",
    [Drawing("noisy_scale", _draw_scale(nll, needed, settings), caption)],
    _scale_claims(nll, settings),
    [
      Table(
        "After training, test split.",
        ["scale", "method", "fitted NLL", "1/E[l]"],
        rows,
      )
    ],
  )


def _draw_scale(nll, needed, settings: Settings):
  drawing, (left, right) = plotting.axes(columns=2, width=4.2, height=3.2)
  looks = drawings.colours(settings)
  of = lambda x, label: np.stack(  # noqa: E731
    [x[scale, label] for scale in settings.scales], -1
  )
  orders = [f"T = {t}" for t in plotting.few(settings.orders, 5)]
  for label in (*orders, "exact ML"):
    look = {"colour": looks[label], "label": label}
    plotting.seed_curves(right, settings.scales, of(needed, label), **look)
    if label != "exact ML":
      gap = of(nll, label) - of(nll, "exact ML")
      plotting.seed_curves(left, settings.scales, gap, **look)
  for ax in (left, right):
    plotting.every_tick(ax, settings.scales)
    ax.set(xlabel="scale of the likelihood")
  left.set(ylabel="NLL above exact ML, nats")
  right.set(ylabel="1/E[l]", yscale="log")
  right.yaxis.set_major_formatter("{x:g}")
  right.yaxis.set_minor_formatter("{x:g}")
  right.legend()
  return drawing


def _scale_claims(nll, settings: Settings) -> list[Claim]:
  least, most = methods.ends(settings)
  small, large = min(settings.scales), max(settings.scales)
  gaps = {s: nll[s, least] - nll[s, most] for s in (small, large)}
  return [
    larger(
      "noisy_scale.small",
      "own",
      f"The order matters more at a small scale: {least} is further above"
      f" {most} at {small:g} than at {large:g}.",
      gaps[small],
      gaps[large],
    ),
    bounded(
      "noisy_scale.large",
      "own",
      f"At a scale of {large:g} {least} and {most} end with the same NLL.",
      stats.mean_interval(gaps[large]),
      above=-0.05,
      below=0.05,
    ),
  ]


def pool_studies(settings: Settings, runs) -> dict[str, study.Study]:
  """All methods with fresh prompts, and with a pool."""
  config = config_of(settings)
  rows = [*methods_of(settings, config.likelihood.scale).values()]
  sizes = [None, settings.pool]
  grid = {"task.train_size": sizes, FIELDS: rows}
  return {"methods": study_of(settings, runs, {}, grid, drawings.EVALUATIONS)}


def pool(settings: Settings, runs) -> Result:
  """NLL over steps with fresh prompts, and with a pool."""
  points = [
    (fixed, label)
    for fixed in (False, True)
    for label in methods_of(settings, 1.0)
  ]
  trained = train(pool_studies(settings, runs)["methods"], runs, points)
  nll = {p: fitted_nll(run) for p, run in trained.items()}
  config = config_of(settings)
  epochs = settings.steps * config.batch_size / settings.pool
  caption = (
    "Left: every training prompt is new. Right: all are drawn from a pool of"
    f" {settings.pool}, each about {epochs:g} times. {describe(settings)};"
    f" {plotting.seeds_in_words(settings.seeds)}."
  )
  rows = [
    ["pool" if fixed else "fresh", label, x[:, -1], x.min(1)]
    for (fixed, label), x in nll.items()
  ]
  return Result(
    "Numbers written by a transformer: a fixed pool of prompts",
    [Drawing("noisy_pool", _draw_pool(nll, settings), caption)],
    _pool_claims({p: x[:, -1] for p, x in nll.items()}, settings),
    [
      Table(
        "Fitted NLL, test split.",
        ["prompts", "method", "after training", "smallest"],
        rows,
      )
    ],
  )


def _draw_pool(nll, settings: Settings):
  drawing, axes = plotting.axes(columns=2, width=4.2, height=3.4)
  for fixed, ax in enumerate(axes):
    values = {label: x for (pool, label), x in nll.items() if pool == fixed}
    drawings.draw_methods(ax, values, settings)
    ax.set(title=("fresh prompts", "a fixed pool")[fixed], xlabel="step")
  axes[0].set_ylabel("NLL of the number, nats")
  axes[1].sharey(axes[0])
  plotting.legend_below(drawing, axes[0])
  return drawing


def _pool_claims(nll, settings: Settings) -> list[Claim]:
  _, most = methods.ends(settings)
  lost = {
    label: nll[True, label] - nll[False, label]
    for label in (drawings.LABELS, most)
  }
  return [
    larger(
      "noisy_pool.labels",
      "own",
      f"Training on labels loses more by a fixed pool than {most}.",
      lost[drawings.LABELS],
      lost[most],
    )
  ]
