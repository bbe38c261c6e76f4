"""Bias and variance of an estimator, for a softmax policy over C actions."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

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
  objective: objectives.Objective, logits: ArrayLike, likelihoods: ArrayLike
) -> Array:
  """∇J(E[l]) [C] for the policy softmax(logits) and l(z) [C].

  Raises:
    ValueError: an argument of a wrong type or shape.
  """
  if not isinstance(objective, objectives.Objective):
    raise ValueError(
      f"objective: is a {type(objective).__name__}, must be of"
      " maxrl_jax.objectives, such as maxrl(4); exact_gradient takes"
      " (objective, logits, likelihoods)"
    )
  logits, l = _vectors(logits, likelihoods)

  def value(logits: Array) -> Array:
    p = jnp.sum(jax.nn.softmax(logits) * l)
    return objective.value(p)

  return jax.grad(value)(logits)


def enumerated_moments(
  estimator: Callable, logits: ArrayLike, likelihoods: ArrayLike, num: int
) -> Moments:
  """Exact moments over all C^N outcomes of N rollouts.

  Args:
    estimator: l [N] → A [N].
    logits: [C].
    likelihoods: l(z) [C].
    num: N; C^N is at most about a million.

  Raises:
    ValueError: an argument of a wrong type or shape; too many outcomes.
  """
  if not callable(estimator):
    raise ValueError(
      f"estimator: {estimator!r} must be a function, such as estimators.maxrl;"
      " enumerated_moments takes (estimator, logits, likelihoods, num)"
    )
  logits, l = _vectors(logits, likelihoods)
  if not isinstance(num, int | np.integer) or num < 1:
    raise ValueError(f"num = {num!r}: must be a whole number, at least 1")
  size = logits.shape[0]
  if size**num > 2**20:
    raise ValueError(f"num = {num}: {size}^{num} outcomes; sample instead")
  outcomes = np.indices((size,) * num).reshape(num, -1).T
  policy = jax.nn.softmax(logits)
  probability = jnp.prod(policy[outcomes], -1)
  estimates = _estimates(estimator, policy, l, jnp.asarray(outcomes))
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


def _vectors(*values: ArrayLike) -> list[Array]:
  """Logits and likelihoods as arrays [C]; raises ValueError otherwise."""
  arrays = []
  for name, given in zip(("logits", "likelihoods"), values, strict=True):
    try:
      array = jnp.asarray(given)
      to_float = name == "logits" and not jnp.issubdtype(
        array.dtype, jnp.floating
      )
      arrays.append(array.astype(float) if to_float else array)
    except (TypeError, ValueError):
      raise ValueError(
        f"{name}: is a {type(given).__name__}, must be numbers [C]"
      ) from None
  shapes = [x.shape for x in arrays]
  if len(set(shapes)) > 1 or len(shapes[0]) != 1:
    raise ValueError(
      f"logits, likelihoods: shapes {shapes[0]}, {shapes[1]}, must both be [C]"
    )
  return arrays


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
