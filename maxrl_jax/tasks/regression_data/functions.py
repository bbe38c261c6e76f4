"""A function of x plus noise: constant, heteroscedastic or bimodal."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import special
from jax.scipy import stats as densities

from maxrl_jax import ranges
from maxrl_jax.tasks.base import Prompts
from maxrl_jax.tasks.regression import (
  Data,
  Target,
  generated,
  normal_prompts,
)


def teacher(
  *,
  kind: str = "linear",
  dim: int = 8,
  num_dims: int = 1,
  snr: float | jax.Array = 4.0,
  eval_size: int = 2000,
  task_seed: int = 0,
) -> Data:
  """y = f(x) + σ ε with f of unit variance: σ² = 1/SNR, everywhere the same.

  The reference is N(f(x), σ) itself.

  Args:
    kind: 'linear' or 'mlp' (one hidden layer of tanh).
    dim: length of x ~ N(0, I).
    num_dims: D, each with another teacher.
    snr: variance of f over variance of the noise, above 0.
    eval_size: prompts in each fixed split.
    task_seed: the teacher and the fixed splits.
  """
  ranges.at_least(1, dim=dim, num_dims=num_dims)
  ranges.above_zero(snr=snr)
  f = _teacher(kind, dim, num_dims, task_seed)

  def sample(key: jax.Array, batch: int, snr: Any) -> Prompts:
    sigma = snr**-0.5
    x_key, noise_key = jax.random.split(key)
    x = jax.random.normal(x_key, (batch, dim))
    clean = f(x)
    y = clean + sigma * jax.random.normal(noise_key, clean.shape)
    return normal_prompts(x, y, clean, jnp.full(y.shape, sigma))

  return generated(sample, eval_size, task_seed, num_dims, snr=snr)


def heteroscedastic(
  *,
  learnable: bool = True,
  kind: str = "linear",
  dim: int = 8,
  min_sigma: float = 0.1,
  max_sigma: float = 2.0,
  eval_size: int = 2000,
  task_seed: int = 0,
) -> Data:
  """y = f(x) + σ ε, σ log-uniform between `min_sigma` and `max_sigma`.

  Learnable: σ is a function of x along a random direction, and the reference
  is N(f(x), σ(x)). Unlearnable: σ is drawn for every prompt, and the reference
  is the mixture over all σ, the best density that x allows.

  Args:
    learnable: whether x determines σ.
    kind: of the teacher f, 'linear' or 'mlp'.
    dim: length of x.
    min_sigma: smallest σ.
    max_sigma: largest σ.
    eval_size: prompts in each fixed split.
    task_seed: the teacher and the fixed splits.
  """
  ranges.at_least(2, dim=dim)
  if not 0 < min_sigma <= max_sigma:
    raise ValueError(
      f"min_sigma = {min_sigma}, max_sigma = {max_sigma}: need"
      " 0 < min_sigma <= max_sigma"
    )
  f = _teacher(kind, dim, 1, task_seed)
  direction = np.random.default_rng([task_seed, 1]).normal(size=dim)
  direction = (direction / np.linalg.norm(direction)).astype(np.float32)

  def sigma_at(quantile: jax.Array) -> jax.Array:
    return min_sigma * (max_sigma / min_sigma) ** quantile

  def sample(key: jax.Array, batch: int) -> Prompts:
    x_key, noise_key, scale_key = jax.random.split(key, 3)
    x = jax.random.normal(x_key, (batch, dim))
    clean = f(x)
    if learnable:
      share = special.ndtr(jnp.dot(x, direction, precision="highest"))
    else:
      share = jax.random.uniform(scale_key, (batch,))
    sigma = sigma_at(share)[:, None]
    y = clean + sigma * jax.random.normal(noise_key, clean.shape)
    prompts = normal_prompts(x, y, clean, sigma)
    if learnable:
      return prompts
    levels = sigma_at((jnp.arange(64) + 0.5) / 64)
    reference = _mixture_log_density(y, clean, levels)
    return prompts._replace(
      targets=prompts.targets._replace(log_reference=reference)
    )

  return generated(sample, eval_size, task_seed)


def _mixture_log_density(
  y: jax.Array, clean: jax.Array, levels: jax.Array
) -> jax.Array:
  """log p(y), [B], under normal noise of equally likely levels."""
  terms = densities.norm.logpdf(y, clean, levels[None])
  return special.logsumexp(terms, axis=-1) - np.log(levels.size)


def bimodal(
  *,
  dim: int = 4,
  noise: float | jax.Array = 0.4,
  positive_probability: float | jax.Array = 0.7,
  eval_size: int = 2000,
  task_seed: int = 0,
) -> Data:
  """y = ± f(x) + σ ε with P(+) = 0.7, which needs more than one prediction.

  f(x) = 2 + tanh(w·x)/2 keeps the modes apart. The reference is the mixture of
  both; `clean` is E[y|x] = (2 P(+) − 1) f(x), which lies at neither mode.

  Args:
    dim: length of x ~ N(0, I).
    noise: σ.
    positive_probability: P(+), in (0, 1).
    eval_size: prompts in each fixed split.
    task_seed: w and the fixed splits.
  """
  ranges.at_least(1, dim=dim)
  ranges.above_zero(noise=noise)
  ranges.open_unit_interval(positive_probability=positive_probability)
  slope = _teacher("linear", dim, 1, task_seed)

  def sample(
    key: jax.Array, batch: int, noise: Any, positive_probability: Any
  ) -> Prompts:
    plus = positive_probability
    x_key, sign_key, noise_key = jax.random.split(key, 3)
    x = jax.random.normal(x_key, (batch, dim))
    f = 2 + jnp.tanh(slope(x)) / 2
    sign = 2.0 * jax.random.bernoulli(sign_key, plus, f.shape) - 1
    y = sign * f + noise * jax.random.normal(noise_key, f.shape)
    modes = jnp.stack([y - f, y + f])
    chances = jnp.log(jnp.array([plus, 1 - plus]))[:, None, None]
    terms = chances + densities.norm.logpdf(modes, 0.0, noise)
    reference = special.logsumexp(terms, axis=0).sum(-1)
    clean = (2 * plus - 1) * f
    return Prompts(x, Target(y, clean, jnp.full(y.shape, noise), reference))

  return generated(
    sample,
    eval_size,
    task_seed,
    noise=noise,
    positive_probability=positive_probability,
  )


def _teacher(
  kind: str, dim: int, num_dims: int, seed: int
) -> Callable[[jax.Array], jax.Array]:
  """x [B, dim] → f(x) [B, D], each column of mean 0 and variance 1."""
  ranges.one_of(("linear", "mlp"), kind=kind)
  rng = np.random.default_rng([seed, 0])
  if kind == "linear":
    weights = rng.normal(size=(dim, num_dims))
    weights = (weights / np.linalg.norm(weights, axis=0)).astype(np.float32)
    return lambda x: jnp.dot(x, weights, precision="highest")
  first = (rng.normal(size=(dim, 32)) * 1.5 / dim**0.5).astype(np.float32)
  second = (rng.normal(size=(32, num_dims)) / 32**0.5).astype(np.float32)

  def raw(xp: Any, x: Any) -> Any:
    return xp.tanh(x @ first) @ second

  sample = raw(np, rng.normal(size=(2**16, dim)).astype(np.float32))
  mean, deviation = sample.mean(0, keepdims=True), sample.std(0, keepdims=True)
  return lambda x: (raw(jnp, x) - mean) / deviation
