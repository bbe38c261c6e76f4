"""Estimators of RL's ∇E[reward] and GRPO: any finite reward will do."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from maxrl_jax import ranges
from maxrl_jax.estimators.group import loo_mean, mean, prepare

Array = jax.Array


def reinforce(
  likelihoods: ArrayLike, *, mask: ArrayLike | None = None, bounded: bool = True
) -> Array:
  """Plain score function: A_j = l_j.

  Unbiased for ∇p (RL, order 1), with no baseline. K = 0: 0. K = N: 1, noise
  without signal. N = 1: l_1.
  """
  l, mask = prepare(likelihoods, mask, bounded=bounded)
  return jnp.where(mask, l, 0)


def rloo(
  likelihoods: ArrayLike, *, mask: ArrayLike | None = None, bounded: bool = True
) -> Array:
  """Leave-one-out baseline: A_j = l_j − mean_{i≠j} l_i (arXiv 2402.14740).

  Unbiased for ∇p (RL, order 1) and centred. K = 0 and K = N: 0. N = 1:
  ValueError.
  """
  l, mask = prepare(likelihoods, mask, smallest=2, bounded=bounded)
  return jnp.where(mask, l - loo_mean(l, mask), 0)


def grpo(
  likelihoods: ArrayLike,
  *,
  epsilon: float | Array = 0.0,
  mask: ArrayLike | None = None,
  bounded: bool = True,
) -> Array:
  """Standardized in its group: A_j = (l_j − l̄)/(σ + ε) (arXiv 2402.03300).

  Biased: as N grows it tends to ∇ 2 arcsin √p for binary l, an objective that
  no finite group estimates without bias (`objectives.grpo`). σ is the
  population deviation; deviations of at most four roundings of the largest l
  count as none. K = 0 and K = N: 0. N = 1: ValueError.

  Args:
    epsilon: ε ≥ 0; other code adds 1e-6 to 1e-4, which tames rare successes.
  """
  ranges.at_least(0, epsilon=epsilon)
  l, mask = prepare(likelihoods, mask, smallest=2, bounded=bounded)
  largest = jnp.max(jnp.where(mask, jnp.abs(l), 0))
  limits = jnp.finfo(l.dtype)
  nothing = largest < limits.tiny
  # Scaled by a power of two, which is exact, so that tiny ones do not
  # underflow; differences first, as a mean of close numbers rounds them away.
  _, exponent = jnp.frexp(jnp.where(nothing, 1, largest))
  scaled = jnp.ldexp(l, -exponent)
  apart = jnp.where(mask, scaled - jnp.max(scaled, where=mask, initial=-1), 0)
  centred = jnp.where(mask, apart - mean(apart, mask), 0)
  # Equal ones leave rounding, which σ would blow up to ±1.
  flat = jnp.max(jnp.abs(centred)) <= 4 * limits.eps * jnp.ldexp(
    largest, -exponent
  )
  flat |= nothing
  deviation = jnp.sqrt(mean(centred**2, mask))
  deviation += jnp.ldexp(jnp.asarray(epsilon, l.dtype), -exponent)
  return jnp.where(flat, 0, centred / jnp.where(flat, 1, deviation))


def dr_grpo(
  likelihoods: ArrayLike, *, mask: ArrayLike | None = None, bounded: bool = True
) -> Array:
  """GRPO without the deviation: A_j = l_j − l̄ (arXiv 2503.20783).

  (1 − 1/N) times RLOO: unbiased for (1 − 1/N) ∇p, centred. K = 0 and K = N: 0.
  N = 1: ValueError.
  """
  l, mask = prepare(likelihoods, mask, smallest=2, bounded=bounded)
  return jnp.where(mask, l - mean(l, mask), 0)
