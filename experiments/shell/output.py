"""What goes where: results to stdout, all else to stderr, as --output says.

text   what a person reads
quiet  the path of the results and nothing else
json   one JSON object, on a line of its own
"""

import json
import math
import os
import pathlib
import shutil
import sys
from typing import Any

from absl import flags
from tqdm import tqdm

flags.DEFINE_enum(
  "output",
  "text",
  ["text", "quiet", "json"],
  "What stdout gets: text, the path of the results only, or one JSON object."
  " Messages and progress are on stderr: bars or, where that is no terminal, a"
  " line a minute. quiet still prints warnings and errors.",
)


def result(path: pathlib.Path, text: str, record: dict) -> None:
  """Tells what a command was asked for; the one thing that is on stdout.

  Args:
    path: of the results; all that quiet prints.
    text: what a person reads.
    record: the same as JSON; numbers that are not finite become null.
  """
  words = {
    "quiet": lambda: str(path),
    "text": lambda: text,
    "json": lambda: json.dumps(_finite(record), allow_nan=False),
  }
  write(words[_mode()](), sys.stdout)


def say(message: str) -> None:
  """A line of what is going on, unless it shall be quiet."""
  if _mode() != "quiet":
    tell(message)


def tell(message: str) -> None:
  """A line that must be said: an error, a warning, an interruption."""
  write(message, sys.stderr)


class _Lines(tqdm):
  """Progress in a file that grows: a line a minute."""

  def __init__(self, *args, **options):
    every = 60.0
    form = (
      "{desc} {percentage:.0f} %, {n_fmt} of {total_fmt}"
      " [{elapsed} so far, {remaining} left, {rate_fmt}{postfix}]"
    )
    options = {"mininterval": every, "delay": every} | options
    options |= {"maxinterval": every, "bar_format": form, "leave": False}
    super().__init__(*args, **options)

  def display(self, msg: str | None = None, pos: int | None = None) -> None:
    """Called with a text where a bar would be wiped out."""
    del pos
    if msg is None:
      tell(str(self).strip())


def bar(*args, hidden: bool = False, **options) -> tqdm:
  """Progress, unless it shall be quiet."""
  disable = hidden or _mode() == "quiet"
  if not sys.stderr.isatty():
    return _Lines(*args, disable=disable, **options)
  # One that does not know its size has 80 × 24; tqdm would draw nothing.
  size = shutil.get_terminal_size()
  options |= {"ncols": size.columns, "nrows": size.lines}
  return tqdm(*args, disable=disable, **options)


def duration(seconds: float) -> str:
  """Seconds, minutes or hours, as exact as an estimate is."""
  if seconds < 90:
    return f"{seconds:.0f} s"
  if seconds < 2 * 60 * 60:
    return f"{seconds / 60:.0f} minutes"
  return f"{seconds / 60 / 60:.1f} hours"


def counted(number: int, what: str) -> str:
  """ "1 run", "2 runs"."""
  return f"{number} {what}{'s' * (number != 1)}"


def write(text: str, stream) -> None:
  """Prints; where nobody reads any more (`| head`), the work goes on."""
  try:
    print(text, file=stream, flush=True)
  except BrokenPipeError:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _mode() -> str:
  # So it can be asked for where no command line was read.
  return str(flags.FLAGS["output"].value)


def _finite(value: Any) -> Any:
  if isinstance(value, dict):
    return {name: _finite(inner) for name, inner in value.items()}
  if isinstance(value, (list, tuple)):
    return [_finite(inner) for inner in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value
