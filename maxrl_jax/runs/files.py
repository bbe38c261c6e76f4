"""Files that are whole or not there, whatever ends the process."""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def whole(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Where to write what gets its name when it is complete.

  Other processes may write the same file.
  """
  unfinished = path.with_suffix(f".{os.getpid()}.part")
  try:
    yield unfinished
    unfinished.replace(path)
  finally:
    unfinished.unlink(missing_ok=True)


def write_whole(path: pathlib.Path, text: str) -> None:
  """Writes a text whole or not at all."""
  with whole(path) as unfinished:
    unfinished.write_text(text, encoding="utf-8")


def write_arrays(path: pathlib.Path, arrays: dict[str, Any]) -> None:
  """Writes an .npz whole or not at all."""
  import numpy as np  # Not for what only writes words: --help reads this.

  with whole(path) as unfinished, open(unfinished, "wb") as file:
    np.savez(file, **arrays)  # To a file: it would add .npz to a name.


def write_json(path: pathlib.Path, record: dict) -> None:
  """Writes a record to be read by people too, whole or not at all."""
  write_whole(path, json.dumps(record, indent=2) + "\n")
