"""Finished runs as one self-describing file, the run axis first."""

import json
import pathlib
from typing import Any

import numpy as np
import xarray as xr

from maxrl_jax.runs import files


def dataset(
  runs: dict[str, np.ndarray], points: list[dict[str, Any]], about: dict
) -> xr.Dataset:
  """Metrics [run, …] with the swept fields, seed and time of each run.

  Args:
    runs: from `finished.load`.
    points: of the grid.
    about: what else the file says of itself, by name.

  Returns:
    `train/…` [run, step] (means over a logged stretch), `validation/…`
    [run, eval_step], `test/…` [run]; coordinates are the fields of the grid.
    Names have _ for / and . in them, so that NetCDF takes them.
  """
  coordinates: dict[str, Any] = {
    "step": runs["step"],
    "eval_step": runs["eval_step"],
  }
  for name in ("point", "seed", "diverged", "seconds"):
    coordinates[name] = ("run", runs[name])
  for field in points[0]:
    values = [points[i][field] for i in runs["point"]]
    coordinates[plain(field)] = ("run", _column(values))
  dimensions = {
    "train": ("run", "step"),
    "validation": ("run", "eval_step"),
    "test": ("run",),
  }
  variables = {
    plain(name): (dimensions[name.split("/")[0]], values)
    for name, values in runs.items()
    if "/" in name
  }
  attributes = {
    name: value if isinstance(value, str) else json.dumps(value)
    for name, value in about.items()
  }
  return xr.Dataset(variables, coordinates, attributes)


def write(data: xr.Dataset, folder: pathlib.Path) -> None:
  """runs.nc (NetCDF 4), and summary.csv with one line a run."""
  last = data.isel(step=-1, eval_step=-1)
  table = last.drop_vars(["step", "eval_step"]).to_dataframe()
  # In memory first: on a full disk HDF5 ends the process.
  for name, content in (
    ("runs.nc", data.to_netcdf(engine="h5netcdf")),
    ("summary.csv", table.to_csv(index_label="run").encode()),
  ):
    with files.whole(folder / name) as unfinished:
      unfinished.write_bytes(content)


def plain(name: str) -> str:
  """A name without / and dots."""
  return name.replace("/", "_").replace(".", "_")


def _column(values: list) -> np.ndarray:
  """Numbers with NaN for a default, or text."""
  numbers = all(
    v is None or (isinstance(v, (int, float)) and not isinstance(v, bool))
    for v in values
  )
  if numbers and any(v is None for v in values):
    return np.array([np.nan if v is None else v for v in values], float)
  return np.array(values if numbers else [str(v) for v in values])
