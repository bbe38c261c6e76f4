"""Order m in each wave of m rollouts, all waves of one prompt in one array."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from maxrl_jax.symmetric import quadrature
from maxrl_jax.symmetric.group import either, first_carry

Array = jax.Array


class Waves(NamedTuple):
  """Values of each rollout within its wave of m rollouts.

  Attributes:
    sizes: m [n].
    weights: ω [n] of order m.
    others: 1 − Π_{i≠j} (1−l_i) [n], over the rest of the wave.
  """

  sizes: Array
  weights: Array
  others: Array


# Compiled, or an eager call would run hundreds of operations one by one.
@functools.partial(jax.jit, static_argnames="binary", inline=True)
def leave_one_out(
  l: Array, waves: Array, mask: Array, binary: bool = False
) -> Waves:
  """ω_j = m ∫₀¹ Π_{i≠j} (1 − t l_i) dt over the other rollouts of its wave.

  Sorted by wave, a wave is a run, and the product over the other rollouts is
  that over earlier ones times that over later ones: O(n √n), in n steps. Binary
  l: m/K for a success, m/(K+1) for a failure; one wave may have successes.

  Args:
    l: [n], of the compute dtype, 0 where masked.
    waves: integers [n], equal within a wave.
    mask: [n], False for rollouts to ignore, which get meaningless values.
    binary: whether every l is 0 or 1, and 1 in at most one wave.
  """
  # Masked rollouts are last.
  rows = (~mask, waves, l, jnp.arange(l.shape[0]))
  masked, ordered_waves, ordered, place = lax.sort(rows, num_keys=2)
  same = ordered_waves[1:] == ordered_waves[:-1]
  same = same & (masked[1:] == masked[:-1])
  sizes = _run_lengths(same).astype(l.dtype)
  if binary:
    sizes = lax.sort((place, sizes), num_keys=1)[1]
    smallest = jnp.iinfo(waves.dtype).min
    hit = waves == jnp.max(jnp.where(l == 1, waves, smallest))
    others = jnp.where(hit, jnp.sum(l) - l, 0)
    return Waves(sizes, sizes / (others + 1), jnp.minimum(others, 1))
  t, w = quadrature.gauss_legendre(l.shape[0], l.dtype)
  some = _of_others(ordered[:, None] * jnp.append(t, 1)[None], same)
  weights = sizes * jnp.sum(w[None] * (1 - some[:, :-1]), -1)
  rows = (place, sizes, weights, some[:, -1])
  return Waves(*lax.sort(rows, num_keys=1)[1:])


def _run_lengths(same: Array) -> Array:
  """The length of the run that each of n members is in."""
  i = jnp.arange(same.shape[0] + 1)
  edge = jnp.zeros(1, bool)
  first = lax.cummax(jnp.where(jnp.append(edge, same), 0, i))
  last = jnp.where(jnp.append(same, edge), i.shape[0] - 1, i)
  return lax.cummin(last, reverse=True) - first + 1


def _of_others(x: Array, same: Array) -> Array:
  """1 − Π (1 − x) over the other members of each run of x [n, M].

  Args:
    x: in [0, 1].
    same: [n−1], whether a member is in the run of the one before.
  """
  # Earlier and later members, in one pass.
  edge = jnp.zeros(1, bool)
  joined = [jnp.append(edge, same), jnp.append(edge, same[::-1])]
  some = lax.platform_dependent(
    jnp.stack([x, x[::-1]], 1),
    jnp.stack(joined, 1)[..., None],
    cpu=_of_earlier,
    default=_of_earlier_joined,
  )
  return either(some[:, 0], some[::-1, 1])


def _of_earlier(x: Array, same: Array) -> Array:
  """1 − Π (1 − x) over the earlier members of each run, in n steps.

  Args:
    x: [n, 2, M].
    same: [n, 2, 1], whether a member is in the run of the one before.
  """

  def step(some: Array, member: tuple[Array, Array]) -> tuple[Array, Array]:
    x, same = member
    some = jnp.where(same, some, 0)
    return either(some, x), some

  start = first_carry(jnp.zeros_like(x[0]), x)
  return lax.scan(step, start, (x, same))[1]


def _of_earlier_joined(x: Array, same: Array) -> Array:
  """`_of_earlier` in 2 log n steps, for a device where each is a kernel."""

  def join(a: tuple[Array, Array], b: tuple[Array, Array]) -> Any:
    (x, same), (later, continues) = a, b
    some = jnp.where(continues, either(x, later), later)
    return some, same & continues

  some, _ = lax.associative_scan(join, (x, same))
  before = jnp.concatenate([jnp.zeros_like(some[:1]), some[:-1]])
  return jnp.where(same, before, 0)
