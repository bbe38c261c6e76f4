"""Names and options of config blocks.

Names are looked up in plain dictionaries; an invalid name, option or number is
a ValueError with the field, its value and the choices, before anything
compiles.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from maxrl_jax import options, ranges


def options_of(block: ConfigDict) -> dict[str, Any]:
  """The fields of a config block that are set, without its name."""
  return {
    name: value
    for name, value in block.items()
    if name != "name" and value is not None
  }


def choice(choices: Mapping[str, Any], field: str, name: str) -> Any:
  """The entry of that name; raises ValueError with the choices."""
  ranges.one_of(choices, **{field: name})
  return choices[name]


def call(
  choices: Mapping[str, Any], block: str, name: str, given: dict[str, Any]
) -> Any:
  """choices[name](**given), with errors that name the config's field."""
  function = choice(choices, f"{block}.name", name)
  options.check(name, function, given, block=f"{block}.")
  try:
    return function(**given)
  except ValueError as error:
    # Functions name their parameters, not the config's block.
    if str(error).split(" ")[0] in given:
      raise ValueError(f"{block}.{error}") from None
    raise
