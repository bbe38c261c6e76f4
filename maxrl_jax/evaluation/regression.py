"""Metrics of regression policies, from their mixtures without sampling.

The policy and the noise model define a predictive density of y.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import special
from jax.scipy import stats as densities

from maxrl_jax import likelihoods, marginals
from maxrl_jax.distributions import Components
from maxrl_jax.evaluation import batches
from maxrl_jax.evaluation.coverage import coverage
from maxrl_jax.policies import DigitTransformer
from maxrl_jax.tasks import Prompts, RegressionTask

Array = jax.Array


def metrics(
  policy: nn.Module,
  task: RegressionTask,
  params: Any,
  prompts: Prompts,
  ks: Sequence[int],
) -> dict[str, Array]:
  """Means over the prompts of one run.

  Sums over target dimensions, by name:

      nll             −log density of y under policy and noise, in nats
      excess_nll      nll minus that of the reference
      pass_rate       E[l], jointly over all dimensions
      mse, mse_clean  (y − E[ŷ])² against the noisy and the clean target
      correlation     of E[ŷ] with the clean target over prompts; mean over
                      dimensions
      entropy         of the policy, in nats; differential for densities
      pit_distance    largest distance between the distribution of P(Y ≤ y)
                      over prompts and the uniform one; 0 if calibrated
      pass@k          a rollout is within `task.tolerance` of y in all
                      dimensions

  Policies that write digits also have, in nats:

      digit_nll         −log probability of the number y, which is comparable
                        between policies trained with different likelihoods
      excess_digit_nll  digit_nll minus that of the reference
  """
  target = prompts.targets
  results = batches.map_components(
    functools.partial(_evaluate, task), policy, params, prompts
  )
  log_p = jnp.sum(results.log_pass_rate, -1)
  num_dims = target.y.shape[-1]
  nll = -jnp.mean(log_p) - num_dims * task.likelihood.log_ceiling
  values = {
    "nll": nll,
    "excess_nll": nll + jnp.mean(target.log_reference),
    "pass_rate": jnp.mean(jnp.exp(log_p)),
    "mse": jnp.mean(jnp.sum((target.y - results.mean) ** 2, -1)),
    "mse_clean": jnp.mean(jnp.sum((target.clean - results.mean) ** 2, -1)),
    "correlation": jnp.mean(
      jax.vmap(_correlation, 1)(results.mean, target.clean)
    ),
    "entropy": jnp.mean(jnp.sum(results.entropy, -1)),
    "pit_distance": _distance_from_uniform(results.pit.ravel()),
  }
  if isinstance(policy, DigitTransformer):
    values["digit_nll"] = -jnp.mean(jnp.sum(results.log_exact, -1))
    bin_width = policy.numerals.spacing
    best = -jnp.mean(target.log_reference) - num_dims * np.log(bin_width)
    values["excess_digit_nll"] = values["digit_nll"] - best
  near = jnp.prod(results.near, -1)
  covered = coverage(near, ks)
  return values | {f"pass@{k}": covered[i] for i, k in enumerate(ks)}


class _Results(NamedTuple):
  """Results of one prompt, each [D]."""

  log_pass_rate: Array
  mean: Array
  pit: Array
  entropy: Array
  near: Array
  log_exact: Array | None


def _evaluate(
  task: RegressionTask, mixture: Components, target: Any
) -> _Results:
  noise = task.noise_scale(target, mixture.noise_scale)
  pit = jax.vmap(marginals.predictive_cdf, (None, 0, 0, 0))(
    task.likelihood, target.y, mixture, noise
  )
  window = likelihoods.tolerance(width=task.tolerance)
  log_near = jax.vmap(marginals.log_pass_rate, (None, 0, 0))(
    window, target.y, mixture
  )
  return _Results(
    task.log_pass_rate(target, mixture),
    mixture.mean(),
    pit,
    jax.vmap(entropy)(mixture),
    jnp.exp(log_near),
    _log_exact(target, mixture),
  )


def _log_exact(target: Any, mixture: Components) -> Array | None:
  """log P(ŷ = y) [D]; None for densities."""
  if mixture.scales is not None:
    return None
  match = likelihoods.exact_match()
  each = jax.vmap(marginals.log_pass_rate, (None, 0, 0))
  return each(match, target.y, mixture)


def entropy(mixture: Components) -> Array:
  """−Σ π log π of atoms, or −∫ q log q of normal components.

  The integral has 64 Gauss–Hermite nodes per component: within 1e-6 nats for
  equal scales, .002 where one scale is 5 times another, .04 at 10 times and .3
  at 50 times (the worst of 200 random mixtures each).
  """
  log_weights, locations, scales, _ = mixture
  weights = jnp.exp(log_weights)
  if scales is None:
    # π log π is 0 at π = 0, where log π is −inf.
    finite = jnp.where(weights > 0, log_weights, 0)
    return -jnp.sum(weights * finite)
  nodes, node_weights = np.polynomial.hermite_e.hermegauss(64)
  share = (node_weights / node_weights.sum()).astype(np.float32)
  x = locations[None] + scales[None] * nodes.astype(np.float32)[:, None]
  log_densities = densities.norm.logpdf(
    x[..., None], locations[None, None], scales[None, None]
  )
  log_q = special.logsumexp(log_weights[None, None] + log_densities, axis=-1)
  return -jnp.sum(weights[None] * share[:, None] * log_q)


def _correlation(a: Array, b: Array) -> Array:
  """Pearson correlation of [M] and [M]; 0 if one of them is constant."""
  a, b = a - jnp.mean(a), b - jnp.mean(b)
  length = jnp.sqrt(jnp.sum(a * a) * jnp.sum(b * b))
  return jnp.where(length > 0, jnp.sum(a * b) / jnp.maximum(length, 1e-30), 0)


def _distance_from_uniform(values: Array) -> Array:
  """Kolmogorov distance sup |F(u) − u|, F the CDF of the values."""
  ordered, size = jnp.sort(values), values.shape[0]
  above = jnp.arange(1, size + 1) / size - ordered
  below = ordered - jnp.arange(size) / size
  return jnp.maximum(jnp.max(above), jnp.max(below))
