"""Fields in which the runs of one compiled program may differ.

They change numbers, never shapes nor what is computed, so that their values can
be arrays with the run axis first.
"""

from collections.abc import Iterable
from typing import Any

from ml_collections import ConfigDict, config_dict

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
