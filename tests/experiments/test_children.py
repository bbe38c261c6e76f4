"""Commands side by side, which save and stop with their parent."""

import os
import pathlib
import signal
import subprocess
import sys

import psutil
import pytest

from tests.support import stops

_WORK = """
import os, pathlib, signal, sys, time
from absl import flags
from experiments.shell import children, console
from maxrl_jax.runs.interrupts import until_stopped

def chunks(path):
  try:
    while True:
      open(path, "w").write(f"at work {os.getpid()}")
      yield time.sleep(0.1)
  finally:
    time.sleep(2)  # A second signal would end it here.
    open(path, "w").write("saved")

def late(*_):
  time.sleep(0.5)  # Children have seen the signal by then.
  raise KeyboardInterrupt

def main():
  state = pathlib.Path(flags.FLAGS.workdir)
  if children.is_child():
    until_stopped(chunks(state))
  else:
    command = [sys.executable, *sys.argv]
    children.run({"a": command}, state.parent / "logs", 2, print)

if __name__ == "__main__":
  signal.signal(signal.SIGINT, late)
  flags.DEFINE_string("workdir", None, "As of all commands that resume.")
  console.run(main)
"""


@pytest.mark.long
@pytest.mark.parametrize("stop", [stops.kill, stops.ctrl_c, stops.terminate])
def test_children_save_and_stop_with_their_parent(tmp_path, stop):
  """The parent is killed, or a terminal sends Ctrl-C to its whole group."""
  script, state = tmp_path / "parent.py", tmp_path / "state"
  script.write_text(_WORK)
  parent = subprocess.Popen(
    [sys.executable, script, f"--workdir={state}"],
    env=os.environ | {"PYTHONPATH": str(pathlib.Path(__file__).parents[2])},
    start_new_session=True,
  )
  stops.wait_for(
    lambda: state.exists() and state.read_text().startswith("at work "),
    seconds=60,
  )
  worker = psutil.Process(int(state.read_text().split()[-1]))
  stop(parent.pid)
  assert parent.wait(60) == (75 if stop != stops.kill else -signal.SIGKILL)
  stops.wait_for(lambda: state.read_text() == "saved", seconds=60)
  worker.wait(timeout=30)
