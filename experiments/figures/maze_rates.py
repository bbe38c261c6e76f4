"""Mazes: how the learning rate of each method was chosen."""

from experiments.figures import maze_summaries as summaries
from experiments.reports.results import Claim, Drawing, Result, Table
from experiments.runs import maze_runs
from experiments.runs.maze_presets import COLOURS, METHODS, PRESETS
from maxrl_jax import plotting


def figure(preset: str, workdir) -> Result:
  """Validation pass@1 of every method at every rate, and what was chosen."""
  settings = PRESETS[preset]
  best, scores = maze_runs.tuned(settings, tuple(METHODS), workdir / "runs")
  drawing, ax = plotting.axes(width=5.0, height=3.6)
  for label, row in scores.items():
    plotting.marked_curve(
      ax, settings.rates, row, colour=COLOURS[label], label=label
    )
  ax.set(xscale="log", xlabel="learning rate", ylabel="validation pass@1")
  ax.set_xticks(settings.rates, [f"{rate:g}" for rate in settings.rates])
  ax.minorticks_off()
  summaries.legend_below(drawing, ax)
  caption = (
    f"Validation pass@1 after {settings.steps} steps against the learning rate,"
    f" mean over {len(settings.tuning_seeds)} seeds that are not reported. The"
    " other figures take each method's best."
  )
  rows = [
    [label, *(f"{score:.3f}" for score in row), f"{best[label]:g}"]
    for label, row in scores.items()
  ]
  return Result(
    "Mazes: learning rates",
    [Drawing("maze_rates", drawing, caption)],
    _claims(settings, best),
    [
      Table(
        "Mean validation pass@1 after training.",
        ["method", *(f"{rate:g}" for rate in settings.rates), "best"],
        rows,
      )
    ],
  )


def _claims(settings, best: dict[str, float]) -> list[Claim]:
  """None where the figures choose by themselves: nothing could differ."""
  if not settings.chosen:
    return []
  others = [
    f"{label}: {settings.chosen[label]:g} used, {rate:g} best"
    for label, rate in best.items()
    if settings.chosen[label] != rate
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
