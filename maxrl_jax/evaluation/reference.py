"""A policy's distribution over answers, compared with the known one."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.typing import ArrayLike

from maxrl_jax import objectives, ranges

Array = jax.Array


def calibration(
  reference: ArrayLike, policy: ArrayLike, ks: Sequence[int]
) -> dict[str, Array]:
  """Distances of a policy from the known distribution of the right answer.

  Means over prompts, where answer a is right with probability q_a and the
  policy gives it with probability π_a:

      kl = Σ q log(q/π), total_variation = (Σ |q − π| + 1 − Σ π)/2,
      other = 1 − Σ π, pass@k = Σ q (1 − (1 − π)^k)

  kl, in nats, is the gap to the highest possible mean log-likelihood of the
  right answer. `other` is the probability of answers that q does not have.

  Args:
    reference: q [M, A]; 0 for answers that a prompt does not have.
    policy: log π [M, A]; arbitrary where q is 0.
    ks: k of pass@k.
  """
  q, log_pi = jnp.asarray(reference), jnp.asarray(policy)
  possible = q > 0
  pi = jnp.where(possible, jnp.exp(log_pi), 0)
  ratio = jnp.where(possible, jnp.log(jnp.where(possible, q, 1)) - log_pi, 0)
  other = 1 - jnp.sum(pi, -1)
  values = {
    "kl": jnp.sum(q * ratio, -1),
    "total_variation": (jnp.sum(jnp.abs(q - pi), -1) + other) / 2,
    "other": other,
  }
  for k in ks:
    covered = objectives.pass_at_k(k).value(jnp.minimum(pi, 1))
    values[f"pass@{k}"] = jnp.sum(q * covered, -1)
  return {name: jnp.mean(x) for name, x in values.items()}


def entropy(reference: npt.ArrayLike) -> np.ndarray:
  """−Σ q log q of each prompt in nats, [M]; `reference` is q [M, A]."""
  q = np.asarray(reference, np.float64)
  return -np.sum(q * np.log(np.where(q > 0, q, 1)), -1)


def distinct_guesses(reference: npt.ArrayLike, ks: Sequence[int]) -> np.ndarray:
  """Highest possible mean probability that one of k answers is right.

  The sum of the k largest q, for reference q [M, A]; at k = 1 it is the highest
  pass@1 of any policy. Returns [len(ks)].
  """
  for k in ks:
    ranges.at_least(1, k=k)
  q = -np.sort(-np.asarray(reference, np.float64), -1)
  reached = np.cumsum(q, -1).mean(0)
  return reached[np.minimum(np.asarray(ks, int), q.shape[-1]) - 1]


def optimum(reference: npt.ArrayLike, order: int) -> np.ndarray:
  """The distribution π [M, A] that maximizes E[J_T(π_y)] = Σ q_a J_T(π_a).

  J_T is concave: q_a w_T(π_a) is the same λ for all answers with π_a > 0, and
  at most λ for the others, w_T(p) = (1 − (1−p)^T)/p (arXiv 2602.02710,
  equation 7). λ by bisection. π → q as T → ∞; T = 1 is RL: the likeliest
  answer, or the first of equally likely ones.

  Args:
    reference: q [M, A], rows sum to one.
    order: T, at least 1 and finite.

  Raises:
    ValueError: another T.
  """
  ranges.at_least(1, order=order)
  ranges.above_zero(order=order)  # And finite.
  q = np.asarray(reference, np.float64)
  if order == 1:
    return np.eye(q.shape[-1])[np.argmax(q, -1)]
  low = q.max(-1, keepdims=True)  # At this λ the likeliest answer has π = 1.
  high = order * low  # At this λ every answer has π = 0.
  for _ in range(60):
    middle = (low + high) / 2
    total = _at_multiplier(q, order, middle).sum(-1, keepdims=True)
    low = np.where(total > 1, middle, low)
    high = np.where(total > 1, high, middle)
  pi = _at_multiplier(q, order, (low + high) / 2)
  return pi / pi.sum(-1, keepdims=True)


def _at_multiplier(
  q: np.ndarray, order: int, multiplier: np.ndarray
) -> np.ndarray:
  """π_a in [0, 1] with q_a w_T(π_a) = λ, by bisection: w_T decreases."""
  low, high = np.zeros_like(q), np.ones_like(q)
  for _ in range(50):
    p = (low + high) / 2
    above = q * -np.expm1(order * np.log1p(-p)) / p > multiplier
    low, high = np.where(above, p, low), np.where(above, high, p)
  return np.where(q * order > multiplier, low, 0)
