"""Any order T of one group by quadrature: O(N √T) for each of N rollouts."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike

from maxrl_jax import ranges
from maxrl_jax.symmetric import rules
from maxrl_jax.symmetric.group import (
  LeaveOneOut,
  either,
  first_carry,
  looked_up,
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
      T < N:  from 0 to T/n along the real axis, then along a complex contour

  T = N−1 subtracts the last term from T = N; smaller orders use
  `rules.contour`. A traced order, or a mask, selects a row of a table of rules;
  both together would need a table of N²/2 rules.
  """
  l = values(likelihoods, mask)
  size = l.shape[0]
  masked = not isinstance(mask, np.ndarray)
  traced = ranges.is_traced(order)
  if traced and masked:
    raise ValueError(
      "order: quadrature takes a traced order or a mask, not both; use"
      " method='scan'"
    )
  if order is None or size < 3 or (not traced and order >= size - 1):
    return _largest_orders(l, order, mask)
  count = jnp.sum(mask).astype(l.dtype)
  if not (traced or masked):
    # The degree is higher, but the integrand is as smooth as at N = order.
    length = min(size, int(order) + jnp.finfo(l.dtype).bits // 2)
    return _smaller_orders(l, count, _rule(size, int(order), l.dtype), length)
  if traced:
    row, exists = jnp.asarray(order) - 1, order < size - 1
    table = _rules(size, None, l.dtype)
  else:
    row, exists = jnp.sum(mask), order < jnp.sum(mask) - 1
    table = _rules(size, order, l.dtype)
  rule = jax.tree.map(lambda x: looked_up(x, row), table)
  smaller = _smaller_orders(l, count, rule, size)
  largest = _largest_orders(l, order, mask)
  pairs = zip(smaller, largest, strict=True)
  return LeaveOneOut(*(jnp.where(exists, a, b) for a, b in pairs))


def _largest_orders(
  l: Array, order: int | Array | None, mask: Array
) -> LeaveOneOut:
  """Orders N and N−1 (None), by a positive polynomial of degree N−1.

  ⌈N/2⌉ Gauss–Legendre nodes are exact and O(√N) are accurate to rounding. Order
  N−1 subtracts the last term, Π_{i≠j} q_i, which is at most 1/N of the sum.
  """
  count = jnp.sum(mask)
  nodes, node_weights = gauss_legendre(l.shape[0], l.dtype)
  product = jnp.prod(1 - _some(nodes, l), 0)
  node_weights = count.astype(l.dtype) * node_weights
  full = _sum_of_fractions(node_weights * product, nodes, l)
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
  t, w = (x * rule.end for x in gauss_legendre(length, l.dtype))
  at_nodes = count * w * jnp.prod(1 - _some(t, l), 0)
  segment = _sum_of_fractions(at_nodes, t, l)
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


def _some(nodes: Array, l: Array) -> Array:
  """1 − Π_i (1 − t l_i) of each block at every node t, [blocks, M].

  A sum of positive terms, accurate even if tiny, so a product near 1 is rounded
  once per block. Rounding 1 − t l directly would repeat the same error N times
  for equal likelihoods.
  """
  nodes = nodes[None]
  some = jnp.zeros_like(nodes)
  for x in _blocks(l):
    some = either(some, nodes * x)
  return some


def _blocks(l: Array) -> Array:
  """The rollouts in blocks, [rollouts of a block, blocks, 1]."""
  block = min(max(32, l.shape[0] // 64), -(-l.shape[0] // 4))
  return jnp.pad(l, (0, -l.shape[0] % block)).reshape(-1, block).T[..., None]


def _sum_of_fractions(c: Array, t: Array, l: Array) -> Array:
  """Σ_m c_m / (1 − t_m l_j) at every likelihood, [N].

  Division dominates the cost, so two fractions share one:
  a/b + c/d = (a d + c b)/(b d), with all terms positive.
  """

  def pair(node: Any, l: Array) -> Array:
    c0, c1, t0, t1 = node
    d0, d1 = 1 - t0 * l, 1 - t1 * l
    return (c0 * d1 + c1 * d0) / (d0 * d1)

  # An odd node is paired with a term of zero.
  pairs = [jnp.pad(x, (0, x.shape[0] % 2)).reshape(-1, 2) for x in (c, t)]
  return _sum_over(pair, [x for y in pairs for x in y.T], l, unroll=4)


def _sum_over(
  term: Callable[[Any, Array], Array], nodes: Any, l: Array, unroll: int
) -> Array:
  """Σ_m term(node m, l) [N]: one kernel; on a CPU a loop is faster."""

  def loop(l: Array) -> Array:
    def add(total: Array, node: Any) -> tuple[Array, None]:
      return total + term(node, l), None

    start = first_carry(jnp.zeros_like(l), l)
    return lax.scan(add, start, nodes, unroll=unroll)[0]

  def at_once(l: Array) -> Array:
    return jnp.sum(term(jax.tree.map(lambda x: x[:, None], nodes), l[None]), 0)

  return lax.platform_dependent(l, cpu=loop, default=at_once)


def _complex_product(y: _Complex, l: Array) -> tuple[_Complex, _Complex]:
  """1 − Π and Π = Π_i (1 − y l_i) at every node y [M]; see `_some`."""
  real, imaginary = (part[None] for part in y)
  some = jnp.zeros_like(real), jnp.zeros_like(real)
  for x in _blocks(l):
    some = _either(some, (real * x, imaginary * x))
  product = 1 - some[0], -some[1]
  return _fold(_either, some), _fold(_times, product)


def _fold(join: Callable[[Any, Any], Any], rows: Any) -> Any:
  """All rows joined: two by two, on a CPU one after another.

  XLA on a CPU computes a fused step again for each of its uses, and compiles
  eight complex rows, joined two by two, for more than minutes.
  """

  def in_turn(rows: Any) -> Any:
    first = jax.tree.map(lambda x: x[0], rows)
    rest = jax.tree.map(lambda x: x[1:], rows)
    return lax.scan(lambda a, b: (join(a, b), None), first, rest)[0]

  def two_by_two(rows: Any) -> Any:
    def cut(first: int, last: int) -> Any:
      return jax.tree.map(lambda x: x[first:last], rows)

    while (size := jax.tree.leaves(rows)[0].shape[0]) > 1:
      half = size // 2
      joined = join(cut(0, half), cut(half, 2 * half))
      rest = cut(2 * half, size)
      rows = jax.tree.map(lambda *x: jnp.concatenate(x), joined, rest)
    return jax.tree.map(lambda x: x[0], rows)

  return lax.platform_dependent(rows, cpu=in_turn, default=two_by_two)


def _sum_of_complex_fractions(c: _Complex, y: _Complex, l: Array) -> Array:
  """Re Σ_m c_m / (1 − y_m l_j) at every likelihood, [N]."""

  def term(node: Any, l: Array) -> Array:
    c, y = node
    conjugate = 1 - y[0] * l, y[1] * l
    return _times(c, conjugate)[0] / _square(conjugate)

  return _sum_over(term, (c, y), l, unroll=2)


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


def gauss_legendre(size: int, dtype: DTypeLike) -> tuple[Array, Array]:
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
  """Rules of orders 1 … N, or of one order for counts 0 … N.

  Rows without a contour are never used.
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
  """1 − Π_{i≠j} (1−l_i) [N]; see `_smaller_orders`."""
  largest = jnp.arange(l.shape[0]) == jnp.argmax(l)
  blocks = _some(jnp.ones(1, l.dtype), jnp.where(largest, 0, l))
  others, rest = _fold(either, blocks), jnp.prod(1 - blocks, 0)
  some, product = either(others, jnp.max(l)), rest * (1 - jnp.max(l))
  # If l_j = 1 is not the argmax, the product is 0 and any q will do.
  q = jnp.where(l < 1, 1 - l, 1)
  return jnp.where(largest, others, some - l * product / q)
