"""Commands side by side, in processes that save and stop with their parent."""

import os
import pathlib
import subprocess
import threading
from collections.abc import Callable
from concurrent import futures

from maxrl_jax.runs import interrupts, progress

_PARENT = "MAXRL_PARENT"  # Environment variable of a child: its parent.


def run(
  commands: dict[str, list[str]],
  logs: pathlib.Path,
  jobs: int,
  each: Callable[[str, int], None],
) -> None:
  """Runs commands, some at a time, with their output in logs/NAME.log.

  Children ignore Ctrl-C: a terminal sends it to the whole group, and the
  SIGTERM at which they save would be their second signal.

  Args:
    commands: by name.
    logs: folder, created if it is missing.
    jobs: number at a time.
    each: (name, exit code), called as commands end.

  Raises:
    KeyboardInterrupt: of the parent, once all children have saved and stopped.
  """
  logs.mkdir(exist_ok=True)
  environment = os.environ | {_PARENT: str(os.getpid())}
  started: list[subprocess.Popen] = []
  stopping = threading.Event()

  def one(name: str) -> tuple[str, int]:
    with (
      open(logs / f"{name}.log", "w") as log,
      subprocess.Popen(
        commands[name],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env=environment,
        start_new_session=True,
      ) as process,
    ):
      started.append(process)
      if stopping.is_set():
        process.terminate()
    return name, process.returncode

  with futures.ThreadPoolExecutor(jobs) as pool:
    try:
      waiting = [pool.submit(one, name) for name in commands]
      for done in futures.as_completed(waiting):
        each(*done.result())
    except BaseException:
      stopping.set()
      pool.shutdown(wait=False, cancel_futures=True)
      for process in started:
        process.terminate()
      progress.warn("stopping once all have saved; repeat to stop at once")
      raise


def is_child() -> bool:
  """Whether `run` started this process, which then stops with its parent."""
  parent = os.environ.pop(_PARENT, None)
  if parent is None:
    return False
  interrupts.watch_parent(int(parent), interrupts.terminate)
  return True
