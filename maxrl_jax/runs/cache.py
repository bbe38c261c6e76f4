"""Finished runs on disk, one file each: `KEY.npz` in a folder.

The key of a run identifies its config, seed and measurements: studies with runs
in common share their files.
"""

import contextlib
import pathlib
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator

import filelock
import numpy as np

from maxrl_jax.runs import files

Arrays = dict[str, np.ndarray]


def path_of(folder: pathlib.Path, key: str) -> pathlib.Path:
  """The file of a run."""
  return folder / f"{key}.npz"


def missing(folder: pathlib.Path, keys: Iterable[str]) -> set[str]:
  """Keys of runs that are not on disk."""
  return {key for key in keys if not path_of(folder, key).exists()}


def load(folder: pathlib.Path, keys: Iterable[str]) -> list[Arrays]:
  """The arrays of runs, in the order of their keys.

  Raises:
    ValueError: a file that is missing or cannot be read, with its path.
  """
  return [_read(path_of(folder, key)) for key in keys]


def _read(path: pathlib.Path) -> Arrays:
  try:
    with open(path, "rb") as file, np.load(file) as arrays:
      return dict(arrays)
  except FileNotFoundError:
    raise ValueError(f"{path} does not exist: run the study first") from None
  except (EOFError, OSError, ValueError, zipfile.BadZipFile) as error:
    raise ValueError(
      f"{path} is damaged ({error}): delete it, and its run is repeated"
    ) from None


def cached(
  folder: pathlib.Path, key: str, compute: Callable[[pathlib.Path], Arrays]
) -> Arrays:
  """The arrays of a run, read from disk or computed.

  If another process is computing them, waits for it.

  Args:
    folder: of the cache.
    key: of the run.
    compute: folder → arrays by name; the folder is for unfinished work, and
      remains if the process dies.
  """
  path = path_of(folder, key)
  if not path.exists():
    with exclusive(folder / f"unfinished-{key}") as unfinished:
      if not path.exists():
        files.write_arrays(path, compute(unfinished))
  return _read(path)


@contextlib.contextmanager
def exclusive(
  folder: pathlib.Path, *, wait: bool = True
) -> Iterator[pathlib.Path]:
  """Locks a folder for this process; deletes it unless the context raises.

  Args:
    folder: created, unless an earlier process has left it.
    wait: whether to wait for a process that has locked it.

  Raises:
    filelock.Timeout: another process has locked it, and `wait` is false.
  """
  locks = folder.parent / ".locks"
  locks.mkdir(parents=True, exist_ok=True)
  with filelock.FileLock(locks / folder.name, timeout=-1 if wait else 0):
    folder.mkdir(exist_ok=True)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
