"""From the likelihoods of N rollouts to their advantages.

One prompt, rollouts z_1 … z_N drawn independently from the policy, scores
S_j = ∇ log m(z_j|x), likelihoods l_j = l(y, z_j) in [0, 1], p = E[l]. Every
estimator is a function likelihoods [N] → advantages [N], and the gradient
estimate is always

    ĝ = mean_j A_j S_j

Which ∇J it estimates, and whether without bias, is the first thing each
docstring says. K is the number of successes when l is binary. All take `mask`
[N] for ragged groups: a masked rollout gets advantage 0, and the mean over j
runs over the others. All take one prompt: vmap them.

Likelihoods that are NaN or outside [0, 1] raise a ValueError in eager calls;
under `jit` nothing can be raised, and `training` watches for them instead.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from maxrl_jax import objectives, symmetric

Array = jax.Array


def reinforce(likelihoods: Array, *, mask=None) -> Array:
  """Plain score function: A_j = l_j.

  Unbiased for ∇p (RL, order 1), with no baseline. K = 0: 0. K = N: 1, noise
  without signal. N = 1: l_1.
  """
  l, mask = _prepare(likelihoods, mask)
  return jnp.where(mask, l, 0)


def rloo(likelihoods: Array, *, mask=None) -> Array:
  """Leave-one-out baseline: A_j = l_j − mean_{i≠j} l_i (arXiv 2402.14740).

  Unbiased for ∇p (RL, order 1) and centred. K = 0 and K = N: 0. N = 1:
  ValueError.
  """
  l, mask = _prepare(likelihoods, mask, smallest=2)
  return jnp.where(mask, l - _loo_mean(l, mask), 0)


def grpo(likelihoods: Array, *, epsilon: float = 0.0, mask=None) -> Array:
  """Standardized in its group: A_j = (l_j − l̄)/(σ + ε) (arXiv 2402.03300).

  Biased: as N grows it tends to ∇ 2 arcsin √p for binary l, an objective that
  no finite group estimates without bias (`objectives.grpo`). σ is the
  population deviation. K = 0 and K = N: 0. N = 1: ValueError.

  Args:
    epsilon: ε ≥ 0; other code adds 1e-6 to 1e-4, which tames rare successes.
  """
  if not isinstance(epsilon, jax.core.Tracer) and not epsilon >= 0:
    raise ValueError(f"epsilon = {epsilon}: must be at least 0")
  l, mask = _prepare(likelihoods, mask, smallest=2)
  centred = jnp.where(mask, l - _mean(l, mask), 0)
  # Equal likelihoods leave rounding, which σ would blow up to ±1.
  spread = jnp.max(jnp.abs(centred))
  flat = spread <= 4 * jnp.finfo(l.dtype).eps * jnp.max(jnp.abs(l))
  safe = jnp.where(flat, 1.0, spread)
  deviation = spread * jnp.sqrt(_mean((centred / safe) ** 2, mask))
  return jnp.where(flat, 0, centred / jnp.where(flat, 1, deviation + epsilon))


def dr_grpo(likelihoods: Array, *, mask=None) -> Array:
  """GRPO without the deviation: A_j = l_j − l̄ (arXiv 2503.20783).

  (1 − 1/N) times RLOO: unbiased for (1 − 1/N) ∇p, centred. K = 0 and K = N: 0.
  N = 1: ValueError.
  """
  l, mask = _prepare(likelihoods, mask, smallest=2)
  return jnp.where(mask, l - _mean(l, mask), 0)


def maxrl(
  likelihoods: Array,
  *,
  order=None,
  baseline: str | float = "centred",
  mask=None,
  method: str | None = None,
) -> Array:
  """MaxRL of order T for likelihoods in [0, 1]: A_j = ω_j l_j − b_j.

      A_j = Σ_{k<T} (ē_{k+1}^j − q_j ē_k^j),  ω_j = Σ_{k<T} ē_k^j

  Unbiased for ∇J_T(p) = w_T(p) ∇p, w_T = (1−(1−p)^T)/p (arXiv 2602.02710
  eq. 7, generalized from binary rewards): for every order 1 ≤ T ≤ N, every
  baseline below, and rollouts that are independent given the prompt. Order 1 is
  RLOO; order N−1 with binary l is the paper's Algorithm 1.

  K = 0 (all l = 0): 0 with the centred baseline. K = N (all l = 1): 0. N = 1:
  ValueError, but with baseline 'none' or a number, where it is REINFORCE.

  Args:
    likelihoods: l [N] in [0, 1]; boolean ones take the closed form.
    order: T, a number or a traced scalar; None is N−1.
    baseline: one of `BASELINES` or a number, subtracted as a constant.
      'centred' sums to zero over the group for T < N.
    mask: [N], False where there is no rollout.
    method: see `symmetric.METHODS`.

  Raises:
    ValueError: order outside 1..N, unknown baseline, N too small for it.
  """
  l, mask = _prepare(likelihoods, mask, smallest=_smallest_group(baseline))
  loo = symmetric.leave_one_out(likelihoods, order, mask=mask, method=method)
  return _weigh(l, loo, baseline, mask)


def maxrl_paper(likelihoods: Array, *, mask=None) -> Array:
  """Algorithm 1 of arXiv 2602.02710 as shipped: A_j = (r_j − r̄)/r̄.

  For binary r, unbiased for ∇J_{N−1}: dropping the group at K = 0 costs one
  order of the N that eq. 9 has (order N keeps A_j = −1 at K = 0). For other l
  it is `self_normalized`, biased. K = 0 and K = N: 0. N = 1: ValueError.
  """
  return self_normalized(likelihoods, mask=mask)


def self_normalized(likelihoods: Array, *, mask=None) -> Array:
  """Normalized importance weights, the IWAE plug-in: A_j = l_j / l̄ − 1.

  Biased for ∇ log p, with a bias of order 1/N: both ∇p and p are estimated
  from the same rollouts (arXiv 1509.00519). For binary l it is `maxrl_paper`,
  unbiased for order N−1. K = 0: 0 by convention. K = N: 0. N = 1: ValueError.
  """
  l, mask = _prepare(likelihoods, mask, smallest=2)
  largest = jnp.max(jnp.where(mask, l, 0))
  # Relative to the largest, so that tiny likelihoods do not underflow.
  relative = l / jnp.where(largest > 0, largest, 1)
  mean = _mean(relative, mask)
  ratio = relative / jnp.where(largest > 0, mean, 1)
  return jnp.where(mask & (largest > 0), ratio - 1, 0)


def pass_at_k(
  likelihoods: Array,
  *,
  k: int,
  baseline: str | float = "centred",
  mask=None,
) -> Array:
  """Best of K (PKPO, arXiv 2505.15201): A_j = K ē_{K−1}^j l_j − b_j.

  Unbiased for ∇(1−(1−p)^K), 1 ≤ K ≤ N. K = 1 is RLOO. With no success among
  N: 0. With all: 0. N = 1: as `maxrl`. At K = N there is no rollout
  left for the centred baseline, which is then 0: unbiased, not centred.

  Raises:
    ValueError: k outside 1..N.
  """
  size = symmetric.group_size(likelihoods)
  symmetric.check_order(k, size, name="k")
  coefficients = objectives.pass_at_k(k).coefficients(k)
  return _series(likelihoods, coefficients, baseline, mask)


def power(
  likelihoods: Array,
  *,
  alpha,
  order: int | None = None,
  baseline: str | float = "centred",
  mask=None,
) -> Array:
  """Box–Cox pass rate of power α, its series cut at T.

  Unbiased for the gradient with w(p) = Σ_{k<T} C(k−α, k) (1−p)^k, which tends
  to ∇ (p^α − 1)/α as T grows (`objectives.series` is the exact value of the cut
  one). α = 1 is RLOO, α = 0 is `maxrl`. K = 0, K = N, N = 1: as `maxrl`.

  Args:
    alpha: α in [0, 1], a number or a traced scalar.
    order: T from 1 to N, static; None is N−1.

  Raises:
    ValueError: alpha outside [0, 1], order outside 1..N.
  """
  size = symmetric.group_size(likelihoods)
  symmetric.check_order(order, size)
  terms = max(size - 1, 1) if order is None else order
  coefficients = objectives.power(alpha).coefficients(terms)
  if order is None and mask is not None:
    largest = jnp.maximum(jnp.sum(mask) - 1, 1)
    coefficients = jnp.where(jnp.arange(terms) < largest, coefficients, 0)
  return _series(likelihoods, coefficients, baseline, mask)


def tail_rl(likelihoods: Array, *, mask=None) -> Array:
  """Likelihood of every threshold (arXiv 2609.02987), by ranks.

      A_(k) = N Σ_{j≤k} (r_(j) − r_(j−1))/(N−j+1) − mean,  r_(0) = 0

  in ascending order: the integral over thresholds τ of Algorithm 1 for the
  binary reward 1[r ≥ τ]. Unbiased for ∇ ∫₀¹ J_{N−1}(P(r ≥ τ)) dτ; biased for
  log E[l] unless l is binary, where it is `maxrl` of order N−1. All equal
  (K = 0, K = N): 0. N = 1: ValueError.
  """
  l, mask = _prepare(likelihoods, mask, smallest=2)
  l = jnp.where(mask, l, 0)
  rank = jnp.argsort(jnp.argsort(l))
  ordered = jnp.sort(l)
  rise = jnp.diff(ordered, prepend=jnp.zeros(1, l.dtype))
  # A masked rollout sorts first as a zero and shares in no rise.
  at_least = jnp.arange(l.shape[0], 0, -1, dtype=l.dtype)
  advantages = _count(mask, l) * jnp.cumsum(rise / at_least)[rank]
  return jnp.where(mask, advantages - _mean(advantages, mask), 0)


ESTIMATORS: dict[str, Callable[..., Array]] = {
  "reinforce": reinforce,
  "rloo": rloo,
  "grpo": grpo,
  "dr_grpo": dr_grpo,
  "maxrl": maxrl,
  "maxrl_paper": maxrl_paper,
  "pass_at_k": pass_at_k,
  "power": power,
  "tail_rl": tail_rl,
  "self_normalized": self_normalized,
}


# Baselines of the series estimators: (l, leave-one-out means, mask) → b [N].

BASELINES: dict[str, Callable[..., Array]] = {
  # Σ_k a_k (ē_k^j − ē_{k+1}^j): sums with ω_j l_j to zero over the group.
  "centred": lambda l, loo, mask: loo.baselines,
  "none": lambda l, loo, mask: jnp.zeros_like(l),
  # Eq. 10 of the MaxRL paper subtracts the mean score: 1 inside the mean.
  "average_score": lambda l, loo, mask: jnp.ones_like(l),
  "loo_mean": lambda l, loo, mask: loo.weights * _loo_mean(l, mask),
}


def _smallest_group(baseline: str | float) -> int:
  if isinstance(baseline, str) and baseline not in BASELINES:
    raise ValueError(
      f"baseline = {baseline!r}: choose from {sorted(BASELINES)} or a number"
    )
  compares = isinstance(baseline, str) and baseline in ("centred", "loo_mean")
  return 2 if compares else 1


def _series(likelihoods, coefficients, baseline, mask) -> Array:
  l, mask = _prepare(likelihoods, mask, smallest=_smallest_group(baseline))
  loo = symmetric.series_leave_one_out(likelihoods, coefficients, mask=mask)
  return _weigh(l, loo, baseline, mask)


def _weigh(l, loo, baseline, mask) -> Array:
  if isinstance(baseline, str):
    b = BASELINES[baseline](l, loo, mask)
  else:
    b = baseline
  advantages = jnp.where(mask, loo.weights * l - b, 0)
  # A masked group of one has nothing to compare with, as `rloo` has not.
  enough = jnp.sum(mask) >= _smallest_group(baseline)
  return jnp.where(enough, advantages, 0)


def _prepare(likelihoods, mask, smallest: int = 1) -> tuple[Array, Array]:
  """Checked likelihoods in at least float32, and a mask that is there."""
  size = symmetric.group_size(likelihoods)
  if size < smallest:
    raise ValueError(
      f"N = {size} rollouts: this estimator or its baseline compares"
      f" rollouts and needs N ≥ {smallest}"
    )
  symmetric.check_mask(mask, size)
  mask = np.ones(size, bool) if mask is None else jnp.asarray(mask, bool)
  check_likelihoods(likelihoods, mask)
  l = jnp.asarray(likelihoods)
  # Whatever stands in a masked place, NaN too, is none of our business.
  return jnp.where(mask, l.astype(symmetric.compute_dtype(l)), 0), mask


def check_likelihoods(likelihoods, mask=True) -> None:
  """Raises ValueError at a NaN or a value outside [0, 1]; traced ones pass."""
  if any(isinstance(x, jax.core.Tracer) for x in (likelihoods, mask)):
    return
  l = np.asarray(likelihoods, np.float64)
  bad = np.flatnonzero(~((l >= 0) & (l <= 1)) & mask)
  if bad.size:
    raise ValueError(
      f"likelihoods[{bad[0]}] = {l[bad[0]]}: must be in [0, 1]; divide by the"
      " largest value a likelihood can take"
    )


def _count(mask, l: Array) -> Array:
  return jnp.maximum(jnp.sum(mask), 1).astype(l.dtype)


def _mean(x: Array, mask) -> Array:
  return jnp.sum(jnp.where(mask, x, 0)) / _count(mask, x)


def _loo_mean(l: Array, mask) -> Array:
  """mean_{i≠j} l_i [N]; l_j itself where rollout j has no company."""
  total = jnp.sum(jnp.where(mask, l, 0))
  others = jnp.sum(mask).astype(l.dtype) - 1
  return jnp.where(others > 0, (total - l) / jnp.maximum(others, 1), l)
