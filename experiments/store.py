"""Finished runs on disk: never trained twice, never half written."""

import hashlib
import json
import pathlib
from collections.abc import Callable

import numpy as np


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
  # Fields that are not set mean nothing: a new one does not train all anew.
  fields = {"config": _set_fields(config.to_dict()), **more}
  key = json.dumps(fields, sort_keys=True, default=list)
  digest = hashlib.sha256(key.encode()).hexdigest()[:12]
  name = label.replace(" ", "-").lower()
  path = folder / f"{name}-{digest}.npz"
  if not path.exists():
    arrays = compute()
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part.npz")
    np.savez(unfinished, **arrays)
    unfinished.rename(path)
  with np.load(path) as found:
    return dict(found)


def _set_fields(block: dict) -> dict:
  return {
    name: _set_fields(value) if isinstance(value, dict) else value
    for name, value in block.items()
    if value is not None
  }
