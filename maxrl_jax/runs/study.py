"""Studies: config fields × seeds, trained and measured into a data set.

grid → points → programs (`programs.plan`) → slices that fit into memory →
files of runs (`cache`) → data set (`dataset`)

Runs on disk are not repeated; an interrupted slice resumes, bit-identical.
"""

import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import xarray as xr
from ml_collections import ConfigDict

from maxrl_jax import ranges
from maxrl_jax.config import check_type, flatten
from maxrl_jax.learning import training
from maxrl_jax.runs import cache, dataset, grid, progress
from maxrl_jax.runs.grid import Axis
from maxrl_jax.runs.interrupts import until_stopped
from maxrl_jax.runs.measure import Measure
from maxrl_jax.runs.programs import Program, describe, plan
from maxrl_jax.runs.slices import Slices


class Study(NamedTuple):
  """A grid of config fields, the seeds of each point, and what to measure.

  Attributes:
    config: shared by all runs, except for the fields of the grid.
    axes: from `grid.parse`; empty for a single point.
    seeds: of every point.
    measure: what to measure in every run.
  """

  config: ConfigDict
  axes: tuple[Axis, ...] = ()
  seeds: tuple[int, ...] = (0,)
  measure: Measure = Measure()

  @property
  def points(self) -> list[dict[str, Any]]:
    """Every combination of the axes' values."""
    return grid.points(self.axes)

  def plan(self) -> list[Program]:
    """The programs that train the study; raises as `programs.plan`."""
    splits = dict.fromkeys((*self.measure.splits, "validation", "test"))
    identity = self.measure.identity()
    return plan(self.config, self.points, self.seeds, identity, tuple(splits))


def study(
  config: ConfigDict,
  fields: str | Mapping | None = None,
  seeds: Iterable[int] = (0,),
  measure: Measure | None = None,
) -> Study:
  """A study of a grid given as text or as a mapping, as `grid.parse` takes it.

  Raises:
    ValueError: as `grid.parse`.
  """
  check_type(config)
  if not isinstance(seeds, Iterable):
    raise ValueError(f"seeds = {seeds}: must be a list, range({seeds})")
  seeds = tuple(seeds)
  if not seeds:
    raise ValueError("seeds: is empty; give at least one")
  training.check_seeds(seeds)
  axes = () if fields is None else tuple(grid.parse(fields, config))
  return Study(config, axes, seeds, measure or Measure())


def run(
  study: Study,
  folder: str | pathlib.Path,
  *,
  memory_gib: float | None = None,
  workers: int = 1,
  slice_size: int | None = None,
  about: dict | None = None,
) -> xr.Dataset:
  """Trains the runs that are not on disk; returns the study's data set.

  Args:
    study: what to train.
    folder: for finished runs; several studies may share it.
    memory_gib: memory limit of this process; None: half of the free memory, on
      an accelerator nine tenths of it.
    workers: number of processes, each training one run at a time on its own
      core; 1 trains the runs together in this process.
    slice_size: runs per slice in this process; None: as many as fit into
      memory.
    about: further attributes of the data set.

  Raises:
    ValueError: a point that cannot be trained, before anything compiles; a run
      that does not fit into memory; a damaged file.
    Stopped: a signal stopped it; its work is saved.
  """
  if not isinstance(study, Study):
    raise ValueError(
      f"study: is a {type(study).__name__}, must be a Study; run takes (study,"
      " folder)"
    )
  ranges.whole(1, workers=workers)
  if slice_size is not None:
    ranges.whole(1, slice_size=slice_size)
  folder, planned = pathlib.Path(folder), study.plan()
  folder.mkdir(parents=True, exist_ok=True)
  if workers > 1:
    from maxrl_jax.runs import workers as pool  # It imports this module.

    pool.train(study, planned, folder, workers)
  train(planned, study.measure, folder, memory_gib, slice_size=slice_size)
  return load(study, folder, planned, about)


def load(
  study: Study,
  folder: pathlib.Path,
  planned: Sequence[Program] | None = None,
  about: dict | None = None,
) -> xr.Dataset:
  """The data set of a study whose runs are on disk."""
  planned = planned or study.plan()
  keys = {
    (point, seed): key
    for p in planned
    for point, seed, key in zip(p.points, p.seeds, p.keys, strict=True)
  }
  order = sorted(keys)
  runs = cache.load(folder, [keys[run] for run in order])
  about = {"config": study.config.to_dict()} | (about or {})
  return dataset.dataset(runs, order, study.points, about)


def train(
  planned: Sequence[Program],
  measure: Measure,
  folder: pathlib.Path,
  memory_gib: float | None = None,
  *,
  slice_size: int | None = None,
  wait: bool = True,
) -> None:
  """Trains the runs that are not on disk, with one progress bar.

  Args:
    planned: from `Study.plan`.
    measure: of every run.
    folder: for finished runs.
    memory_gib: as in `run`.
    slice_size: as in `run`.
    wait: whether to wait for slices that other processes are training.
  """
  remaining = [cache.missing(folder, p.keys) for p in planned]
  left = sum(map(len, remaining))
  if not left:
    return
  total = sum(len(program.keys) for program in planned)
  progress.info(
    f"{progress.counted(total, 'run')} in"
    f" {progress.counted(len(planned), 'program')}, {left} to do"
  )
  for program, missing in zip(planned, remaining, strict=True):
    if missing and len(planned) > 1:
      words = _describe(program, planned)
      progress.info(f"  {words}: {progress.counted(len(missing), 'run')} to do")
  steps = sum(
    len(m) * p.config.steps for p, m in zip(planned, remaining, strict=True)
  )
  estimate = progress.Estimate(steps)
  with progress.bar(
    total=steps, unit="step", unit_scale=True, desc="training"
  ) as bar:

    def tick(count: int) -> None:
      estimate.add(count)
      bar.update(count)

    for program, missing in zip(planned, remaining, strict=True):
      if missing:
        slices = Slices(program, measure, folder, memory_gib, slice_size, wait)
        until_stopped(slices.train(missing), tick)


def _describe(program: Program, planned: Sequence[Program]) -> str:
  """Fields in which a program differs from others, and its varying fields."""
  this, *others = (flatten(p.config.to_dict()) for p in (program, *planned))
  differing = {
    name: value
    for name, value in this.items()
    if name not in program.hyper
    and name != "estimator.coefficients"
    and any(other.get(name) != value for other in others)
  }
  words = describe(differing) or "program"
  return f"{words} (varying {', '.join([*program.hyper, 'seed'])})"
