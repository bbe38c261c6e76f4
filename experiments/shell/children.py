"""Commands side by side, each a process that saves and ends with its parent."""

import os
import pathlib
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent import futures

from experiments.shell import output

_PARENT = "MAXRL_PARENT"  # Of a child's environment: who started it.


def run(
  commands: dict[str, list[str]],
  logs: pathlib.Path,
  jobs: int,
  each: Callable[[str, int], None],
) -> None:
  """Runs commands, so many at a time, with what they say in logs/NAME.log.

  Ctrl-C is the parent's alone: a terminal tells it to a whole group, and the
  SIGTERM that children save at would be their second signal.

  Args:
    commands: by name.
    logs: folder, made if need be.
    jobs: how many at a time.
    each: is told a name and an exit code, as commands end.

  Raises:
    KeyboardInterrupt: of the parent, when all children have saved and ended.
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
      output.tell("stopping when all have saved; once more to stop at once")
      raise


def followed() -> bool:
  """Whether `run` started this process, which from now on ends with its parent.

  A parent that is killed outright tells its children nothing.
  """
  parent = os.environ.pop(_PARENT, None)
  if parent is None:
    return False
  threading.Thread(target=_follow, args=(int(parent),), daemon=True).start()
  return True


def _follow(parent: int) -> None:
  while os.getppid() == parent:
    time.sleep(0.5)
  os.kill(os.getpid(), signal.SIGTERM)
