"""Checkpoints that the runs of a figure start from."""

import math
import pathlib

import filelock
from ml_collections import ConfigDict

from maxrl_jax.runs import programs, train_to_folder


def trained(
  config: ConfigDict, steps: int, runs: pathlib.Path, task: str
) -> pathlib.Path:
  """The checkpoint after this many steps of a config; cached in `runs`."""
  config.steps = steps
  config.optimizer.warmup = min(config.optimizer.warmup, config.steps // 2)
  config.checkpoint.every, config.eval_every = config.eval_every, config.steps
  config.log_every = math.gcd(config.log_every, config.steps)
  folder = runs / f"{task}-warm-up-{programs.digest(config)}"
  locks = runs / ".locks"
  locks.mkdir(parents=True, exist_ok=True)
  with filelock.FileLock(locks / folder.name):  # Another figure may train it.
    if not (folder / "summary.json").exists():
      train_to_folder.train(config, folder)
  return folder / "model"
