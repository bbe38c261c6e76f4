"""Any order T of one group by quadrature: O(N √T) for each of N rollouts."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike

from maxrl_jax.symmetric import rules
from maxrl_jax.symmetric.group import (
  LeaveOneOut,
  either,
  first_carry,
  values,
)

Array = jax.Array
# A complex number that XLA computes with in two real arrays.
_Complex = tuple[Array, Array]


def leave_one_out(
  likelihoods: Array, order: int | Array | None, mask: Array
) -> LeaveOneOut:
  """ω_j and b_j of MaxRL as integrals of Π_{i≠j} (1 − t l_i).

      T = N:  ω_j = N ∫₀¹ Π_{i≠j} (1 − t l_i) dt
      T < N:  on to a = T/n along the real axis, then along a complex contour

  T = N−1 subtracts the last term from T = N; smaller orders use
  `rules.contour`. A traced order, or a mask, selects a row of a table of rules;
  both together would need a table of N²/2 rules.
  """
  l = values(likelihoods, mask)
  size = l.shape[0]
  masked = not isinstance(mask, np.ndarray)
  traced = isinstance(order, jax.core.Tracer)
  if traced and masked:
    raise ValueError(
      "order: quadrature takes a traced order or a mask, not both; use"
      " method='scan'"
    )
  largest = _largest_orders(l, order, mask)
  if order is None or size < 3 or (not traced and order >= size - 1):
    return largest
  count = jnp.sum(mask).astype(l.dtype)
  if not (traced or masked):
    # The degree is higher, but what is beyond `order` is below rounding.
    length = min(size, int(order) + jnp.finfo(l.dtype).bits // 2)
    return _smaller_orders(l, count, _rule(size, int(order), l.dtype), length)
  if traced:
    row, exists = order - 1, order < size - 1
    table = _rules(size, None, l.dtype)
  else:
    row, exists = jnp.sum(mask), order < jnp.sum(mask) - 1
    table = _rules(size, order, l.dtype)
  rule = jax.tree.map(lambda x: jnp.asarray(x)[row], table)
  smaller = _smaller_orders(l, count, rule, size)
  pairs = zip(smaller, largest, strict=True)
  return LeaveOneOut(*(jnp.where(exists, a, b) for a, b in pairs))


def _largest_orders(
  l: Array, order: int | Array | None, mask: Array
) -> LeaveOneOut:
  """Orders N and N−1 (None), by a positive polynomial of degree N−1.

  ⌈N/2⌉ Gauss–Legendre nodes are exact and O(√N) are accurate to rounding. Order
  N−1 subtracts the last term, Π_{i≠j} q_i, which is at most 1/N of the sum.
  """
  count = jnp.sum(mask).astype(l.dtype)
  nodes, node_weights = _gauss_legendre(l.shape[0], l.dtype)
  product = _product(nodes, l)
  full = _sum_of_fractions(count * node_weights * product, nodes, l)
  some_success = _loo_pass(l)
  subtract_last = count > 1 if order is None else order < count
  weights = jnp.where(subtract_last, full - (1 - some_success), full)
  return LeaveOneOut(weights, some_success)


def _smaller_orders(
  l: Array, count: Array, rule: Any, length: int
) -> LeaveOneOut:
  """Orders below N−1, by `rules.contour`; the real segment as at N = length.

  Without rollout j, Π becomes Π/(1 − l_j y) and S = 1 − Π becomes
  S − l_j y Π/(1 − l_j y), accurate unless l_j is nearly all of S. For the
  largest likelihood the S of the others is computed instead.
  """
  t, w = (x * rule.end for x in _gauss_legendre(length, l.dtype))
  segment = _sum_of_fractions(count * w * _product(t, l), t, l)
  largest = jnp.arange(l.shape[0]) == jnp.argmax(l)
  y, at_weights, at_baselines = (tuple(x) for x in rule[1:])
  others, rest = _complex_product(y, jnp.where(largest, 0, l))
  one = tuple(part * jnp.max(l) for part in y)
  some = _either(others, one)
  product = _minus(rest, _times(rest, one))
  small = _square(some) < 0.25
  product = (
    jnp.where(small, 1 - some[0], product[0]),
    jnp.where(small, -some[1], product[1]),
  )
  of_weights = _times(at_weights, product)
  of_baselines = _times(_times(at_baselines, y), product)
  weights = segment + _sum_of_complex_fractions(of_weights, y, l)
  missing = l * _sum_of_complex_fractions(of_baselines, y, l)
  all_of, of_others = (
    jnp.sum(_times(at_baselines, x)[0]) for x in (some, others)
  )
  baselines = jnp.where(largest, of_others, all_of - missing)
  return LeaveOneOut(weights, baselines)


def _product(nodes: Array, l: Array) -> Array:
  """Π_i (1 − t l_i) at every node t [M].

  1 − Π over a block is a sum of positive terms, accurate even if tiny, so a
  product near 1 is rounded once per block. Rounding 1 − t l directly would
  repeat the same error N times for equal likelihoods.
  """

  def multiply(product: Array, likelihoods: Array) -> tuple[Array, None]:
    some = jnp.zeros_like(nodes)
    for x in likelihoods:
      some = either(some, nodes * x)
    return product - product * some, None

  return lax.scan(multiply, first_carry(jnp.ones_like(nodes), l), _blocks(l))[0]


def _blocks(l: Array) -> Array:
  # At least four blocks: XLA unrolls a loop of one and fuses it with the
  # computation of the likelihoods, which makes a training step 3 times slower.
  block = min(max(32, l.shape[0] // 64), -(-l.shape[0] // 4))
  return jnp.pad(l, (0, -l.shape[0] % block)).reshape(-1, block)


def _sum_of_fractions(c: Array, t: Array, l: Array, unroll: int = 4) -> Array:
  """Σ_m c_m / (1 − t_m l_j) at every likelihood, [N].

  Division dominates the cost, so two fractions share one:
  a/b + c/d = (a d + c b)/(b d), with all terms positive.
  """
  # One pair of nodes per row; an odd node is paired with a term of zero.
  pairs = [jnp.pad(x, (0, x.shape[0] % 2)).reshape(-1, 2) for x in (c, t)]

  def add(total: Array, pair: Any) -> tuple[Array, None]:
    (c0, c1), (t0, t1) = pair
    d0, d1 = 1 - t0 * l, 1 - t1 * l
    return total + (c0 * d1 + c1 * d0) / (d0 * d1), None

  return lax.scan(add, first_carry(jnp.zeros_like(l), l), pairs, unroll=unroll)[
    0
  ]


def _complex_product(y: _Complex, l: Array) -> tuple[_Complex, _Complex]:
  """1 − Π and Π = Π_i (1 − y l_i) at every node y [M]; see `_product`."""

  def of_block(_: None, likelihoods: Array) -> tuple[None, _Complex]:
    some = jnp.zeros_like(y[0]), jnp.zeros_like(y[0])
    for x in likelihoods:
      some = _either(some, (y[0] * x, y[1] * x))
    return None, some

  def join(carry: Any, some: _Complex) -> tuple[Any, None]:
    total, product = carry
    return (_either(total, some), _minus(product, _times(product, some))), None

  # In one loop, XLA would compute the block anew for each of four results.
  blocks = lax.scan(of_block, None, _blocks(l))[1]
  zero = first_carry(jnp.zeros_like(y[0]), l)
  start = (zero, zero), (zero + 1, zero)
  return lax.scan(join, start, blocks)[0]


def _sum_of_complex_fractions(c: _Complex, y: _Complex, l: Array) -> Array:
  """Re Σ_m c_m / (1 − y_m l_j) at every likelihood, [N]."""

  def add(total: Array, node: Any) -> tuple[Array, None]:
    c, y = node
    conjugate = 1 - y[0] * l, y[1] * l
    return total + _times(c, conjugate)[0] / _square(conjugate), None

  start = first_carry(jnp.zeros_like(l), l)
  return lax.scan(add, start, (c, y), unroll=2)[0]


def _times(a: _Complex, b: _Complex) -> _Complex:
  return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]


def _minus(a: _Complex, b: _Complex) -> _Complex:
  return a[0] - b[0], a[1] - b[1]


def _square(a: _Complex) -> Array:
  return a[0] * a[0] + a[1] * a[1]


def _either(a: _Complex, b: _Complex) -> _Complex:
  """1 − (1−a)(1−b), without rounding 1−a or 1−b."""
  product = _times(a, b)
  return a[0] + b[0] - product[0], a[1] + b[1] - product[1]


def _gauss_legendre(size: int, dtype: DTypeLike) -> tuple[Array, Array]:
  """Nodes and weights on [0, 1], enough for degree N−1 at this precision."""
  # Error over all binary l to N = 16384: 2e-8 with 2.25 √N, 1e-6 with 2 √N.
  factor = 4.0 if jnp.finfo(dtype).bits == 64 else 2.25
  count = min(-(-size // 2), int(factor * math.sqrt(size)) + 2)
  t, w = rules.legendre(count)
  return jnp.asarray(t, dtype), jnp.asarray(w, dtype)


def _rule(size: int, order: int, dtype: DTypeLike) -> rules.Contour:
  """The rule of one order and N rollouts, in real arrays."""
  bits = jnp.finfo(dtype).bits
  rule = rules.contour(np.array(size - 1), np.array(order), bits)
  return _real_arrays(rule, dtype)


@functools.lru_cache
def _rules(size: int, order: int | None, dtype: DTypeLike) -> rules.Contour:
  """Rules of orders 1 … N; of one order, those of counts 0 … N.

  Rows of orders that have no contour are never used.
  """
  if order is None:
    n = np.full(size, size - 1)
    orders = np.minimum(np.arange(1, size + 1), size - 2)
  else:
    n = np.maximum(np.arange(-1, size), order + 1)
    orders = np.full(size + 1, order)
  return _real_arrays(rules.contour(n, orders, jnp.finfo(dtype).bits), dtype)


def _real_arrays(rule: rules.Contour, dtype: DTypeLike) -> rules.Contour:
  def split(z: np.ndarray) -> np.ndarray:
    return np.stack([z.real, z.imag], -2).astype(dtype)

  return rules.Contour(rule.end.astype(dtype), *map(split, rule[1:]))


def _loo_pass(l: Array) -> Array:
  """1 − Π_{i≠j} (1−l_i) [N], from sums of positive terms only."""
  zero = jnp.zeros(1, l.dtype)
  before = lax.associative_scan(either, l)
  after = lax.associative_scan(either, l, reverse=True)
  return either(
    jnp.concatenate([zero, before[:-1]]), jnp.concatenate([after[1:], zero])
  )
