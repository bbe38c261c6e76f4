"""Checks of values that raise a ValueError naming the field.

Traced values are not checked.
"""

import difflib
import math
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np


def at_least(least: float, of: str = "", **fields: Any) -> None:
  """Raises at the first field below `least`; `of` is a prefix of its name."""
  for name, value in fields.items():
    if not is_traced(value) and not on_host(value) >= least:
      raise ValueError(f"{of}{name} = {value}: must be at least {least}")


def above_zero(of: str = "", **fields: Any) -> None:
  """Raises at the first field that is not above 0 and finite."""
  for name, value in fields.items():
    if not is_traced(value) and not 0 < on_host(value) < math.inf:
      raise ValueError(f"{of}{name} = {value}: must be above 0 and finite")


def open_unit_interval(**fields: Any) -> None:
  """Raises at the first field that is not between 0 and 1."""
  for name, value in fields.items():
    if not is_traced(value) and not 0 < on_host(value) < 1:
      raise ValueError(f"{name} = {value}: must be between 0 and 1")


def unit_interval(**fields: Any) -> None:
  """Raises at the first field that is not from 0 to 1."""
  for name, value in fields.items():
    if not is_traced(value) and not 0 <= on_host(value) <= 1:
      raise ValueError(f"{name} = {value}: must be from 0 to 1")


def decay(**fields: Any) -> None:
  """Raises at the first field that is not in [0, 1)."""
  for name, value in fields.items():
    if not is_traced(value) and not 0 <= on_host(value) < 1:
      raise ValueError(f"{name} = {value}: must be in [0, 1)")


def whole(least: int | None = None, **fields: Any) -> None:
  """Raises at the first field that is no integer, or below `least`."""
  limit = "" if least is None else f", at least {least}"
  for name, value in fields.items():
    integer = isinstance(value, (int, np.integer))
    integer = integer and not isinstance(value, bool)
    if not integer or (least is not None and value < least):
      raise ValueError(f"{name} = {value!r}: must be a whole number{limit}")


def finite(**fields: Any) -> None:
  """Raises at the first field that is not a finite number, or an array."""
  for name, value in fields.items():
    if is_traced(value):
      continue
    host = np.asarray(on_host(value))
    if host.dtype.kind not in "biuf" or not np.isfinite(host).all():
      raise ValueError(f"{name} = {value!r}: must be a finite number")


def one_of(
  choices: Iterable[Any], of: str = "", also: str = "", **fields: Any
) -> None:
  """Raises at the first field that is none of the choices.

  Args:
    choices: names.
    of: prefix of the fields' names.
    also: what else could be chosen, in words.
    **fields: by name.
  """
  choices = sorted(choices)
  for name, value in fields.items():
    if value not in choices:
      hint = did_you_mean(value, choices)
      raise ValueError(
        f"{of}{name} = {value!r}: {hint}choose from {choices}{also}"
      )


def name_or_number(choices: Iterable[str], **fields: Any) -> None:
  """Raises at the first field that is no choice and no finite number."""
  for name, value in fields.items():
    if isinstance(value, str):
      one_of(choices, also=" or a number", **{name: value})
    else:
      finite(**{name: value})


def did_you_mean(name: Any, choices: Iterable[str]) -> str:
  """A hint at the choice nearest to a name, or an empty string."""
  near = difflib.get_close_matches(str(name).lower(), choices, 1)
  return f"did you mean {near[0]!r}? " if near else ""


def is_traced(value: Any) -> bool:
  """Whether a value is a JAX tracer."""
  return isinstance(value, jax.core.Tracer)


def on_host(value: Any) -> Any:
  """A concrete value in NumPy: under `jit`, JAX would trace comparisons."""
  return np.asarray(value) if isinstance(value, jax.Array) else value
