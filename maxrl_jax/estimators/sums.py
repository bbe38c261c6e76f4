"""Several rewards and costs of one rollout."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from maxrl_jax import ranges
from maxrl_jax.estimators.group import count, prepare

Array = jax.Array


def combine(
  parts: Sequence[tuple[float | Array, ArrayLike, Callable[..., Array]]],
  *,
  mask: ArrayLike | None = None,
) -> Array:
  """Weighted sum of advantages, each of one signal: A_j = Σ_i c_i A_j^(i).

  Unbiased for ∇ Σ_i c_i J_i if estimator i is unbiased for ∇J_i of signal i;
  the signals may be dependent. A negative weight makes a cost: MaxRL of order T
  for success, with weight 1, and for a cost in [0, 1], with weight −1, is
  unbiased for ∇(J_T(p) − J_T(q)) with p = E[success] and q = E[cost], which
  tends to ∇log(p/q).

  Args:
    parts: (c, signal [N], estimator: signal, mask → A [N]), at least one.
    mask: [N], False for rollouts to ignore.

  Returns:
    A [N].

  Raises:
    ValueError: no parts, one without a function, or an error of an estimator.
  """
  if not parts:
    raise ValueError("parts: empty, must have at least one")
  for i, part in enumerate(parts):
    if len(part) != 3:
      raise ValueError(
        f"parts[{i}]: has {len(part)} entries, must be (weight, signal,"
        " estimator)"
      )
    estimator = part[2]
    if not callable(estimator):
      raise ValueError(
        f"parts[{i}]: {estimator!r} must be a function, such as"
        " estimators.maxrl"
      )
    if np.shape(part[1]) != np.shape(parts[0][1]):
      raise ValueError(
        f"parts[{i}]: a signal of shape {np.shape(part[1])}, must be that of"
        f" parts[0], {np.shape(parts[0][1])}"
      )
  terms = [c * estimator(x, mask=mask) for c, x, estimator in parts]
  total = terms[0]
  for term in terms[1:]:
    total = total + term
  return total


def given_success(
  signal: ArrayLike,
  success: ArrayLike,
  estimator: Callable[..., Array],
  *,
  mask: ArrayLike | None = None,
) -> Array:
  """A success gate: compares the successes of a group with each other.

      A_j = (N/K) A_j(signals of the K successes),  0 for failures

  With `rloo` (for a negative signal, `functools.partial(rloo, bounded=False)`),
  unbiased for P(K ≥ 2) ∇E[signal | success]: a length penalty with this gate
  never favours a failure. With another centred estimator that is
  unbiased for ∇J in groups of every size K, unbiased for E_K[∇J of the policy
  given success]; without centring, the gradient of P(success) would enter. For
  P(success) itself, `combine` adds another estimator.

  Args:
    signal: s [N], such as minus the length; ignored where success is False.
    success: [N], boolean or 0 and 1; under `jit` any other number is a success.
    estimator: signal, mask → A [N], centred.
    mask: [N], False for rollouts to ignore.

  Returns:
    A [N]; 0 if fewer than two succeed.

  Raises:
    ValueError: success is neither 0 nor 1, or an error of the estimator.
  """
  # The same checks of size and mask as for likelihoods.
  _, present = prepare(np.zeros(np.shape(success)), mask)
  if not (ranges.is_traced(success) or ranges.is_traced(mask)):
    values = np.asarray(success, float)
    bad = np.flatnonzero((values != 0) & (values != 1) & np.asarray(present))
    if bad.size:
      raise ValueError(f"success[{bad[0]}] = {values[bad[0]]}: must be 0 or 1")
  chosen = present & jnp.asarray(success).astype(bool)
  advantages = estimator(signal, mask=chosen)
  share = count(present, advantages) / count(chosen, advantages)
  enough = jnp.sum(chosen) > 1
  return jnp.where(chosen & enough, share * advantages, 0)
