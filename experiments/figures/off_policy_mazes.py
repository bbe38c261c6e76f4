"""Mazes: several updates per batch, and rollouts of old parameters."""

from typing import NamedTuple

import numpy as np

from experiments.figures import maze_runs, maze_settings, set_steps
from experiments.figures import maze_summaries as summaries
from experiments.figures.off_policy import FIELDS, LABELS, Point
from experiments.reports.results import Claim, Drawing, Result, Table, larger
from maxrl_jax import plotting, stats
from maxrl_jax.runs import study
from maxrl_jax.runs.measure import Measure

_KS = (1, 8, 64)


class Settings(NamedTuple):
  """Choices of the figure; every method has the `rate`, at every U and S.

  MaxRL has the losses `reused` with U updates on each batch, and those that are
  `stale` at staleness S; GRPO has clipped ratios with U updates. The claims
  need unclipped and clipped ratios among `reused`.
  """

  reused: tuple[str, ...] = ("unclipped", "clipped", "geometric")
  stale: tuple[str, ...] = ("unclipped",)
  updates: int = 4
  staleness: int = 3
  rate: float = 3e-4
  rollouts: int = 16
  warmup: int = 300
  steps: int = 24
  evaluations: int = 3
  mazes: int = 64
  seeds: int = 2


PRESETS = {
  "quick": Settings(),
  "full": Settings(
    stale=("uncorrected", "unclipped", "clipped", "geometric"),
    rate=1e-4,
    rollouts=32,
    warmup=700,
    steps=400,
    evaluations=4,
    mazes=96,
    seeds=5,
  ),
}


def _points(settings: Settings) -> list[Point]:
  """On policy first, for each estimator."""
  return [
    Point("maxrl"),
    *(Point("maxrl", x, settings.updates) for x in settings.reused),
    *(Point("maxrl", x, 1, settings.staleness) for x in settings.stale),
    Point("grpo"),
    Point("grpo", "clipped", settings.updates),
  ]


def _mazes(settings: Settings) -> maze_settings.Settings:
  return maze_settings.Settings(
    warmup=settings.warmup, mazes=settings.mazes, rollouts=settings.rollouts
  )


def studies(settings: Settings, runs) -> dict[str, study.Study]:
  """Every point, from one warm-up."""
  mazes = _mazes(settings)
  config = maze_runs.rl_config(mazes, runs)
  config.optimizer.learning_rate = settings.rate
  config.eval_rollouts = _KS[-1]
  set_steps(config, settings.steps, settings.evaluations)
  rows = [point.fields for point in _points(settings)]
  measure = Measure(splits=("test",), ks=_KS, at_start=True)
  seeds = range(1, settings.seeds + 1)
  return {"off_policy": study.study(config, {FIELDS: rows}, seeds, measure)}


def figure(settings: Settings, runs) -> Result:
  """pass@k of held-out mazes after training, for every point."""
  what = studies(settings, runs)["off_policy"]
  points = maze_runs.train(what, runs, _points(settings))
  mazes = _mazes(settings)
  caption = (
    f"Held-out mazes of {mazes.size} × {mazes.size} after {settings.steps}"
    f" batches of {mazes.batch_size} mazes × {mazes.rollouts} rollouts from one"
    f" warm-up, at one rate of {settings.rate:g} (Adam), which was not tuned."
    f" U = {settings.updates}: updates on each batch; S ="
    f" {settings.staleness}: rollouts of the parameters that many batches ago."
    " The dashed line is the warm-up. Mean and 95 % interval of"
    f" {settings.seeds} seeds."
  )
  return Result(
    "Mazes off policy: several updates a batch, and stale rollouts",
    [Drawing("off_policy_mazes", _draw(points), caption)],
    _claims(points, settings),
    [_table(points)],
  )


def _label(point: Point) -> str:
  if point.loss is None:
    return "on policy"
  reused = point.updates > 1
  where = f"U = {point.updates}" if reused else f"S = {point.staleness}"
  return f"{point.loss}, {where}"


def _draw(points):
  drawing, axes = plotting.axes(columns=len(_KS), width=3.4, height=3.9)
  labels = list(dict.fromkeys(map(_label, points)))
  for ax, k in zip(axes, _KS, strict=True):
    for shift, estimator in zip((-0.12, 0.12), LABELS, strict=True):
      chosen = [p for p in points if p.estimator == estimator]
      scores = np.stack([summaries.final(points[p], k) for p in chosen], 1)
      mean, low, high = stats.mean_interval(scores)
      ax.errorbar(
        mean,
        [labels.index(_label(p)) + shift for p in chosen],
        xerr=(mean - low, high - mean),
        fmt="o" if estimator == "maxrl" else "s",
        markersize=4,
        color=plotting.COLOURS[estimator],
        label=LABELS[estimator],
      )
    ax.axvline(summaries.at_start(points, k), color="#666666", linestyle="--")
    ax.set(title=f"pass@{k}")
    ax.set_yticks(
      range(len(labels)), labels if k == _KS[0] else [""] * len(labels)
    )
    ax.invert_yaxis()
  plotting.legend_below(drawing, axes[0])
  return drawing


def _claims(points, settings: Settings) -> list[Claim]:
  """pass@1 after training."""
  scores = {p: summaries.final(run, 1) for p, run in points.items()}
  reused = Point("maxrl", "clipped", settings.updates)
  return [
    larger(
      "off_policy_mazes.reuse",
      "own",
      f"{settings.updates} updates on each batch with clipped ratios end above"
      " one, for MaxRL.",
      scores[reused],
      scores[Point("maxrl")],
    ),
    larger(
      "off_policy_mazes.clipped",
      "own",
      "Ratios of tokens, clipped, end above unclipped ratios of whole answers"
      f" at {settings.updates} updates.",
      scores[reused],
      scores[reused._replace(loss="unclipped")],
    ),
  ]


def _table(points) -> Table:
  rows = [
    [LABELS[point.estimator], _label(point)]
    + summaries.finals(run, _KS)
    + [_mean_of(run, name) for name in ("kl", "ratio_max")]
    for point, run in points.items()
  ]
  header = ["estimator", "loss", *(f"pass@{k}" for k in _KS)]
  return Table(
    "Held-out mazes after training, mean ± half the 95 % interval over seeds;"
    " over training, the mean KL to the behaviour (nats per answer) and the"
    " mean largest ratio of a batch.",
    [*header, "KL", "largest ratio"],
    rows,
  )


def _mean_of(run: dict[str, np.ndarray], name: str) -> str:
  """The mean of a training metric; on policy there is none."""
  values = run.get(f"train_{name}", np.array(np.nan))
  return f"{values.mean():.3g}" if np.isfinite(values).all() else ""
