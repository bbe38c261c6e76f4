"""The surrogate loss, whose gradient is the policy-gradient estimate."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from maxrl_jax import symmetric

Array = jax.Array


def surrogate(
  log_probs: ArrayLike,
  advantages: ArrayLike,
  *,
  mask: ArrayLike | None = None,
  weights: ArrayLike | None = None,
  likelihoods: ArrayLike | None = None,
) -> Array:
  """A loss whose gradient is −mean_j A_j ∇log m(z_j|x), for one prompt.

      L = −mean_j ( sg(A_j) log m_θ(z_j|x) + sg(ω_j) l_θ(y, z_j) )

  The second, pathwise term is needed if the likelihood depends on the
  parameters (a learned decoder), since ∇E[l] = E[l S + ∇l]; it requires both
  `weights` and `likelihoods`. The value of L has no meaning; its gradient has.

  Args:
    log_probs: log m(z_j|x) [N], differentiable.
    advantages: A [N] from an estimator.
    mask: [N], False for rollouts to ignore; the mean excludes them.
    weights: ω [N] from `symmetric.loo_weights`.
    likelihoods: l [N], differentiable.

  Returns:
    The scalar to minimize.

  Raises:
    ValueError: shapes are not all [N], only one of weights and likelihoods, or
      a mask that is neither True nor False.
  """
  if (weights is None) != (likelihoods is None):
    raise ValueError("the pathwise term needs both weights and likelihoods")
  log_probs, advantages = jnp.asarray(log_probs), jnp.asarray(advantages)
  mask, weights, likelihoods = (
    None if x is None else jnp.asarray(x) for x in (mask, weights, likelihoods)
  )
  arrays = {
    "log_probs": log_probs,
    "advantages": advantages,
    "mask": mask,
    "weights": weights,
    "likelihoods": likelihoods,
  }
  shapes = {name: x.shape for name, x in arrays.items() if x is not None}
  if len(set(shapes.values())) > 1 or log_probs.ndim != 1:
    raise ValueError(
      f"shapes {shapes}: all must be [N], of one prompt; vmap over prompts"
    )
  if mask is not None:  # Masked values are ignored, even NaN.
    symmetric.check_mask(mask, len(mask))
    mask = mask.astype(bool)
    advantages = jnp.where(mask, advantages, 0)
    weights = None if weights is None else jnp.where(mask, weights, 0)
  # Advantages and weights are constants for the gradient.
  terms = lax.stop_gradient(advantages) * log_probs
  if weights is not None and likelihoods is not None:
    terms = terms + lax.stop_gradient(weights) * likelihoods
  if mask is None:
    return -jnp.mean(terms)
  return -jnp.sum(jnp.where(mask, terms, 0)) / jnp.maximum(jnp.sum(mask), 1)
