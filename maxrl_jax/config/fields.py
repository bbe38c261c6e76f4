"""Names and options of a config block, looked up and checked."""

import difflib
from collections.abc import Callable, Collection, Mapping
from typing import Any

from ml_collections import ConfigDict

from maxrl_jax.config import option_names

# Parameters of policies that no config field sets: Flax's, and those that come
# from the task or a checkpoint.
_OF_POLICIES = {
  *("name", "parent", "num_actions", "initial_logits", "num_dims"),
  *("learned_scale", "smallest_scale", "initial_scale"),
  *("mean_range", "least_policy_scale", "width"),
  *("vocab_size", "max_length", "eos", "rope_theta", "epsilon"),
  "prompts_apart",
}


def options(block: ConfigDict) -> dict[str, Any]:
  """The fields of a config block that are set, less its name."""
  return {
    name: value
    for name, value in block.items()
    if name != "name" and value is not None
  }


def choice(choices: Mapping[str, Any], field: str, name: str) -> Any:
  """What has that name, or a ValueError with those there are."""
  if name not in choices:
    near = difflib.get_close_matches(str(name).lower(), choices, 1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(f"{field} = {name!r}: {hint}choose from {sorted(choices)}")
  return choices[name]


def build(
  choices: Mapping[str, Any], block: str, name: str, options: dict[str, Any]
) -> Any:
  make = choice(choices, f"{block}.name", name)
  check_options(block, name, make, options)
  try:
    return make(**options)
  except ValueError as error:
    # Functions know their parameters, not the block that these stand in.
    if str(error).split(" ")[0] in options:
      raise ValueError(f"{block}.{error}") from None
    raise


def check_options(
  block: str,
  name: str,
  make: Callable[..., Any],
  options: dict[str, Any],
  given: Collection[str] = (),
) -> None:
  """Names the option that `make` does not take, or misses."""
  unlisted = _OF_POLICIES if block == "policy" else ()
  option_names.check(
    name, make, options, block=f"{block}.", given=given, unlisted=unlisted
  )
