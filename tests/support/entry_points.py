"""Command lines of entry points, in a process of their own or in a fork.

Slow modules are imported once, before the forks.
"""

import atexit
import contextlib
import functools
import importlib
import json
import os
import pathlib
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback

ROOT = pathlib.Path(__file__).parents[2]
_SLOW = (
  "maxrl_jax.runs.train_to_folder",
  "experiments.reports.sweep_report",
  "maxrl_jax.runs.study",
  "experiments.estimator_moments",
)


def process(module: str, *arguments: str, **options):
  """One command line in a process of its own."""
  return subprocess.run(
    [sys.executable, "-m", module, *arguments],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=300,
    **options,
  )


def command(module: str, *arguments: str) -> subprocess.CompletedProcess:
  """One command line in a fork: imports take no time."""
  server = _server()
  line = [module, *arguments]
  print(json.dumps(line), file=server.stdin, flush=True)
  return subprocess.CompletedProcess(
    line, *json.loads(server.stdout.readline())
  )


@functools.cache
def _server() -> subprocess.Popen:
  """Forks for each line of its input; one of every worker of pytest."""
  server = subprocess.Popen(
    [sys.executable, "-m", "tests.support.entry_points"],
    cwd=ROOT,
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  )
  atexit.register(server.communicate)
  return server


def main() -> None:
  for name in _SLOW:
    importlib.import_module(name)
  for line in sys.stdin:
    module, *arguments = json.loads(line)
    if module == "experiments.gsm8k" and "--help" not in arguments:
      with contextlib.suppress(ImportError):  # Without the extra tunix.
        importlib.import_module("experiments.llm.cluster")
    print(json.dumps(_outcome(module, arguments)), flush=True)


def _outcome(module: str, arguments: list[str]) -> tuple[int, str, str]:
  """Exit code, stdout, stderr."""
  with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
    child = os.fork()
    if child == 0:
      os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
      os.dup2(out.fileno(), 1)
      os.dup2(err.fileno(), 2)
      signal.alarm(300)  # One that hangs is killed.
      os._exit(_run(module, arguments))
    _, status = os.waitpid(child, 0)
    texts = []
    for file in (out, err):
      file.seek(0)
      texts.append(file.read())
  return os.waitstatus_to_exitcode(status), *texts


def _run(module: str, arguments: list[str]) -> int:
  sys.argv[1:] = arguments
  sys.orig_argv = [sys.executable, "-m", module, *arguments]
  try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
  except SystemExit as error:
    return error.code or 0
  except BaseException:
    traceback.print_exc()
    return 1
  finally:
    with contextlib.suppress(OSError):
      sys.stdout.flush()
      sys.stderr.flush()
  return 0


if __name__ == "__main__":
  main()
