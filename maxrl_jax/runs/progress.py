"""Messages and progress bars of long runs, on stderr."""

import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Iterable
from typing import Any, TextIO

from tqdm import tqdm

_quiet = False


def set_quiet(quiet: bool) -> None:
  """Whether `info` and `bar` print nothing."""
  global _quiet
  _quiet = quiet


def info(message: str) -> None:
  """Prints a line about progress, unless quiet."""
  if not _quiet:
    warn(message)


def warn(message: str) -> None:
  """Prints a line even if quiet: an error, a warning, an interruption."""
  write(message, sys.stderr)


def write(text: str, stream: TextIO) -> None:
  """Prints; once the reader is gone (`| head`), output is discarded."""
  try:
    print(text, file=stream, flush=True)
  except BrokenPipeError:
    with open(os.devnull, "w") as nowhere:
      os.dup2(nowhere.fileno(), stream.fileno())


class _Lines(tqdm):
  """Progress in a log file: a line per minute."""

  def __init__(self, *args: Any, **options: Any) -> None:
    minute = 60.0
    form = (
      "{desc} {percentage:.0f} %, {n_fmt} of {total_fmt}"
      " [{elapsed} so far, {remaining} left, {rate_fmt}{postfix}]"
    )
    options = {"mininterval": minute, "delay": minute} | options
    options |= {"maxinterval": minute, "bar_format": form, "leave": False}
    super().__init__(*args, **options)

  def display(self, msg: str | None = None, pos: int | None = None) -> None:
    """Prints a line, but nothing where tqdm would erase its bar with `msg`."""
    del pos
    if msg is None:
      warn(str(self).strip())


def bar(*args: Any, hidden: bool = False, **options: Any) -> tqdm:
  """A progress bar, or a line per minute where stderr is a file."""
  disable = hidden or _quiet
  if "ipykernel" in sys.modules:  # A notebook.
    return _notebook_bar()(*args, disable=disable, **options)
  if not sys.stderr.isatty():
    return _Lines(*args, disable=disable, **options)
  # 80 × 24 if the terminal's size is unknown: tqdm would draw nothing.
  size = shutil.get_terminal_size()
  options |= {"ncols": size.columns, "nrows": size.lines}
  return tqdm(*args, disable=disable, **options)


def _notebook_bar() -> type[tqdm]:
  """A widget, if ipywidgets is installed."""
  if importlib.util.find_spec("ipywidgets") is None:
    return tqdm
  from tqdm.notebook import tqdm as widget

  return widget


def duration(seconds: float) -> str:
  """A duration in rounded seconds, minutes or hours."""
  if seconds < 90:
    return f"{seconds:.0f} s"
  if seconds < 2 * 60 * 60:
    return f"{seconds / 60:.0f} minutes"
  return f"{seconds / 60 / 60:.1f} hours"


def counted(number: int, noun: str) -> str:
  """ "1 run", "2 runs"."""
  return f"{number} {noun}{'s' * (number != 1)}"


def listed(values: Iterable[float]) -> str:
  """ "0.001, 0.003"."""
  return ", ".join(f"{value:g}" for value in values)


class Estimate:
  """Prints once an estimate of the time left, and the memory in use.

  After the second chunk, since most of the first one is compilation.
  """

  def __init__(self, total: int) -> None:
    """`total`: steps to do, summed over runs."""
    self._total, self._done = total, 0
    self._times: list[float] = []

  def add(self, steps: int) -> None:
    """Counts finished steps, summed over runs."""
    self._done += steps
    self._times.append(time.time())
    left = self._total - self._done
    if len(self._times) == 2 and left > 0:
      seconds = (self._times[1] - self._times[0]) * left / steps
      info(
        f"about {duration(seconds)} left;"
        f" {peak_memory() / 2**30:.1f} GiB of memory so far"
      )


def peak_memory() -> int:
  """Peak bytes in use on the device; on a CPU, bytes of the process."""
  import jax  # Slow to import; --help and wrong flags do not need it.
  import psutil

  stats = jax.local_devices()[0].memory_stats() or {}
  if "peak_bytes_in_use" in stats:
    return stats["peak_bytes_in_use"]
  return psutil.Process().memory_info().rss
