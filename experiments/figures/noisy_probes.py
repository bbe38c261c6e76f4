"""Measurements of transformers that write numbers, and references.

Scores of numbers are in nats of the K values, so that methods that learned from
different likelihoods, or from labels, are compared on one scale.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats as scipy_stats

from maxrl_jax.config import default, overlay
from maxrl_jax.evaluation import batches
from maxrl_jax.learning.build_loss import make_loss
from maxrl_jax.numerals import Numerals
from maxrl_jax.tasks.regression_data import numbers

# Deviations of the normal noise added to a policy, in spacings of its values.
SMOOTHING = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


def bin_log_probs(written: Numerals, mean, scale) -> np.ndarray:
  """log P of each of K bins under N(mean, scale) [...]: [..., K]."""
  edges = np.arange(1, written.num_values) * written.spacing - written.limit
  edges = np.concatenate([[-np.inf], edges, [np.inf]])
  z = (edges - np.asarray(mean)[..., None]) / np.asarray(scale)[..., None]
  # From the tail on the bin's side of the mean, which keeps its digits.
  right = z[..., :-1] > 0
  p = np.where(
    right,
    scipy_stats.norm.sf(z[..., :-1]) - scipy_stats.norm.sf(z[..., 1:]),
    scipy_stats.norm.cdf(z[..., 1:]) - scipy_stats.norm.cdf(z[..., :-1]),
  )
  return np.log(np.maximum(p, 1e-300))


def scores(trainer, dim: int):
  """NLL of the numbers under policy and noise, and with other contexts.

  `smoothed` [2, S]: of the validation and the test split, nats, by deviation of
  the noise (`SMOOTHING`); `mismatched`: without noise, of test prompts whose
  pairs are those of another prompt.
  """
  written = trainer.policy.numerals
  noise = [np.where(np.eye(written.num_values) > 0, 0.0, -np.inf)]
  values = np.float64(written.values())
  for width in SMOOTHING[1:]:
    scale = np.full(values.shape, width * written.spacing)
    noise.append(bin_log_probs(written, values, scale))
  log_noise = jnp.asarray(np.stack(noise), jnp.float32)  # [S, value, y]
  splits = [trainer.task.splits[name] for name in ("validation", "test")]

  def nll(params, prompts, log_noise):
    def of(atoms, target):
      index = written.nearest(target.y[0])
      terms = atoms.log_weights + log_noise[:, :, index]
      return jax.nn.logsumexp(terms, axis=-1)

    each = batches.map_components(of, trainer.policy, params, prompts)
    return -jnp.mean(each, 0)

  def probe(params) -> dict[str, jax.Array]:
    smoothed = [nll(params, prompts, log_noise) for prompts in splits]
    other = mismatched(splits[1], written, dim)
    return {
      "smoothed": jnp.stack(smoothed),
      "mismatched": nll(params, other, log_noise[:1])[0],
    }

  return probe


def mismatched(prompts, written: Numerals, dim: int):
  """Each prompt's query, after the pairs of the prompt before it."""
  query = dim * (1 + written.length) + 2
  pairs = jnp.roll(prompts.inputs[:, :-query], 1, 0)
  inputs = jnp.concatenate([pairs, prompts.inputs[:, -query:]], 1)
  return prompts._replace(inputs=inputs)


def alignment(trainer, orders, rollouts, prompts: int, draws: int):
  """Sampled MaxRL against the exact ∇J_T of the same parameters.

  `cosine` and `norm_ratio` [N, T]: means over draws of N rollouts for each of a
  fixed batch of prompts; NaN at T ≥ N.
  """
  config = default(task="noisy_regression")
  batch = jax.tree.map(lambda x: x[:prompts], trainer.task.splits["test"])
  keys = jax.random.split(jax.random.key(11), draws)

  def loss_of(name: str, num: int):
    fields = {"estimator.name": name, "estimator.order": 1, "rollouts": num}
    return make_loss(overlay(config, fields), trainer.task, trainer.policy)

  exact = loss_of("exact_maxrl", 2)
  sampled = [loss_of("maxrl", num) for num in rollouts]

  def gradient(loss, params, key, order):
    hyper = {"estimator.order": order}
    tree = jax.grad(lambda p: loss(p, key, batch, hyper)[0])(params)
    return jnp.concatenate([x.ravel() for x in jax.tree.leaves(tree)])

  def compare(params, true, order, loss, num: int) -> tuple:
    def one(key):
      estimate = gradient(loss, params, key, order)
      length, norm = jnp.linalg.norm(estimate), jnp.linalg.norm(true)
      return jnp.dot(estimate, true) / (length * norm), length / norm

    means = jax.tree.map(jnp.mean, jax.lax.map(one, keys))
    return jax.tree.map(lambda x: jnp.where(order < num, x, jnp.nan), means)

  def probe(params) -> dict[str, jax.Array]:
    def of_order(order):
      true = gradient(exact, params, keys[0], order)
      pairs = [
        compare(params, true, order, loss, num)
        for loss, num in zip(sampled, rollouts, strict=True)
      ]
      return tuple(jnp.stack(x) for x in zip(*pairs, strict=True))

    cosine, norm_ratio = jax.lax.map(of_order, jnp.array(orders, jnp.float32))
    return {"cosine": cosine.T, "norm_ratio": norm_ratio.T}

  return probe


class Reference(NamedTuple):
  """Scores of a predictive distribution on the test split."""

  digit_nll: float
  mse: float
  mse_clean: float


def references(task, dim: int) -> dict[str, Reference]:
  """Predictive distributions by label, from the least informed to the best."""
  prompts = task.splits["test"]
  written = task.policy_options["numerals"]
  y, clean, sigma = (
    np.asarray(x[:, 0], np.float64) for x in prompts.targets[:3]
  )
  x, shown = numbers.read(written, np.asarray(prompts.inputs), dim)
  query, rows = np.asarray(x[:, -1], np.float64), np.arange(len(y))
  index = np.asarray(written.nearest(prompts.targets.y[:, 0]))

  def score(log_p, mean) -> Reference:
    squares = [float(np.mean((mean - truth) ** 2)) for truth in (y, clean)]
    return Reference(float(-np.mean(log_p[rows, index])), *squares)

  # Rounding adds the variance of a uniform distribution over a bin.
  noise = sigma**2 + written.spacing**2 / 12
  mean, variance = _ridge(
    np.asarray(x[:, :-1], np.float64), shown, query, noise
  )
  ridge = bin_log_probs(written, mean, np.sqrt(noise + variance))
  prior = np.sum(query**2, 1) / dim
  alone = bin_log_probs(written, 0 * y, np.sqrt(noise + prior))
  uniform = np.full(ridge.shape, -np.log(written.num_values))
  bayes = -np.mean(prompts.targets.log_reference) - np.log(written.spacing)
  return {
    "uniform": score(uniform, 0 * y),
    "query only": score(alone, 0 * y),
    "ridge on rounded numbers": score(ridge, mean),
    "Bayes, before rounding": Reference(float(bayes), np.nan, np.nan),
  }


def _ridge(x, y, query, noise):
  """Mean and variance of w·query [B] given pairs x [B, n, d], y [B, n]."""
  dim = x.shape[2]
  precision = (
    dim * np.eye(dim) + np.swapaxes(x, 1, 2) @ x / noise[:, None, None]
  )
  sums = np.einsum("bnd,bn->bd", x, y) / noise[:, None]
  mean = np.linalg.solve(precision, sums[..., None])[..., 0]
  variance = np.linalg.solve(precision, query[..., None])[..., 0]
  return np.sum(query * mean, 1), np.sum(query * variance, 1)
