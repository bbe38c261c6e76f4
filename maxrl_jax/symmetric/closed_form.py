"""Binary likelihoods: a closed form in the number of successes, O(N)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike, DTypeLike

from maxrl_jax import ranges
from maxrl_jax.symmetric.group import (
  LeaveOneOut,
  compute_dtype,
  values,
)

Array = jax.Array


def leave_one_out(
  likelihoods: Array, order: int | Array | None, mask: Array
) -> LeaveOneOut:
  """l in {0, 1}: a function of the number of successes among the others.

  All prompts share one table. A group has two of its values: at c = K for
  failures and at c = K−1 for successes.
  """
  success, count, dtype = _successes(likelihoods, mask)
  order = (count - 1).clip(1) if order is None else order
  table = order_table(order, count, likelihoods.shape[0], dtype)
  return _select(success, table)


def series(l: Array, coefficients: Array, mask: Array) -> LeaveOneOut:
  """Any series for l in {0, 1}: ω_j = Σ_k a_k C(n−c, k)/C(n, k)."""
  success, count, dtype = _successes(l, mask)
  table = series_table(coefficients, count, l.shape[0], dtype)
  return _select(success, table)


# Tables [size] of ω and b if c = 0, 1, … of the other n = count−1 rollouts
# succeed. Constants unless an argument, such as count ≤ size, is traced.


def order_table(
  order: ArrayLike, count: ArrayLike, size: int, dtype: DTypeLike
) -> LeaveOneOut:
  """MaxRL of order T.

      ω = N/(c+1) · (1 − C(N−c−1, T)/C(N, T)),  b = 1 − C(n−c, T)/C(n, T)

  Both brackets are 1 − Π_{i<c} (1 − T/(N−i)), a running sum of positive terms.
  """
  xp, working = _namespace(dtype, order, count)
  count = xp.asarray(count, working)
  factor = jnp.asarray(count / xp.arange(1, size + 1, dtype=working), dtype)
  at_least_one = pass_at(order, count, size, dtype)[1:]
  return LeaveOneOut(
    factor * at_least_one, pass_at(order, count - 1, size, dtype)[:-1]
  )


def pass_at_k_table(
  k: ArrayLike, count: ArrayLike, size: int, dtype: DTypeLike
) -> LeaveOneOut:
  """ω = k C(n−c, k−1)/C(n, k−1), b = k c/n · C(n−c, k−1)/C(n−1, k−1)."""
  xp, working = _namespace(dtype, k, count)
  k, count = xp.asarray(k, working), xp.asarray(count, working)

  def none_of(num: Any) -> Any:
    chance = xp.exp(_log_none(k - 1, num, size, working))[:-1]
    return k * xp.where(k - 1 <= num, chance, 0)

  return _table(none_of(count - 1), none_of(count - 2), count, dtype)


def power_table(
  alpha: ArrayLike, count: ArrayLike, size: int, dtype: DTypeLike
) -> LeaveOneOut:
  """The series of power α with n terms, order N−1, by Chu–Vandermonde.

      ω = Π_{c<i≤n} (1 + (1−α)/i),  b = c/n · Π_{c≤i<n} (1 + (1−α)/i)

  At c = 0 the product for ω ends at i = n−1: only order N has the term i = n.
  """
  xp, working = _namespace(dtype, alpha, count)
  alpha, count = xp.asarray(alpha, working), xp.asarray(count, working)
  i = xp.arange(1, size, dtype=working)
  rises = xp.log1p((1 - alpha) / i)

  def product(last: Any) -> Any:
    logs = xp.where(i <= last, rises, 0)[::-1]
    sums = xp.append(xp.cumsum(logs)[::-1], xp.zeros(1, working))
    return xp.exp(sums)

  of_others, of_rest = product(count - 1), product(count - 2)
  first = xp.arange(size) == 0
  weights = xp.where(first, of_rest, of_others)
  return _table(weights, of_rest, count, dtype)


def series_table(
  coefficients: Array, count: ArrayLike, size: int, dtype: DTypeLike
) -> LeaveOneOut:
  """Any series, row by row: r_{c+1,k} = r_{c,k} (n−c−k)/(n−c)."""
  a, n = coefficients.astype(dtype), jnp.asarray(count, dtype) - 1
  rows = jnp.arange(size, dtype=dtype)
  if ranges.is_traced(count):  # Each group may have a table of N T numbers.
    return _rows_in_turn(rows, a, n)
  return lax.platform_dependent(
    rows, a, n, cpu=_rows_in_turn, default=_rows_at_once
  )


def _rows_in_turn(rows: Array, a: Array, n: Array) -> LeaveOneOut:
  def next_row(ratio: Array, c: Array) -> tuple[Array, LeaveOneOut]:
    return ratio * _fewer(c, a, n), _row(ratio, c, a, n)

  return lax.scan(next_row, _first_ratio(a, n), rows)[1]


def _rows_at_once(rows: Array, a: Array, n: Array) -> LeaveOneOut:
  """In 2 log N steps, where each is a kernel."""
  factors = jax.vmap(_fewer, (0, None, None))(rows[:-1], a, n)
  ratios = lax.cumprod(jnp.concatenate([_first_ratio(a, n)[None], factors]))
  return jax.vmap(_row, (0, 0, None, None))(ratios, rows, a, n)


def _first_ratio(a: Array, n: Array) -> Array:
  return (jnp.arange(a.shape[0], dtype=a.dtype) <= n).astype(a.dtype)


def _fewer(c: Array, a: Array, n: Array) -> Array:
  k = jnp.arange(a.shape[0], dtype=a.dtype)
  return jnp.maximum(n - c - k, 0) / jnp.maximum(n - c, 1)


def _row(ratio: Array, c: Array, a: Array, n: Array) -> LeaveOneOut:
  k = jnp.arange(a.shape[0], dtype=a.dtype)
  # ē_k − ē_{k+1} = (c/(n−k)) ē_k: the next draw is a success.
  hit = jnp.where(k < n, 1 / jnp.maximum(n - k, 1), 0)
  return LeaveOneOut(jnp.sum(a * ratio), c * jnp.sum(a * ratio * hit))


def _table(
  weights: Any, of_rest: Any, count: Any, dtype: DTypeLike
) -> LeaveOneOut:
  """b at c of n others is c/n times ω at c−1 of n−1 others, `of_rest`."""
  xp, working = _namespace(dtype, weights, of_rest, count)
  c = xp.arange(len(weights), dtype=working)
  before = xp.append(xp.zeros(1, working), of_rest[:-1])
  baselines = c / xp.maximum(count - 1, 1) * before
  return LeaveOneOut(jnp.asarray(weights, dtype), jnp.asarray(baselines, dtype))


def pass_at(
  order: ArrayLike, count: ArrayLike, size: int, dtype: DTypeLike
) -> Array:
  """pass@T of `count` samples of which c = 0 … size succeeded, [size+1].

  1 − C(n−c, T)/C(n, T) = 1 − Π_{i<c} (1 − T/(n−i)), with n = count ≤ size, and
  1 for T > n and c > 0. A constant unless T or n is traced.
  """
  xp, working = _namespace(dtype, order, count)
  return jnp.asarray(-xp.expm1(_log_none(order, count, size, working)), dtype)


def _log_none(
  order: ArrayLike, count: ArrayLike, size: int, working: DTypeLike
) -> Any:
  """log C(n−c, T)/C(n, T) for c = 0 … size, [size+1]."""
  xp, _ = _namespace(working, order, count)
  order, count = xp.asarray(order, working), xp.asarray(count, working)
  i = xp.arange(size, dtype=working)
  chance = xp.clip(order / xp.maximum(count - i, 1), 0, 1)
  with np.errstate(divide="ignore"):  # log 0: T failures are impossible.
    logs = xp.cumsum(xp.log1p(-chance))
  return xp.append(xp.zeros(1, working), logs)


def _namespace(dtype: DTypeLike, *values: Any) -> tuple[Any, Any]:
  """NumPy in float64, or, if a value is traced, jax.numpy in `dtype`."""
  if any(map(ranges.is_traced, values)):
    return jnp, dtype
  return np, np.float64


def _at(table: Array, index: Array) -> Array:
  """table[index], without a gather; 0 outside."""
  here = jnp.arange(table.shape[0], dtype=index.dtype) == index
  return jnp.sum(jnp.where(here, table, 0))


def _select(success: Array, table: LeaveOneOut) -> LeaveOneOut:
  """The rows of the table that belong to successes and to failures."""
  total = jnp.sum(success)

  def select(column: Array) -> Array:
    of_successes, of_failures = _at(column, total - 1), _at(column, total)
    return jnp.where(success > 0, of_successes, of_failures)

  return LeaveOneOut(*map(select, table))


def require_binary(likelihoods: Array, mask: ArrayLike | None) -> None:
  """Raises ValueError if a concrete likelihood is neither 0 nor 1."""
  if ranges.is_traced(likelihoods) or likelihoods.dtype == bool:
    return
  if ranges.is_traced(mask):
    return
  l = np.asarray(likelihoods, np.float64)
  present = True if mask is None else np.asarray(mask)
  bad = np.flatnonzero(~((l == 0) | (l == 1)) & present)
  if bad.size:
    raise ValueError(
      f"likelihoods[{bad[0]}] = {l[bad[0]]}: method 'binary' needs 0 or 1"
    )


def _successes(likelihoods: Array, mask: Array) -> tuple[Array, Array, Any]:
  """Which rollouts succeeded [N], group size, compute dtype."""
  dtype = compute_dtype(likelihoods)
  successes = values(likelihoods, mask).astype(dtype)
  return successes, mask.sum().astype(dtype), dtype
