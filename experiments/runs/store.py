"""Finished runs on disk: never trained twice, never half written."""

import contextlib
import functools
import hashlib
import json
import pathlib
import shutil
from collections.abc import Callable

import filelock
import numpy as np

import maxrl_jax
from maxrl_jax.runs import files

# Sources that compute nothing, and what they set is in configs.
_APART = ("plotting.py", "maze_presets.py")


def stored(
  folder: pathlib.Path,
  label: str,
  config,
  compute: Callable[[pathlib.Path], dict[str, np.ndarray]],
  **more,
) -> dict[str, np.ndarray]:
  """The arrays that `compute` gives, from disk if they are there.

  Where another process is computing them, its arrays are waited for.

  Args:
    folder: where to keep them.
    label: begins the file's name.
    config: of the run.
    compute: (a folder for what is unfinished, which is there again where a
      process has died, and gone when the arrays are on disk) → arrays by name.
    **more: what else tells this run from others, such as its seeds.
  """
  key = digest(config, **more)
  name = label.replace(" ", "-").lower()
  path = folder / f"{name}-{key}.npz"
  if not path.exists():
    with alone(folder / f"unfinished-{name}-{key}") as unfinished:
      if not path.exists():
        files.write_arrays(path, compute(unfinished))
  with np.load(path) as found:
    return dict(found)


@contextlib.contextmanager
def alone(folder: pathlib.Path):
  """A folder for one process at a time, gone when that has come to an end."""
  locks = folder.parent / ".locks"
  locks.mkdir(parents=True, exist_ok=True)
  with filelock.FileLock(locks / folder.name):
    folder.mkdir(exist_ok=True)
    yield folder
    shutil.rmtree(folder)


def digest(config, **more) -> str:
  """Tells a config, with what else is given, and the code from all others."""
  # Fields that are not set mean nothing: a new one does not train all anew.
  fields = {
    "config": _set_fields(config.to_dict()),
    "code": [code(), measuring()],
    **more,
  }
  key = json.dumps(fields, sort_keys=True, default=list)
  return hashlib.sha256(key.encode()).hexdigest()[:12]


@functools.cache
def code() -> str:
  """A digest of the library: what it computed before a change is not reused."""
  return _sources(pathlib.Path(maxrl_jax.__file__).parent)


@functools.cache
def measuring() -> str:
  """A digest of this folder, where figures' runs are trained and measured.

  What draws and judges them is elsewhere: a caption or a colour trains none.
  """
  return _sources(pathlib.Path(__file__).parent)


def _sources(folder: pathlib.Path) -> str:
  digest = hashlib.sha256()
  for source in sorted(folder.rglob("*.py")):
    if source.name not in _APART:
      digest.update(source.read_bytes())
  return digest.hexdigest()


def _set_fields(block: dict) -> dict:
  return {
    name: _set_fields(value) if isinstance(value, dict) else value
    for name, value in block.items()
    if value is not None
  }
