"""Series objectives of graded rewards, integrated over thresholds."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from maxrl_jax import objectives, ranges, symmetric
from maxrl_jax.estimators.group import checked, prepare
from maxrl_jax.symmetric import closed_form
from maxrl_jax.symmetric.group import LeaveOneOut

Array = jax.Array


def tail(
  rewards: ArrayLike,
  *,
  order: int | Array | None = None,
  k: int | Array | None = None,
  alpha: float | Array | None = None,
  coefficients: ArrayLike | None = None,
  baseline: str | float | Array = "centred",
  mask: ArrayLike | None = None,
  check: bool = False,
) -> Array:
  """A series objective φ of P(r ≥ τ), integrated over thresholds τ.

      A_j = ∫ A_j(τ) dτ = Σ_K (r_(N−K+1) − r_(N−K)) A_j(K)

  where A_j(τ) is the advantage for binary rewards 1[r ≥ τ] (`maxrl`,
  `pass_at_k`, `power` or `series`) and the rewards r_(1) ≤ … ≤ r_(N) are
  sorted: K of them reach the thresholds between r_(N−K) and r_(N−K+1).

  Unbiased for ∇ ∫ φ(P(r ≥ τ)) dτ, where φ − φ(1) replaces φ for τ < 0:

      k            the expected best of K rewards (graded PKPO, 2505.15201)
      order        TailRL (arXiv 2609.02987); order 1 is RLOO
      alpha        power α, of order N−1
      coefficients a_k of any series

  Give at most one; without any, `order` is N−1, the published TailRL. Rewards
  need no ceiling: scaling them scales A, and with 'centred' and 'loo_mean' a
  shift changes nothing. O(N log N); `coefficients` O(N T). Binary rewards give
  the advantages of the binary estimator. All equal: 0 with 'centred' and
  'loo_mean'. N = 1: ValueError with these two; a_0 r_1 − b otherwise.

  Args:
    rewards: r [N], any finite numbers.
    order: T from 1 to N, a number or a traced scalar; outside of 1 … N that has
      no meaning, as with k and alpha.
    k: K from 1 to N, a number or a traced scalar.
    alpha: α in [0, 1], a number or a traced scalar.
    coefficients: a [T], T ≤ N, a_k ≥ 0; may be traced.
    baseline: 'centred', 'none' or 'loo_mean', as in `maxrl` at each threshold,
      or a number, subtracted as a constant. At T = N 'centred' does not sum to
      zero.
    mask: [N], False for rollouts to ignore.
    check: return NaN if a reward is not finite or an option is out of range
      under `jit`, where nothing is raised and the result would have no meaning.

  Raises:
    ValueError: two objectives, one out of range, an unknown baseline, N too
      small for it, or a reward that is not finite.
  """
  rule, constant = _rule(baseline)
  smallest = 1 if rule == "none" else 2
  r, present = prepare(rewards, mask, smallest=smallest, bounded=False)
  size, dtype = r.shape[0], r.dtype
  count = _count(mask, size, dtype)
  options = {
    "order": order,
    "k": k,
    "alpha": alpha,
    "coefficients": coefficients,
  }
  table = _table(options, count, size, dtype)
  binary = _BASELINES[rule](table, jnp.asarray(count, dtype))
  advantages = _integral(r, None if mask is None else present, binary)
  enough = count >= smallest
  advantages = jnp.where(present & enough, advantages - constant, 0)
  return checked(advantages, rewards, present, check, bounded=False, **options)


def tail_rl(
  rewards: ArrayLike, *, mask: ArrayLike | None = None, check: bool = False
) -> Array:
  """TailRL: Algorithm 1 integrated over thresholds (arXiv 2609.02987).

      A_(k) = N Σ_{j≤k} (r_(j) − r_(j−1))/(N−j+1) − mean,  r_(0) = 0

  for rewards in ascending order: `tail` of order N−1. Unbiased for
  ∇ ∫ J_{N−1}(P(r ≥ τ)) dτ, for any finite rewards; not for ∇J_{N−1}(E[l]),
  unless l is binary: then it is `maxrl` of order N−1. All equal (K = 0, K = N):
  0. N = 1: ValueError.

  Args:
    check: return NaN if a value is not finite under `jit`, where nothing is
      raised and the result would have no meaning.
  """
  return tail(rewards, mask=mask, check=check)


def _count(mask: ArrayLike | None, size: int, dtype: Any) -> Any:
  if mask is None:
    return size
  if ranges.is_traced(mask):
    return jnp.sum(mask, dtype=dtype)
  return int(np.sum(np.asarray(mask, bool)))


def _rule(baseline: str | float | Array) -> tuple[str, float | Array]:
  """A key of `_BASELINES`, and a constant to subtract."""
  ranges.name_or_number(_BASELINES, baseline=baseline)
  return (baseline, 0.0) if isinstance(baseline, str) else ("none", baseline)


def _table(
  options: dict[str, Any], count: Any, size: int, dtype: Any
) -> LeaveOneOut:
  """ω and b of c = 0 … N−1 successes among the others, [size] each."""
  chosen = [(name, x) for name, x in options.items() if x is not None]
  if len(chosen) > 1:
    names = " and ".join(name for name, _ in chosen)
    raise ValueError(f"{names}: choose one of {', '.join(options)}")
  largest = (jnp if ranges.is_traced(count) else np).maximum(count - 1, 1)
  name, value = chosen[0] if chosen else ("order", largest)
  if name == "coefficients":
    symmetric.check_coefficients(value, size)
    value = jnp.asarray(value)
  elif name == "alpha":
    objectives.power(value)  # Checks its range.
  elif chosen:
    symmetric.check_order(value, size, name)
  return _TABLES[name](value, count, size, dtype)


def _series_table(
  coefficients: Array, count: Any, size: int, dtype: Any
) -> LeaveOneOut:
  """Compiled once, not in every eager call."""
  static = (2, 3) if ranges.is_traced(count) else (1, 2, 3)
  table = jax.jit(closed_form.series_table, static_argnums=static, inline=True)
  return table(coefficients, count, size, dtype)


_TABLES: dict[str, Callable[..., LeaveOneOut]] = {
  "order": closed_form.order_table,
  "k": closed_form.pass_at_k_table,
  "alpha": closed_form.power_table,
  "coefficients": _series_table,
}


class _Binary(NamedTuple):
  """Advantages for binary rewards with K = 1 … size−1 successes, [size−1].

  Attributes:
    success: of the successes.
    failure: of the failures.
    every: of all rollouts if all succeed, K = N.
  """

  success: Array
  failure: Array
  every: Array


def _centred(table: LeaveOneOut, count: Array) -> _Binary:
  # Σ_j A_j = 0, except for a lone success at T = N, where no leave-one-out
  # baseline achieves it. The product, unlike ω − b, does not cancel.
  b, k = table.baselines[1:], _successes(table, count)
  success = jnp.where(k == 1, table.weights[:-1], (count - k) / k * b)
  return _Binary(success, -b, jnp.zeros_like(count))


def _none(table: LeaveOneOut, count: Array) -> _Binary:
  weights = table.weights
  others = jnp.arange(weights.shape[0], dtype=count.dtype)
  every = jnp.where(others == count - 1, weights, 0)
  success = weights[:-1]
  return _Binary(success, jnp.zeros_like(success), jnp.sum(every))


def _loo_mean(table: LeaveOneOut, count: Array) -> _Binary:
  others, k = jnp.maximum(count - 1, 1), _successes(table, count)
  success = table.weights[:-1] * ((count - k) / others)
  return _Binary(
    success, -table.weights[1:] * (k / others), jnp.zeros_like(count)
  )


def _successes(table: LeaveOneOut, count: Array) -> Array:
  return jnp.arange(1, table.weights.shape[0], dtype=count.dtype)


_BASELINES: dict[str, Callable[[LeaveOneOut, Array], _Binary]] = {
  "centred": _centred,
  "none": _none,
  "loo_mean": _loo_mean,
}


# An eager call would run dozens of operations one by one.
@functools.partial(jax.jit, inline=True)
def _integral(r: Array, mask: Array | None, binary: _Binary) -> Array:
  """Σ over gaps between sorted rewards of gap times binary advantage."""
  present: Any = np.ones(r.shape, bool) if mask is None else mask
  lowest = jnp.min(jnp.where(present, r, jnp.inf))
  lowest = jnp.where(jnp.isfinite(lowest), lowest, 0)  # All are masked.
  # Masked rollouts have the lowest reward: they sort first and have no gap.
  filled = jnp.where(present, r, lowest)
  ordered, rollouts = lax.sort_key_val(filled, jnp.arange(r.shape[0]))
  gaps = jnp.diff(ordered)  # K = N−1 … 1 rewards are above each.
  zero = jnp.zeros(1, r.dtype)
  above = jnp.cumsum(gaps * binary.success[::-1])
  below = jnp.cumsum((gaps * binary.failure[::-1])[::-1])[::-1]
  sums = jnp.append(zero, above) + jnp.append(below, zero)
  # Back in the order of the rollouts; a gather is slow on a TPU.
  _, advantages = lax.sort_key_val(rollouts, sums + binary.every * lowest)
  return advantages
