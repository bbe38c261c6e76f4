"""Attention of many rollouts to the one prompt that they share.

Shapes: B prompts, N rollouts, P prompt tokens, L answer tokens, K heads of keys
and values, G query heads to each of them, D numbers a head. Scores and their
softmax are float32 whatever the dtype.
"""

import jax
import jax.numpy as jnp

Array = jax.Array


def rotate(x: Array, positions: Array, theta: float) -> Array:
  """Rotary positions: pairs (i, i + D/2) of x [..., D] turned by an angle.

  Args:
    x: [..., D].
    positions: integers that broadcast against x less its last axis.
    theta: base of the wavelengths, 2π theta^(i/half).
  """
  half = x.shape[-1] // 2
  rates = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
  rates = jnp.expand_dims(rates, range(x.ndim - 1))
  axes = (*range(x.ndim - 1 - positions.ndim), -1)
  angles = jnp.expand_dims(positions, axes).astype(jnp.float32) * rates
  cos, sin = jnp.cos(angles), jnp.sin(angles)
  a, b = x[..., :half].astype(cos.dtype), x[..., half:].astype(cos.dtype)
  return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1).astype(
    x.dtype
  )


def causal(queries: Array, keys: Array, values: Array) -> Array:
  """Each token attends to itself and those before it.

  Args:
    queries: [..., T, K, G, D].
    keys: [..., T, K, D].
    values: as keys.

  Returns:
    [..., T, K, G, D].
  """
  scores = _scores("...tkgd,...skd->...kgts", queries, keys)
  weights = jax.nn.softmax(
    jnp.where(_lower(queries.shape[-4]), scores, -jnp.inf)
  )
  return _mix("...kgts,...skd->...tkgd", weights, values)


def shared(
  queries: Array,
  prompt: tuple[Array, Array],
  own: tuple[Array, Array],
) -> Array:
  """Answers attend to their prompt and, causally, to themselves.

  The prompt's keys and values are there once, not once a rollout: its scores
  are one matrix product a prompt and head.

  Args:
    queries: [B, N, L, K, G, D].
    prompt: keys and values [B, P, K, D].
    own: keys and values [B, N, L, K, D].

  Returns:
    [B, N, L, K, G, D].
  """
  prompts, num, length, heads, group, size = queries.shape
  # Heads first, and rows of one matrix: XLA would do it less well.
  q = jnp.transpose(queries, (0, 3, 1, 2, 4, 5))
  q = q.reshape(prompts, heads, num, length * group, size)
  together = (prompts, heads, num * length * group, -1)
  prompt_keys, prompt_values = (jnp.swapaxes(x, 1, 2) for x in prompt)
  own_keys, own_values = (jnp.moveaxis(x, 3, 1) for x in own)
  to_prompt = _scores("bkrd,bkpd->bkrp", q.reshape(together), prompt_keys)
  to_own = _scores("bknrd,bknld->bknrl", q, own_keys)
  seen = jnp.repeat(_lower(length), group, 0)
  to_own = jnp.where(seen, to_own, -jnp.inf)
  to_prompt, to_own = _weights(to_prompt, to_own.reshape(together))
  to_own = to_own.reshape(*q.shape[:-1], length)
  mixed = _mix("bkrp,bkpd->bkrd", to_prompt, prompt_values).reshape(q.shape)
  mixed += _mix("bknrl,bknld->bknrd", to_own, own_values)
  mixed = mixed.reshape(prompts, heads, num, length, group, size)
  return jnp.transpose(mixed, (0, 2, 3, 1, 4, 5))


def decode(
  queries: Array,
  prompt: tuple[Array, Array],
  own: tuple[Array, Array],
  step: Array,
) -> Array:
  """`shared` for the one token of every rollout at place `step`.

  Args:
    queries: [B, N, K, G, D].
    prompt: keys and values [B, P, K, D].
    own: the cache, keys [B, K, N, D, L] and values [B, K, N, L, D], of which
      only places up to `step` count.
    step: scalar.

  Returns:
    [B, N, K, G, D].
  """
  prompts, num, heads, group, size = queries.shape
  q = jnp.swapaxes(queries, 1, 2)
  together = (prompts, heads, num * group, -1)
  prompt_keys, prompt_values = (jnp.swapaxes(x, 1, 2) for x in prompt)
  to_prompt = _scores("bkrd,bkpd->bkrp", q.reshape(together), prompt_keys)
  # Memory-bound: products and sums that fuse, along the contiguous axis.
  scaled = q[..., None].astype(jnp.float32) * size**-0.5
  to_own = jnp.sum(scaled * own[0][:, :, :, None], -2)
  past = jnp.arange(to_own.shape[-1]) <= step
  to_own = jnp.where(past, to_own, -jnp.inf)
  to_prompt, weights = _weights(to_prompt, to_own.reshape(together))
  weights = weights.reshape(to_own.shape)[..., None]
  mixed = jnp.sum(weights * own[1][:, :, :, None], -2)
  from_prompt = _mix("bkrp,bkpd->bkrd", to_prompt, prompt_values)
  mixed = from_prompt.reshape(q.shape) + mixed.astype(from_prompt.dtype)
  return jnp.swapaxes(mixed, 1, 2)


def _scores(spec: str, queries: Array, keys: Array) -> Array:
  scores = jnp.einsum(spec, queries, keys, preferred_element_type=jnp.float32)
  return scores * queries.shape[-1] ** -0.5


def _lower(size: int) -> Array:
  return jnp.tril(jnp.ones((size, size), bool))


def _weights(first: Array, second: Array) -> tuple[Array, Array]:
  """Softmax over the last axes of both together."""
  top = jnp.maximum(
    jnp.max(first, -1, keepdims=True), jnp.max(second, -1, keepdims=True)
  )
  top = jax.lax.stop_gradient(top)  # Any constant gives the same weights.
  first, second = jnp.exp(first - top), jnp.exp(second - top)
  total = jnp.sum(first, -1, keepdims=True) + jnp.sum(second, -1, keepdims=True)
  return first / total, second / total


def _mix(spec: str, weights: Array, values: Array) -> Array:
  return jnp.einsum(spec, weights.astype(values.dtype), values)
