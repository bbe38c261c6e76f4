"""Leave-one-out symmetric means: the unbiased weights of N rollouts.

One prompt, N rollouts with likelihoods l_j in [0, 1] and failures q_j = 1−l_j.
ē_k^j is the mean, over all k-subsets of the other n = N−1 rollouts, of the
product of their failures: the minimum-variance unbiased estimate of (1−p)^k
that is independent of rollout j. For a series objective with coefficients a_k,

    weights    ω_j = Σ_k a_k ē_k^j              unbiased for w(p)
    baselines  b_j = Σ_k a_k (ē_k^j − ē_{k+1}^j)

For MaxRL of order T (a_k = 1 for k < T) the baseline is 1 − ē_T^j, the
leave-one-out pass@T. Neither is ever found by dividing rollout j out of a
full-sample ē, nor by subtracting nearly equal numbers: float32 loses everything
that way by N = 32. Three algorithms, all of positive terms:

    quadrature  orders N and N−1       O(N √N)
    scan        any order or series    O(N T)
    binary      l in {0, 1}            O(N), the closed form in the count K

`METHODS` has them by name; without a name the choice is made from what is
known before compilation: boolean likelihoods take the closed form, orders N
and N−1 the quadrature, anything else (a traced order too) the scan.

Masked rollouts change nothing and get weight 0. A group with n ≤ N unmasked
rollouts behaves as a group of n; an order above n counts as n.

All functions take one prompt: vmap them. At large N·T on a CPU, prefer
`jax.lax.map(..., batch_size=16)`, which keeps the scan's N·T floats a prompt
in cache.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Array = jax.Array


class LeaveOneOut(NamedTuple):
  """What the other rollouts say about w(p): weights [N] and baselines [N]."""

  weights: Array
  baselines: Array


def loo_weights(
  likelihoods: Array, order=None, *, mask=None, method=None
) -> Array:
  """Unbiased leave-one-out weights of MaxRL: ω_j = Σ_{k<T} ē_k^j.

  E[ω_j] = w_T(p) = (1−(1−p)^T)/p, and ω_j is independent of rollout j.
  Binary l at T = N: ω_j = N/K for a success when K of N succeed; N/(K+1) for a
  failure. K = 0: T. K = N: 1. N = 1: 1.

  Args:
    likelihoods: l [N] in [0, 1], or boolean. float16 and bfloat16 are computed
      in float32.
    order: T from 1 to N, a number or a traced scalar; None is N−1 (the number
      of unmasked rollouts less one, at least 1).
    mask: [N], False where there is no rollout.
    method: 'quadrature', 'scan' or 'binary'; None chooses.

  Returns:
    ω [N], 0 where masked.

  Raises:
    ValueError: order out of range, or a method that cannot do this order.
  """
  return leave_one_out(likelihoods, order, mask=mask, method=method).weights


def leave_one_out(
  likelihoods: Array, order=None, *, mask=None, method=None
) -> LeaveOneOut:
  """MaxRL weights ω_j = Σ_{k<T} ē_k^j and baselines b_j = 1 − ē_T^j.

  At T = N, where ē_N^j does not exist, the baseline is that of order N−1.
  Arguments and errors as in `loo_weights`.
  """
  likelihoods, mask = _prepare(likelihoods, mask)
  size = likelihoods.shape[0]
  check_order(order, size)
  if method is None:
    method = _choose(likelihoods, order)
  if method not in METHODS:
    raise ValueError(f"method = {method!r}: choose from {sorted(METHODS)}")
  return _masked(METHODS[method](likelihoods, order, mask), mask)


def series_weights(likelihoods: Array, coefficients: Array, **kwargs) -> Array:
  """ω_j = Σ_k a_k ē_k^j; see `series_leave_one_out`."""
  return series_leave_one_out(likelihoods, coefficients, **kwargs).weights


def series_leave_one_out(
  likelihoods: Array, coefficients: Array, *, mask=None, method=None
) -> LeaveOneOut:
  """Weights and baselines of any series w(p) = Σ_k a_k (1−p)^k.

  E[ω_j] = Σ_k a_k (1−p)^k exactly, for k < N. The baseline leaves out the term
  k = N−1, for which no rollout is left to compare with.

  Args:
    likelihoods: l [N] in [0, 1], or boolean.
    coefficients: a [T], T ≤ N, a_k ≥ 0; may be traced, so that one compiled
      program serves every order and objective.
    mask: [N], False where there is no rollout.
    method: 'scan' or 'binary'; None chooses.

  Raises:
    ValueError: more than N coefficients, or a method that has no series form.
  """
  likelihoods, mask = _prepare(likelihoods, mask)
  coefficients = jnp.asarray(coefficients, compute_dtype(likelihoods))
  terms, size = coefficients.shape[0], likelihoods.shape[0]
  if not 1 <= terms <= size:
    raise ValueError(
      f"coefficients: {terms} terms for N = {size} rollouts; 1 to N are needed"
    )
  if method is None:
    method = "binary" if likelihoods.dtype == bool else "scan"
  if method not in SERIES_METHODS:
    raise ValueError(
      f"method = {method!r}: a series has {sorted(SERIES_METHODS)}"
    )
  found = SERIES_METHODS[method](likelihoods, coefficients, mask)
  return _masked(found, mask)


def group_size(likelihoods) -> int:
  """N of one prompt's likelihoods [N]; anything else is a ValueError."""
  shape = np.shape(likelihoods)
  if len(shape) != 1 or shape[0] < 1:
    raise ValueError(
      f"likelihoods: shape {shape}, must be [N]; vmap over prompts"
    )
  return shape[0]


