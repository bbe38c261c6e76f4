"""Sweep a grid of config fields in as few compiled programs as there can be.

    python -m experiments.sweep --config=configs/bandit.py --workdir=runs/sweep
      --grid="estimator.order=1,2,4,8;optimizer.learning_rate=log(0.03,3,5)"

Values are a list 1,2,4, range(first,last,step), lin(first,last,count) or
log(first,last,count); field+field=1+2,3+4 change together. Writes runs.nc
(xarray reads it), summary.csv and report.html; the same command goes on where
it was interrupted, and with more seeds it adds those. `--config.FIELD=VALUE`
changes a field for all runs.
"""

import importlib.util
import itertools
import json
import pathlib

from absl import flags
from ml_collections import config_flags

from experiments.shell import console, output

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "What to sweep: a file from configs/."
)
flags.mark_flag_as_required("config")
_GRID = flags.DEFINE_string(
  "grid", None, "field=values;field=values; default: get_sweep() of the config."
)
_SEEDS = flags.DEFINE_integer("seeds", 8, "Runs of every point.", 1)
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Folder for results; made if need be.", required=True
)
_MEMORY = flags.DEFINE_float(
  "memory_gib",
  None,
  "What the process may take; slices are cut to it. Default: half of what is"
  " free, on an accelerator nine tenths of its own memory.",
  0.1,
)
_QUESTION = flags.DEFINE_string(
  "question", None, "What the sweep is to answer: the report's title."
)


def main(argv) -> None:
  console.no_arguments(argv)
  from experiments.reports import sweep_report
  from experiments.runs import sweep_runs
  from experiments.shell import workdirs
  from maxrl_jax.runs import dataset, grid, programs

  config, workdir = _CONFIG.value, pathlib.Path(_WORKDIR.value)
  if config.runs != 1:
    raise ValueError(
      f"runs = {config.runs}: a sweep takes its seeds from --seeds;"
      f" --seeds={config.runs}, with runs = 1"
    )
  axes = grid.parse(_grid(), config)
  seeds = range(config.seed, config.seed + _SEEDS.value)
  points = grid.points(axes)
  planned = programs.plan(config, points, seeds)  # Errors before any folder.
  workdirs.make(workdir)
  with workdirs.locked(workdir):
    workdirs.claim(workdir / "sweep.json", _identity(config, axes))
    parts = _parts(workdir / "seeds.json", config.seed)
    data = sweep_runs.sweep(
      config,
      points,
      [programs.with_seeds(p, part) for part in parts for p in planned],
      workdir / "slices",
      about=_about(axes),
      memory_gib=_MEMORY.value,
    )
    dataset.write(data, workdir)
    sweep_report.write(data, axes, workdir, _QUESTION.value)
  _tell(data, workdir)


def _tell(data, workdir: pathlib.Path) -> None:
  """Where what came out is."""
  files = {
    name: str(workdir / file)
    for name, file in (
      ("data", "runs.nc"),
      ("table", "summary.csv"),
      ("report", "report.html"),
    )
  }
  record = {
    "runs": data.sizes["run"],
    "diverged": int(data["diverged"].values.sum()),
  }
  report = workdir / "report.html"
  output.result(report, "\n".join(files.values()), record | files)


def _grid():
  if _GRID.value is not None:
    return _GRID.value
  path = config_flags.get_config_filename(flags.FLAGS["config"])
  spec = importlib.util.spec_from_file_location("swept", path.split(":")[0])
  assert spec is not None and spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  if not hasattr(module, "get_sweep"):
    raise ValueError(f"grid is not given, and {path} has no get_sweep()")
  return module.get_sweep()


def _identity(config, axes) -> dict:
  """What makes this sweep this one, as JSON gives it back.

  Not the number of seeds: there may be more of them later.
  """
  from experiments.runs import store

  fields = {
    "config": config.to_dict(),
    "grid": {"+".join(axis.fields): axis.values for axis in axes},
    "code": store.code(),  # Runs of two versions are not one sweep.
  }
  return json.loads(json.dumps(fields))


def _parts(path: pathlib.Path, first: int) -> list[range]:
  """The seeds, cut where earlier commands ended, which is kept in a file.

  A part is sliced by itself: seeds that are added are not mixed with those that
  are done, and what an earlier command left unfinished is found again.
  """
  from maxrl_jax.runs.files import write_json

  counts = json.loads(path.read_text())["counts"] if path.exists() else []
  asked = _SEEDS.value
  if asked > max(counts, default=0):
    write_json(path, {"counts": [*counts, asked]})
  ends = [count for count in counts if count < asked] + [asked]
  return [
    range(first + start, first + end)
    for start, end in itertools.pairwise([0, *ends])
  ]


def _about(axes) -> dict:
  """What runs.nc says of itself."""
  from experiments.shell import workdirs

  return workdirs.environment() | {
    "grid": [axis._asdict() for axis in axes],
    "environment": workdirs.machine(),
  }


if __name__ == "__main__":
  console.run(main)
