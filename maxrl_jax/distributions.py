"""Distributions of one prompt: draws, log-probabilities, mixtures."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.random import threefry_2x32
from jax.typing import DTypeLike

from maxrl_jax import ranges, symmetric

Array = jax.Array

# With more classes TPUs and GPUs look up as CPUs do, and TPUs search so, too.
_COMPARED = 2048
# Tokens whose cumulative sums are a product with a matrix, C² numbers.
_MULTIPLIED = 512


class Components(NamedTuple):
  """A distribution over values as a mixture, for exact expectations.

  Attributes:
    log_weights: [C], of weights that sum to one.
    locations: [C], means of the components; action indices for classes.
    scales: [C], standard deviations of normal components; None for atoms.
    noise_scale: σ of the noise model, if the policy learns it.
  """

  log_weights: Array
  locations: Array
  scales: Array | None = None
  noise_scale: Array | None = None

  def mean(self) -> Array:
    """E[ŷ], over the last axis."""
    return jnp.sum(jnp.exp(self.log_weights) * self.locations, -1)


def categorical(key: Array, logits: Array, num: int) -> Array:
  """N independent draws from softmax(logits) by inverse CDF, [N] int32.

  A search for one uniform per draw; Gumbel-max would draw N·C. A class of
  probability 0 is never drawn. Uniforms are multiples of 2⁻²⁴, so the
  resolution of probabilities is about 1e-7.

  Args:
    key: a typed random key.
    logits: [C], up to an additive constant.
    num: N.
  """
  return draw(key, boundaries(logits)[None], 0, num)


@functools.partial(jax.jit, inline=True)
def boundaries(logits: Array) -> Array:
  """Cumulative probabilities [C], for any number of calls of `draw`."""
  _check_ranks(logits=logits)
  # In half precision, boundaries between classes would coincide.
  logits = logits.astype(symmetric.compute_dtype(logits))
  probs = jax.nn.softmax(logits)
  if probs.shape[0] > _COMPARED:
    return _cumulative_sum(probs)
  return lax.platform_dependent(
    probs, cpu=_cumulative_sum, default=_sums_of_blocks
  )


@functools.partial(jax.jit, static_argnums=3, inline=True)
def draw(key: Array, cdfs: Array, row: int | Array, num: int) -> Array:
  """`categorical` of one of many prompts, from the `boundaries` of all [B, C].

  On a CPU this does not copy the row, which would take longer than a few draws.
  """
  x = uniforms(key, num, cdfs.dtype) * cdfs[row, -1]

  def copied(search: Callable[[Array, Array], Array]) -> Any:
    return lambda cdfs, row, x: search(cdfs[row], x)

  few = cdfs.shape[-1] <= _COMPARED
  on_tpu = copied(_count_passed) if few else _search
  return lax.platform_dependent(
    cdfs, row, x, cpu=_search, tpu=on_tpu, default=copied(_search_twice)
  )


def _check_ranks(**arrays: Array) -> None:
  """Raises ValueError unless all have one axis."""
  for name, x in arrays.items():
    if np.ndim(x) != 1:
      raise ValueError(
        f"{name}: shape {np.shape(x)}, must have one axis; vmap over prompts"
      )


def categorical_log_prob(logits: Array, actions: Array) -> Array:
  """log softmax(logits)[z_j], [N]; differentiable in logits [C].

  float16 and bfloat16 are computed in float32. Under `jit` an action outside of
  0 … C − 1 has no meaning.
  """
  _check_ranks(logits=logits, actions=actions)
  if not jnp.issubdtype(actions.dtype, jnp.integer):
    raise ValueError(
      f"actions: are of type {actions.dtype}, must be whole numbers; log_prob"
      " takes (outputs, actions)"
    )
  if not ranges.is_traced(actions):
    each, size = np.asarray(actions), logits.shape[0]
    for wrong in each[(each < 0) | (each >= size)]:
      raise ValueError(f"actions: {wrong}, must be from 0 to {size - 1}")
  logits = logits.astype(symmetric.compute_dtype(logits))
  shifted = logits - lax.stop_gradient(jnp.max(logits))
  if logits.shape[0] > _COMPARED:
    taken = _gathered(shifted, actions)
  else:
    taken = lax.platform_dependent(
      shifted, actions, cpu=_gathered, tpu=_selected, default=_looked_up
    )
  # The gradient sums over draws, where that of log_softmax(logits)[z] sums over
  # classes, for which XLA on a GPU looks up all draws a second time.
  return taken - jnp.log(jnp.sum(jnp.exp(shifted)))


def inverse_cdf(uniforms: Array, logits: Array) -> tuple[Array, Array]:
  """One draw from each of many small distributions, and its log-probability.

  Compares each uniform with all C boundaries. Use `categorical` for many draws
  from one distribution.

  Args:
    uniforms: [...], in [0, 1).
    logits: [..., C] float32, up to an additive constant.

  Returns:
    Draws int32 and their log-probabilities, each [...].
  """
  log_probs = jax.nn.log_softmax(logits)
  size = logits.shape[-1]
  if size > _MULTIPLIED:
    cdf = jnp.vectorize(boundaries, signature="(c)->(c)")(logits)
  else:
    triangle = np.triu(np.ones((size, size), log_probs.dtype))
    cdf = jnp.dot(jnp.exp(log_probs), triangle, precision="highest")
  passed = cdf <= (uniforms * cdf[..., -1])[..., None]
  # Rounding can put the last boundary just below the largest uniform.
  drawn = jnp.minimum(jnp.sum(passed, -1, dtype=jnp.int32), size - 1)
  taken = jnp.take_along_axis(log_probs, drawn[..., None], -1)[..., 0]
  return drawn, taken


def _gathered(table: Array, index: Array) -> Array:
  """table [C] at index [N], which is in range."""
  return table.at[index].get(mode="promise_in_bounds")


def _selected(table: Array, index: Array) -> Array:
  """The same without a gather. Its gradient is a sum in a fixed order."""
  one_hot = _one_hot(index, table.shape[0])
  return jnp.sum(jnp.where(one_hot, table[None], 0), -1)


def _one_hot(index: Array, size: int) -> Array:
  return index[:, None] == jnp.arange(size)[None]


@jax.custom_jvp
def _looked_up(table: Array, index: Array) -> Array:
  """The same: a gather, whose gradient is a product of matrices."""
  return _gathered(table, index)


@_looked_up.defjvp
def _(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  _, index = primals
  return _looked_up(*primals), _looked_up_twice(tangents[0], index)


def _looked_up_twice(table: Array, index: Array) -> Array:
  """The same for a finite table: a column of blocks, then one of those.

  2 √C comparisons; the gradient multiplies [√C, N] by [N, √C].
  """
  blocks = _in_blocks(table, 0)
  count, width = blocks.shape
  column = _one_hot(index % width, width).astype(table.dtype)
  columns = jnp.dot(column, blocks.T, precision="highest")
  return jnp.sum(jnp.where(_one_hot(index // width, count), columns, 0), -1)


def _sums_of_blocks(probs: Array) -> Array:
  """cumsum [C] in three kernels; where probabilities are 0, it stays equal."""
  blocks = _in_blocks(probs, 0)
  inside = _masked_sums(blocks)
  until = _masked_sums(inside[:, -1])[:, None]
  return _joined(inside, until).reshape(-1)[: probs.shape[0]]


def _joined(inside: Array, until: Array) -> Array:
  """cumsum of blocks, from those inside each and those of their totals.

  Where probabilities are 0 it stays equal: rounding must not tell the end of a
  block from the start of the next.
  """
  before = jnp.pad(until[:-1], ((1, 0), (0, 0)))
  cdf = jnp.where(inside < inside[:, -1:], before + inside, until)
  return jnp.minimum(cdf, until)


def _masked_sums(x: Array) -> Array:
  """cumsum over the last axis, of length n, as n sums in one order."""
  index = np.arange(x.shape[-1])
  until = index[None] <= index[:, None]
  return jnp.sum(jnp.where(until, x[..., None, :], 0), -1)


def _in_blocks(x: Array, end: float) -> Array:
  """x [C] in rows of about √C, the last one filled up with `end`."""
  width = 1 << (x.shape[0].bit_length() // 2)
  padded = jnp.pad(x, (0, -x.shape[0] % width), constant_values=end)
  return padded.reshape(-1, width)


def _count_passed(sorted_values: Array, x: Array) -> Array:
  """`_search` with N·C comparisons, and no gather."""
  passed = jnp.sum(sorted_values[None] <= x[:, None], -1, dtype=jnp.int32)
  # Rounding can put the last boundary just below the largest uniform.
  return jnp.minimum(passed, sorted_values.shape[0] - 1)


def _search_twice(sorted_values: Array, x: Array) -> Array:
  """`_search` with 2 √C comparisons: with the ends of blocks, then in one."""
  blocks = _in_blocks(sorted_values, jnp.inf)
  width = blocks.shape[1]
  block = _count_passed(blocks[:, -1], x)
  rows = blocks.at[block].get(mode="promise_in_bounds")
  inside = jnp.sum(rows <= x[:, None], -1, dtype=jnp.int32)
  return jnp.minimum(block * width + inside, sorted_values.shape[0] - 1)


def _cumulative_sum(x: Array, width: int = 32) -> Array:
  """cumsum [C] as products with triangular matrices, faster than a scan."""
  size = x.shape[0]
  blocks = jnp.pad(x, (0, -size % width)).reshape(-1, width)
  triangle = np.triu(np.ones((width, width), x.dtype))
  inside = jnp.dot(blocks, triangle, precision="highest")
  count, totals = blocks.shape[0], inside[:, -1]
  if count > 1024:  # One triangular matrix would dominate the cost.
    until = _cumulative_sum(totals, width)
  else:
    triangle = np.triu(np.ones((count, count), x.dtype))
    until = jnp.dot(totals, triangle, precision="highest")
  return _joined(inside, until[:, None]).reshape(-1)[:size]


def uniforms(key: Array, num: int, dtype: DTypeLike) -> Array:
  """N multiples of 2⁻²⁴ in [0, 1), at half the cost of jax.random.uniform.

  `jax.random.uniform` uses one of the two words that Threefry computes per
  counter.
  """
  if jax.random.key_impl(key) != "threefry2x32":
    return jax.random.uniform(key, (num,), dtype)
  counters = jnp.arange(num, dtype=jnp.uint32)
  words = threefry_2x32(jax.random.key_data(key), counters)
  # CPUs convert signed integers faster; 24 bits fit.
  return (words >> 8).astype(jnp.int32).astype(dtype) * 2.0**-24


def _search(tables: Array, row: int | Array, x: Array) -> Array:
  """Number of values ≤ x in a sorted row of tables [B, C], for each x [N].

  Compares every x with eight pivots, then bisects within one eighth. The
  bisection is a loop because XLA on a CPU fuses unrolled steps so that each
  recomputes all before it.
  """
  size = tables.shape[1]
  flat, start = tables.reshape(-1), row * size
  steps = max((size - 1).bit_length() - 3, 0)
  eighth = 1 << steps

  def passed(number: Array) -> Array:
    # A value beyond the last compares as the last.
    pivot = start + jnp.minimum(number, size - 1)
    return flat.at[pivot].get(mode="promise_in_bounds") <= x

  pivots = range(eighth - 1, 8 * eighth - 1, eighth)
  index = eighth * sum(passed(jnp.int32(i)).astype(jnp.int32) for i in pivots)

  def halve(i: Array, index: Array) -> Array:
    step = jnp.int32(eighth) >> (i + 1)
    return jnp.where(passed(index + (step - 1)), index + step, index)

  index = lax.fori_loop(0, steps, halve, index)
  # Rounding can put the last boundary just below the largest uniform.
  return jnp.minimum(index, size - 1)
