"""Bias and variance of an estimator, for a softmax policy over C actions."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from maxrl_jax import distributions, objectives

Array = jax.Array


class Moments(NamedTuple):
  """Moments of a gradient estimate ĝ with respect to C logits.

  Attributes:
    mean: E[ĝ] [C].
    standard_error: of the mean [C]; 0 if exact.
    variance: the trace of Cov[ĝ], a scalar.
  """

  mean: Array
  standard_error: Array
  variance: Array


def exact_gradient(
  objective: objectives.Objective, logits: Array, likelihoods: Array
) -> Array:
  """∇J(E[l]) [C] for the policy softmax(logits) and l(z) [C]."""

  def value(logits: Array) -> Array:
    p = jnp.sum(jax.nn.softmax(logits) * likelihoods)
    return objective.value(p)

  return jax.grad(value)(logits)


def enumerated_moments(
  estimator: Callable, logits: Array, likelihoods: Array, num: int
) -> Moments:
  """Exact moments over all C^N outcomes of N rollouts.

  Args:
    estimator: l [N] → A [N].
    logits: [C].
    likelihoods: l(z) [C].
    num: N; C^N is at most about a million.

  Raises:
    ValueError: too many outcomes.
  """
  chex.assert_rank([logits, likelihoods], 1)
  chex.assert_equal_shape([logits, likelihoods])
  size = logits.shape[0]
  if size**num > 2**20:
    raise ValueError(f"num = {num}: {size}^{num} outcomes; sample instead")
  outcomes = np.indices((size,) * num).reshape(num, -1).T
  policy = jax.nn.softmax(logits)
  probability = jnp.prod(policy[outcomes], -1)
  estimates = _estimates(estimator, policy, likelihoods, jnp.asarray(outcomes))
  mean = jnp.sum(probability[:, None] * estimates, 0)
  squares = jnp.sum((estimates - mean[None]) ** 2, -1)
  return Moments(mean, jnp.zeros_like(mean), jnp.sum(probability * squares))


@functools.partial(jax.jit, static_argnums=(1, 4, 5))
def sampled_moments(
  key: Array,
  estimator: Callable,
  logits: Array,
  likelihoods: Array,
  num: int,
  groups: int,
) -> Moments:
  """Moments over independently sampled groups of N rollouts.

  Args:
    key: a typed random key.
    estimator: l [N] → A [N].
    logits: [C].
    likelihoods: l(z) [C].
    num: N.
    groups: number of groups, from 2 to 1024 or a multiple of 1024.

  Raises:
    ValueError: an invalid number of groups.
  """
  batch = min(groups, 1024)
  if groups < 2 or groups % batch:
    raise ValueError(
      f"groups = {groups}: must be from 2 to 1024 or a multiple of 1024"
    )
  policy = jax.nn.softmax(logits)

  def accumulate(
    sums: tuple[Array, Array], key: Array
  ) -> tuple[tuple[Array, Array], None]:
    draw = functools.partial(distributions.categorical, num=num)
    keys = jax.random.split(key, batch)
    actions = jax.vmap(draw, (0, None))(keys, logits)
    g = _estimates(estimator, policy, likelihoods, actions)
    return (sums[0] + jnp.sum(g, 0), sums[1] + jnp.sum(g * g, 0)), None

  zeros = jnp.zeros_like(policy)
  keys = jax.random.split(key, groups // batch)
  (total, squares), _ = lax.scan(accumulate, (zeros, zeros), keys)
  mean = total / groups
  variance = jnp.maximum(squares / groups - mean**2, 0) * groups / (groups - 1)
  return Moments(mean, jnp.sqrt(variance / groups), jnp.sum(variance))


def _estimates(
  estimator: Callable[..., Array],
  policy: Array,
  likelihoods: Array,
  actions: Array,
) -> Array:
  """ĝ = mean_j A_j (1[z_j] − π) for each group of actions [G, N]: [G, C]."""
  advantages = jax.vmap(estimator)(likelihoods[actions])
  num = actions.shape[1]

  def scatter(actions: Array, advantages: Array) -> Array:
    taken = jnp.zeros_like(policy).at[actions].add(advantages)
    return (taken - jnp.sum(advantages) * policy) / num

  return jax.vmap(scatter)(actions, advantages)
