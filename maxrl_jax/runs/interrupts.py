"""SIGTERM and SIGINT: finish the current chunk, save, and stop.

Processes that another one started stop with it (`watch_parent`).
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Generator
from typing import Any

RESUMABLE = 75  # Exit code: stopped early, run the same command to resume.
_STDERR = 2  # File descriptor.


class Stopped(Exception):
  """A signal stopped a run; its work is saved."""


class Interruptions:
  """Records signals inside the context; a repeated one ends the process.

  Signals within a second count as one request: a service manager sends SIGTERM
  to a worker and to its parent, which passes it on to the worker. An ignored
  signal stays ignored: workers leave Ctrl-C to their parent. Outside the main
  thread Python has no signals, and nothing is recorded.
  """

  _SIGNALS = (signal.SIGTERM, signal.SIGINT)
  _ONE_REQUEST = 1.0  # Seconds.

  def __enter__(self) -> "Interruptions":
    self.asked_to_stop = False
    self._asked_at = 0.0
    main = threading.current_thread() is threading.main_thread()
    before = {s: signal.getsignal(s) for s in self._SIGNALS if main}
    self._before = {s: b for s, b in before.items() if b != signal.SIG_IGN}
    for number in self._before:
      signal.signal(number, self._note)
    return self

  def _note(self, number: int, frame: Any) -> None:
    del frame
    if self.asked_to_stop:
      if time.monotonic() > self._asked_at + self._ONE_REQUEST:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
      return
    self.asked_to_stop = True
    self._asked_at = time.monotonic()
    name = signal.Signals(number).name
    text = f"\n{name}: stopping after this chunk; repeat to stop at once\n"
    # Not by print: the signal may have interrupted one, which is not reentrant.
    os.write(_STDERR, text.encode())

  def __exit__(self, *_: Any) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)


def until_stopped(
  chunks: Generator, each: Callable[[Any], object] = lambda _: None
) -> None:
  """Calls `each` with every chunk; a signal stops after the current one.

  Args:
    chunks: a generator that saves when it is closed, as it always is at the
      end.
    each: is called with every chunk.

  Raises:
    Stopped: a signal stopped it.
  """
  # JAX is slow to import: wrong flags are reported without it.
  from maxrl_jax.devices import processes

  with Interruptions() as interruptions, contextlib.closing(chunks):
    for chunk in chunks:
      each(chunk)
      if processes.any_of(interruptions.asked_to_stop):
        break
    else:  # A signal may have arrived after the last chunk.
      if not processes.any_of(interruptions.asked_to_stop):
        return
  raise Stopped("stopped; run the same command again to resume")


def watch_parent(parent: int, then: Callable[[], object]) -> None:
  """Calls `then` in a thread once the process `parent` is gone.

  A parent that is killed cannot notify the processes that it started.
  """

  def watch() -> None:
    while os.getppid() == parent:
      time.sleep(0.5)
    then()

  threading.Thread(target=watch, daemon=True).start()


def terminate() -> None:
  """Sends SIGTERM to this process: it saves and stops."""
  os.kill(os.getpid(), signal.SIGTERM)
