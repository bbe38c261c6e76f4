"""A grid of config fields, from a line of text or from a mapping.

    estimator.order=1,2,4,8;optimizer.learning_rate=log(0.01,1,5)
    batch_size+rollouts=128+8,32+32,8+128

Axes are separated by semicolons and multiplied; fields joined by + change
together. Values are lists, `range(first,last,step)` of whole numbers (last
included), `lin(first,last,count)` or `log(first,last,count)`; `None` leaves a
field to its default. A mapping has fields as keys, and lists or such text as
values.
"""

import ast
import difflib
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

# Fields that cannot be swept, and why.
FIXED = {
  "seed": "seeds are given apart from the grid",
  "runs": "seeds are given apart from the grid",
  "steps": "all runs of a sweep have the same length",
  "log_every": "all runs of a sweep have the same length",
  "eval_every": "all runs of a sweep have the same length",
  "mesh": "it does not change what is learned",
  "checkpoint": "it does not change what is learned",
}

_SPACED = (
  "range(first,last[,step]), lin(first,last,count) or log(first,last,count)"
)


class Axis(NamedTuple):
  """Fields that change together, and their values: one tuple per position."""

  fields: tuple[str, ...]
  values: tuple[tuple, ...]


def parse(grid: str | Mapping, config: ConfigDict) -> list[Axis]:
  """The axes of a grid, with values of the types of their fields.

  Raises:
    ValueError: a field that does not exist, cannot be swept or is repeated; an
      empty axis; a value of another type, or one that is repeated.
  """
  axes = []
  for names, values in _entries(grid):
    axes.append(_axis(tuple(name.strip() for name in names), values, config))
  if not axes:
    raise ValueError("the grid is empty: give at least one field=values")
  fields = [field for axis in axes for field in axis.fields]
  for field in fields:
    if fields.count(field) > 1:
      raise ValueError(f"grid: {field} is given twice")
  return axes


def points(axes: Sequence[Axis]) -> list[dict[str, Any]]:
  """Every combination, the last axis changing fastest."""
  points = []
  for combination in itertools.product(*(axis.values for axis in axes)):
    point: dict[str, Any] = {}
    for axis, values in zip(axes, combination, strict=True):
      point |= dict(zip(axis.fields, values, strict=True))
    points.append(point)
  return points


def _entries(grid: str | Mapping) -> Iterator[tuple[Sequence[str], Any]]:
  """(field names, values as text or a sequence) of each axis."""
  if isinstance(grid, Mapping):
    for names, values in grid.items():
      yield ((names,) if isinstance(names, str) else tuple(names)), values
    return
  if not isinstance(grid, str):
    raise ValueError(
      f"grid: is a {type(grid).__name__}, must be text or a mapping"
    )
  for part in _split(grid, ";"):
    names, equals, values = part.partition("=")
    if not equals:
      raise ValueError(f"grid: {part!r} is not field=values, as rollouts=8,16")
    yield names.split("+"), values.strip()


def _axis(fields: tuple[str, ...], values: Any, config: ConfigDict) -> Axis:
  name = "+".join(fields)
  types = [_type(field, config) for field in fields]
  if isinstance(values, str):
    values = _values_of_text(values, name, len(fields))
  if not isinstance(values, Iterable):
    raise ValueError(f"grid: {name} = {values}: must be a list of values")
  rows = [v if len(fields) > 1 else (v,) for v in values]
  if not rows:
    raise ValueError(f"grid: {name} has no values")
  for row in rows:
    if np.ndim(row) == 0 or len(row) != len(fields):
      raise ValueError(
        f"grid: {name} has a value {row} for {len(fields)} fields together"
      )
  if types == [int]:
    _check_whole(name, [row[0] for row in rows])
  rows = [
    tuple(_convert(*cell) for cell in zip(row, types, fields, strict=True))
    for row in rows
  ]
  for row in rows:
    if rows.count(row) > 1:
      raise ValueError(f"grid: {name} has the value {row} twice")
  return Axis(tuple(fields), tuple(rows))


def _check_whole(name: str, values: list) -> None:
  """Raises ValueError if a spaced axis of an integer field has fractions."""
  spaced = [v for v in values if isinstance(v, float)]
  if any(v != int(v) for v in spaced):
    rounded = ",".join(map(str, dict.fromkeys(round(v) for v in spaced)))
    shown = ",".join(f"{v:g}" for v in spaced)
    raise ValueError(
      f"grid: {name} = {shown}: must be whole numbers; write {name}={rounded}"
    )


