"""The report of a sweep: chosen rates, figures, tables and the command."""

import json
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr

from experiments.reports import report, sweep_figures
from experiments.reports.results import (
  Result,
  Table,
  mean_plus_minus,
  save_drawings,
)
from experiments.reports.sweep_analysis import Sweep, analyse
from maxrl_jax import plotting, stats
from maxrl_jax.runs.choose import rate_text
from maxrl_jax.runs.files import write_text
from maxrl_jax.runs.grid import Axis
from maxrl_jax.runs.progress import counted


def write(
  data: xr.Dataset, axes: Sequence[Axis], workdir: pathlib.Path, question
):
  """Writes figures/ and report.html."""
  sweep = analyse(data, axes)
  with plotting.styled():
    drawings = sweep_figures.draw(sweep)
    save_drawings(drawings, workdir)
  images = workdir / "figures"
  drawings = [d._replace(figure=images / f"{d.name}.png") for d in drawings]
  result = Result("Figures", drawings, [], [])
  tables = Result("Tables", [], [], [_scores(sweep), *_comparisons(sweep)])
  page = report.page(
    question or _question(sweep), _introduction(sweep), [result, tables]
  )
  write_text(workdir / "report.html", page)


def _question(sweep: Sweep) -> str:
  fields = [f for axis in sweep.axes for f in axis.fields]
  return f"How does test {sweep.score} depend on {', '.join(fields)}?"


def _introduction(sweep: Sweep) -> list[str]:
  """Paragraphs before the figures."""
  about = sweep.data.attrs
  grid = "; ".join(
    f"{'+'.join(axis.fields)} = "
    + ", ".join("+".join(map(str, row)) for row in axis.values)
    for axis in sweep.axes
  )
  reported = len(sweep.methods[0].runs)
  config = json.loads(about["config"])
  diverged = int(sweep.data["diverged"].values.sum())
  paragraphs = [
    f"Grid: {grid}. {counted(sweep.data.sizes['run'], 'run')} of"
    f" {config['steps']} steps.",
    _selection(sweep, reported),
  ]
  if diverged:
    paragraphs.append(
      f"{counted(diverged, 'run')} diverged: at some step a metric was"
      " not finite."
    )
  paragraphs.append(f"Command: {about['command']}")
  paragraphs.append(
    f"Computed on {about['environment']}, revision {about['revision']}."
    " All numbers are in [runs.nc](runs.nc) (xarray.open_dataset) and"
    " [summary.csv](summary.csv)."
  )
  return paragraphs


def _selection(sweep: Sweep, reported: int) -> str:
  """How learning rates were chosen, and which seeds are reported."""
  if len(sweep.tuning):
    return (
      f"The learning rate of every method was chosen by validation"
      f" {sweep.score} on {counted(len(sweep.tuning), 'seed')}; all scores are"
      f" test scores of {counted(reported, 'other seed')}."
    )
  if sweep.chooses:
    return (
      "The learning rates were chosen on the seed that is reported: scores of"
      " the best rates are overestimated. Use more seeds."
    )
  return f"All scores are test scores, over {counted(reported, 'seed')}."


def _scores(sweep: Sweep) -> Table:
  """Test scores of all methods."""
  rng = np.random.default_rng(0)
  more = [k for k in ("pass@16", "pass@256") if f"test_{k}" in sweep.data]
  columns: dict[str, Callable[..., str]] = {"method": lambda m: m.label}
  if sweep.methods[0].choice.rate is not None:
    columns["learning rate"] = lambda m: rate_text(m.choice)
  columns[sweep.score] = lambda m: mean_plus_minus(sweep.test(m))
  columns["IQM"] = lambda m: _interquartile_mean(sweep.test(m), rng)
  if sweep.larger:
    columns["optimality gap"] = lambda m: (
      f"{stats.optimality_gap(sweep.test(m)):.3f}"
    )
  columns |= {k: lambda m, k=k: mean_plus_minus(sweep.test(m, k)) for k in more}
  seconds = sweep.data["seconds"].values
  columns["seconds"] = lambda m: f"{seconds[m.runs].mean():.2f}"
  return Table(
    f"Test split after training: mean {sweep.score} ± half the 95 % interval"
    " (Student), interquartile mean with bootstrap interval where there are ten"
    " runs, and seconds per run, of runs that were trained together. At an edge"
    " of the grid, a rate beyond it might do better still.",
    list(columns),
    [[cell(method) for cell in columns.values()] for method in sweep.methods],
  )


def _interquartile_mean(scores: np.ndarray, rng) -> str:
  """With a bootstrap interval, if there are ten scores."""
  if len(scores) < 10:
    return f"{stats.interquartile_mean(scores):.3f}"
  mean, low, high = stats.bootstrap_interval(scores, rng=rng)
  return f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def _comparisons(sweep: Sweep) -> list[Table]:
  """Every method against the first, seed by seed."""
  first, *others = sweep.methods
  if not others or len(first.runs) < 2:
    return []
  scores = {i: sweep.test(method) for i, method in enumerate(sweep.methods)}
  rows = []
  for i, (gap, p, corrected) in stats.paired_comparisons(scores, 0).items():
    pair = (scores[i], scores[0])
    chance = stats.probability_of_improvement(
      *pair[:: 1 if sweep.larger else -1]
    )
    interval = f"{gap.mean:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]"
    numbers = (f"{chance:.2f}", f"{p:.2g}", f"{corrected:.2g}")
    rows.append([sweep.methods[i].label, interval, *numbers])
  return [
    Table(
      f"Against {first.label}, on shared seeds: difference in {sweep.score}"
      " with its 95 % interval, probability of improvement, p of the paired t"
      f" test, and p corrected for {len(rows)} comparisons (Holm).",
      ["method", "difference", "P(better)", "p", "corrected p"],
      rows,
    )
  ]
