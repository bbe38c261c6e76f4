"""Small checkpoints of Hugging Face's format."""

import jax
import jax.numpy as jnp
import numpy as np

from maxrl_jax.policies import Transformer, qwen2

SMALL = {
  "vocab_size": 32,
  "hidden_size": 16,
  "intermediate_size": 24,
  "num_layers": 1,
  "num_heads": 4,
  "num_kv_heads": 2,
}


def make_policy(**options):
  return Transformer(max_length=4, eos=2, **options)


def make_params(policy, seed=0):
  """Away from the start, biases and norms too."""
  shapes = jax.eval_shape(
    policy.init, jax.random.key(0), jnp.zeros((1, 1), jnp.int32)
  )
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda x: jnp.asarray(0.1 * rng.normal(size=x.shape), x.dtype), shapes
  )


def save_small(folder, **options):
  policy = make_policy(**(SMALL | options))
  params = make_params(policy)
  qwen2.save(folder, policy, params)
  return policy, params
