"""Leave-one-out symmetric means: unbiased weights of N rollouts.

One prompt, N rollouts with likelihoods l_j in [0, 1] and failures q_j = 1−l_j.
ē_k^j is the mean, over all k-subsets of the other n = N−1 rollouts, of the
product of their failures: the minimum-variance unbiased estimate of (1−p)^k
that is independent of rollout j. For a series objective with coefficients a_k,

    weights    ω_j = Σ_k a_k ē_k^j              unbiased for w(p)
    baselines  b_j = Σ_k a_k (ē_k^j − ē_{k+1}^j)

For MaxRL of order T (a_k = 1 for k < T) the baseline is 1 − ē_T^j, the
leave-one-out estimate of pass@T. Neither is computed by dividing rollout j out
of a full-sample ē or by subtracting nearly equal numbers: near T = N float32
would lose all digits by N = 32, and baselines of small likelihoods 2 % at any N
(`benchmarks.conditioning`, docs/theory/algorithms.md). Four algorithms:

    quadrature  any order              O(N √T)
    tree        any order or series    O(N T log N), 2 log N steps
    scan        any order or series    O(N T), 2 N steps
    binary      l in {0, 1}            O(N), the closed form in the count K

`METHODS` maps names to algorithms. By default, boolean likelihoods use the
closed form, orders the quadrature and series the tree. The scan is faster for
few terms on a CPU, and for masked series on a CPU or a TPU. A traced order of a
masked group is computed as a series.

Masked rollouts have no effect and get weight 0. A group with n ≤ N unmasked
rollouts behaves as a group of size n; an order above n acts as n.

All functions take one prompt; vmap over prompts.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from maxrl_jax import ranges
from maxrl_jax.symmetric import closed_form, quadrature, scans, tree
from maxrl_jax.symmetric.closed_form import pass_at
from maxrl_jax.symmetric.group import (
  LeaveOneOut,
  check_coefficients,
  check_mask,
  check_order,
  compute_dtype,
  group_size,
  order_coefficients,
)

__all__ = [
  "METHODS",
  "SERIES_METHODS",
  "LeaveOneOut",
  "check_coefficients",
  "check_mask",
  "check_order",
  "compute_dtype",
  "group_size",
  "leave_one_out",
  "loo_weights",
  "pass_at",
  "series_leave_one_out",
  "series_weights",
]

Array = jax.Array


def _by_series(series: Callable[..., LeaveOneOut]) -> Callable:
  """Any order, static or traced: the series with a_k = 1 for k < T."""

  def leave_one_out(
    likelihoods: Array, order: int | Array | None, mask: Any
  ) -> LeaveOneOut:
    coefficients = order_coefficients(likelihoods, order, mask)
    return series(likelihoods, coefficients, mask)

  return leave_one_out


METHODS = {
  "quadrature": quadrature.leave_one_out,
  "tree": _by_series(tree.series),
  "scan": _by_series(scans.series),
  "binary": closed_form.leave_one_out,
}
SERIES_METHODS = {
  "tree": tree.series,
  "scan": scans.series,
  "binary": closed_form.series,
}


def loo_weights(
  likelihoods: ArrayLike,
  order: int | Array | None = None,
  *,
  mask: ArrayLike | None = None,
  method: str | None = None,
) -> Array:
  """Unbiased leave-one-out weights of MaxRL: ω_j = Σ_{k<T} ē_k^j.

  E[ω_j] = w_T(p) = (1−(1−p)^T)/p, and ω_j is independent of rollout j.
  Binary l at T = N: ω_j = N/K for a success when K of N succeed; N/(K+1) for a
  failure. K = 0: T. K = N: 1. N = 1: 1.

  Args:
    likelihoods: l [N] in [0, 1], or boolean; with others the result has no
      meaning. float16 and bfloat16 are computed in float32.
    order: T from 1 to N, a number or a traced scalar (one above N acts as N,
      digits after the point are dropped, below 1 has no meaning); None means
      N−1 (the number of unmasked rollouts minus one, at least 1).
    mask: [N], False for rollouts to ignore.
    method: 'quadrature', 'tree', 'scan' or 'binary'; None selects one as above.

  Returns:
    ω [N], 0 where masked.

  Raises:
    ValueError: order out of range, or not supported by the method.
  """
  return leave_one_out(likelihoods, order, mask=mask, method=method).weights


def leave_one_out(
  likelihoods: ArrayLike,
  order: int | Array | None = None,
  *,
  mask: ArrayLike | None = None,
  method: str | None = None,
) -> LeaveOneOut:
  """MaxRL weights ω_j = Σ_{k<T} ē_k^j and baselines b_j = 1 − ē_T^j.

  At T = N, where ē_N^j does not exist, the baseline is that of order N−1.
  Arguments and errors as in `loo_weights`.
  """
  likelihoods, mask = _prepare(likelihoods, mask)
  check_order(order, likelihoods.shape[0])
  traced = ranges.is_traced(order)
  if traced:
    order = jnp.asarray(order).astype(int)
  elif order is not None:
    order = int(order)
  if method is not None:
    ranges.one_of(METHODS, method=method)
  if method == "binary":
    closed_form.require_binary(likelihoods, mask)
  compute = _of_traced_order if traced else _of_order
  return compute(likelihoods, order, mask, method)


def series_weights(
  likelihoods: ArrayLike, coefficients: Array, **kwargs: Any
) -> Array:
  """ω_j = Σ_k a_k ē_k^j; see `series_leave_one_out`."""
  return series_leave_one_out(likelihoods, coefficients, **kwargs).weights


def series_leave_one_out(
  likelihoods: ArrayLike,
  coefficients: Array,
  *,
  mask: ArrayLike | None = None,
  method: str | None = None,
) -> LeaveOneOut:
  """Weights and baselines of any series w(p) = Σ_k a_k (1−p)^k.

  E[ω_j] = Σ_k a_k (1−p)^k exactly, for k < N. The baseline omits the term
  k = N−1, since ē_N^j does not exist.

  Args:
    likelihoods: l [N] in [0, 1], or boolean; with others the result has no
      meaning.
    coefficients: a [T], T ≤ N, a_k ≥ 0; may be traced, so that one compiled
      program serves every order and objective.
    mask: [N], False for rollouts to ignore.
    method: 'tree', 'scan' or 'binary'; None selects one as above.

  Raises:
    ValueError: more than N coefficients, a negative one, or a method without a
      series form.
  """
  likelihoods, mask = _prepare(likelihoods, mask)
  check_coefficients(coefficients, likelihoods.shape[0])
  coefficients = jnp.asarray(coefficients, compute_dtype(likelihoods))
  if method is not None:
    ranges.one_of(SERIES_METHODS, also=" for a series", method=method)
  if method == "binary":
    closed_form.require_binary(likelihoods, mask)
  return _of_series(likelihoods, coefficients, mask, method)


def _prepare(
  likelihoods: ArrayLike, mask: ArrayLike | None
) -> tuple[Array, Array | None]:
  check_mask(mask, group_size(likelihoods))
  likelihoods = jnp.asarray(likelihoods)
  return likelihoods, None if mask is None else jnp.asarray(mask, bool)


def _of_any_order(
  likelihoods: Array,
  order: int | Array | None,
  mask: Array | None,
  method: str | None,
) -> LeaveOneOut:
  present = _present(likelihoods, mask)
  compute = METHODS[method] if method else _fastest
  return _masked(compute(likelihoods, order, present), present)


# Compiled, or every eager call would compile its loops.
_of_order = jax.jit(
  _of_any_order, static_argnames=("order", "method"), inline=True
)
_of_traced_order = jax.jit(_of_any_order, static_argnames="method", inline=True)


@functools.partial(jax.jit, static_argnames="method", inline=True)
def _of_series(
  likelihoods: Array,
  coefficients: Array,
  mask: Array | None,
  method: str | None,
) -> LeaveOneOut:
  present = _present(likelihoods, mask)
  compute = SERIES_METHODS[method] if method else _fastest_series
  return _masked(compute(likelihoods, coefficients, present), present)


def _fastest(
  likelihoods: Array, order: int | Array | None, mask: Any
) -> LeaveOneOut:
  if likelihoods.dtype == bool:
    return closed_form.leave_one_out(likelihoods, order, mask)
  size = likelihoods.shape[0]
  traced = ranges.is_traced(order)
  if traced and ranges.is_traced(mask):
    return _by_series(_fastest_series)(likelihoods, order, mask)
  terms = size if order is None or traced else int(order)
  largest = not traced and terms >= size - 1
  if largest or terms > (8 if size <= 256 else 4):
    return quadrature.leave_one_out(likelihoods, order, mask)
  # A few short steps are faster on a CPU, but not where each is a kernel.
  return lax.platform_dependent(
    likelihoods,
    cpu=lambda l: METHODS["scan"](l, order, mask),
    default=lambda l: quadrature.leave_one_out(l, order, mask),
  )


def _fastest_series(l: Array, coefficients: Array, mask: Any) -> LeaveOneOut:
  if l.dtype == bool:
    return closed_form.series(l, coefficients, mask)
  if ranges.is_traced(mask):
    scanned: tuple[str, ...] = ("cpu", "tpu")
  elif coefficients.shape[0] < 64:
    scanned = ("cpu",)
  else:
    return tree.series(l, coefficients, mask)
  return lax.platform_dependent(
    l,
    coefficients,
    default=lambda l, a: tree.series(l, a, mask),
    **dict.fromkeys(scanned, lambda l, a: scans.series(l, a, mask)),
  )


def _present(likelihoods: Array, mask: Array | None) -> Any:
  """The mask, or ones in NumPy, which stay constants under tracing."""
  return np.ones(likelihoods.shape, bool) if mask is None else mask


def _masked(result: LeaveOneOut, mask: ArrayLike) -> LeaveOneOut:
  return LeaveOneOut(*(jnp.where(mask, x, 0) for x in result))
