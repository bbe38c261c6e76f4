"""Estimators of RL's ∇E[reward] and GRPO, for any finite reward."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from maxrl_jax import ranges
from maxrl_jax.estimators.group import checked, loo_mean, mean, prepare

Array = jax.Array


def reinforce(
  likelihoods: ArrayLike,
  *,
  mask: ArrayLike | None = None,
  bounded: bool = True,
  check: bool = False,
) -> Array:
  """Score function without a baseline: A_j = l_j.

  Unbiased for ∇p (RL, order 1). K = 0: 0. K = N: 1, pure noise. N = 1: l_1.

  Args:
    check: return NaN if a value is out of range under `jit`, where nothing is
      raised and the result would have no meaning.
  """
  l, mask = prepare(likelihoods, mask, bounded=bounded)
  return checked(l, likelihoods, mask, check, bounded)


def rloo(
  likelihoods: ArrayLike,
  *,
  mask: ArrayLike | None = None,
  bounded: bool = True,
  check: bool = False,
) -> Array:
  """Leave-one-out baseline: A_j = l_j − mean_{i≠j} l_i (arXiv 2402.14740).

  Unbiased for ∇p (RL, order 1) and centred. K = 0 and K = N: 0. N = 1:
  ValueError.

  Args:
    check: return NaN if a value is out of range under `jit`, where nothing is
      raised and the result would have no meaning.
  """
  l, mask = prepare(likelihoods, mask, smallest=2, bounded=bounded)
  advantages = jnp.where(mask, l - loo_mean(l, mask), 0)
  return checked(advantages, likelihoods, mask, check, bounded)


def grpo(
  likelihoods: ArrayLike,
  *,
  epsilon: float | Array = 0.0,
  mask: ArrayLike | None = None,
  bounded: bool = True,
  check: bool = False,
) -> Array:
  """Likelihoods standardized per group: A_j = (l_j − l̄)/(σ + ε) (2402.03300).

  Biased: for binary l its limit as N grows is ∇ 2 arcsin √p, which no finite
  group estimates without bias (`objectives.grpo`). σ is the population standard
  deviation; deviations within four roundings of the largest l are treated as 0.
  K = 0 and K = N: 0. N = 1: ValueError.

  Args:
    epsilon: ε ≥ 0; other libraries use 1e-6 to 1e-4, which lowers the
      advantages of rare successes.
    check: return NaN if a value is out of range under `jit`, where nothing is
      raised and the result would have no meaning.
  """
  ranges.at_least(0, epsilon=epsilon)
  l, mask = prepare(likelihoods, mask, smallest=2, bounded=bounded)
  largest = jnp.max(jnp.where(mask, jnp.abs(l), 0))
  limits = jnp.finfo(l.dtype)
  all_zero = largest < limits.tiny
  # Dividing by a power of two is exact and avoids underflow. The maximum is
  # subtracted first, since the mean of close numbers would round differences.
  power = lax.reduce_precision(
    jnp.maximum(largest / 2, limits.tiny), limits.nexp, 0
  )
  scaled = l / power
  shifted = jnp.where(mask, scaled - jnp.max(scaled, where=mask, initial=-4), 0)
  centred = jnp.where(mask, shifted - mean(shifted, mask), 0)
  # Dividing the rounding errors of equal likelihoods by σ would give ±1.
  equal = jnp.max(jnp.abs(centred)) <= 4 * limits.eps * (largest / power)
  equal |= all_zero
  deviation = jnp.sqrt(mean(centred**2, mask))
  deviation += jnp.asarray(epsilon, l.dtype) / power
  advantages = jnp.where(equal, 0, centred / jnp.where(equal, 1, deviation))
  return checked(advantages, likelihoods, mask, check, bounded, epsilon=epsilon)


def dr_grpo(
  likelihoods: ArrayLike,
  *,
  mask: ArrayLike | None = None,
  bounded: bool = True,
  check: bool = False,
) -> Array:
  """GRPO without division by σ: A_j = l_j − l̄ (arXiv 2503.20783).

  Equals (1 − 1/N) RLOO: unbiased for (1 − 1/N) ∇p, centred. K = 0 and K = N: 0.
  N = 1: ValueError.

  Args:
    check: return NaN if a value is out of range under `jit`, where nothing is
      raised and the result would have no meaning.
  """
  l, mask = prepare(likelihoods, mask, smallest=2, bounded=bounded)
  advantages = jnp.where(mask, l - mean(l, mask), 0)
  return checked(advantages, likelihoods, mask, check, bounded)
