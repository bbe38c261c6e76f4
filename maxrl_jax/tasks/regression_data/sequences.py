"""Regression from a sequence: of tokens, or of examples in context."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import stats as densities

from maxrl_jax import ranges
from maxrl_jax.tasks.base import Prompts
from maxrl_jax.tasks.regression import (
  Data,
  Target,
  generated,
  normal_prompts,
)


def bag_of_words(
  *,
  vocabulary: int = 64,
  length: int = 16,
  rho: float | jax.Array = 0.3,
  eval_size: int = 2000,
  task_seed: int = 0,
) -> Data:
  """y = ρ s + √(1−ρ²) ε, s the standardized sum of the values of L tokens.

  x is how often each token occurs. corr(y, s) = ρ; ρ = 0.1 is as noisy as a
  hard forecasting problem. The reference is N(ρ s, √(1−ρ²)).

  Args:
    vocabulary: V ≥ 2.
    length: L tokens, drawn uniformly.
    rho: ρ in (0, 1).
    eval_size: prompts in each fixed split.
    task_seed: the tokens' values and the fixed splits.
  """
  ranges.at_least(2, vocabulary=vocabulary)
  ranges.at_least(1, length=length)
  ranges.open_unit_interval(rho=rho)
  values = np.random.default_rng(task_seed).normal(size=vocabulary)
  values = (values - values.mean()) / values.std() / length**0.5

  def sample(key: jax.Array, batch: int, rho: Any) -> Prompts:
    sigma = (1 - rho**2) ** 0.5
    token_key, noise_key = jax.random.split(key)
    tokens = jax.random.randint(token_key, (batch, length), 0, vocabulary)
    counts = jax.nn.one_hot(tokens, vocabulary).sum(1)
    signal = jnp.asarray(values, jnp.float32)[tokens].sum(1, keepdims=True)
    y = rho * signal + sigma * jax.random.normal(noise_key, signal.shape)
    return normal_prompts(counts, y, rho * signal, jnp.full(y.shape, sigma))

  return generated(sample, eval_size, task_seed, rho=rho)


def in_context(
  *,
  dim: int = 2,
  context: int = 6,
  noise: float | jax.Array = 0.3,
  eval_size: int = 2000,
  task_seed: int = 0,
) -> Data:
  """Linear regression within the prompt: C pairs (x_i, y_i), then a query.

  y = w·x + σ ε with w ~ N(0, I/dim) drawn for every prompt. The reference
  is the posterior predictive N(μ·x, √(σ² + xᵀΣx)), in closed form:
  Σ⁻¹ = dim·I + XᵀX/σ², μ = Σ Xᵀy/σ². `clean` is w·x.

  Args:
    dim: length of x ~ N(0, I).
    context: C pairs.
    noise: σ.
    eval_size: prompts in each fixed split.
    task_seed: the fixed splits.
  """
  ranges.at_least(1, dim=dim, context=context)
  ranges.above_zero(noise=noise)

  def one(key: jax.Array, noise: Any) -> Prompts:
    w_key, x_key, noise_key = jax.random.split(key, 3)
    w = jax.random.normal(w_key, (dim,)) / dim**0.5
    x = jax.random.normal(x_key, (context + 1, dim))
    clean = jnp.dot(x, w, precision="highest")
    y = clean + noise * jax.random.normal(noise_key, clean.shape)
    mean, scale = _posterior_predictive(x[:-1], y[:-1], x[-1], noise)
    reference = densities.norm.logpdf(y[-1], mean, scale)
    shown = jnp.concatenate([x[:-1].ravel(), y[:-1], x[-1]])
    target = Target(y[-1:], clean[-1:], jnp.full(1, noise), reference)
    return Prompts(shown, target)

  def sample(key: jax.Array, batch: int, noise: Any) -> Prompts:
    return jax.vmap(one, (0, None))(jax.random.split(key, batch), noise)

  return generated(sample, eval_size, task_seed, noise=noise)


def _posterior_predictive(
  x: jax.Array, y: jax.Array, query: jax.Array, noise: float
) -> tuple[jax.Array, jax.Array]:
  """Mean and standard deviation of the query's y, prior w ~ N(0, I/dim)."""
  dim = x.shape[1]
  dot = lambda a, b: jnp.dot(a, b, precision="highest")  # noqa: E731
  precision = dim * jnp.eye(dim) + dot(x.T, x) / noise**2
  mean = jnp.linalg.solve(precision, dot(x.T, y) / noise**2)
  variance = dot(query, jnp.linalg.solve(precision, query))
  return dot(mean, query), jnp.sqrt(noise**2 + variance)
