"""Estimators based on ratios of likelihoods."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from maxrl_jax import ranges
from maxrl_jax.estimators.group import checked, count, mean, prepare
from maxrl_jax.symmetric import compute_dtype

Array = jax.Array
# An eager call would run dozens of operations one by one.
_compiled = functools.partial(jax.jit, inline=True)


def maxrl_paper(
  likelihoods: ArrayLike, *, mask: ArrayLike | None = None, check: bool = False
) -> Array:
  """Algorithm 1 of arXiv 2602.02710: A_j = (r_j − r̄)/r̄.

  Unbiased for ∇J_{N−1} if r is binary: A_j = 0 instead of −1 at K = 0 lowers
  the order from the N of eq. 9 to N−1. For other l it equals `self_normalized`,
  which is biased. K = 0 and K = N: 0. N = 1: ValueError.

  Args:
    check: return NaN if a value is out of range under `jit`, where nothing is
      raised and the result would have no meaning.
  """
  return self_normalized(likelihoods, mask=mask, check=check)


def self_normalized(
  likelihoods: ArrayLike, *, mask: ArrayLike | None = None, check: bool = False
) -> Array:
  """Normalized importance weights (IWAE): A_j = l_j / l̄ − 1.

  Biased for ∇ log p, with a bias of order 1/N: both ∇p and p are estimated
  from the same rollouts (arXiv 1509.00519). For binary l it is `maxrl_paper`,
  unbiased for order N−1. K = 0: 0 by convention. K = N: 0. N = 1: ValueError.

  Args:
    check: return NaN if a value is out of range under `jit`, where nothing is
      raised and the result would have no meaning.
  """
  l, mask = prepare(likelihoods, mask, smallest=2)
  largest = jnp.max(jnp.where(mask, l, 0))
  # Divided by the largest first, so that tiny likelihoods do not underflow.
  some = largest >= jnp.finfo(l.dtype).tiny  # Subnormal quotients are inexact.
  relative = l / jnp.where(some, largest, 1)
  ratio = relative / jnp.where(some, mean(relative, mask), 1)
  advantages = jnp.where(mask & some, ratio - 1, 0)
  return checked(advantages, likelihoods, mask, check)


def log_self_normalized(
  log_likelihoods: ArrayLike,
  *,
  mask: ArrayLike | None = None,
  check: bool = False,
) -> Array:
  """`self_normalized` from log l [N] ≤ 0: A_j = N softmax(log l)_j − 1.

  Does not underflow, even at log-likelihoods of −1e4. All −∞: 0. N = 1:
  ValueError.

  Args:
    check: return NaN if a value is out of range under `jit`, where nothing is
      raised and the result would have no meaning.
  """
  log_l, mask = _log_prepare(log_likelihoods, mask, smallest=2)
  all_zero = jnp.max(log_l) == -jnp.inf  # False for NaN, which propagates.
  share = jax.nn.softmax(jnp.where(all_zero, 0, log_l))
  advantages = jnp.where(mask & ~all_zero, count(mask, log_l) * share - 1, 0)
  return checked(advantages, _valid(log_likelihoods), mask, check)


def vimco(
  likelihoods: ArrayLike, *, mask: ArrayLike | None = None, check: bool = False
) -> Array:
  """`log_vimco` from l [N] in [0, 1]; replaces 0 by the smallest float.

  Args:
    check: return NaN if a value is out of range under `jit`, where nothing is
      raised and the result would have no meaning.
  """
  l, mask = prepare(likelihoods, mask, smallest=2)
  smallest = jnp.finfo(l.dtype).tiny
  advantages = log_vimco(jnp.log(jnp.maximum(l, smallest)), mask=mask)
  return checked(advantages, likelihoods, mask, check)


def log_vimco(
  log_likelihoods: ArrayLike,
  *,
  mask: ArrayLike | None = None,
  check: bool = False,
) -> Array:
  """VIMCO (arXiv 1602.06725) from log l [N], with the policy as proposal.

      A_j = N (L − L_{−j}),  L = log mean_i l_i

  L_{−j} replaces l_j by the geometric mean of the others. Unbiased for ∇E[L],
  the importance-weighted bound on log p (arXiv 1509.00519), which is below
  log p by about Var(l)/(2N p²): biased for ∇ log p. Not centred. All equal: 0.
  N = 1: ValueError. Meant for l > 0: zeros are replaced by the largest l of the
  group times the smallest float, or by its smallest l > 0 if that is less. So
  one success among zeros has a huge A_j.

  Args:
    check: return NaN if a value is out of range under `jit`, where nothing is
      raised and the result would have no meaning.
  """
  log_l, mask = _log_prepare(log_likelihoods, mask, smallest=2)
  return checked(_vimco(log_l, mask), _valid(log_likelihoods), mask, check)


@_compiled
def _vimco(log_l: Array, mask: Array) -> Array:
  # Only differences matter; they are most accurate near 0.
  largest = jnp.max(log_l)
  all_zero = largest == -jnp.inf
  log_l = log_l - jnp.where(all_zero, 0, largest)
  zero = mask & (log_l == -jnp.inf)
  least = jnp.min(jnp.where(mask & ~zero, log_l, 0))
  tiny = jnp.log(jnp.finfo(log_l.dtype).tiny)
  least = jnp.where(all_zero, 0, jnp.minimum(least, tiny))
  log_l = jnp.where(zero, least, log_l)
  finite = jnp.where(mask, log_l, 0)
  num = count(mask, log_l)
  geometric = (jnp.sum(finite) - finite) / jnp.maximum(num - 1, 1)
  total = jnp.log(jnp.sum(jnp.exp(log_l)))
  # If l_j is a small part of the sum, the difference of logarithms cancels.
  change = jnp.exp(geometric - total) - jnp.exp(log_l - total)
  # Only the largest can be more than half of the sum. For it, logarithms are
  # subtracted; relative to the second largest, the others do not underflow.
  top = jnp.arange(log_l.shape[0]) == jnp.argmax(log_l)
  rest = jnp.where(top, -jnp.inf, log_l)
  second = jnp.max(rest)
  second = jnp.where(second == -jnp.inf, 0, second)  # All others are masked.
  others = second + jnp.log(jnp.sum(jnp.exp(rest - second)))
  small = ~top | (change > -0.5)
  advantages = num * jnp.where(
    small,
    -jnp.log1p(jnp.where(small, change, 0)),
    total - jnp.logaddexp(others, geometric),
  )
  return jnp.where(mask & (num > 1), advantages, 0)


def _valid(log_likelihoods: ArrayLike) -> Array:
  """Valid likelihoods for `checked`, or NaN where log l is out of range."""
  return jnp.where(jnp.asarray(log_likelihoods) <= 0, 1.0, jnp.nan)


def _log_prepare(
  log_likelihoods: ArrayLike, mask: ArrayLike | None, smallest: int
) -> tuple[Array, Array]:
  """Checked log l in at least float32, −inf where masked; and the mask."""
  log_l = jnp.asarray(log_likelihoods)
  log_l = log_l.astype(compute_dtype(log_l))
  # The same checks of size and mask as for likelihoods.
  _, mask = prepare(jnp.zeros(log_l.shape), mask, smallest=smallest)
  if not any(map(ranges.is_traced, (log_likelihoods, mask))):
    values = np.asarray(log_likelihoods, np.float64)
    bad = np.flatnonzero(~(values <= 0) & np.asarray(mask))
    if bad.size:
      raise ValueError(
        f"log_likelihoods[{bad[0]}] = {values[bad[0]]}: must be at most 0;"
        " subtract the largest value a log-likelihood can take"
      )
  return jnp.where(mask, log_l, -jnp.inf), mask
