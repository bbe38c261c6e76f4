"""Digit strings: several updates per batch, and rollouts of old parameters."""

from typing import Any, NamedTuple

import numpy as np

from configs import budget
from experiments.figures import set_steps
from experiments.reports.results import (
  Claim,
  Drawing,
  Result,
  Table,
  bounded,
  larger,
)
from experiments.reports.sweep_analysis import Method, Sweep, analyse
from maxrl_jax import plotting, stats
from maxrl_jax.config import RATE
from maxrl_jax.runs import study
from maxrl_jax.runs.choose import rate_text
from maxrl_jax.runs.progress import counted, listed

FIELDS = (
  "estimator.name",
  "off_policy.name",
  "off_policy.updates",
  "off_policy.staleness",
)
LABELS = {"maxrl": "MaxRL", "grpo": "GRPO"}
_COLOURS = {
  "uncorrected": "#666666",
  "unclipped": plotting.COLOURS["maxrl"],
  "truncated": plotting.COLOURS["power"],
  "clipped": plotting.COLOURS["grpo"],
  "reweighted": plotting.COLOURS["tail_rl"],
  "geometric": plotting.COLOURS["pass_at_k"],
}


class Point(NamedTuple):
  """An estimator, a loss, U updates per batch and staleness S."""

  estimator: str
  loss: str | None = None
  updates: int = 1
  staleness: int = 0

  @property
  def fields(self) -> tuple[str | int | None, ...]:
    """Values of `FIELDS`; fields that would change nothing are not set."""
    updates = self.updates if self.updates > 1 else None
    return self.estimator, self.loss, updates, self.staleness or None


class Settings(NamedTuple):
  """Choices of the figure.

  MaxRL trains with the `losses` at every U and S, and with the `reused` ones at
  U = 4; GRPO with the losses in `grpo` at every U and S. The claims are about
  U = 4 and 8, S = 3, and the losses of `quick`, as far as these are there.
  """

  losses: tuple[str, ...] = ("uncorrected", "unclipped", "clipped")
  reused: tuple[str, ...] = ("truncated", "reweighted")
  grpo: tuple[str, ...] = ("clipped",)
  updates: tuple[int, ...] = (1, 2, 4, 8)
  staleness: tuple[int, ...] = (0, 1, 3)
  rates: tuple[float, ...] = (2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2)
  batch_size: int = 16
  rollouts: int = 64
  steps: int = 250
  seeds: int = 6


PRESETS = {
  "quick": Settings(),
  "full": Settings(
    losses=("uncorrected", "unclipped", "truncated", "clipped", "reweighted"),
    reused=(),
    grpo=("uncorrected", "unclipped", "truncated", "clipped"),
    steps=1000,
    seeds=12,
  ),
}
REUSED, _MOST, STALE = 4, 8, 3  # U, U and S of the claims.


def points(settings: Any) -> list[Point]:
  """What the settings of this figure, or of mazes, compare.

  On policy first, for each estimator.
  """
  chosen = []
  losses = {"maxrl": settings.losses, "grpo": settings.grpo}
  for estimator in LABELS:
    chosen.append(Point(estimator))
    for loss in losses[estimator]:
      chosen += [Point(estimator, loss, u) for u in settings.updates if u > 1]
      chosen += [Point(estimator, loss, 1, s) for s in settings.staleness if s]
  return chosen + [Point("maxrl", loss, REUSED) for loss in settings.reused]


def studies(settings: Settings, runs) -> dict[str, study.Study]:
  """Every point and learning rate."""
  del runs
  config = budget.get_config()
  set_steps(config, settings.steps, evaluations=5)
  config.optimizer.warmup = settings.steps // 20
  config.batch_size = settings.batch_size
  config.rollouts = settings.rollouts
  rows = [point.fields for point in points(settings)]
  grid = {FIELDS: rows, RATE: settings.rates}
  return {"off_policy": study.study(config, grid, range(settings.seeds))}


def figure(settings: Settings, runs) -> Result:
  """Test pass@1 by updates and by staleness."""
  what = studies(settings, runs)["off_policy"]
  sweep = analyse(study.run(what, runs), what.axes)
  methods = dict(zip(points(settings), sweep.methods, strict=True))
  best = {point: sweep.test(method) for point, method in methods.items()}
  shared = _at_rates_on_policy(sweep, methods)
  rows = {
    "test pass@1, chosen rate": best,
    "test pass@1, rate of U = 1, S = 0": shared,
  }
  caption = (
    "Strings of two digits (100 classes): test pass@1 after"
    f" {settings.steps} batches of {settings.batch_size} strings ×"
    f" {settings.rollouts} rollouts, against the updates on each batch and the"
    " age of the parameters that drew it, by loss. Above, the rate of every"
    f" point is chosen from {listed(settings.rates)} on"
    f" {counted(len(sweep.tuning), 'seed')} by the validation split;"
    " below, it is that of training on policy."
    f" {plotting.seeds_in_words(len(next(iter(best.values())))).capitalize()},"
    " which are others."
  )
  return Result(
    "Off policy: several updates a batch, and stale rollouts",
    [Drawing("off_policy", draw(settings, rows)[0], caption)],
    _claims(best, shared),
    [_table(sweep, methods, shared)],
  )


