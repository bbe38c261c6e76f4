"""Names and options of a config block, looked up and checked."""

import inspect
from typing import Any


def options(block) -> dict[str, Any]:
  """The fields of a config block that are set, less its name."""
  return {
    name: value
    for name, value in block.items()
    if name != "name" and value is not None
  }


def choice(choices, field: str, name: str):
  if name not in choices:
    raise ValueError(f"{field} = {name!r}: choose from {sorted(choices)}")
  return choices[name]


def build(choices, block: str, name: str, options: dict[str, Any]):
  make = choice(choices, f"{block}.name", name)
  check_options(block, name, make, options)
  return make(**options)


def check_options(block: str, name: str, make, options) -> None:
  """Names the option that `make` does not take, or misses."""
  parameters = inspect.signature(make).parameters
  for option, value in options.items():
    if option not in parameters:
      hidden = {"likelihoods", "mask", "method", "name", "parent"}
      hidden |= {"num_actions", "initial_logits", "bounded", "num_dims"}
      if block == "policy":
        hidden |= {"learned_scale", "smallest_scale", "initial_scale"}
        hidden |= {"spread", "least_policy_scale", "width"}
        hidden |= {"vocab_size", "max_length", "eos", "rope_theta", "epsilon"}
        hidden |= {"prompts_apart"}
      taken = sorted(set(parameters) - hidden)
      raise ValueError(
        f"{block}.{option} = {value}: {name!r} takes {taken or 'no options'}"
      )
  for option, parameter in parameters.items():
    required = parameter.default is inspect.Parameter.empty
    if required and option not in options and option != "likelihoods":
      raise ValueError(f"{block}.{option} is not set: {name!r} needs it")
