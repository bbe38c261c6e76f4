"""Checks of the arguments of `groups` and `waves`, before compilation."""

import functools
import math
import numbers
from collections.abc import Mapping, Set
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from maxrl_jax import options as signatures
from maxrl_jax import ranges, symmetric
from maxrl_jax.estimators import (
  ESTIMATORS,
  NON_OPTIONS,
  SEQUENTIAL_BASELINES,
)

# A weighted sum of rewards may exceed its ceiling by this much in float32.
_ROUNDING = 4 * np.finfo(np.float32).eps


def flat(name: str, values: npt.ArrayLike, hint: str = "") -> np.ndarray:
  """Numbers [R], NaN for None; raises ValueError with `hint` otherwise."""
  if ranges.is_traced(values):
    raise ValueError(
      f"{name}: traced, must be NumPy numbers; under jit, use jax.vmap of a"
      " function of maxrl_jax.estimators"
    )
  values = from_torch(values)
  try:
    if np.asarray(values).dtype.kind in "USc":
      raise TypeError
    array = np.asarray(values, float)
  except (TypeError, ValueError):
    every = np.asarray(values, object).ravel()
    wrong = (x for x in every if not isinstance(x, numbers.Real | None))
    raise ValueError(
      f"{name}: {next(wrong, values)!r} is not a number{hint}"
    ) from None
  if array.ndim != 1 or not array.size:
    raise ValueError(f"{name}: shape {array.shape}, must be [R], R ≥ 1")
  return array


def from_torch(values: Any) -> Any:
  """A tensor of any dtype and device as a NumPy array; other values as is."""
  if hasattr(values, "detach"):  # NumPy has no bfloat16.
    return values.detach().cpu().double().numpy()
  return values


def mask(values: npt.ArrayLike, size: int) -> np.ndarray:
  """Booleans [R]; raises ValueError unless values are booleans, or 0 and 1."""
  array = np.asarray(from_torch(values), object)
  if array.shape != (size,):
    raise ValueError(
      f"mask: shape {array.shape}, must be [R], R = {size}, as rewards"
    )
  for row in np.flatnonzero((array != 0) & (array != 1)):
    raise ValueError(f"mask[{row}] = {array[row]!r}: must be 0 or 1")
  return array.astype(bool)


def group_numbers(groups: Any, num: int | None, size: int) -> np.ndarray:
  """Group indices 0, 1, … in order of appearance, [R], from ids or N."""
  if (groups is None) == (num is None):
    count = "neither" if groups is None else "both"
    raise ValueError(f"groups, num: {count} given; pass one of them")
  if num is not None:
    if isinstance(num, bool) or num not in range(1, size + 1) or size % num:
      raise ValueError(
        f"num = {num!r}: must be an integer that divides the {size} rewards"
      )
    return np.arange(size) // int(num)
  return _numbers("groups", groups, size)


def rollout_numbers(
  rollouts: Any, num: int | None, group: np.ndarray
) -> np.ndarray | None:
  """Rollout indices 0, 1, … of rows [R]; None if every row is a rollout.

  The same id in another group is another rollout.
  """
  if rollouts is None:
    return None
  if num is not None:
    raise ValueError(
      f"num = {num}: a rollout may have any number of rows; pass groups"
    )
  size = len(group)
  rollout = _numbers("rollouts", rollouts, size)
  last = rollout.max()
  if last < size - 1:
    pairs, rollout = np.unique(group * size + rollout, return_inverse=True)
    last = len(pairs) - 1
  return rollout if last < size - 1 else None


def per_rollout(values: np.ndarray, rollout: np.ndarray) -> np.ndarray:
  """Values of rows [R] → values of rollouts, each from its last row."""
  result = np.zeros(rollout.max() + 1, values.dtype)
  result[rollout] = values
  return result


