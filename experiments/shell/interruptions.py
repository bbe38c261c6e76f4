"""A polite end: SIGTERM and SIGINT are kept until it is a good moment."""

import contextlib
import signal
from collections.abc import Callable, Generator

from experiments.shell import output

RESUMABLE = 75  # Exit code: stopped early, the same command goes on.


class Stopped(Exception):
  """A run that was asked to stop, and that the same command goes on with."""


class Interruptions:
  """Notes signals while it is entered; a second one ends the process.

  One that is ignored stays so: workers leave Ctrl-C to their parent.
  """

  _SIGNALS = (signal.SIGTERM, signal.SIGINT)

  def __enter__(self) -> "Interruptions":
    self.asked_to_stop = False
    before = {s: signal.getsignal(s) for s in self._SIGNALS}
    self._before = {s: b for s, b in before.items() if b != signal.SIG_IGN}
    for number in self._before:
      signal.signal(number, self._note)
    return self

  def _note(self, number, frame) -> None:
    del frame
    self.asked_to_stop = True
    name = signal.Signals(number).name
    output.tell(
      f"\n{name}: stopping after this chunk; once more to stop at once"
    )
    for each in self._before:
      signal.signal(each, signal.SIG_DFL)

  def __exit__(self, *_) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)


def until_stopped(chunks: Generator, each: Callable = lambda _: None) -> None:
  """Calls `each` with every chunk; a signal ends it after what it is at.

  Args:
    chunks: closed at the end, whatever happens, so that it can save.
    each: what to do with one.

  Raises:
    Stopped: a signal asked for it.
  """
  # JAX is slow to import, and a wrong flag is told without it.
  from maxrl_jax.devices import processes

  with Interruptions() as interruptions, contextlib.closing(chunks):
    for chunk in chunks:
      each(chunk)
      if processes.any_of(interruptions.asked_to_stop):
        break
    else:
      return
  raise Stopped("stopped; the same command goes on")
