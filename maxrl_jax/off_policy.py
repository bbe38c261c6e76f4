"""Losses from rollouts of another policy, for one prompt.

The N rollouts z_j come from a behaviour policy μ: the current policy π with
older parameters, or with those before the previous updates on this batch.
With the ratio ρ_j = π(z_j)/μ(z_j) and the score S_j = ∇log π(z_j), all losses
are functions

    log_ratios [N, L], advantages [N], options → a scalar to minimize

of the log-ratios of L tokens each, 0 after the end of an answer; a policy that
does not write sequences has L = 1. ρ_j is the product over a rollout's tokens.
Advantages come from any estimator, applied to the likelihoods of μ's rollouts,
and are constants for the gradient. At ρ = 1 every loss has the gradient of
`losses.surrogate`, −mean_j A_j S_j: log-probabilities are *summed* over tokens,
and rollouts are averaged. docs/theory/off_policy.md has the proofs.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from maxrl_jax import ranges, symmetric
from maxrl_jax.estimators.group import check_likelihoods

Array = jax.Array

# Parameters of losses that are arguments, not options.
NON_OPTIONS = ("log_ratios", "advantages", "lengths", "mask")


def uncorrected(
  log_ratios: Array, advantages: Array, *, mask: Array | None = None
) -> Array:
  """No correction: the gradient is −mean_j A_j S_j, as if π had sampled.

  Biased unless π = μ: the expectation of mean_j A_j S_j is
  Σ_z μ(z) E[ω l(z) − b] ∇log π(z).
  """
  log_ratios, advantages = _prepare(log_ratios, advantages, mask)
  log_ratio = jnp.sum(log_ratios, -1)
  return -_mean(advantages * log_ratio, mask)


def unclipped(
  log_ratios: Array, advantages: Array, *, mask: Array | None = None
) -> Array:
  """Importance sampling of whole rollouts: −mean_j A_j ρ_j.

  Its gradient −mean_j A_j ρ_j S_j is unbiased for −w(p_μ) ∇p_π if the estimator
  is unbiased for w(p) ∇p on policy: the pass rate is that of π, the weight of
  the prompt that of μ. Needs μ > 0 wherever π > 0, and a π that does not depend
  on these rollouts. Its variance is not bounded.
  """
  log_ratios, advantages = _prepare(log_ratios, advantages, mask)
  ratio = jnp.exp(jnp.sum(log_ratios, -1))
  return -_mean(advantages * ratio, mask)


def truncated(
  log_ratios: Array,
  advantages: Array,
  *,
  cap: float = 2.0,
  mask: Array | None = None,
) -> Array:
  """Truncated ratios of whole rollouts: the gradient is −mean_j A_j ρ̄_j S_j.

      ρ̄_j = min(ρ_j, c)

  No rollout loses its gradient. Unbiased if no ratio exceeds c; otherwise
  answers with π(z) > c μ(z) count as if π(z) were c μ(z), and a baseline adds
  bias.

  Raises:
    ValueError: cap below 1.
  """
  ranges.at_least(1, cap=cap)
  log_ratios, advantages = _prepare(log_ratios, advantages, mask)
  log_ratio = jnp.sum(log_ratios, -1)
  # The minimum first, so that a large ratio does not overflow.
  ratio = jnp.exp(jnp.minimum(log_ratio, jnp.log(cap)))
  constant = lax.stop_gradient(advantages * ratio)
  return -_mean(constant * log_ratio, mask)


def clipped(
  log_ratios: Array,
  advantages: Array,
  *,
  epsilon: float = 0.2,
  epsilon_high: float | None = None,
  mask: Array | None = None,
) -> Array:
  """PPO's loss with a ratio for each token (arXiv 1707.06347, eq. 7).

      −mean_j Σ_t min(ρ_jt A_j, clip(ρ_jt, 1 − ε, 1 + ε_high) A_j)

  A token has no gradient once its ratio has moved by more than ε in the
  direction of its advantage. Biased for L > 1 even without clipping: a token's
  ratio does not correct the tokens before it. Tokens are summed.

  Args:
    log_ratios: [N, L].
    advantages: [N].
    epsilon: ε in (0, 1).
    epsilon_high: ε of ratios above 1; None is ε.
    mask: [N].

  Raises:
    ValueError: ε outside (0, 1), or epsilon_high not above 0.
  """
  low, high = _interval(epsilon, epsilon_high)
  log_ratios, advantages = _prepare(log_ratios, advantages, mask)
  each = _pessimistic(log_ratios, advantages[:, None], low, high)
  return -_mean(jnp.sum(each, -1), mask)


def geometric(
  log_ratios: Array,
  advantages: Array,
  *,
  lengths: Array | None = None,
  epsilon: float = 0.02,
  epsilon_high: float | None = None,
  mask: Array | None = None,
) -> Array:
  """Clipped geometric mean of a rollout's ratios (GSPO, arXiv 2507.18071).

      s_j = ρ_j^{1/L_j},   −mean_j L_j min(s_j A_j, clip(s_j, 1 − ε, 1 + ε) A_j)

  A rollout is clipped as a whole. The factor L_j, which GSPO does not have,
  sums over tokens as the other losses do. Biased for L > 1: s_j is not the
  ratio of the rollout. For L = 1 it is `clipped`.

  Args:
    log_ratios: [N, L].
    advantages: [N].
    lengths: L_j [N], tokens of each rollout; None is L.
    epsilon: ε in (0, 1), of the mean: ε = .02 and 10 tokens allow ρ = 1.22.
    epsilon_high: ε of means above 1; None is ε.
    mask: [N].

  Raises:
    ValueError: ε outside (0, 1), or epsilon_high not above 0.
  """
  low, high = _interval(epsilon, epsilon_high)
  log_ratios, advantages = _prepare(log_ratios, advantages, mask)
  length = jnp.full(advantages.shape, log_ratios.shape[-1])
  if lengths is not None:
    if np.shape(lengths) != advantages.shape:
      raise ValueError(
        f"lengths: shape {np.shape(lengths)}, must be [N] = {advantages.shape}"
      )
    length = jnp.maximum(jnp.asarray(lengths), 1)
  mean = jnp.sum(log_ratios, -1) / length
  return -_mean(length * _pessimistic(mean, advantages, low, high), mask)


LOSSES: dict[str, Callable[..., Array]] = {
  "uncorrected": uncorrected,
  "unclipped": unclipped,
  "truncated": truncated,
  "clipped": clipped,
  "geometric": geometric,
}


def kl(
  log_ratios: Array,
  *,
  reference: Array | None = None,
  mask: Array | None = None,
) -> Array:
  """An estimate of KL(π‖ν) from rollouts of μ, in nats per rollout.

      mean_j ρ_j log (π(z_j)/ν(z_j)) − ρ_j + ν(z_j)/μ(z_j)

  Value and gradient are unbiased for every μ > 0; no term is negative. On
  policy (ρ = 1) the value is Schulman's k3, whose gradient is that of
  KL(ν‖π).

  Args:
    log_ratios: log π/μ of each token [N, L].
    reference: log ν/μ of each token [N, L]; None: ν = μ.
    mask: [N], False for rollouts to ignore.

  Raises:
    ValueError: shapes that are not [N, L].
  """
  log_ratios = jnp.asarray(log_ratios)
  if reference is None:
    reference = jnp.zeros_like(log_ratios)
  if np.shape(reference) != log_ratios.shape:
    raise ValueError(
      f"reference: shape {np.shape(reference)}, must be that of log_ratios,"
      f" {log_ratios.shape}"
    )
  none = jnp.zeros(log_ratios.shape[:1])
  log_ratio, log_reference = (
    jnp.sum(_prepare(x, none, mask)[0], -1) for x in (log_ratios, reference)
  )
  ratio, difference = jnp.exp(log_ratio), log_ratio - log_reference
  above, below = jnp.maximum(difference, 0), jnp.minimum(difference, 0)
  # Exponentials of numbers ≤ 0: ρ e^−difference would be 0 · ∞ if ρ is tiny.
  rest = ratio * jnp.expm1(-above) - jnp.exp(log_reference) * jnp.expm1(below)
  return _mean(ratio * difference + rest, mask)


def reweighted(
  likelihoods: ArrayLike,
  ratios: ArrayLike,
  *,
  coefficients: Array,
  baseline: str = "centred",
  mask: Array | None = None,
) -> Array:
  """Advantages with the weight of π, not of μ: A_j = ρ_j (ω_j l_j − b_j).

      ω_j = Σ_k a_k ē_k^j,  b_j = Σ_k a_k (ē_k^j − ē_{k+1}^j)

  ē_k^j is the symmetric mean of the failures 1 − ρ_i l_i of the others, each of
  which has the expectation 1 − p_π. With `uncorrected`, the gradient is
  unbiased for w(p_π) ∇p_π, w(p) = Σ_{k<T} a_k (1−p)^k, T ≤ N, under the
  conditions of `unclipped`. At ρ = 1 it is `estimators.series`. If all ρ_i l_i
  are at most 2, failures are in [−1, 1] and ω is bounded; otherwise ω may be
  negative, and its variance grows like a power of ρ. Not centred. K = 0: A = 0.
  N = 1: b = 0.

  Args:
    likelihoods: l [N] in [0, 1].
    ratios: ρ [N] of whole rollouts.
    coefficients: a [T], a_k ≥ 0; ones for MaxRL of order T.
    baseline: 'centred' (b_j as above) or 'none' (b = 0).
    mask: [N], False for rollouts to ignore.

  Raises:
    ValueError: another baseline, a negative coefficient or ratio, T > N, ratios
      of another shape, or a likelihood outside [0, 1].
  """
  check_baseline(baseline)
  if np.shape(ratios) != np.shape(likelihoods):
    raise ValueError(
      f"ratios: shape {np.shape(ratios)}, must be that of the likelihoods,"
      f" {np.shape(likelihoods)}"
    )
  present = True if mask is None else mask
  check_likelihoods(likelihoods, present)
  if not (ranges.is_traced(ratios) or ranges.is_traced(mask)):
    each = np.where(present, np.asarray(ratios, float), 1)
    for j in np.flatnonzero(~((each >= 0) & (each < np.inf))):
      raise ValueError(
        f"ratios[{j}] = {each[j]}: must be at least 0 and finite"
      )
  ratios = lax.stop_gradient(jnp.asarray(ratios))
  ratios = ratios.astype(symmetric.compute_dtype(ratios))
  l = jnp.asarray(likelihoods).astype(ratios.dtype)
  # Scans and trees are exact for any real l; the quadrature is not.
  loo = symmetric.series_leave_one_out(ratios * l, coefficients, mask=mask)
  b = loo.baselines if baseline == "centred" else 0.0
  advantages = ratios * (loo.weights * l - b)
  return advantages if mask is None else jnp.where(mask, advantages, 0)


def check_baseline(baseline: str) -> None:
  """Raises ValueError at a baseline that `reweighted` does not have."""
  also = " with the weights of the current policy"
  ranges.one_of(("centred", "none"), also=also, baseline=baseline)


def _pessimistic(
  log_ratios: Array, advantages: Array, low: float, high: float
) -> Array:
  """min(ρ A, clip(ρ, low, high) A)."""
  # If ρ overflows where it is clipped, its gradient of 0 · ∞ would be NaN.
  capped = jnp.minimum(log_ratios, math.log(high) + 1)
  ratio = jnp.exp(jnp.where(advantages < 0, log_ratios, capped))
  inside = jnp.clip(ratio, low, high)
  return jnp.minimum(ratio * advantages, inside * advantages)


def _interval(
  epsilon: float, epsilon_high: float | None
) -> tuple[float, float]:
  ranges.open_unit_interval(epsilon=epsilon)
  if epsilon_high is None:
    return 1 - epsilon, 1 + epsilon
  ranges.above_zero(epsilon_high=epsilon_high)
  return 1 - epsilon, 1 + epsilon_high


def _mean(terms: Array, mask: Array | None) -> Array:
  """Over unmasked rollouts."""
  if mask is None:
    return jnp.mean(terms)
  mask = jnp.asarray(mask, bool)
  return jnp.sum(jnp.where(mask, terms, 0)) / jnp.maximum(jnp.sum(mask), 1)


def _prepare(
  log_ratios: Array, advantages: Array, mask: Array | None
) -> tuple[Array, Array]:
  """Checks shapes, makes advantages constants and masked rollouts 0."""
  size, shape = np.shape(advantages), np.shape(log_ratios)
  masked = size if mask is None else np.shape(mask)
  if len(size) != 1 or shape[:-1] != size or masked != size:
    raise ValueError(
      f"log_ratios {shape}, advantages {size}, mask {masked}: must be [N, L],"
      " [N] and [N], of one prompt; vmap over prompts"
    )
  log_ratios, advantages = jnp.asarray(log_ratios), jnp.asarray(advantages)
  advantages = lax.stop_gradient(advantages)
  if mask is None:
    return log_ratios, advantages
  symmetric.check_mask(mask, size[0])
  mask = jnp.asarray(mask, bool)  # Masked values are ignored, even NaN.
  log_ratios = jnp.where(mask[:, None], log_ratios, 0)
  return log_ratios, jnp.where(mask, advantages, 0)