def _numbers(name: str, ids: Any, size: int) -> np.ndarray:
  """Indices 0, 1, … of ids [R], in order of appearance."""
  if isinstance(ids, numbers.Number):
    fix = f"; for equal groups pass num={ids}" if name == "groups" else ""
    raise ValueError(f"{name} = {ids}: must be ids [R]{fix}")
  if isinstance(ids, Set | Mapping):
    raise ValueError(
      f"{name}: is a {type(ids).__name__}, must be a list of ids [R], in the"
      " order of the rewards"
    )
  values = as_ids(ids)
  if not isinstance(values, list) or len(values) != size:
    raise ValueError(
      f"{name}: shape {np.shape(ids)}, must be [R], R = {size}, as rewards"
    )
  try:
    seen: dict[Any, Any] = dict.fromkeys(values)
    distinct = np.fromiter(seen, object, len(seen))
    missing = None in seen or np.any(distinct != distinct)  # NaN, from itself.
  except TypeError as error:
    raise ValueError(
      f"{name}: {error}; give each row one hashable id, such as a string"
    ) from None
  if missing:
    row = next(row for row, i in enumerate(values) if i is None or i != i)
    raise ValueError(
      f"{name}[{row}] = {values[row]}: must be an id; to exclude a row, give it"
      " any unused id and mask it with mask="
    )
  if len(seen) == size:
    return np.arange(size)
  seen = dict(zip(seen, range(size), strict=False))
  return np.fromiter(map(seen.__getitem__, values), int, size)


def as_ids(ids: Any) -> Any:
  """Ids as a list of Python objects; a scalar for an array without axes.

  Tensors without axes, which are hashed by identity, are replaced by their
  numbers.
  """
  values = ids.tolist() if hasattr(ids, "tolist") else list(ids)
  arrays = isinstance(values, list) and any(
    hasattr(kind, "item") for kind in set(map(type, values))
  )
  if not arrays:
    return values
  scalar = lambda x: hasattr(x, "item") and not np.ndim(x)  # noqa: E731
  return [x.item() if scalar(x) else x for x in values]


def options(estimator: str, given: dict, largest: int) -> dict:
  """The options that are not None, hashable; raises ValueError if invalid."""
  given = {name: x for name, x in given.items() if x is not None}
  ranges.one_of(ESTIMATORS, estimator=estimator)
  signatures.check(
    estimator, ESTIMATORS[estimator].function, given, exclude=NON_OPTIONS
  )
  checked = {}
  for name, value in given.items():
    if name == "coefficients":
      value = tuple(flat(name, value).tolist())
      finite = all(map(math.isfinite, value))
    else:
      by_name = name == "baseline" and isinstance(value, str)
      finite = by_name or is_finite(value)
    whole = name in ("order", "k")
    if whole and not isinstance(value, numbers.Real):
      raise ValueError(
        f"{name} = {value!r}: must be an integer, not a {type(value).__name__}"
      )
    if not finite:
      raise ValueError(f"{name} = {value!r}: must be a finite number")
    if whole:
      _check_order(name, value, largest)
      value = int(value)
    checked[name] = value
  terms = len(checked.get("coefficients", ()))
  if terms > largest:
    raise ValueError(
      f"coefficients: {terms} terms, but the largest group has {largest}"
      f" rollouts; give at most {largest}, or sample more per prompt"
    )
  if largest == 1:
    _check_group_of_one(estimator, checked)
  return checked


def sequential(
  rewards: np.ndarray,
  waves: npt.ArrayLike,
  mask: np.ndarray,
  baseline: str | float,
  average: str,
) -> None:
  """Raises ValueError unless the arguments of `waves.sequential` are valid."""
  for j in np.flatnonzero(mask & (rewards != 0) & (rewards != 1)):
    raise ValueError(
      f"rewards[{j}] = {rewards[j]}: must be 0 or 1; `estimators.sequential`"
      " takes graded ones"
    )
  number = np.asarray(waves)
  if number.shape != rewards.shape or not np.issubdtype(
    number.dtype, np.integer
  ):
    raise ValueError(
      f"waves: {number.dtype} {number.shape}, must be integers [R],"
      f" R = {len(rewards)}, as rewards"
    )
  ranges.name_or_number(SEQUENTIAL_BASELINES, baseline=baseline)
  ranges.one_of(("prompt", "batch"), average=average)


