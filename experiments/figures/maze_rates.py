"""Mazes: how the learning rate of each method was chosen."""

from experiments.figures import maze_runs, maze_settings
from experiments.figures.maze_settings import DRAWN, METHODS, Settings, look
from experiments.reports.results import Claim, Drawing, Result, Table
from maxrl_jax import plotting
from maxrl_jax.config import RATE
from maxrl_jax.runs.grid import Axis
from maxrl_jax.runs.study import Study

PRESETS = maze_settings.PRESETS


def studies(settings: Settings, runs) -> dict[str, Study]:
  """Every method at every rate, with the seeds that choose."""
  what = maze_runs.study_of(settings, runs, list(METHODS), settings.steps)
  rates = Axis((RATE,), tuple((rate,) for rate in settings.rates))
  seeds = maze_runs.tuning(settings).seeds
  return {"rates": what._replace(axes=(*what.axes, rates), seeds=seeds)}


def figure(settings: Settings, runs) -> Result:
  """Validation pass@1 of every method at every rate, and the chosen rates."""
  what = maze_runs.study_of(settings, runs, list(METHODS), settings.steps)
  rates, scores = maze_runs.chosen(what, settings, runs)
  best = dict(zip(METHODS, rates, strict=True))
  drawing, ax = plotting.axes(width=5.0, height=3.6)
  by_method = dict(zip(METHODS, scores, strict=True))
  for label in DRAWN:
    plotting.marked_curve(ax, settings.rates, by_method[label], **look(label))
  plotting.every_tick(ax, settings.rates)
  ax.set(xlabel="learning rate", ylabel="validation pass@1")
  plotting.legend_below(drawing, ax, 5)
  caption = (
    f"Validation pass@1 after {settings.steps} steps against the learning rate,"
    f" mean over {settings.tuning_seeds} seeds that are not reported; the table"
    " has the other methods. The other figures take each method's best."
  )
  rows = [
    [label, *(f"{score:.3f}" for score in row), f"{best[label]:g}"]
    for label, row in by_method.items()
  ]
  header = ["method", *(f"{rate:g}" for rate in settings.rates), "best"]
  return Result(
    "Mazes: learning rates",
    [Drawing("maze_rates", drawing, caption)],
    _claims(maze_settings.recorded(settings), best),
    [Table("Mean validation pass@1 after training.", header, rows)],
  )


def _claims(recorded: dict[str, float], best: dict[str, float]) -> list[Claim]:
  """No claim if the figures choose rates themselves: none could differ."""
  if not recorded:
    return []
  others = [
    f"{label}: {recorded[label]:g} used, {rate:g} best"
    for label, rate in best.items()
    if recorded[label] != rate
  ]
  return [
    Claim(
      "mazes.rates.recorded",
      "configuration",
      "The other maze figures train every method at its best rate of the grid.",
      "; ".join(others) or f"all {len(best)} methods do",
      "no other rate",
      not others,
    )
  ]
