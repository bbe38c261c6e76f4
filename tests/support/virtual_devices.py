"""Modules of tests that are run with several devices, which a CPU pretends."""

import json
import os
import pathlib
import subprocess
import sys

from tests.support.compilation import FLAGS

_ROOT = pathlib.Path(__file__).parents[2]


def rows(module: str, *arguments: str, devices: int = 8) -> list[dict]:
  """The JSON objects that a module prints, line by line."""
  count = f"--xla_force_host_platform_device_count={devices}"
  done = subprocess.run(
    [sys.executable, "-m", module, *arguments],
    cwd=_ROOT,
    env=os.environ | {"XLA_FLAGS": f"{count} {FLAGS}"},
    capture_output=True,
    text=True,
  )
  assert not done.returncode, done.stderr
  return [json.loads(line) for line in done.stdout.splitlines()]
