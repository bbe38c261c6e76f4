"""Attention of rollouts to a shared prompt.

Shapes: B prompts, N rollouts, P prompt tokens, L answer tokens, K key-value
heads, G query heads per key-value head, head size D. Scores and softmax are
float32 for every dtype.
"""

import jax
import jax.numpy as jnp

Array = jax.Array


def rotate(x: Array, positions: Array, theta: float) -> Array:
  """Rotary position embedding of x [..., D]: rotates the pairs (i, i + D/2).

  Args:
    x: [..., D].
    positions: integers that broadcast against x without its last axis.
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
  """Causal attention: each token attends to itself and earlier tokens.

  Args:
    queries: [..., T, K, G, D].
    keys: [..., T, K, D].
    values: as keys.

  Returns:
    [..., T, K, G, D].
  """
  scores = _scores("...tkgd,...skd->...kgts", queries, keys)
  scores = jnp.where(_lower_triangle(queries.shape[-4]), scores, -jnp.inf)
  weights = jnp.exp(scores - _top(scores))
  mixed = _mix("...kgts,...skd->...tkgd", weights, values)
  total = jnp.moveaxis(jnp.sum(weights, -1), -1, -3)
  return _divided(mixed, total)


def shared(
  queries: Array,
  prompt: tuple[Array, Array],
  answer: tuple[Array, Array],
) -> Array:
  """Answers attend to their prompt and, causally, to themselves.

  Keys and values of the prompt are stored once, not per rollout: scores of the
  prompt are one matrix product per prompt and head.

  Args:
    queries: [B, N, L, K, G, D].
    prompt: keys and values [B, P, K, D].
    answer: keys and values [B, N, L, K, D].

  Returns:
    [B, N, L, K, G, D].
  """
  prompts, num, length, heads, group, size = queries.shape
  # Heads first, rows in one matrix: faster than the layout XLA would choose.
  q = jnp.transpose(queries, (0, 3, 1, 2, 4, 5))
  q = q.reshape(prompts, heads, num, length * group, size)
  merged = (prompts, heads, num * length * group, -1)
  prompt_keys, prompt_values = (jnp.swapaxes(x, 1, 2) for x in prompt)
  answer_keys, answer_values = (jnp.moveaxis(x, 3, 1) for x in answer)
  to_prompt = _scores("bkrd,bkpd->bkrp", q.reshape(merged), prompt_keys)
  to_answer = _scores("bknrd,bknld->bknrl", q, answer_keys)
  causal_mask = jnp.repeat(_lower_triangle(length), group, 0)
  to_answer = jnp.where(causal_mask, to_answer, -jnp.inf)
  to_prompt, to_answer, total = _exponentials(
    to_prompt, to_answer.reshape(merged)
  )
  to_answer = to_answer.reshape(*q.shape[:-1], length)
  mixed = _mix("bkrp,bkpd->bkrd", to_prompt, prompt_values).reshape(q.shape)
  mixed += _mix("bknrl,bknld->bknrd", to_answer, answer_values)
  mixed = _divided(mixed, total.reshape(q.shape[:-1]))
  mixed = mixed.reshape(prompts, heads, num, length, group, size)
  return jnp.transpose(mixed, (0, 2, 3, 1, 4, 5))


def decode(
  queries: Array,
  prompt: tuple[Array, Array],
  answer: tuple[Array, Array],
  step: Array,
) -> Array:
  """`shared` for one token of every rollout, at position `step`.

  Args:
    queries: [B, N, K, G, D].
    prompt: keys and values [B, P, K, D].
    answer: the cache, keys [B, K, N, D, L] and values [B, K, N, L, D], of which
      only positions up to `step` are used.
    step: scalar.

  Returns:
    [B, N, K, G, D].
  """
  prompts, num, heads, group, size = queries.shape
  q = jnp.swapaxes(queries, 1, 2)
  merged = (prompts, heads, num * group, -1)
  prompt_keys, prompt_values = (jnp.swapaxes(x, 1, 2) for x in prompt)
  to_prompt = _scores("bkrd,bkpd->bkrp", q.reshape(merged), prompt_keys)
  # Memory-bound, so multiply and sum, which fuse, along the contiguous axis.
  scaled = q[..., None].astype(jnp.float32) * size**-0.5
  to_answer = jnp.sum(scaled * answer[0][:, :, :, None], -2)
  past = jnp.arange(to_answer.shape[-1]) <= step
  to_answer = jnp.where(past, to_answer, -jnp.inf)
  to_prompt, weights, total = _exponentials(
    to_prompt, to_answer.reshape(merged)
  )
  weights = weights.reshape(to_answer.shape)[..., None]
  mixed = jnp.sum(weights * answer[1][:, :, :, None], -2)
  from_prompt = _mix("bkrp,bkpd->bkrd", to_prompt, prompt_values)
  mixed = from_prompt.reshape(q.shape) + mixed.astype(from_prompt.dtype)
  mixed = _divided(mixed, total.reshape(q.shape[:-1]))
  return jnp.swapaxes(mixed, 1, 2)


def _scores(spec: str, queries: Array, keys: Array) -> Array:
  scores = jnp.einsum(spec, queries, keys, preferred_element_type=jnp.float32)
  return scores * queries.shape[-1] ** -0.5


def _lower_triangle(size: int) -> Array:
  return jnp.tril(jnp.ones((size, size), bool))


def _exponentials(first: Array, second: Array) -> tuple[Array, Array, Array]:
  """exp of the concatenated last axes less their largest; and its sum.

  The sum divides what the weights mix, not the weights: fewer numbers, and
  their gradient then needs no sum over the weights.
  """
  top = jnp.maximum(_top(first), _top(second))
  first, second = jnp.exp(first - top), jnp.exp(second - top)
  return first, second, jnp.sum(first, -1) + jnp.sum(second, -1)


def _top(scores: Array) -> Array:
  """Largest score; any constant gives the same weights."""
  return jax.lax.stop_gradient(jnp.max(scores, -1, keepdims=True))


def _divided(mixed: Array, total: Array) -> Array:
  quotient = mixed.astype(total.dtype) / total[..., None]
  return quotient.astype(mixed.dtype)


def _mix(spec: str, weights: Array, values: Array) -> Array:
  return jnp.einsum(spec, weights.astype(values.dtype), values)