def check_order(order, size: int, name: str = "order") -> None:
  """Raises ValueError unless 1 ≤ order ≤ N; None and traced orders pass."""
  if order is None or isinstance(order, jax.core.Tracer):
    return
  if not 1 <= order <= size or order != int(order):
    raise ValueError(
      f"{name} = {order}: must be an integer from 1 to {size} with"
      f" N = {size} rollouts"
    )


class _Sum(NamedTuple):
  """A running sum, compensated (Kahan) where many roundings would add up.

  Without compensation float32 loses 1e-5 by N = 512 (equal likelihoods, T = 2);
  with it, N additions round as one. It costs half as much again.
  """

  value: Array
  correction: Array | None

  @staticmethod
  def start(value, size: int):
    return _Sum(value, jnp.zeros_like(value) if size > 256 else None)

  def add(self, increment):
    if self.correction is None:
      return _Sum(self.value + increment, None)
    increment = increment + self.correction
    value = self.value + increment
    return _Sum(value, increment - (value - self.value))


# Quadrature


def quadrature(likelihoods: Array, order, mask: Array) -> LeaveOneOut:
  """Orders N and N−1: Σ_{k≤n} ē_k^j = N ∫₀¹ Π_{i≠j} (1 − t l_i) dt.

  The integrand is a positive polynomial of degree N−1, so ⌈N/2⌉ Gauss–Legendre
  nodes are exact and O(√N) reach rounding. Order N−1 subtracts the last term,
  Π_{i≠j} q_i, which is at most 1/N of the sum.
  """
  size = likelihoods.shape[0]
  if isinstance(order, jax.core.Tracer) or (
    order is not None and order < size - 1
  ):
    raise ValueError(
      f"order = {order}: quadrature has orders {size - 1} and {size} at"
      f" N = {size}; use method='scan'"
    )
  l = _values(likelihoods, mask)
  count = jnp.sum(mask).astype(l.dtype)
  nodes, node_weights = _gauss_legendre(size, l.dtype)
  product = _product(nodes, l)
  full = _fractions(count * node_weights * product, nodes, l)
  some_success = _pass_without(l)
  drops_last = count > 1 if order is None else order < count
  weights = jnp.where(drops_last, full - (1 - some_success), full)
  return LeaveOneOut(weights, some_success)


def _product(nodes: Array, l: Array, block: int = 32) -> Array:
  """Π_i (1 − t l_i) at every node t [M].

  Each block's 1 − Π is a sum of positive terms, exact to rounding however tiny;
  so the result near 1 is rounded once a block. Rounding 1 − t l itself would
  make the same error N times over when the likelihoods are equal.
  """
  padded = jnp.pad(l, (0, -l.shape[0] % block)).reshape(-1, block)

  def multiply(product, likelihoods):
    some = jnp.zeros_like(nodes)
    for x in likelihoods:
      some = _either(some, nodes * x)
    return product - product * some, None

  return lax.scan(multiply, jnp.ones_like(nodes), padded)[0]


