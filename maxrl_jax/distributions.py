"""What one prompt's policy is: draws, log-probabilities, components."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.random import threefry_2x32
from jax.typing import DTypeLike

Array = jax.Array


class Components(NamedTuple):
  """A distribution over values as a mixture: how anything is summed exactly.

  Attributes:
    log_weights: [C], they sum to one.
    locations: [C], where each component is; an action's index for classes.
    scales: [C], standard deviations of normal components; None for atoms.
    noise_scale: σ of the noise model, where the policy learns it.
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

  One uniform a draw and a binary search: N log C, where a Gumbel maximum takes
  N·C. A class of probability 0 is never drawn. Uniforms are multiples of 2⁻²⁴,
  so probabilities below about 1e-7 are resolved no finer than that.

  Args:
    key: a typed random key.
    logits: [C], any additive constant.
    num: N.
  """
  chex.assert_rank(logits, 1)
  # Half precision would round the boundaries between classes away.
  logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
  cdf = _cumulative_sum(jax.nn.softmax(logits))
  return _search(cdf, uniforms(key, num, logits.dtype) * cdf[-1])


def categorical_log_prob(logits: Array, actions: Array) -> Array:
  """log softmax(logits)[z_j], [N]; differentiable in logits [C]."""
  chex.assert_rank([logits, actions], 1)
  log_probs = jax.nn.log_softmax(logits)
  return log_probs.at[actions].get(mode="promise_in_bounds")


def inverse_cdf(uniforms: Array, logits: Array) -> tuple[Array, Array]:
  """One draw from each of many small distributions, and its log-probability.

  Compares a uniform with all C boundaries: for vocabularies of tens, and as
  many logits as draws; `categorical` is for many draws from one distribution.

  Args:
    uniforms: [...], in [0, 1).
    logits: [..., C] float32, any additive constant.

  Returns:
    Draws int32 and their log-probabilities, each [...].
  """
  log_probs = jax.nn.log_softmax(logits)
  size = logits.shape[-1]
  triangle = jnp.triu(jnp.ones((size, size), log_probs.dtype))
  cdf = jnp.dot(jnp.exp(log_probs), triangle, precision="highest")
  passed = cdf <= (uniforms * cdf[..., -1])[..., None]
  # Rounding may leave the last boundary a hair below the largest uniform.
  drawn = jnp.minimum(jnp.sum(passed, -1, dtype=jnp.int32), size - 1)
  taken = jnp.take_along_axis(log_probs, drawn[..., None], -1)[..., 0]
  return drawn, taken


def _cumulative_sum(x: Array, width: int = 32) -> Array:
  """cumsum [C] as products with triangles: faster than a scan."""
  size = x.shape[0]
  blocks = jnp.pad(x, (0, -size % width)).reshape(-1, width)
  inside = jnp.dot(
    blocks, jnp.triu(jnp.ones((width, width), x.dtype)), precision="highest"
  )
  count, totals = blocks.shape[0], inside[:, -1]
  if count > 1024:  # Where a triangle of them all would take most of the time.
    before = jnp.pad(_cumulative_sum(totals, width)[:-1], (1, 0))
  else:
    before = jnp.dot(
      totals,
      jnp.triu(jnp.ones((count, count), x.dtype), 1),
      precision="highest",
    )
  return (inside + before[:, None]).reshape(-1)[:size]


def uniforms(key: Array, num: int, dtype: DTypeLike) -> Array:
  """N multiples of 2⁻²⁴ in [0, 1), at half the price of jax.random.uniform.

  That keeps one of the two words that the cipher makes of every counter.
  """
  if jax.random.key_impl(key) != "threefry2x32":
    return jax.random.uniform(key, (num,), dtype)
  counters = jnp.arange(num, dtype=jnp.uint32)
  words = threefry_2x32(jax.random.key_data(key), counters)
  # A CPU converts signed integers faster; 24 bits fit either way.
  return (words >> 8).astype(jnp.int32).astype(dtype) * 2.0**-24


def _search(sorted_values: Array, x: Array) -> Array:
  """How many of sorted_values [C] are ≤ x [N].

  Eight pivots are compared with every x, which takes no gather; bisection in
  the eighth that they leave does the rest. It is a loop because XLA on a CPU
  fuses unrolled steps so that each repeats all before it.
  """
  size = sorted_values.shape[0]
  steps = max((size - 1).bit_length() - 3, 0)
  eighth = 1 << steps
  padded = jnp.pad(
    sorted_values, (0, 8 * eighth - size), constant_values=jnp.inf
  )
  passed = [padded[i] <= x for i in range(eighth - 1, 8 * eighth, eighth)]
  found = eighth * sum(p.astype(jnp.int32) for p in passed)

  def halve(i: Array, found: Array) -> Array:
    step = jnp.int32(eighth) >> (i + 1)
    pivot = padded.at[found + (step - 1)].get(mode="promise_in_bounds")
    return jnp.where(pivot <= x, found + step, found)

  found = lax.fori_loop(0, steps, halve, found)
  # Rounding may leave the last boundary a hair below the largest uniform.
  return jnp.minimum(found, size - 1)