def is_finite(value: Any) -> bool:
  """Whether this is a real number, neither infinite nor NaN."""
  return isinstance(value, numbers.Real) and math.isfinite(value)


def _check_order(name: str, value: Any, largest: int) -> None:
  try:
    symmetric.check_order(value, largest, name)
  except ValueError as error:
    raise ValueError(
      f"{error} in the largest group; lower {name}, or sample more rollouts"
      " per prompt"
    ) from None


def _check_group_of_one(estimator: str, checked: dict) -> None:
  """Raises ValueError if the estimator compares rollouts of a group."""
  function = functools.partial(ESTIMATORS[estimator], **checked)
  try:
    jax.eval_shape(function, jax.ShapeDtypeStruct((1,), np.float32))
  except ValueError as error:
    raise ValueError(
      f"groups: each has only one rollout ({error}); sample more per prompt and"
      " give them the same id"
    ) from None


def likelihoods(
  rewards: np.ndarray, mask: np.ndarray, estimator: str, ceiling: float | None
) -> np.ndarray:
  """Rewards divided by their ceiling, float32 [R], 0 where masked."""
  if ceiling is not None and not (is_finite(ceiling) and ceiling > 0):
    raise ValueError(f"ceiling = {ceiling!r}: must be finite and above 0")
  with np.errstate(over="ignore"):  # Infinities raise below.
    l = np.where(mask, rewards, 0) / (1 if ceiling is None else ceiling)
    l = l.astype(np.float32)
  bounded = not ESTIMATORS[estimator].any_reward
  valid = np.isfinite(l)
  if bounded:
    valid &= (l >= 0) & (l <= 1 + _ROUNDING)
  bad = np.flatnonzero(~valid)
  if bad.size:
    fix = _fix(rewards[bad[0]], estimator, ceiling)
    raise ValueError(f"rewards[{bad[0]}] = {rewards[bad[0]]}: {fix}")
  return np.minimum(l, np.float32(1)) if bounded else l


def one_per_rollout(
  l: np.ndarray, mask: np.ndarray, rollout: np.ndarray, rewards: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """l and mask of rollouts from those of rows.

  Raises:
    ValueError: unmasked rows of a rollout have different rewards.
  """
  rows = np.flatnonzero(mask)
  member = np.zeros(rollout.max() + 1, bool)
  member[rollout[rows]] = True
  row_of = np.zeros(len(member), int)
  row_of[rollout[rows]] = rows
  bad = rows[l[rows] != l[row_of[rollout[rows]]]]
  if bad.size:
    i, j = bad[0], row_of[rollout[bad[0]]]
    raise ValueError(
      f"rewards[{i}] = {rewards[i]}, rewards[{j}] = {rewards[j]}: these rows"
      " are of one rollout, which must have one reward; give each of its rows"
      " the reward of the whole rollout"
    )
  return np.where(member, l[row_of], 0), member


def _fix(reward: float, estimator: str, ceiling: float | None) -> str:
  """What is wrong with a reward, and the remedy."""
  if not math.isfinite(reward):
    return "must be finite; exclude the rollout with mask="
  if ESTIMATORS[estimator].any_reward:
    return "too large for float32; divide rewards by a ceiling="
  if reward < 0:
    return (
      f"{estimator!r} needs rewards of 0 or more; 'rloo' takes any, and adding"
      " a constant changes the pass rate, and so the objective"
    )
  if ceiling is None:
    return (
      f"{estimator!r} needs rewards in [0, 1]; pass ceiling=, the largest"
      " possible reward, to divide by it"
    )
  return f"above ceiling = {ceiling}, which must be the largest possible reward"