def _at_rates_on_policy(
  sweep: Sweep, methods: dict[Point, Method]
) -> dict[Point, np.ndarray]:
  """Test scores of every point at the rate that its estimator chose."""
  return {
    point: sweep.test(
      method._replace(choice=methods[Point(point.estimator)].choice)
    )
    for point, method in methods.items()
  }


def draw(settings: Any, rows: dict[str, dict[Point, np.ndarray]]):
  """Scores of points by U and by S, a row for each label."""
  drawing, axes = plotting.axes(columns=4, rows=2, width=2.9, height=2.8)
  for row, (label, scores) in zip(axes, rows.items(), strict=True):
    for column, estimator in enumerate(LABELS):
      left, right = row[2 * column : 2 * column + 2]
      for loss in _COLOURS:
        _curve(left, scores, estimator, loss, "updates")
        _curve(right, scores, estimator, loss, "staleness")
      left.set(xlabel="updates per batch U", title=LABELS[estimator])
      right.set(xlabel="staleness S, batches", title=LABELS[estimator])
      plotting.every_tick(left, settings.updates, base=2)
      right.set_xticks(settings.staleness)
    top = max(np.max(x) for x in scores.values()) * 1.1
    for ax in row:
      ax.set_ylim(0, top)
    row[0].set_ylabel(label)
  plotting.legend_below(drawing, axes[0, 0])
  return drawing, axes


def _curve(ax, scores, estimator: str, loss: str, field: str) -> None:
  """One loss against U or S, starting on policy."""
  other = "staleness" if field == "updates" else "updates"
  others = {
    getattr(point, field): values
    for point, values in scores.items()
    if (point.estimator, point.loss) == (estimator, loss)
    and getattr(point, other) == getattr(Point(estimator), other)
  }
  on_policy = Point(estimator)
  chosen = others | {getattr(on_policy, field): scores[on_policy]}
  if len(chosen) == 1:
    return
  x = sorted(chosen)
  values = np.stack([chosen[place] for place in x], 1)
  look = {"colour": _COLOURS[loss], "label": loss, "marker": "."}
  plotting.seed_curves(ax, x, values, **look)


def _claims(best, shared) -> list[Claim]:
  """From test pass@1 of the points, [seeds] each; those that are there."""
  on_policy = Point("maxrl")
  reused = Point("maxrl", "unclipped", REUSED)
  most = reused._replace(updates=_MOST)
  stale = Point("maxrl", "unclipped", 1, STALE)
  clipped = Point("maxrl", "clipped", _MOST)
  by_updates = clipped._replace(updates=REUSED)
  by_staleness = stale._replace(loss="clipped")

  def ends_above(name, text, first, second, scores=best, source="own"):
    """The claim, if both points are there."""
    if not {first, second} <= best.keys():
      return []
    id = f"off_policy.{name}"
    return [larger(id, source, text, scores[first], scores[second])]

  def within(name, text, first, second, **bounds):
    if not {first, second} <= best.keys():
      return []
    id, source = f"off_policy.{name}", "own, theorems 21 and 22"
    gap = stats.difference_interval(best[first], best[second])
    return [bounded(id, source, text, gap, **bounds)]

  return [
    *ends_above(
      "reuse",
      f"{REUSED} updates on each batch with unclipped ratios end above one,"
      " for MaxRL.",
      *(reused, on_policy),
    ),
    *ends_above(
      "correction",
      f"At {_MOST} updates unclipped ratios end above none.",
      *(most, most._replace(loss="uncorrected")),
      source="own, theorem 21",
    ),
    *within(
      "stale",
      f"With rollouts that are {STALE} batches old, unclipped ratios end"
      " within .03 of training on policy, or above it.",
      *(stale, on_policy),
      above=-0.03,
    ),
    *within(
      "weight",
      "Whether a prompt's weight is that of the behaviour or of the current"
      f" policy makes no difference of .03 at {REUSED} updates.",
      *(reused._replace(loss="reweighted"), reused),
      above=-0.03,
      below=0.03,
    ),
    *ends_above(
      "rate",
      f"At the rate of training on policy, {_MOST} updates with clipped ratios"
      " end below one.",
      *(on_policy, clipped),
      shared,
    ),
    *ends_above(
      "grpo.updates",
      f"MaxRL ends above GRPO with clipped ratios and {REUSED} updates.",
      *(by_updates, by_updates._replace(estimator="grpo")),
    ),
    *ends_above(
      "grpo.stale",
      f"MaxRL ends above GRPO with clipped ratios and staleness {STALE}.",
      *(by_staleness, by_staleness._replace(estimator="grpo")),
    ),
  ]


def _table(sweep: Sweep, methods: dict[Point, Method], shared) -> Table:
  rows = [
    [
      LABELS[point.estimator],
      point.loss or "on policy",
      point.updates,
      point.staleness,
      rate_text(method.choice),
      sweep.test(method),
      sweep.test(method, "pass@16"),
      shared[point],
    ]
    for point, method in methods.items()
  ]
  header = ["estimator", "loss", "U", "S", "rate", "pass@1", "pass@16"]
  return Table(
    "Test split after training: mean ± half the 95 % interval over seeds; last,"
    " pass@1 at the rate of training on policy.",
    [*header, "pass@1, its rate"],
    rows,
  )
