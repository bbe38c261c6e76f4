"""Checks of values that raise a ValueError naming the field.

Traced values are not checked.
"""

import difflib
import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def at_least(least: float, of: str = "", **fields: Any) -> None:
  """Raises at the first field below `least`; `of` is a prefix of its name."""
  _check(f"at least {least}", lambda x: x >= least, fields, of)


def above_zero(of: str = "", **fields: Any) -> None:
  """Raises at the first field that is not above 0 and finite."""
  _check("above 0 and finite", lambda x: 0 < x < math.inf, fields, of)


def open_unit_interval(**fields: Any) -> None:
  """Raises at the first field that is not between 0 and 1."""
  _check("between 0 and 1", lambda x: 0 < x < 1, fields)


def unit_interval(**fields: Any) -> None:
  """Raises at the first field that is not from 0 to 1."""
  _check("from 0 to 1", lambda x: 0 <= x <= 1, fields)


def decay(**fields: Any) -> None:
  """Raises at the first field that is not in [0, 1)."""
  _check("in [0, 1)", lambda x: 0 <= x < 1, fields)


def finite(**fields: Any) -> None:
  """Raises at the first field that is not a finite number."""
  _check("a finite number", math.isfinite, fields)


def _check(
  must: str,
  holds: Callable[[Any], bool],
  fields: dict[str, Any],
  of: str = "",
) -> None:
  """Raises at the first field that is not a number that holds."""
  for name, value in fields.items():
    if np.ndim(value):
      raise ValueError(f"{of}{name}: shape {np.shape(value)}, must be a number")
    if is_traced(value):
      continue
    host = np.asarray(value)
    real = host.dtype == bool or jnp.issubdtype(host.dtype, jnp.number)
    if not real or not holds(host.item()):
      shown = repr(value) if isinstance(value, str) else value
      raise ValueError(f"{of}{name} = {shown}: must be {must}")


def whole(least: int | None = None, **fields: Any) -> None:
  """Raises at the first field that is no integer, or below `least`."""
  limit = "" if least is None else f", at least {least}"
  for name, value in fields.items():
    integer = isinstance(value, (int, np.integer))
    integer = integer and not isinstance(value, bool)
    if not integer or (least is not None and value < least):
      raise ValueError(f"{name} = {value!r}: must be a whole number{limit}")


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
