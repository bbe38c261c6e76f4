"""Finished runs on disk: never trained twice, never half written."""

import functools
import hashlib
import json
import os
import pathlib
import tempfile
from collections.abc import Callable

import numpy as np

import maxrl_jax


def stored(
  folder: pathlib.Path,
  label: str,
  config,
  compute: Callable[[], dict[str, np.ndarray]],
  **more,
) -> dict[str, np.ndarray]:
  """The arrays that `compute` gives, from disk if they are there.

  Args:
    folder: where to keep them.
    label: begins the file's name.
    config: of the run.
    compute: () → arrays by name.
    **more: what else tells this run from others, such as its seeds.
  """
  key = digest(config, **more)
  name = label.replace(" ", "-").lower()
  path = folder / f"{name}-{key}.npz"
  if not path.exists():
    arrays = compute()
    folder.mkdir(parents=True, exist_ok=True)
    # A name of its own, so that two processes cannot meet in one file.
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as unfinished:
      np.savez(unfinished, **arrays)
    os.replace(unfinished.name, path)
  with np.load(path) as found:
    return dict(found)


def digest(config, **more) -> str:
  """Tells a config, with what else is given, and the code from all others."""
  # Fields that are not set mean nothing: a new one does not train all anew.
  fields = {"config": _set_fields(config.to_dict()), "code": code(), **more}
  key = json.dumps(fields, sort_keys=True, default=list)
  return hashlib.sha256(key.encode()).hexdigest()[:12]


@functools.cache
def code() -> str:
  """A digest of the library: what it computed before a change is not reused."""
  digest = hashlib.sha256()
  for source in sorted(pathlib.Path(maxrl_jax.__file__).parent.rglob("*.py")):
    digest.update(source.read_bytes())
  return digest.hexdigest()


def _set_fields(block: dict) -> dict:
  return {
    name: _set_fields(value) if isinstance(value, dict) else value
    for name, value in block.items()
    if value is not None
  }