def _fractions(c: Array, t: Array, l: Array, unroll: int = 4) -> Array:
  """Σ_m c_m / (1 − t_m l_j) at every likelihood, [N].

  Division is what takes the time here, so two fractions share one:
  a/b + c/d = (a d + c b)/(b d), with all terms positive.
  """
  # One pair of nodes a row; one left over gets a partner that adds nothing.
  pairs = [jnp.pad(x, (0, x.shape[0] % 2)).reshape(-1, 2) for x in (c, t)]

  def add(total, pair):
    (c0, c1), (t0, t1) = pair
    d0, d1 = 1 - t0 * l, 1 - t1 * l
    return total + (c0 * d1 + c1 * d0) / (d0 * d1), None

  return lax.scan(add, jnp.zeros_like(l), pairs, unroll=unroll)[0]


def _gauss_legendre(size: int, dtype) -> tuple[Array, Array]:
  """Nodes and weights on [0, 1], enough for degree N−1 at this precision."""
  # Over every binary l to N = 16384, 2.25 √N leaves 2e-8, 2 √N leaves 1e-6.
  enough = 4.0 if jnp.finfo(dtype).bits == 64 else 2.25
  count = min(-(-size // 2), int(enough * math.sqrt(size)) + 2)
  t, w = _legendre(count)
  return jnp.asarray(t, dtype), jnp.asarray(w, dtype)


@functools.lru_cache
def _legendre(count: int) -> tuple[np.ndarray, np.ndarray]:
  """Gauss–Legendre on [0, 1] by Newton's method in extended precision.

  The weights of NumPy and SciPy are 1e-10 off at 258 nodes, near the ends,
  where the product of many likelihoods has all its mass.
  """
  index = np.arange(count, 0, -1, dtype=np.longdouble)
  x = np.cos(np.pi * (index - 0.25) / (count + 0.5))
  for _ in range(8):
    last, value = np.zeros_like(x), np.ones_like(x)
    for k in range(1, count + 1):
      last, value = value, ((2 * k - 1) * x * value - (k - 1) * last) / k
    slope = count * (x * value - last) / (x * x - 1)
    x = x - value / slope
  # The last step is below rounding: the slope is that of the final nodes.
  return (x + 1) / 2, 1 / ((1 - x * x) * slope**2)


def _pass_without(l: Array) -> Array:
  """1 − Π_{i≠j} (1−l_i) [N], from sums of positive terms only."""

  before = lax.associative_scan(_either, l)
  after = lax.associative_scan(_either, l, reverse=True)
  return _either(_shift(before), _unshift(after))


def _either(a: Array, b: Array) -> Array:
  """The chance that one of two independent events happens."""
  return a + (1 - a) * b


# Scans


def scan(likelihoods: Array, order, mask: Array) -> LeaveOneOut:
  """Any order, static or traced: `series_scan` with a_k = 1 for k < T."""
  return series_scan(likelihoods, _ones_below(likelihoods, order, mask), mask)


def series_scan(l: Array, coefficients: Array, mask: Array) -> LeaveOneOut:
  """Any series, by one scan over the rollouts in each direction.

  Before rollout j, the state is α_k = ē_k and γ_k = ē_k − ē_{k+1} of the
  rollouts before it; after it, covectors that carry the rollouts behind it.
  Adding the m-th rollout to a group of m−1 is a convex combination:

      α_k ← α_k + (k/m) (q α_{k−1} − α_k)
      γ_k ← γ_k + (1/m) (k q γ_{k−1} − (k+1) γ_k + l α_k)

  and the covectors take the adjoint steps. Every value is a sum of positive
  terms bounded by max a, so only the rounding of N additions can add up, and
  that is compensated where N is large (`_Sum`).
  """
  l = _values(l, mask)
  a = coefficients.astype(l.dtype)
  # Rollout j of a group of m rollouts up to it; a masked one is a null step.
  count = jnp.cumsum(mask).astype(l.dtype)
  k = jnp.arange(a.shape[0], dtype=l.dtype)
  zeros = jnp.zeros_like(a)
  start = functools.partial(_Sum.start, size=l.shape[0])
  empty = start(zeros.at[0].set(1)), start(zeros)

  def forward(state, rollout):
    alpha, gamma = state
    l, m, present = rollout
    step = jnp.where(present, k / m, 0)
    one = jnp.where(present, 1 / m, 0)
    # Differences first, then l: rounding 1 − l would lose a tiny l.
    before, g = _shift(alpha.value), _shift(gamma.value)
    new_alpha = alpha.add(step * ((before - alpha.value) - l * before))
    new_gamma = gamma.add(
      step * ((g - gamma.value) - l * g) + one * (l * alpha.value - gamma.value)
    )
    return (new_alpha, new_gamma), (alpha.value, gamma.value)

  def backward(covectors, rollout):
    v, u, x = covectors
    l, m, present, alpha, gamma = rollout
    weight = jnp.sum(v.value * alpha)
    baseline = jnp.sum(u.value * gamma) + jnp.sum(x.value * alpha)
    # With rollout j left out, a later one is the (m−1)-th of its group. The
    # entries beyond that are never used; the minimum keeps them bounded.
    m = jnp.maximum(m - 1, 1)
    step = jnp.where(present, jnp.minimum(k / m, 1), 0)
    next_step = jnp.where(present, jnp.minimum((k + 1) / m, 1), 0)
    one = jnp.where(present, 1 / m, 0)
    v1, u1, x1 = (_unshift(y.value) for y in covectors)
    pulled = (
      v.add(step * (v1 - v.value) + one * v1 - next_step * l * v1),
      u.add(next_step * ((u1 - u.value) - l * u1)),
      x.add(
        step * (x1 - x.value) + one * (x1 + l * u.value) - next_step * l * x1
      ),
    )
    return pulled, LeaveOneOut(weight, baseline)

  rollouts = (l, jnp.maximum(count, 1), mask)
  _, prefixes = lax.scan(forward, empty, rollouts)
  nothing = start(a), start(a), start(zeros)
  _, found = lax.scan(backward, nothing, rollouts + prefixes, reverse=True)
  return found


def _shift(x: Array) -> Array:
  """x_{k−1}, with 0 at k = 0."""
  return jnp.concatenate([jnp.zeros(1, x.dtype), x[:-1]])


def _unshift(x: Array) -> Array:
  """x_{k+1}, with 0 at the end."""
  return jnp.concatenate([x[1:], jnp.zeros(1, x.dtype)])


# Closed form for binary likelihoods


def binary(likelihoods: Array, order, mask: Array) -> LeaveOneOut:
  """l in {0, 1}: a function of the number of successes among the others.

  With c successes among the other n = N−1 rollouts,

      ω_j = N/(c+1) · (1 − C(N−c−1, T)/C(N, T)),  b_j = 1 − C(n−c, T)/C(n, T)

  and both brackets are 1 − Π_{i<c} (1 − T/(N−i)), a running sum of positive
  terms, one table for all prompts.
  """
  _require_binary(likelihoods, mask)
  others, count, dtype = _successes_without(likelihoods, mask)
  largest = jnp.maximum(count - 1, 1)
  order = largest if order is None else jnp.asarray(order, dtype)
  size = likelihoods.shape[0]
  at_least_one = pass_at(order, count, size)
  weights = count / (others + 1) * at_least_one[others.astype(int) + 1]
  baselines = pass_at(jnp.minimum(order, largest), count - 1, size)
  return LeaveOneOut(weights, baselines[others.astype(int)])


def pass_at(order, count, size: int) -> Array:
  """pass@T of `count` samples of which c = 0 … size succeeded, [size+1].

  1 − C(n−c, T)/C(n, T) = 1 − Π_{i<c} (1 − T/(n−i)), with n = count ≤ size.
  """
  order = jnp.asarray(order)
  i = jnp.arange(size, dtype=order.dtype)
  chance = jnp.clip(order / jnp.maximum(count - i, 1), 0, 1)
  at_least_one = lax.associative_scan(_either, chance)
  return jnp.concatenate([jnp.zeros(1, order.dtype), at_least_one])


def series_binary(l: Array, coefficients: Array, mask: Array) -> LeaveOneOut:
  """Any series for l in {0, 1}: ω_j = Σ_k a_k C(n−c, k)/C(n, k).

  The table over c is built row by row, r_{c+1,k} = r_{c,k} (n−c−k)/(n−c),
  and does not depend on the prompt's likelihoods.
  """
  _require_binary(l, mask)
  others, count, dtype = _successes_without(l, mask)
  n = count - 1
  a = coefficients.astype(dtype)
  k = jnp.arange(a.shape[0], dtype=dtype)
  # ē_k − ē_{k+1} = (c/(n−k)) ē_k: the next one drawn is a success.
  hit = jnp.where(k < n, 1 / jnp.maximum(n - k, 1), 0)

  def next_row(ratio, c):
    row = LeaveOneOut(jnp.sum(a * ratio), c * jnp.sum(a * ratio * hit))
    fewer = jnp.maximum(n - c - k, 0) / jnp.maximum(n - c, 1)
    return ratio * fewer, row

  rows = jnp.arange(l.shape[0], dtype=dtype)
  exists = (k <= n).astype(dtype)
  _, table = lax.scan(next_row, exists, rows)
  return LeaveOneOut(*(column[others.astype(int)] for column in table))


def _require_binary(likelihoods, mask) -> None:
  """Raises ValueError at a likelihood that is neither 0 nor 1, if concrete."""
  if isinstance(likelihoods, jax.core.Tracer) or likelihoods.dtype == bool:
    return
  if isinstance(mask, jax.core.Tracer):
    return
  l = np.asarray(likelihoods, np.float64)
  bad = np.flatnonzero(~((l == 0) | (l == 1)) & np.asarray(mask))
  if bad.size:
    raise ValueError(
      f"likelihoods[{bad[0]}] = {l[bad[0]]}: method 'binary' needs 0 or 1"
    )


def _successes_without(likelihoods, mask):
  """Successes among the others [N], the group's size, the dtype to work in."""
  dtype = compute_dtype(likelihoods)
  successes = _values(likelihoods, mask).astype(dtype)
  count = jnp.sum(mask).astype(dtype)
  return jnp.sum(successes) - successes, count, dtype


METHODS = {"quadrature": quadrature, "scan": scan, "binary": binary}
SERIES_METHODS = {"scan": series_scan, "binary": series_binary}


def _choose(likelihoods: Array, order) -> str:
  if likelihoods.dtype == bool:
    return "binary"
  if isinstance(order, jax.core.Tracer):
    return "scan"
  largest_two = order is None or order >= likelihoods.shape[0] - 1
  return "quadrature" if largest_two else "scan"


def _ones_below(likelihoods, order, mask):
  """The series of MaxRL: as many terms as a static order needs, else N."""
  dtype = compute_dtype(likelihoods)
  static = isinstance(order, (int, np.integer))
  terms = jnp.arange(order if static else likelihoods.shape[0])
  if order is None:
    order = jnp.maximum(jnp.sum(mask) - 1, 1)
  return (terms < order).astype(dtype)


def _prepare(likelihoods, mask) -> tuple[Array, Array]:
  group_size(likelihoods)
  likelihoods = jnp.asarray(likelihoods)
  if mask is None:
    return likelihoods, np.ones(likelihoods.shape, bool)
  return likelihoods, jnp.asarray(mask, bool)


def compute_dtype(likelihoods: Array):
  """float32 for half precision, the default float for booleans and integers."""
  if not jnp.issubdtype(likelihoods.dtype, jnp.floating):
    return jnp.zeros(()).dtype
  return jnp.promote_types(likelihoods.dtype, jnp.float32)


def _values(likelihoods: Array, mask) -> Array:
  return jnp.where(mask, likelihoods.astype(compute_dtype(likelihoods)), 0)


def _masked(found: LeaveOneOut, mask) -> LeaveOneOut:
  return LeaveOneOut(*(jnp.where(mask, x, 0) for x in found))
