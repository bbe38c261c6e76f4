"""Ways to stop a command that leads its process group, and to wait."""

import os
import signal
import time


def kill(command: int):
  os.kill(command, signal.SIGKILL)


def ctrl_c(command: int):
  os.killpg(command, signal.SIGINT)


def terminate_group(command: int):
  os.killpg(command, signal.SIGTERM)


def terminate(command: int):
  os.kill(command, signal.SIGTERM)


def wait_for(condition, seconds: float = 120.0):
  end = time.time() + seconds
  while not condition():
    assert time.time() < end
    time.sleep(0.05)
