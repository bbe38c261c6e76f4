"""The runs of a study as one self-describing data set, the run axis first."""

import json
import pathlib
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from maxrl_jax.runs import files

_STEPS = ("step", "eval_step")


def dataset(
  runs: Sequence[dict[str, np.ndarray]],
  places: Sequence[tuple[int, int]],
  points: list[dict[str, Any]],
  about: dict,
) -> xr.Dataset:
  """Metrics [run, …] with the swept fields, seed and time of each run.

  Args:
    runs: arrays of each run, from `cache.load`.
    places: (index of its point, seed) of each run.
    points: of the grid.
    about: attributes of the data set, by name.

  Returns:
    `train_…` [run, step], `validation_…`, `test_…` and `probe_…` [run,
    eval_step, …] or [run]; coordinates are the fields of the grid. Metrics that
    a run does not have are NaN. Names have _ instead of / and dots, for NetCDF.
  """
  coordinates: dict[str, Any] = {name: runs[0][name] for name in _STEPS}
  coordinates["point"] = ("run", np.array([point for point, _ in places]))
  coordinates["seed"] = ("run", np.array([seed for _, seed in places]))
  for name in ("diverged", "seconds"):
    coordinates[name] = ("run", np.array([run[name] for run in runs]))
  for field in points[0]:
    values = [points[point][field] for point, _ in places]
    coordinates[plain(field)] = ("run", _column(values))
  shapes = {
    name: values.shape
    for run in runs
    for name, values in run.items()
    if "/" in name
  }
  variables = {
    plain(name): (
      _dimensions(name, shape),
      np.stack([run.get(name, np.full(shape, np.nan)) for run in runs]),
    )
    for name, shape in shapes.items()
  }
  attributes = {
    name: value if isinstance(value, str) else json.dumps(value)
    for name, value in about.items()
  }
  return xr.Dataset(variables, coordinates, attributes)


def _dimensions(name: str, shape: tuple[int, ...]) -> tuple[str, ...]:
  first = "step" if name.startswith("train/") else "eval_step"
  further = [f"{plain(name)}_{axis}" for axis in range(1, len(shape))]
  return ("run", *(first,) * (len(shape) > 0), *further)


def write(data: xr.Dataset, folder: pathlib.Path) -> None:
  """runs.nc (NetCDF 4), and summary.csv with one line per run."""
  ends = {name: -1 for name in _STEPS if data.sizes[name]}
  last = data.isel(ends).drop_vars(list(_STEPS))
  arrays = [name for name, x in last.data_vars.items() if x.dims != ("run",)]
  table = last.drop_vars(arrays).to_dataframe()
  # In memory first: on a full disk HDF5 crashes the process.
  for name, content in (
    ("runs.nc", data.to_netcdf(engine="h5netcdf")),
    ("summary.csv", table.to_csv(index_label="run").encode()),
  ):
    with files.atomic(folder / name) as unfinished:
      unfinished.write_bytes(content)


def final(data: xr.Dataset, name: str) -> np.ndarray:
  """A metric after training, [run, …]."""
  values = data[name]
  return (
    values.isel(eval_step=-1) if "eval_step" in values.dims else values
  ).values


def by_point(
  data: xr.Dataset, labels: Iterable[Hashable]
) -> dict[Any, xr.Dataset]:
  """The runs of each point of a study, by a label for each point."""
  points = (runs for _, runs in data.groupby("point"))
  return dict(zip(labels, points, strict=True))


def plain(name: str) -> str:
  """A name with _ instead of / and dots."""
  return name.replace("/", "_").replace(".", "_")


def _column(values: list) -> np.ndarray:
  """Values as numbers, with NaN for None, or as text."""
  numbers = all(
    v is None or (isinstance(v, (int, float)) and not isinstance(v, bool))
    for v in values
  )
  if numbers and any(v is None for v in values):
    return np.array([np.nan if v is None else v for v in values], float)
  return np.array(values if numbers else [str(v) for v in values])
