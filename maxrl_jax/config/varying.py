"""Fields in which the runs of one compiled program may differ.

They change numbers, never shapes nor what is computed, so that their values can
be arrays with the run axis first.
"""

from collections.abc import Iterable
from typing import Any

import flax.linen as nn
import numpy as np
from ml_collections import ConfigDict, config_dict

from maxrl_jax.config import fields
from maxrl_jax.config.checks import check
from maxrl_jax.config.losses import make_loss
from maxrl_jax.tasks import REGRESSION, TASKS, Task

VARYING = (
  "estimator.alpha",
  "estimator.baseline",  # A number, not a name.
  "estimator.coefficients",
  "estimator.entropy_bonus",
  "estimator.epsilon",
  "estimator.order",
  "likelihood.scale",
  "likelihood.width",
  "optimizer.learning_rate",
  "task.noise",
  "task.plus",
  "task.rho",
  "task.snr",
)


def overlay(config: ConfigDict, values: dict) -> config_dict.ConfigDict:
  """A copy of the config with other values, traced ones too, by dotted name."""
  fields = config.to_dict()
  for name, value in values.items():
    *path, last = name.split(".")
    block = fields
    for part in path:
      block = block[part]
    block[last] = value
  return config_dict.ConfigDict(fields)


def values_of(config: ConfigDict, names: Iterable[str]) -> dict[str, Any]:
  """What a config has in fields by dotted name, where that is set."""
  flat = dict.fromkeys(names, config)
  for name in flat:
    for part in name.split("."):
      flat[name] = flat[name][part]
  return {name: value for name, value in flat.items() if value is not None}


def check_varying(
  config: ConfigDict, names: Iterable[str], own_task: bool
) -> None:
  """Raises ValueError at a field that one program cannot vary."""
  for name in names:
    if name not in VARYING:
      raise ValueError(f"{name}: cannot vary in one program; {VARYING} can")
    if own_task and name.split(".")[0] in ("task", "likelihood"):
      raise ValueError(f"{name}: means nothing to a task of your own")
    if name == "likelihood.scale" and config.likelihood.learned is not None:
      raise ValueError(
        f"{name}: cannot vary in one program where likelihood.learned ="
        f" {config.likelihood.learned!r}, whose policy starts from it"
      )
    if name == "estimator.order" and config.estimator.name == "power":
      raise ValueError(
        f"{name}: cannot vary in one program of 'power'; the"
        " estimator.coefficients of 'series' can"
      )
    value = values_of(config, [name]).get(name)
    if isinstance(value, str):
      raise ValueError(f"{name} = {value!r}: must be a number where it varies")
    if name.startswith("task."):
      _check_option(config, name.removeprefix("task."))


def _check_option(config: ConfigDict, option: str) -> None:
  """Whether the task takes what is to vary; no data is made for it."""
  name = config.task.name
  make = fields.choice(TASKS | REGRESSION, "task.name", name)
  options = {option: None} | fields.options(config.task)
  options.pop("tolerance", None)  # Of every regression task.
  fields.check_options("task", name, make, options)


def check_values(
  config: ConfigDict,
  varied: dict[str, np.ndarray],
  task: Task,
  policy: nn.Module,
) -> None:
  """Raises ValueError at a value [runs, …] that a config could not have.

  Those of tasks and likelihoods are for their functions to check, which
  `sweeps.plan` has them do: data may have to be made for it.
  """
  for name, values in varied.items():
    block = name.split(".")[0]
    if block not in ("estimator", "optimizer"):
      continue
    for value in np.unique(values, axis=0):
      whole = overlay(config, {name: _plain(value)})
      check(whole)
      if block == "estimator":  # No loss depends on a learning rate.
        make_loss(whole, task, policy)


def _plain(value: np.ndarray) -> Any:
  """As a config has it: an order is an integer."""
  if value.ndim:
    return tuple(value.tolist())
  number = float(value)
  return int(number) if number.is_integer() else number
