"""Policies over classes or arms, whose outputs are logits."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from maxrl_jax import distributions
from maxrl_jax.distributions import Components
from maxrl_jax.policies.base import check_draw

Array = jax.Array


class Categorical(nn.Module):
  """Policies whose outputs are logits over actions, [B, num_actions]."""

  def sample(self, key: Array, outputs: Array, num: int) -> Array:
    check_draw(key, num)
    return distributions.categorical(key, outputs, num)

  def prepare(self, outputs: Array) -> Array:
    return distributions.boundaries(outputs)

  def draw(self, key: Array, prepared: Array, row: Array, num: int) -> Array:
    return distributions.draw(key, prepared, row, num)

  def log_prob(self, outputs: Array, actions: Array) -> Array:
    return distributions.categorical_log_prob(outputs, actions)

  def decode(self, actions: Array) -> Array:
    return actions  # The prediction is the action.

  def components(self, outputs: Array) -> Components:
    return Components(
      jax.nn.log_softmax(outputs), jnp.arange(outputs.shape[-1])
    )


class MLP(Categorical):
  """ReLU network on flattened inputs: [B, …] → logits [B, num_actions]."""

  num_actions: int
  hidden: Sequence[int] = (512, 512)

  @nn.compact
  def __call__(self, inputs: Array) -> Array:
    x = inputs.reshape(inputs.shape[0], -1)
    for width in self.hidden:
      x = nn.relu(nn.Dense(width)(x))
    return nn.Dense(self.num_actions)(x)


class CNN(Categorical):
  """Small convolutional classifier: [B, H, W, channels] → [B, num_actions].

  Each entry of `channels` is a 3×3 convolution, a ReLU and a 2×2 mean pool (if
  both sides are at least 2). An MLP follows.
  """

  num_actions: int
  channels: Sequence[int] = (32, 64)
  hidden: Sequence[int] = (256,)

  @nn.compact
  def __call__(self, inputs: Array) -> Array:
    if inputs.ndim != 4:
      raise ValueError(
        f"policy.name = 'cnn': inputs have shape {inputs.shape}, must be images"
        " [B, H, W, channels]"
      )
    x = inputs
    for features in self.channels:
      x = nn.relu(nn.Conv(features, (3, 3))(x))
      if min(x.shape[1:3]) >= 2:
        x = nn.avg_pool(x, (2, 2), strides=(2, 2))
    return MLP(self.num_actions, self.hidden)(x)


class Tabular(Categorical):
  """A table with one row of logits per prompt: indices [B] → [B, num_actions].

  Args:
    num_actions: A.
    initial_logits: [prompts, A], the policy before training.
  """

  num_actions: int
  initial_logits: Array

  @nn.compact
  def __call__(self, inputs: Array) -> Array:
    table = self.param("logits", lambda key: jnp.asarray(self.initial_logits))
    return table[inputs]
