"""Ways to stop a command that leads its process group."""

import os
import signal


def kill(command: int):
  os.kill(command, signal.SIGKILL)


def ctrl_c(command: int):
  os.killpg(command, signal.SIGINT)


def terminate_group(command: int):
  os.killpg(command, signal.SIGTERM)


def terminate(command: int):
  os.kill(command, signal.SIGTERM)
