"""Runs on disk: checkpoints, resuming, and studies of many runs.

maxrl_jax.runs.train(config, workdir)  # as experiments.train
maxrl_jax.runs.load(workdir)  # config, trainer, states and metrics
"""

import importlib
from typing import Any

_FUNCTIONS = {"train": "train_to_folder", "load": "trained"}


def __getattr__(name: str) -> Any:
  if name in _FUNCTIONS:
    module = importlib.import_module(f"{__name__}.{_FUNCTIONS[name]}")
    return getattr(module, name)
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
