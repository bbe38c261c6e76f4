"""Hyperparameters: config fields in which the runs of one program may differ.

They change numbers, never shapes or the computation. Their values are a pytree,
`{dotted name: array}`, with the run axis first where there are several runs;
losses and updates take it as an argument.
"""

from collections.abc import Callable, Iterable
from typing import Any

from ml_collections import ConfigDict

from maxrl_jax import options
from maxrl_jax.estimators import ESTIMATORS, NON_OPTIONS
from maxrl_jax.likelihoods import LIKELIHOODS
from maxrl_jax.objectives import OBJECTIVES
from maxrl_jax.tasks import TASKS
from maxrl_jax.tasks.regression import Data

RATE = "optimizer.learning_rate"


def may_vary(config: ConfigDict) -> set[str]:
  """Fields of which the runs of one program may have different values."""
  task, noise = TASKS.get(config.task.name), None
  if task is not None and options.returns(task) is Data:
    noise = LIKELIHOODS.get(config.likelihood.name or "gaussian")
  functions = {
    "task": task,
    "likelihood": noise,
    "estimator": _objective(config.estimator.name),
  }
  names = {RATE, "estimator.entropy_bonus"}
  if config.estimator.reference_kl is not None:
    names.add("estimator.reference_kl")
  if config.estimator.name == "sequential":
    names.add("estimator.cap")
  for block, function in functions.items():
    if function is not None:
      varying = options.may_vary(function, NON_OPTIONS)
      names |= {f"{block}.{option}" for option in varying}
  likelihood = config.likelihood
  per_prompt = likelihood.per_prompt and likelihood.smallest_scale is not None
  # A learned scale starts there; if every prompt has one, it has no effect.
  if likelihood.learned is not None or per_prompt:
    names.discard("likelihood.scale")
  return names


def _objective(name: str | None) -> Callable | None:
  if name is None:  # An error that `make_loss` raises.
    return None
  if name in ESTIMATORS:
    return ESTIMATORS[name].function
  return OBJECTIVES.get(name.removeprefix("exact_"))


def values_of(config: ConfigDict, names: Iterable[str]) -> dict[str, Any]:
  """Values of fields by dotted name, where they are set."""
  values: dict[str, Any] = {}
  for name in names:
    value: Any = config
    for part in name.split("."):
      value = value[part]
    if value is not None:
      values[name] = value
  return values


def flatten(block: dict, prefix: str = "") -> dict[str, Any]:
  """{"a": {"b": 1}} → {"a.b": 1}."""
  flat: dict[str, Any] = {}
  for name, value in block.items():
    inner = isinstance(value, dict)
    flat |= (
      flatten(value, f"{prefix}{name}.") if inner else {prefix + name: value}
    )
  return flat


def overlay(config: ConfigDict, values: dict[str, Any]) -> ConfigDict:
  """A copy of the config with other values, by dotted name."""
  fields = config.to_dict()
  for name, value in values.items():
    *path, last = name.split(".")
    block = fields
    for part in path:
      block = block[part]
    block[last] = value
  return ConfigDict(fields)


def check_names(
  config: ConfigDict, names: Iterable[str], custom_task: bool
) -> None:
  """Raises ValueError at a field that cannot vary within one program."""
  allowed = may_vary(config)
  for name in names:
    if custom_task and name.split(".")[0] in ("task", "likelihood"):
      raise ValueError(f"{name}: has no effect on your own task")
    if name not in allowed:
      raise ValueError(
        f"{name}: cannot vary within one program of this config; these can:"
        f" {sorted(allowed)}"
      )
    value = values_of(config, [name]).get(name)
    if isinstance(value, str):
      raise ValueError(f"{name} = {value!r}: must be a number to vary")
