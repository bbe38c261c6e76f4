"""Sweep a grid of config fields in as few compiled programs as possible.

    python -m experiments.sweep --config=configs/bandit.py --workdir=runs/sweep
      --grid="estimator.order=1,2,4,8;optimizer.learning_rate=log(0.03,3,5)"
    python -m experiments.sweep --figure=bandit --set=orders=1,3 --workdir=DIR

Values are a list 1,2,4, range(first,last,step), lin(first,last,count) or
log(first,last,count); field+field=1+2,3+4 change together. --figure sweeps
a figure's study instead. Writes runs.nc (for xarray), summary.csv and
report.html. Runs in the folder are not repeated: the same command resumes, and
another grid, other fields or more seeds add runs. `--config.FIELD=VALUE`
changes a field for all runs.
"""

import importlib.util
import json
import pathlib
import shutil

from absl import flags
from ml_collections import config_flags

from experiments.shell import console

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "What to sweep: a file with get_config()."
)
_GRID = flags.DEFINE_string(
  "grid", None, "field=values;field=values. Default: the file's get_sweep()."
)
_SEEDS = flags.DEFINE_integer(
  "seeds", None, "Seeds per grid point. Default: 8, or the figure's number.", 1
)
_FIGURE = flags.DEFINE_string(
  "figure",
  None,
  "Sweep the study of this figure, at its config's learning rate; NAME:STUDY if"
  " it has several.",
)
_PRESET = flags.DEFINE_string("preset", "quick", "Preset of the figure.")
_SET = flags.DEFINE_multi_string(
  "set", [], "FIELD=VALUE of the figure's settings, such as orders=1,3,63."
)
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Folder for results.", required=True
)
_FRESH = flags.DEFINE_bool(
  "fresh", False, "Delete the folder's runs and results first."
)
_MEMORY = flags.DEFINE_float(
  "memory_gib",
  None,
  "Memory limit in GiB; runs are cut into slices that fit. Default: half of the"
  " free memory, on an accelerator nine tenths of it.",
  0.1,
)
_QUESTION = flags.DEFINE_string(
  "question", None, "Title of the report: the question that the sweep answers."
)
_RESULTS = {"data": "runs.nc", "table": "summary.csv", "report": "report.html"}


def main() -> None:
  from experiments.reports import sweep_report
  from maxrl_jax.runs import dataset, files, folders, study

  workdir = pathlib.Path(_WORKDIR.value)
  swept = _study()
  swept.plan()  # Raises errors before the folder is created.
  folders.make(workdir)
  marker = workdir / "sweep.json"
  with folders.locked(workdir, marker.name):
    if _FRESH.value and marker.exists():
      _delete_results(workdir)
      swept = _study()  # The warm-up of a figure was among them.
    # Runs are cached by config: any sweep may add some.
    files.write_json(marker, json.loads(json.dumps(swept.config.to_dict())))
    about = folders.environment() | {
      "grid": [axis._asdict() for axis in swept.axes],
      "environment": folders.machine(),
    }
    data = study.run(
      swept, workdir / "runs", memory_gib=_MEMORY.value, about=about
    )
    dataset.write(data, workdir)
    sweep_report.write(data, list(swept.axes), workdir, _QUESTION.value)
  paths = {name: str(workdir / file) for name, file in _RESULTS.items()}
  record = {
    "runs": data.sizes["run"],
    "diverged": int(data["diverged"].values.sum()),
  }
  text = "\n".join(paths.values())
  console.result(workdir / "report.html", text, record | paths)


def _study():
  figure = _FIGURE.value
  return _of_figure(figure) if figure else _of_config()


def _delete_results(workdir: pathlib.Path) -> None:
  for name in ("runs", "figures"):
    shutil.rmtree(workdir / name, ignore_errors=True)
  for name in _RESULTS.values():
    (workdir / name).unlink(missing_ok=True)


def _of_config():
  """The study of --config, --grid and --seeds."""
  from maxrl_jax import config as configs
  from maxrl_jax.runs import study

  config = _CONFIG.value
  if config is None:
    raise ValueError("--config or --figure must be given")
  configs.check_type(config)
  if _SET.value:
    raise ValueError("--set: needs --figure, whose settings it changes")
  if config.runs != 1:
    raise ValueError(
      f"runs = {config.runs}: must be 1 in a sweep; use --seeds={config.runs}"
    )
  count = 8 if _SEEDS.value is None else _SEEDS.value
  seeds = range(config.seed, config.seed + count)
  return study.study(config, _grid(), seeds)


def _grid():
  """The grid of --grid, or of get_sweep() in the config file."""
  if _GRID.value is not None:
    return _GRID.value
  path = config_flags.get_config_filename(flags.FLAGS["config"])
  spec = importlib.util.spec_from_file_location("swept", path.split(":")[0])
  assert spec is not None and spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  if not hasattr(module, "get_sweep"):
    raise ValueError(f"--grid is not given, and {path} has no get_sweep()")
  return module.get_sweep()


def _of_figure(figure: str):
  """The study of a figure, with its settings changed by --set."""
  from experiments import figures
  from maxrl_jax import ranges

  if _CONFIG.value is not None or _GRID.value is not None:
    raise ValueError(
      "--figure has its own config and grid: omit --config and --grid"
    )
  name, _, part = figure.partition(":")
  runs = pathlib.Path(_WORKDIR.value) / "runs"
  settings = figures.settings(name, _PRESET.value, _SET.value)
  studies = figures.studies(name, settings, runs)
  part = part or next(iter(studies))
  every = [f"{name}:{each}" for each in studies]
  ranges.one_of(every, figure=f"{name}:{part}")
  if _SEEDS.value is None:
    return studies[part]
  return studies[part]._replace(seeds=tuple(range(_SEEDS.value)))


if __name__ == "__main__":
  console.run(main)
