"""MaxRL and the other series objectives, with a choice of baselines."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from maxrl_jax import objectives, ranges, symmetric
from maxrl_jax.estimators.group import checked, loo_mean, prepare

Array = jax.Array


def maxrl(
  likelihoods: ArrayLike,
  *,
  order: int | Array | None = None,
  baseline: str | float | Array = "centred",
  mask: ArrayLike | None = None,
  method: str | None = None,
  check: bool = False,
) -> Array:
  """MaxRL of order T for likelihoods in [0, 1]: A_j = ω_j l_j − b_j.

      A_j = Σ_{k<T} (ē_{k+1}^j − q_j ē_k^j),  ω_j = Σ_{k<T} ē_k^j

  Unbiased for ∇J_T(p) = w_T(p) ∇p, w_T = (1−(1−p)^T)/p (arXiv 2602.02710
  eq. 7, generalized from binary rewards), for every order 1 ≤ T ≤ N and every
  baseline below, if rollouts are independent given the prompt. Order 1 is RLOO;
  order N−1 with binary l is the paper's Algorithm 1.

  No version takes log-likelihoods: where l underflows, J_T is linear in p and
  its gradient underflows too, so 0 is correct. Only the gradient of log p does
  not depend on the scale of l (`log_self_normalized`).

  K = 0 (all l = 0) and K = N (all l = 1): 0 with the centred baseline, 0 and 1
  with 'none'. N = 1: ValueError with 'centred' and 'loo_mean', which compare
  rollouts; l_1 − b (REINFORCE) with the other baselines.

  Args:
    likelihoods: l [N] in [0, 1]; boolean ones use the closed form.
    order: T, a number or a traced scalar (one above N acts as N, digits after
      the point are dropped, below 1 has no meaning); None means N−1.
    baseline: one of `BASELINES` or a number, subtracted as a constant.
      With 'centred', advantages sum to zero over the group for T < N.
    mask: [N], False for rollouts to ignore.
    method: see `symmetric.METHODS`.
    check: return NaN if a value is out of range under `jit`, where nothing is
      raised and the result would have no meaning.

  Raises:
    ValueError: order outside 1..N, unknown baseline, N too small for it.
  """
  l, present = prepare(likelihoods, mask, smallest=_smallest_group(baseline))
  loo = symmetric.leave_one_out(likelihoods, order, mask=mask, method=method)
  advantages = _advantages(l, loo, baseline, present)
  return checked(advantages, likelihoods, present, check, order=order)


def pass_at_k(
  likelihoods: ArrayLike,
  *,
  k: int,
  baseline: str | float | Array = "centred",
  mask: ArrayLike | None = None,
  check: bool = False,
) -> Array:
  """Best of K (PKPO, arXiv 2505.15201): A_j = K ē_{K−1}^j l_j − b_j.

  Unbiased for ∇(1−(1−p)^K), 1 ≤ K ≤ N. K = 1 is RLOO. All l = 0 or all l = 1: 0
  if centred. N = 1: as `maxrl`. At K = N the centred baseline would need one
  more rollout; it is 0, so A_j is unbiased but not centred. With fewer than K
  unmasked rollouts, all weights are 0.

  Args:
    check: return NaN if a value is out of range under `jit`, where nothing is
      raised and the result would have no meaning.

  Raises:
    ValueError: k outside 1..N.
  """
  size = symmetric.group_size(likelihoods)
  _require_static(k=k)
  symmetric.check_order(k, size, name="k")
  objective = objectives.pass_at_k(k)
  assert objective.coefficients is not None
  return series(
    likelihoods,
    coefficients=objective.coefficients(k),
    baseline=baseline,
    mask=mask,
    check=check,
  )


def power(
  likelihoods: ArrayLike,
  *,
  alpha: float | Array,
  order: int | None = None,
  baseline: str | float | Array = "centred",
  mask: ArrayLike | None = None,
  check: bool = False,
) -> Array:
  """Box–Cox pass rate (p^α − 1)/α, with its series truncated to T terms.

  Unbiased for the gradient with w(p) = Σ_{k<T} C(k−α, k) (1−p)^k, which tends
  to ∇ (p^α − 1)/α as T grows (`objectives.series` has the exact truncated
  objective). α = 1 is RLOO, α = 0 is `maxrl`. K = 0, K = N, N = 1: as `maxrl`.

  Args:
    alpha: α in [0, 1], a number or a traced scalar.
    order: T from 1 to N, static; None means N−1.
    check: return NaN if a value is out of range under `jit`, where nothing is
      raised and the result would have no meaning.

  Raises:
    ValueError: alpha outside [0, 1], order outside 1..N.
  """
  size = symmetric.group_size(likelihoods)
  _require_static(order=order)
  symmetric.check_order(order, size)
  terms = max(size - 1, 1) if order is None else int(order)
  objective = objectives.power(alpha)
  assert objective.coefficients is not None
  coefficients = objective.coefficients(terms)
  if check:  # Those of an α that is not valid may be.
    valid = (alpha >= 0) & (alpha <= 1)
    coefficients = jnp.where(valid, coefficients, jnp.nan)
  if order is None and mask is not None:
    largest = jnp.maximum(jnp.sum(jnp.asarray(mask)) - 1, 1)
    coefficients = jnp.where(jnp.arange(terms) < largest, coefficients, 0)
  return series(
    likelihoods,
    coefficients=coefficients,
    baseline=baseline,
    mask=mask,
    check=check,
  )


def _require_static(**options: Any) -> None:
  for name, value in options.items():
    if ranges.is_traced(value):
      raise ValueError(
        f"{name}: traced, must be a number, since it sets the number of terms;"
        " `series` takes traced coefficients"
      )


# Baselines of the series estimators: (l, leave-one-out means, mask) → b [N].

BASELINES: dict[str, Callable[..., Array]] = {
  # Σ_k a_k (ē_k^j − ē_{k+1}^j): Σ_j (ω_j l_j − b_j) = 0.
  "centred": lambda l, loo, mask: loo.baselines,
  "none": lambda l, loo, mask: jnp.zeros_like(l),
  # Eq. 10 of the MaxRL paper subtracts the mean score: b = 1.
  "average_score": lambda l, loo, mask: jnp.ones_like(l),
  "loo_mean": lambda l, loo, mask: loo.weights * loo_mean(l, mask),
}


def _smallest_group(baseline: str | float | Array) -> int:
  ranges.name_or_number(BASELINES, baseline=baseline)
  loo = isinstance(baseline, str) and baseline in ("centred", "loo_mean")
  return 2 if loo else 1


def series(
  likelihoods: ArrayLike,
  *,
  coefficients: Array,
  baseline: str | float | Array = "centred",
  mask: ArrayLike | None = None,
  check: bool = False,
) -> Array:
  """Any series objective: A_j = Σ_k a_k (ē_{k+1}^j − q_j ē_k^j).

  Unbiased for the gradient with w(p) = Σ_{k<T} a_k (1−p)^k, for every T ≤ N;
  `maxrl`, `pass_at_k` and `power` are special cases. K = 0, K = N, N = 1: as
  `maxrl`.

  Args:
    coefficients: a [T], a_k ≥ 0; may be traced, so that one compiled program
      serves every order and objective.
    baseline: as in `maxrl`.
    mask: [N], False for rollouts to ignore.
    check: return NaN if a value is out of range under `jit`, where nothing is
      raised and the result would have no meaning.

  Raises:
    ValueError: more than N coefficients, or a negative one.
  """
  l, present = prepare(likelihoods, mask, smallest=_smallest_group(baseline))
  loo = symmetric.series_leave_one_out(likelihoods, coefficients, mask=mask)
  advantages = _advantages(l, loo, baseline, present)
  return checked(
    advantages, likelihoods, present, check, coefficients=coefficients
  )


def _advantages(
  l: Array,
  loo: symmetric.LeaveOneOut,
  baseline: str | float | Array,
  mask: ArrayLike,
) -> Array:
  if isinstance(baseline, str):
    b: ArrayLike = BASELINES[baseline](l, loo, mask)
  else:
    b = baseline
  advantages = jnp.where(mask, loo.weights * l - b, 0)
  # With one unmasked rollout there is nothing to compare: 0, as in `rloo`.
  enough = jnp.sum(mask) >= _smallest_group(baseline)
  return jnp.where(enough, advantages, 0)
