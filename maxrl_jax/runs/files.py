"""Atomic files: complete or absent, even if the process is killed."""

import contextlib
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def atomic(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """A temporary path, renamed to `path` when it is complete.

  Several processes may write the same file.
  """
  unfinished = path.with_suffix(f".{os.getpid()}.part")
  try:
    yield unfinished
    unfinished.replace(path)
  finally:
    unfinished.unlink(missing_ok=True)


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes a text atomically."""
  with atomic(path) as unfinished:
    unfinished.write_text(text, encoding="utf-8")


def write_arrays(path: pathlib.Path, arrays: dict[str, Any]) -> None:
  """Writes an .npz atomically."""
  import numpy as np  # Slow to import; --help imports this module.

  with atomic(path) as unfinished, open(unfinished, "wb") as file:
    np.savez(file, **arrays)  # It would add .npz to a path.


def write_json(path: pathlib.Path, record: dict) -> None:
  """Writes indented JSON atomically."""
  write_text(path, json.dumps(record, indent=2) + "\n")


def digest(value: Any) -> str:
  """Twelve hexadecimal digits that identify a value of JSON."""
  text = json.dumps(value, sort_keys=True, default=list)
  return hashlib.sha256(text.encode()).hexdigest()[:12]
