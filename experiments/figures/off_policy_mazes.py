"""Mazes: several updates per batch, and rollouts of old parameters."""

from typing import NamedTuple

import numpy as np

from experiments.figures import maze_runs, maze_settings, off_policy, set_steps
from experiments.figures import maze_summaries as summaries
from experiments.figures.off_policy import FIELDS, LABELS, REUSED, STALE, Point
from experiments.reports.results import Claim, Drawing, Result, Table, larger
from maxrl_jax import plotting
from maxrl_jax.runs import study
from maxrl_jax.runs.measure import Measure

_KS = (1, 8, 64)


class Settings(NamedTuple):
  """Choices of the figure; every point has the `rate`.

  Points are those of the figure `off_policy`. Claims about points that are not
  there (U = 4, S = 3, unclipped or clipped ratios) are left out.
  """

  losses: tuple[str, ...] = ("unclipped", "clipped")
  reused: tuple[str, ...] = ("uncorrected", "geometric")
  grpo: tuple[str, ...] = ("clipped",)
  updates: tuple[int, ...] = (1, 2, 4, 8)
  staleness: tuple[int, ...] = (0, 1, 3)
  rate: float = 3e-4
  rollouts: int = 16
  warmup: int = 300
  steps: int = 90
  evaluations: int = 3
  mazes: int = 64
  seeds: int = 3


PRESETS = {
  "quick": Settings(),
  "full": Settings(
    losses=("uncorrected", "unclipped", "clipped", "geometric"),
    reused=(),
    rate=1e-4,
    rollouts=32,
    warmup=700,
    steps=400,
    evaluations=4,
    mazes=96,
    seeds=5,
  ),
}


def _mazes(settings: Settings) -> maze_settings.Settings:
  """Mazes with start and goal in the corners."""
  return maze_settings.Settings(
    max_length=18,
    random_ends=False,
    warmup=settings.warmup,
    mazes=settings.mazes,
    rollouts=settings.rollouts,
  )


def studies(settings: Settings, runs) -> dict[str, study.Study]:
  """Every point, from one warm-up."""
  mazes = _mazes(settings)
  config = maze_runs.rl_config(mazes, runs)
  config.optimizer.learning_rate = settings.rate
  config.eval_rollouts = _KS[-1]
  set_steps(config, settings.steps, settings.evaluations)
  rows = [point.fields for point in off_policy.points(settings)]
  measure = Measure(splits=("test",), ks=_KS, at_start=True)
  seeds = range(1, settings.seeds + 1)
  return {"off_policy": study.study(config, {FIELDS: rows}, seeds, measure)}


def figure(settings: Settings, runs) -> Result:
  """pass@k of held-out mazes after training, for every point."""
  what = studies(settings, runs)["off_policy"]
  points = maze_runs.train(what, runs, off_policy.points(settings))
  mazes = _mazes(settings)
  caption = (
    f"Held-out mazes of {mazes.size} × {mazes.size} after {settings.steps}"
    f" batches of {mazes.batch_size} mazes × {mazes.rollouts} rollouts from one"
    " warm-up, against the updates on each batch and the age of the parameters"
    f" that drew it, by loss, at one rate of {settings.rate:g} (Adam), which"
    " was not tuned. The dashed line is the warm-up;"
    f" {plotting.seeds_in_words(settings.seeds)}."
  )
  return Result(
    "Mazes off policy: several updates a batch, and stale rollouts",
    [Drawing("off_policy_mazes", _draw(points, settings), caption)],
    _claims(points),
    [_table(points)],
  )


def _draw(points, settings: Settings):
  rows = {
    f"held-out pass@{k}": {p: summaries.final(points[p], k) for p in points}
    for k in (_KS[0], _KS[-1])
  }
  drawing, axes = off_policy.draw(settings, rows)
  for row, k in zip(axes, (_KS[0], _KS[-1]), strict=True):
    for ax in row:
      level = summaries.at_start(points, k)
      ax.axhline(level, color="#666666", linestyle="--", linewidth=1)
  return drawing


def _claims(points) -> list[Claim]:
  """pass@1 after training."""
  scores = {p: summaries.final(run, 1) for p, run in points.items()}
  on_policy = Point("maxrl")
  reused = Point("maxrl", "clipped", REUSED)
  stale = Point("maxrl", "clipped", 1, STALE)
  pairs = (
    (
      "reuse",
      f"{REUSED} updates on each batch with clipped ratios end above one, for"
      " MaxRL.",
      (reused, on_policy),
    ),
    (
      "clipped",
      "Ratios of tokens, clipped, end above unclipped ratios of whole answers"
      f" at {REUSED} updates.",
      (reused, reused._replace(loss="unclipped")),
    ),
    (
      "stale",
      f"With rollouts that are {STALE} batches old, clipped ratios end below"
      " training on policy.",
      (on_policy, stale),
    ),
  )
  return [
    larger(f"off_policy_mazes.{name}", "own", text, scores[a], scores[b])
    for name, text, (a, b) in pairs
    if a in scores and b in scores
  ]


def _table(points) -> Table:
  rows = [
    [LABELS[p.estimator], p.loss or "on policy", p.updates, p.staleness]
    + summaries.finals(run, _KS)
    + [_mean_of(run, name) for name in ("kl", "ratio_max")]
    for p, run in points.items()
  ]
  header = ["estimator", "loss", "U", "S", *(f"pass@{k}" for k in _KS)]
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
