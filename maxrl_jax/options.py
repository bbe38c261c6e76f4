"""Options of functions and classes, read off their signatures.

A config block has the keyword arguments of the function that it names. An
option whose annotation includes `Array` may be traced: it may differ between
the runs of one compiled program.
"""

import inspect
import types
import typing
from collections.abc import Callable, Collection
from typing import Any, Union

import jax


def parameters(
  function: Callable, exclude: Collection[str] = ()
) -> dict[str, inspect.Parameter]:
  """Parameters by name, except `exclude`, which the caller sets."""
  hints = _hints(function)
  return {
    name: parameter.replace(annotation=hints.get(name, parameter.annotation))
    for name, parameter in inspect.signature(function).parameters.items()
    if name not in exclude
  }


def check(
  name: str,
  function: Callable,
  options: dict,
  *,
  block: str = "",
  exclude: Collection[str] = (),
) -> None:
  """Raises ValueError at an option that is unknown, or required and missing.

  Args:
    name: of the function, as the config calls it.
    function: its parameters are the options.
    options: by name.
    block: prefix of an option's name in errors, such as 'task.'.
    exclude: parameters that are not options: the caller sets them.
  """
  known = parameters(function, exclude)
  for option, value in options.items():
    if option not in known:
      raise ValueError(
        f"{block}{option} = {value!r}: {name!r} takes"
        f" {sorted(known) or 'no options'}"
      )
  for option, parameter in known.items():
    if parameter.default is parameter.empty and option not in options:
      raise ValueError(f"{block}{option} is not set: {name!r} needs it")


def may_vary(function: Callable, exclude: Collection[str] = ()) -> set[str]:
  """Options that may be traced."""
  return {
    name
    for name, parameter in parameters(function, exclude).items()
    if jax.Array in _members(parameter.annotation)
  }


def returns(function: Callable) -> Any:
  """The annotation of what a function returns."""
  annotation = inspect.signature(function).return_annotation
  return _hints(function).get("return", annotation)


def _hints(function: Callable) -> dict[str, Any]:
  """Annotations that are text, as with `from __future__ import annotations`."""
  try:
    return typing.get_type_hints(function)
  except (NameError, TypeError):  # Known to type checkers only; no function.
    return {}


def type_of(parameter: inspect.Parameter) -> type:
  """The type of an option in a config: int, float, bool, str, tuple, object."""
  plain = [
    t
    for t in _members(parameter.annotation)
    if t not in (jax.Array, types.NoneType, inspect.Parameter.empty)
  ]
  if not plain:  # An array alone, or no annotation.
    return tuple if jax.Array in _members(parameter.annotation) else object
  if len(plain) > 1:
    return object
  if typing.get_origin(plain[0]) is not None:
    return tuple
  is_type = isinstance(plain[0], type) and plain[0] is not Any
  return plain[0] if is_type else object


def _members(annotation: Any) -> tuple:
  """The types of a union, or the one type."""
  if typing.get_origin(annotation) in (Union, types.UnionType):
    return typing.get_args(annotation)
  return (annotation,)