def _values_of_text(text: str, name: str, count: int) -> list:
  spaced = re.fullmatch(r"(range|lin|log)\((.*)\)", text)
  if not spaced:
    cells = _split(text, ",")
    return [_split(c, "+") for c in cells] if count > 1 else cells
  kind, inside = spaced.groups()
  try:
    return _spaced(kind, [float(x) for x in inside.split(",")])
  except (ArithmeticError, TypeError, ValueError) as error:
    raise ValueError(
      f"grid: {name}={text}: write {_SPACED} ({error})"
    ) from None


def _spaced(kind: str, numbers: list[float]) -> list:
  if kind == "range":
    first, last, step = numbers if len(numbers) == 3 else (*numbers, 1)
    if any(x != int(x) for x in (first, last, step)):
      raise ValueError("a range is of whole numbers")
    return [int(x) for x in np.arange(first, last + step / 2, step)]
  if len(numbers) != 3:
    raise ValueError("three numbers are needed")
  first, last, count = numbers
  if count < 2 or count != int(count):
    raise ValueError("the count must be a whole number, 2 or more")
  if kind == "log" and min(first, last) <= 0:
    raise ValueError("the ends must be above 0")
  make = np.linspace if kind == "lin" else np.geomspace
  inner = make(first, last, int(count))[1:-1]
  return [first, *map(_rounded, inner), last]


def _rounded(x: float) -> float:
  """Three digits: a value that a figure shows, typed back, is the same run."""
  whole = round(x)
  return whole if abs(x - whole) < 1e-9 * abs(x) else float(f"{x:.3g}")


def _type(field: str, config: ConfigDict) -> type:
  """The type of a field of the config."""
  for fixed in (field, field.split(".")[0]):
    if fixed in FIXED:
      raise ValueError(f"grid: {field} cannot be swept: {FIXED[fixed]}")
  *path, last = field.split(".")
  block = config
  for part in path:
    block = block.get(part) if hasattr(block, "get") else None
  if not hasattr(block, "get_type") or last not in block:
    near = nearest(field, config)
    hint = f"; did you mean {near}?" if near else ""
    raise ValueError(f"grid: the config has no field {field}{hint}")
  if hasattr(block[last], "keys"):
    raise ValueError(f"grid: {field} is a block: name one of its fields")
  return block.get_type(last)


def nearest(field: str, config: ConfigDict) -> str | None:
  """The field probably meant: this name in another block, or a similar one."""
  names = _names(config)
  last = field.split(".")[-1]
  elsewhere = [name for name in names if name.split(".")[-1] == last]
  near = elsewhere or difflib.get_close_matches(field, names, 1)
  return near[0] if near else None


def _names(config: ConfigDict, prefix: str = "") -> list[str]:
  names: list[str] = []
  for name, value in config.items():
    inner = hasattr(value, "keys")
    names += _names(value, f"{prefix}{name}.") if inner else [prefix + name]
  return names


def _convert(value: Any, wanted: type, field: str) -> Any:
  """A value, or its text, converted to the type of the field."""
  try:
    return _of_type(value, wanted)
  except (ArithmeticError, LookupError, SyntaxError, TypeError, ValueError):
    spaced = isinstance(value, str) and "(" in value and wanted is not tuple
    hint = f", or {_SPACED}" * spaced
    raise ValueError(
      f"grid: {field} = {value}: must be of type {wanted.__name__}{hint}"
    ) from None


def _of_type(value: Any, wanted: type) -> Any:
  if value is None or value == "None":
    return None
  if wanted is bool:
    return {"true": True, "false": False}[str(value).lower()]
  if wanted is int:
    if float(value) != int(float(value)):
      raise ValueError
    return int(float(value))
  if wanted is tuple:
    values = ast.literal_eval(value) if isinstance(value, str) else value
    return tuple(values)
  if wanted is object:  # A number or a name.
    try:
      return float(value)
    except ValueError:
      return value
  return wanted(value)


def _split(text: str, separator: str) -> list[str]:
  """Parts between separators that are not inside parentheses."""
  parts, depth = [""], 0
  for letter in text:
    depth += (letter == "(") - (letter == ")")
    if letter == separator and depth == 0:
      parts.append("")
    else:
      parts[-1] += letter
  return [part.strip() for part in parts if part.strip()]
