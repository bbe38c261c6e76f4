"""Trains a sweep into a folder, with one progress bar, and reads it back."""

import pathlib

import filelock
import xarray as xr

from experiments.runs import store
from experiments.runs.resumable import PATIENCE
from experiments.shell import output, workdirs
from experiments.shell.interruptions import until_stopped
from experiments.shell.output import counted
from maxrl_jax.runs import dataset, finished, grid, programs, running


def sweep(
  config,
  points: list[dict],
  planned: list[programs.Program],
  folder: pathlib.Path,
  *,
  about: dict | None = None,
  memory_gib: float | None = None,
) -> xr.Dataset:
  """Trains what was planned, and no run on disk again; returns just that.

  Args:
    config: of all runs, but for what the grid changes.
    points: from `grid.points`.
    planned: from `programs.plan`.
    folder: where finished slices are.
    about: what the data set says of itself.
    memory_gib: what the process may take.
  """
  train(planned, folder, memory_gib)
  about = {"config": config.to_dict()} | (about or {})
  runs = finished.planned(finished.load(folder), planned)
  return dataset.dataset(runs, points, about)


def kept(config, axes, seeds, folder: pathlib.Path) -> xr.Dataset:
  """A whole sweep in a folder of its own for each config, grid and code."""
  digest = store.digest(config, grid=axes, seeds=list(seeds))
  points = grid.points(axes)
  planned = programs.plan(config, points, seeds)
  slices = folder / f"sweep-{digest}"
  slices.mkdir(parents=True, exist_ok=True)
  with filelock.FileLock(slices / ".lock"):
    return sweep(config, points, planned, slices)


def train(planned, folder: pathlib.Path, memory_gib: float | None) -> None:
  """Trains what is not on disk yet, with one progress bar over all."""
  done = finished.load(folder)
  rows = [finished.remaining(program, done) for program in planned]
  total = sum(len(program.points) for program in planned)
  left = sum(map(len, rows))
  output.say(f"{counted(total, 'run')} in {counted(len(planned), 'program')}:")
  for program, missing in zip(planned, rows, strict=True):
    output.say(
      f"  {_describe(program, planned)}: {counted(len(missing), 'run')} to do"
    )
  if not left:
    return
  work = [pair for pair in zip(planned, rows, strict=True) if len(pair[1])]
  ready = []
  for program, missing in output.bar(work, desc="compile", unit="program"):
    budget = running.free_memory(memory_gib)
    ready.append(running.prepare(program, missing, budget))
  slices = sum(len(r.slices) for r in ready)
  seconds = sum(r.seconds * len(r.slices) for r in ready)
  output.say(
    f"{counted(left, 'run')} in {counted(slices, 'slice')}, about"
    f" {output.duration(seconds)} of training"
  )
  steps = sum(len(m) * p.config.steps for p, m in work)
  with output.bar(
    total=steps, unit="step", unit_scale=True, desc="sweep"
  ) as bar:
    for one in ready:
      until_stopped(running.run(one, folder, PATIENCE), bar.update)


def _describe(program, planned) -> str:
  """What tells a program from the others, and what varies within it."""
  ours, *flat = (
    workdirs.flatten(one.config.to_dict())
    | {"seeds": f"{one.seeds.min()} to {one.seeds.max()}"}
    for one in (program, *planned)
  )
  own = {
    name: value
    for name, value in ours.items()
    if name not in program.varied
    and any(other.get(name) != value for other in flat)
    and name != "estimator.coefficients"
  }
  words = programs.describe(own) or "one for all"
  return f"{words} (within it: {', '.join([*program.varied, 'seed'])})"
