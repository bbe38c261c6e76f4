"""A transformer layer without its attention."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from maxrl_jax.policies import attention

Array = jax.Array


def rows(x: Array, prompts_apart: bool) -> Array:
  """x [B, …, H] as one matrix, or as one per prompt.

  Contracting over one axis is faster, since XLA transposes for several. But if
  a prompt's rollouts are on several devices, merging the prompt axis with
  theirs would make the devices exchange all rollouts.
  """
  lead = (x.shape[0], -1) if prompts_apart else (-1,)
  return x.reshape(*lead, x.shape[-1])


class Block(nn.Module):
  """One Qwen2 layer, in two halves around the attention."""

  hidden_size: int
  intermediate_size: int
  num_heads: int
  num_kv_heads: int
  rope_theta: float
  epsilon: float
  dtype: jnp.dtype
  prompts_apart: bool

  def setup(self) -> None:
    dense = functools.partial(nn.Dense, use_bias=False, dtype=self.dtype)
    norm = functools.partial(nn.RMSNorm, self.epsilon, dtype=self.dtype)
    kv_size = self.hidden_size // self.num_heads * self.num_kv_heads
    self.input_norm, self.output_norm = norm(), norm()
    self.query = dense(self.hidden_size, use_bias=True)
    self.key = dense(kv_size, use_bias=True)
    self.value = dense(kv_size, use_bias=True)
    self.output = dense(self.hidden_size)
    self.gate = dense(self.intermediate_size)
    self.up = dense(self.intermediate_size)
    self.down = dense(self.hidden_size)

  def project(self, x: Array, positions: Array) -> tuple[Array, Array, Array]:
    """x [..., H] → queries [..., K, G, D], keys and values [..., K, D]."""
    lead, size = x.shape[:-1], self.hidden_size // self.num_heads
    x = self.input_norm(rows(x, self.prompts_apart))
    pairs = self.query(x).reshape(*lead, self.num_kv_heads, -1, size)
    keys = self.key(x).reshape(*lead, self.num_kv_heads, size)
    values = self.value(x).reshape(*lead, self.num_kv_heads, size)
    positions = positions[..., None]
    pairs = attention.rotate(pairs, positions[..., None], self.rope_theta)
    return pairs, attention.rotate(keys, positions, self.rope_theta), values

  def finish(self, x: Array, attended: Array) -> Array:
    """Adds the projected attention and the feed-forward output to x."""
    flat = rows(x, self.prompts_apart)
    flat = flat + self.output(attended.reshape(flat.shape))
    y = self.output_norm(flat)
    flat = flat + self.down(nn.silu(self.gate(y)) * self.up(y))
    return flat.reshape(x.shape)
