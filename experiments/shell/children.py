"""Commands in parallel processes, which save and stop with their parent."""

import os
import pathlib
import subprocess
import threading
from collections.abc import Callable
from concurrent import futures

from maxrl_jax.runs import interrupts, progress

_PARENT = "MAXRL_PARENT"  # Environment variable of a child: its parent's id.


def run(
  commands: dict[str, list[str]],
  logs: pathlib.Path,
  jobs: int,
  each: Callable[[str, int], None],
) -> None:
  """Runs commands, some at a time, with their output in logs/NAME.log.

  Children do not get Ctrl-C, which a terminal sends to the parent's group: the
  SIGTERM at which they save would be their second signal.

  Args:
    commands: by name.
    logs: folder, created if it is missing.
    jobs: number of commands at a time.
    each: called as each(name, exit code) when a command ends.

  Raises:
    KeyboardInterrupt: in the parent, once all children have saved and stopped.
  """
  logs.mkdir(exist_ok=True)
  environment = os.environ | {_PARENT: str(os.getpid())}
  started: list[subprocess.Popen] = []
  stopping = threading.Event()

  def execute(name: str) -> tuple[str, int]:
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
      submitted = [pool.submit(execute, name) for name in commands]
      for done in futures.as_completed(submitted):
        each(*done.result())
    except BaseException:
      stopping.set()
      pool.shutdown(wait=False, cancel_futures=True)
      for process in started:
        process.terminate()
      progress.warn("stopping once all have saved; repeat to stop at once")
      raise


def is_child() -> bool:
  """Whether `run` started this process; if so, it will stop with its parent."""
  parent = os.environ.pop(_PARENT, None)
  if parent is None:
    return False
  interrupts.watch_parent(int(parent), interrupts.terminate)
  return True
