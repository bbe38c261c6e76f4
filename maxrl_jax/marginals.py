"""Marginals of a policy and a noise model, without sampling."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import special
from jax.typing import ArrayLike

from maxrl_jax.distributions import Components
from maxrl_jax.likelihoods import Likelihood

Array = jax.Array


def log_pass_rate(
  likelihood: Likelihood,
  target: Array,
  policy: Components,
  noise_scale: ArrayLike | None = None,
) -> Array:
  """log E[l] of a mixture policy, exact where a closed form exists.

      log Σ_c π_c ∫ N(ŷ; m_c, s_c) l(y, ŷ) dŷ

  Sums over atoms are exact. Normal components use the noise model's closed form
  or, if it has none, an average over 1024 slices of equal probability.

  Args:
    likelihood: the noise model.
    target: y, a scalar.
    policy: mixture for one target dimension, fields [C].
    noise_scale: σ, a scalar; None means `likelihood.scale`.
  """
  noise = likelihood.scale if noise_scale is None else noise_scale
  residuals = target - policy.locations
  if policy.scales is None:
    terms = likelihood.log_likelihoods(residuals, noise)
  elif likelihood.log_under_normal is not None:
    terms = likelihood.log_under_normal(residuals, noise, policy.scales)
    terms = terms - likelihood.log_ceiling
  else:
    inside = likelihood.log_likelihoods(target - _slices(policy), noise)
    terms = _log_sum(inside) - math.log(inside.shape[0])
  return _log_sum(policy.log_weights + terms)


def predictive_cdf(
  likelihood: Likelihood,
  target: Array,
  policy: Components,
  noise_scale: ArrayLike | None = None,
) -> Array:
  """P(Y ≤ y) under policy and noise (PIT); uniform if calibrated.

  Arguments as in `log_pass_rate`.
  """
  noise = likelihood.scale if noise_scale is None else noise_scale
  if policy.scales is None:
    below = likelihood.cdf((target - policy.locations) / noise)
  else:
    below = jnp.mean(likelihood.cdf((target - _slices(policy)) / noise), 0)
  return jnp.sum(jnp.exp(policy.log_weights) * below)


def _slices(policy: Components, num: int = 1024) -> Array:
  """Midpoints of `num` equal-probability slices of each normal, [num, C]."""
  assert policy.scales is not None
  quantiles = special.ndtri((np.arange(num) + 0.5) / num)
  return policy.locations[None] + policy.scales[None] * quantiles[:, None]


def _log_sum(terms: Array) -> Array:
  """logsumexp over the first axis, with gradient 0 where all are −inf."""
  some = jnp.max(terms, 0) != -jnp.inf  # True for NaN, which propagates.
  safe = special.logsumexp(jnp.where(some, terms, 0.0), axis=0)
  return jnp.where(some, safe, -jnp.inf)
