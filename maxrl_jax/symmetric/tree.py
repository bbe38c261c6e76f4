"""Any order and any series by a product tree: 2 log N steps of O(N T)."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike

from maxrl_jax.symmetric.group import LeaveOneOut, looked_up, values

Array = jax.Array


class _Means(NamedTuple):
  """Means of the c rollouts of each node of a level, [K, nodes].

  all_fail: ē_k. some_pass: 1 − ē_k. gains: (c−k)(ē_k − ē_{k+1}).
  """

  all_fail: Array
  some_pass: Array
  gains: Array


class _Covectors(NamedTuple):
  """ω_j = Σ_k v_k ē_k and b_j = Σ_k (u_k gains_k + x_k ē_k), [K, nodes].

  ē and gains are those of the rollouts of j's node without j.
  """

  v: Array
  u: Array
  x: Array


class _Factors(NamedTuple):
  """Factors m·2^e, [terms, nodes]: binomials leave the range of floats.

  e = None is 0. m may be several arrays.
  """

  m: Any
  e: Any

  def times(self, *arrays: Array) -> "_Factors":
    return _Factors([z * self.m for z in arrays], self.e)


def series(likelihoods: Array, coefficients: Array, mask: Any) -> LeaveOneOut:
  """Any series: nodes are joined two by two, then covectors go down the tree.

  Of k rollouts out of c + c', t are among the first c with the probability
  H_k(t) = C(c,t) C(c',k−t) / C(c+c',k), so

      ē_k = Σ_t H_k(t) ē_t ē'_{k−t}

  and likewise the other sequences of `_Means`. The covectors of the root are
  a_k; a node gets those of its parent through the means of its sibling. All
  terms are positive, so tiny results are accurate too.
  """
  l = values(likelihoods, mask)
  if isinstance(mask, np.ndarray):
    return _of_first(l, coefficients.astype(l.dtype), l.shape[0])
  # The tree takes the unmasked rollouts first.
  index = jnp.arange(l.shape[0])
  _, l, index = lax.sort((~mask, l, index), num_keys=1)
  result = _of_first(l, coefficients.astype(l.dtype), jnp.sum(mask))
  return LeaveOneOut(*lax.sort((index, *result), num_keys=1)[1:])


def _of_first(l: Array, a: Array, n: int | Array) -> LeaveOneOut:
  """The series over the first n rollouts; the others are 0.

  Nodes i and half + i of a level are the children of node i of the next, so
  that the counts of a level differ by at most one.
  """
  terms, rollouts = a.shape[0], l.shape[0]
  largest, nodes = 1, 1 << (rollouts - 1).bit_length()
  means = _of_single_rollouts(jnp.pad(l, (0, nodes - rollouts)), n, terms)
  levels = []
  while nodes > 1:
    levels.append((means, largest))
    means = _join(means, n, largest, min(terms, 2 * largest + 1))
    largest, nodes = 2 * largest, nodes // 2
  covectors = _of_root(a, n - 1)
  for means, largest in reversed(levels):
    covectors = _descend(covectors, means, n, largest, min(terms, largest))
  return LeaveOneOut(covectors.v[0, :rollouts], covectors.x[0, :rollouts])


def _of_single_rollouts(l: Array, n: int | Array, terms: int) -> _Means:
  zero = 0 * l  # with the sharding of l
  fail = jnp.where(np.arange(l.shape[0]) < n, 1 - l, 0)
  means = (1 + zero, fail), (zero, l), (l, zero)
  return _Means(*(jnp.stack(x)[:terms] for x in means))


def _of_root(a: Array, n: int | Array) -> _Covectors:
  k, v = np.arange(a.shape[0])[:, None], a[:, None]
  u = jnp.where(k < n, v / jnp.maximum(n - k, 1).astype(a.dtype), 0)
  return _Covectors(v, u, jnp.zeros_like(u))


def _join(means: _Means, n: int | Array, largest: int, rows: int) -> _Means:
  """The means of nodes i and half + i together."""
  width, nodes = means.all_fail.shape
  factors = _hypergeometric(
    n, nodes, (width, width, rows), largest, means.all_fail.dtype
  )
  first, second, inverse = jax.tree.map(lambda z: _halves(z)[0], factors)
  (e, s, g), (e2, s2, g2) = zip(*map(_halves, means), strict=True)
  x = first.times(e, s, g)
  one = 1 + 0 * e2  # with the sharding of e2
  y = second.times(e2, one, s2, g2)
  x = jax.tree.map(lambda z: z[::-1], x)
  y = jax.tree.map(lambda z: _padded(z, width - 1, rows - width), y)

  def terms(x: Any, y: Any) -> Sequence[Array]:
    e, s, g = x
    e2, one, s2, g2 = y
    # 1 − e e' = s + e s', and a gain is one of either node.
    return e * e2, s * one + e * s2, g * e2 + e * g2

  all_fail, s, gains = _correlate(terms, x, y, inverse)
  # 1 − s is rounded once, e e' once for each rollout.
  return _Means(jnp.where(s < 0.5, 1 - s, all_fail), s, gains)


def _descend(
  covectors: _Covectors, means: _Means, n: int | Array, largest: int, rows: int
) -> _Covectors:
  """The covectors of both children of each node."""
  width, nodes = means.all_fail.shape
  parent_rows = min(covectors.v.shape[0], rows + width - 1)
  node, sibling, inverse = _hypergeometric(
    n, nodes, (rows, width, parent_rows), largest, means.all_fail.dtype, 1
  )
  e, g = _swapped(means.all_fail), _swapped(means.gains)
  v, u, x = (jnp.tile(z[:parent_rows], (1, 2)) for z in covectors)
  y = jax.tree.map(
    lambda z: _padded(z, 0, rows + width - 1 - parent_rows),
    inverse.times(v, u, x),
  )

  def terms(x: Any, y: Any) -> Sequence[Array]:
    (e, g), (v, u, x) = x, y
    return e * v, e * u, e * x + g * u

  return _Covectors(*_correlate(terms, sibling.times(e, g), y, node))


def _hypergeometric(
  n: int | Array,
  nodes: int,
  terms: tuple[int, int, int],
  largest: int,
  dtype: DTypeLike,
  without: int = 0,
) -> tuple[_Factors, _Factors, _Factors]:
  """C(c, ·), C(c', ·) and 1/C(c+c', ·) of each node and its sibling.

  c is the count of the node, less `without`.
  """
  static = isinstance(n, int)
  xp = np if static else jnp
  # Counts of a level differ by at most one.
  c = n // nodes - without + xp.asarray([[0, 0, 1, 1]])
  sibling = n // nodes + xp.asarray([[0, 1, 0, 1]])
  first, second, both = (
    _binomials(count, k, largest, dtype)
    for count, k in zip((c, sibling, c + sibling), terms, strict=True)
  )
  m = xp.where(both.m > 0, 1 / xp.where(both.m > 0, both.m, 1), 0)
  inverse = _Factors(m, None if both.e is None else -both.e)
  more = np.arange(nodes)[None] < n % nodes
  sibling_more = _swapped(more)

  def of_nodes(z: Any) -> Any:
    if static:
      return z[:, (2 * more + sibling_more)[0]]
    less = jnp.where(sibling_more, z[:, 1:2], z[:, :1])
    return jnp.where(more, jnp.where(sibling_more, z[:, 3:], z[:, 2:3]), less)

  return jax.tree.map(of_nodes, (first, second, inverse))


def _binomials(n: Any, terms: int, largest: int, dtype: DTypeLike) -> _Factors:
  """C(n, k) for k < terms, n [1, nodes] → [terms, nodes]; 0 where k > n."""
  xp = np if isinstance(n, np.ndarray) else jnp
  m, e = _factorials(2 * largest + 2)
  if xp is jnp:
    m, e = jnp.asarray(m, dtype), jnp.asarray(e)
  k = np.arange(terms)[:, None]
  exists, n, rest = k <= n, xp.maximum(n, 0), xp.maximum(n - k, 0)
  of_n, of_rest = looked_up(m, n), looked_up(m, rest)
  m = xp.where(exists, of_n / (m[k] * of_rest), 0)
  e = xp.where(exists, looked_up(e, n) - e[k] - looked_up(e, rest), 0)
  if largest <= 32:  # Products of three are in the range of float32.
    return _Factors(xp.ldexp(m, e).astype(dtype), None)
  return _Factors(m.astype(dtype), e)


@functools.lru_cache
def _factorials(largest: int) -> tuple[Any, Any]:
  """0! … largest! as m·2^e."""
  m, e = np.ones(largest + 1), np.zeros(largest + 1, np.int32)
  value, exponent = np.longdouble(1), 0
  for n in range(1, largest + 1):
    value, more = np.frexp(value * n)
    exponent += more
    m[n], e[n] = value, exponent
  return m, e


def _correlate(
  terms: Callable, x: _Factors, y: _Factors, factor: _Factors
) -> Sequence[Array]:
  """factor_i Σ_t z of every z in terms(x_t, y_{i+t}), [rows, nodes].

  On a GPU one kernel; on others a loop over t is faster.
  """
  # The longer axis is last, where neighbours are computed together.
  axis = 0 if x.m[0].shape[1] >= 16 else 1
  arguments = x, y, factor.e
  if axis == 1:
    arguments = jax.tree.map(jnp.transpose, arguments)
  at_once = functools.partial(_at_once, terms, axis)
  one_by_one = functools.partial(_one_by_one, terms, axis)
  sums = lax.platform_dependent(
    *arguments, cpu=one_by_one, tpu=one_by_one, default=at_once
  )
  return [(z.T if axis == 1 else z) * factor.m for z in sums]


def _at_once(
  terms: Callable, axis: int, x: _Factors, y: _Factors, e: Any
) -> Sequence[Array]:
  width, length = x.m[0].shape[axis], y.m[0].shape[axis]
  windows = np.arange(length - width + 1)[:, None] + np.arange(width)

  def of_windows(z: Array) -> Array:
    return z[windows] if axis == 0 else z[:, windows]

  y = jax.tree.map(of_windows, y)
  x = jax.tree.map(lambda z: jnp.expand_dims(z, axis), x)
  products = terms(x.m, y.m)
  if e is not None:
    exponents = x.e + y.e + jnp.expand_dims(e, axis + 1)
    power = _power_of_two(exponents, products[0].dtype)
    products = [z * power for z in products]
  return tuple(jnp.sum(z, axis + 1) for z in products)


def _one_by_one(
  terms: Callable, axis: int, x: _Factors, y: _Factors, e: Any
) -> Sequence[Array]:
  width, length = x.m[0].shape[axis], y.m[0].shape[axis]
  rows = length - width + 1
  unroll = 8 if width > 64 else 4 if width > 16 else 1
  x, y = jax.tree.map(lambda z: _padded(z, 0, -width % unroll, axis), (x, y))

  def at(t: Any) -> Sequence[Array]:
    def cut(size: int, z: Array) -> Array:
      return lax.dynamic_slice_in_dim(z, t, size, axis)

    one = jax.tree.map(functools.partial(cut, 1), x)
    window = jax.tree.map(functools.partial(cut, rows), y)
    products = terms(one.m, window.m)
    if e is None:
      return products
    power = _power_of_two(one.e + window.e + e, products[0].dtype)
    return [z * power for z in products]

  def add(i: Any, sums: Sequence[Array]) -> Sequence[Array]:
    for t in range(unroll):
      more = at(i * unroll + t)
      sums = [a + b for a, b in zip(sums, more, strict=True)]
    return sums

  start = [z * 0 for z in at(0)]
  sums = lax.fori_loop(0, -(-width // unroll), add, start)
  return tuple(sums)


def _power_of_two(n: Array, dtype: DTypeLike) -> Array:
  """2^n exactly; 0 if it is below the range of the dtype.

  Probabilities are at most one. A larger exponent belongs to a factor of zero.
  """
  info = jnp.finfo(dtype)
  integer = jnp.int64 if info.bits == 64 else jnp.int32
  bias = info.maxexp - 1
  biased = (jnp.clip(n, -bias, 8) + bias).astype(integer)
  return lax.bitcast_convert_type(biased << info.nmant, dtype)


def _padded(z: Any, before: int, after: int, axis: int = 0) -> Any:
  xp = np if isinstance(z, np.ndarray) else jnp
  zero, widths = (0, 0), (before, after)
  return xp.pad(z, (zero, widths) if axis else (widths, zero))


def _halves(z: Any) -> tuple[Any, Any]:
  half = z.shape[-1] // 2
  return z[..., :half], z[..., half:]


def _swapped(z: Any) -> Any:
  xp = np if isinstance(z, np.ndarray) else jnp
  return xp.concatenate(_halves(z)[::-1], -1)
