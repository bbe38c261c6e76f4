"""Command lines of entry points: one in a process, or many in forks of one.

What is slow to import is imported once, before the forks.
"""

import contextlib
import importlib
import json
import os
import pathlib
import runpy
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


def outcomes(commands) -> list[dict]:
  """Of each [module, *arguments]: exit code, stdout, stderr."""
  done = subprocess.run(
    [sys.executable, "-m", "tests.support.entry_points"],
    input=json.dumps(commands),
    capture_output=True,
    text=True,
    cwd=ROOT,
    timeout=600,
  )
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout)


def main() -> None:
  for name in _SLOW:
    importlib.import_module(name)
  with contextlib.suppress(ImportError):  # Without the extra tunix.
    importlib.import_module("experiments.llm.cluster")
  commands = json.load(sys.stdin)
  json.dump([_outcome(command) for command in commands], sys.stdout)


def _outcome(command: list[str]) -> dict:
  with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
    child = os.fork()
    if child == 0:
      os.dup2(out.fileno(), 1)
      os.dup2(err.fileno(), 2)
      os._exit(_run(command))
    _, status = os.waitpid(child, 0)
    texts = []
    for file in (out, err):
      file.seek(0)
      texts.append(file.read())
  code = os.waitstatus_to_exitcode(status)
  return {"code": code, "stdout": texts[0], "stderr": texts[1]}


def _run(command: list[str]) -> int:
  module, *arguments = command
  sys.argv[1:] = arguments
  try:
    runpy.run_module(
      f"experiments.{module}", run_name="__main__", alter_sys=True
    )
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
