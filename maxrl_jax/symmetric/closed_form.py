"""Binary likelihoods: a closed form in the number of successes, O(N)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from maxrl_jax.symmetric.group import (
  LeaveOneOut,
  compute_dtype,
  either,
  values,
)

Array = jax.Array


def leave_one_out(
  likelihoods: Array, order: int | Array | None, mask: Array
) -> LeaveOneOut:
  """l in {0, 1}: a function of the number of successes among the others.

  With c successes among the other n = N−1 rollouts,

      ω_j = N/(c+1) · (1 − C(N−c−1, T)/C(N, T)),  b_j = 1 − C(n−c, T)/C(n, T)

  Both brackets are 1 − Π_{i<c} (1 − T/(N−i)), a running sum of positive terms,
  in one table that all prompts share. c is K for a failure and K−1 for a
  success: two values a group.
  """
  success, count, dtype = _successes(likelihoods, mask)
  total = jnp.sum(success)
  largest = jnp.maximum(count - 1, 1)
  order = largest if order is None else jnp.asarray(order, dtype)
  size = likelihoods.shape[0]
  at_least_one = pass_at(order, count, size)
  baselines = pass_at(jnp.minimum(order, largest), count - 1, size)

  def given(c: Array) -> LeaveOneOut:
    weight = count / jnp.maximum(c + 1, 1) * _at(at_least_one, c + 1)
    return LeaveOneOut(weight, _at(baselines, c))

  return _select(success, given(total - 1), given(total))


def pass_at(order: ArrayLike, count: ArrayLike, size: int) -> Array:
  """pass@T of `count` samples of which c = 0 … size succeeded, [size+1].

  1 − C(n−c, T)/C(n, T) = 1 − Π_{i<c} (1 − T/(n−i)), with n = count ≤ size.
  """
  order = jnp.asarray(order)
  i = jnp.arange(size, dtype=order.dtype)
  chance = jnp.clip(order / jnp.maximum(count - i, 1), 0, 1)
  at_least_one = lax.associative_scan(either, chance)
  return jnp.concatenate([jnp.zeros(1, order.dtype), at_least_one])


def series(l: Array, coefficients: Array, mask: Array) -> LeaveOneOut:
  """Any series for l in {0, 1}: ω_j = Σ_k a_k C(n−c, k)/C(n, k).

  The table over c is built row by row, r_{c+1,k} = r_{c,k} (n−c−k)/(n−c),
  and does not depend on the prompt's likelihoods.
  """
  success, count, dtype = _successes(l, mask)
  n = count - 1
  a = coefficients.astype(dtype)
  k = jnp.arange(a.shape[0], dtype=dtype)
  # ē_k − ē_{k+1} = (c/(n−k)) ē_k: the next draw is a success.
  hit = jnp.where(k < n, 1 / jnp.maximum(n - k, 1), 0)

  def next_row(ratio: Array, c: Array) -> tuple[Array, LeaveOneOut]:
    row = LeaveOneOut(jnp.sum(a * ratio), c * jnp.sum(a * ratio * hit))
    fewer = jnp.maximum(n - c - k, 0) / jnp.maximum(n - c, 1)
    return ratio * fewer, row

  rows = jnp.arange(l.shape[0], dtype=dtype)
  exists = (k <= n).astype(dtype)
  _, table = lax.scan(next_row, exists, rows)
  total = jnp.sum(success)

  def given(c: Array) -> LeaveOneOut:
    return LeaveOneOut(*(_at(column, c) for column in table))

  return _select(success, given(total - 1), given(total))


def _at(table: Array, index: Array) -> Array:
  """table[index], without a gather; 0 outside."""
  here = jnp.arange(table.shape[0], dtype=index.dtype) == index
  return jnp.sum(jnp.where(here, table, 0))


def _select(
  success: Array, of_successes: LeaveOneOut, of_failures: LeaveOneOut
) -> LeaveOneOut:
  pairs = zip(of_successes, of_failures, strict=True)
  return LeaveOneOut(*(jnp.where(success > 0, a, b) for a, b in pairs))


def require_binary(likelihoods: Array, mask: ArrayLike | None) -> None:
  """Raises ValueError if a concrete likelihood is neither 0 nor 1."""
  if isinstance(likelihoods, jax.core.Tracer) or likelihoods.dtype == bool:
    return
  if isinstance(mask, jax.core.Tracer):
    return
  l = np.asarray(likelihoods, np.float64)
  present = True if mask is None else np.asarray(mask)
  bad = np.flatnonzero(~((l == 0) | (l == 1)) & present)
  if bad.size:
    raise ValueError(
      f"likelihoods[{bad[0]}] = {l[bad[0]]}: method 'binary' needs 0 or 1"
    )


def _successes(likelihoods: Array, mask: ArrayLike) -> tuple[Array, Array, Any]:
  """Which rollouts succeeded [N], group size, compute dtype."""
  dtype = compute_dtype(likelihoods)
  successes = values(likelihoods, mask).astype(dtype)
  return successes, jnp.sum(mask).astype(dtype), dtype
