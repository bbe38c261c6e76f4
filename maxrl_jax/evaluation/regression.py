"""How well a policy predicts numbers, from its components: nothing is sampled.

With a noise model, policy and noise together are a predictive density of y.
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
from maxrl_jax.tasks.base import Prompts, Task

Array = jax.Array


def metrics(
  policy: nn.Module,
  task: Task,
  params: Any,
  prompts: Prompts,
  ks: Sequence[int],
) -> dict[str, Array]:
  """Means over prompts of one run.

  Sums over target dimensions, by name:

      nll             −log density of y under policy and noise, in nats
      excess_nll      that less the reference's
      pass_rate       E[l], of all dimensions together
      mse, mse_clean  (y − E[ŷ])² against the noisy and the clean target
      correlation     of E[ŷ] with the clean target over prompts; the mean of
                      the dimensions'
      entropy         of the policy, in nats: of its atoms, or differential
      pit_distance    largest distance between the distribution of P(Y ≤ y)
                      over prompts and the uniform one; 0 if calibrated
      pass@k          a rollout falls within `task.tolerance` of y in all
                      dimensions
  """
  target = prompts.targets
  judged = batches.judged(
    policy, params, prompts, functools.partial(_judge, task)
  )
  log_p = jnp.sum(judged.log_pass_rate, -1)
  num_dims = target.y.shape[-1]
  assert task.likelihood is not None
  nll = -jnp.mean(log_p) - num_dims * task.likelihood.log_ceiling
  found = {
    "nll": nll,
    "excess_nll": nll + jnp.mean(target.log_reference),
    "pass_rate": jnp.mean(jnp.exp(log_p)),
    "mse": jnp.mean(jnp.sum((target.y - judged.mean) ** 2, -1)),
    "mse_clean": jnp.mean(jnp.sum((target.clean - judged.mean) ** 2, -1)),
    "correlation": jnp.mean(
      jax.vmap(_correlation, 1)(judged.mean, target.clean)
    ),
    "entropy": jnp.mean(jnp.sum(judged.entropy, -1)),
    "pit_distance": _distance_from_uniform(judged.pit.ravel()),
  }
  near = jnp.prod(judged.near, -1)
  covered = coverage(near, ks)
  return found | {f"pass@{k}": covered[i] for i, k in enumerate(ks)}


class _Judged(NamedTuple):
  """One prompt, each [D]."""

  log_pass_rate: Array
  mean: Array
  pit: Array
  entropy: Array
  near: Array


def _judge(task: Task, policy: Components, target: Any) -> _Judged:
  assert task.noise_scale is not None and task.likelihood is not None
  assert task.tolerance is not None and task.log_pass_rate is not None
  noise = task.noise_scale(target, policy.noise_scale)
  pit = jax.vmap(marginals.predictive_cdf, (None, 0, 0, 0))(
    task.likelihood, target.y, policy, noise
  )
  window = likelihoods.tolerance(width=task.tolerance)
  log_near = jax.vmap(marginals.log_pass_rate, (None, 0, 0))(
    window, target.y, policy
  )
  return _Judged(
    task.log_pass_rate(target, policy),
    policy.mean(),
    pit,
    jax.vmap(entropy)(policy),
    jnp.exp(log_near),
  )


def entropy(policy: Components) -> Array:
  """Of atoms −Σ π log π; of normal components −∫ q log q, by quadrature."""
  log_weights, locations, scales, _ = policy
  weights = jnp.exp(log_weights)
  if scales is None:
    # π log π is 0 at π = 0, where log π is −inf.
    finite = jnp.where(weights > 0, log_weights, 0)
    return -jnp.sum(weights * finite)
  nodes, node_weights = np.polynomial.hermite_e.hermegauss(64)
  share = (node_weights / node_weights.sum()).astype(np.float32)
  x = locations[None] + scales[None] * nodes.astype(np.float32)[:, None]
  at = densities.norm.logpdf(
    x[..., None], locations[None, None], scales[None, None]
  )
  log_q = special.logsumexp(log_weights[None, None] + at, axis=-1)
  return -jnp.sum(weights[None] * share[:, None] * log_q)


def _correlation(a: Array, b: Array) -> Array:
  """Pearson's, [M] and [M]; 0 where one of them is constant."""
  a, b = a - jnp.mean(a), b - jnp.mean(b)
  length = jnp.sqrt(jnp.sum(a * a) * jnp.sum(b * b))
  return jnp.where(length > 0, jnp.sum(a * b) / jnp.maximum(length, 1e-30), 0)


def _distance_from_uniform(values: Array) -> Array:
  """Kolmogorov's: sup |F(u) − u| of the values' distribution."""
  ordered, size = jnp.sort(values), values.shape[0]
  above = jnp.arange(1, size + 1) / size - ordered
  below = ordered - jnp.arange(size) / size
  return jnp.maximum(jnp.max(above), jnp.max(below))
