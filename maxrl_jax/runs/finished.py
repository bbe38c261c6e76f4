"""Finished slices of a sweep on disk: one file each, told by its first run."""

import pathlib
import zipfile
from collections.abc import Sequence

import numpy as np

from maxrl_jax.runs import files
from maxrl_jax.runs.programs import Program

_PATTERN = "slice-*.npz"
_STEPS = ("step", "eval_step")  # The same for all runs.


def load(folder: pathlib.Path) -> dict[str, np.ndarray]:
  """All runs on disk, sorted: point, seed, and what was measured of each.

  A metric that a program does not have is NaN for its runs.

  Raises:
    ValueError: a slice that cannot be read; names the file.
  """
  parts = [_read(path) for path in sorted(folder.glob(_PATTERN))]
  if not parts:
    return {}
  steps = {name: parts[0][name] for name in _STEPS}
  shapes = {
    name: values.shape[1:]
    for part in parts
    for name, values in part.items()
    if name not in steps
  }
  rows = {
    name: np.concatenate(
      [
        part.get(name, np.full((len(part["point"]), *shape), np.nan))
        for part in parts
      ]
    )
    for name, shape in shapes.items()
  }
  # Sorted, and each run once, should two processes have had the same.
  runs = np.stack([rows["point"], rows["seed"]], 1)
  _, order = np.unique(runs, axis=0, return_index=True)
  return {name: values[order] for name, values in rows.items()} | steps


def _read(path: pathlib.Path) -> dict[str, np.ndarray]:
  try:
    with open(path, "rb") as file, np.load(file) as found:
      return dict(found)
  except (EOFError, OSError, ValueError, zipfile.BadZipFile) as error:
    raise ValueError(
      f"{path} is damaged ({error}): delete it, and its runs are made again"
    ) from None


def remaining(program: Program, done: dict[str, np.ndarray]) -> np.ndarray:
  """Rows of a program whose runs are not on disk."""
  kept = set(zip(done.get("point", ()), done.get("seed", ()), strict=True))
  runs = zip(program.points, program.seeds, strict=True)
  return np.array([i for i, run in enumerate(runs) if run not in kept], int)


def planned(
  runs: dict[str, np.ndarray], programs: Sequence[Program]
) -> dict[str, np.ndarray]:
  """Those of the runs on disk that programs have; there may be more seeds."""
  wanted = {
    run for p in programs for run in zip(p.points, p.seeds, strict=True)
  }
  rows = [
    run in wanted for run in zip(runs["point"], runs["seed"], strict=True)
  ]
  return {
    name: values if name in _STEPS else values[rows]
    for name, values in runs.items()
  }


def save(folder: pathlib.Path, arrays: dict) -> None:
  """One slice's runs, whole or not at all."""
  folder.mkdir(parents=True, exist_ok=True)
  name = f"slice-{arrays['point'][0]:05d}-{arrays['seed'][0]:05d}.npz"
  files.write_arrays(folder / name, arrays)
