"""A policy that predicts a number digit by digit."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from maxrl_jax import ranges
from maxrl_jax.distributions import Components
from maxrl_jax.policies.regression import FromMLP, check_range

Array = jax.Array


class Digits(FromMLP):
  """Autoregressive policy over the digits of a number.

  An action is the `length` digits of (ŷ − low)/(high − low) in `base`, most
  significant first; ŷ is the midpoint of their interval. The decoder input is
  the sum of one embedding per earlier digit and place.
  """

  base: int = 10
  length: int = 2
  low: float = -4.0
  high: float = 4.0
  width: int = 64

  def num_outputs(self) -> int:
    return self.width

  def check(self) -> None:
    ranges.at_least(2, of="policy.", base=self.base)
    ranges.at_least(1, of="policy.", length=self.length, width=self.width)
    check_range(self.low, self.high)
    if self.base**self.length > 4096:
      raise ValueError(
        f"policy.base = {self.base}, policy.length = {self.length}: base **"
        f" length = {self.base**self.length}, must be at most 4096 for exact"
        " sums"
      )

  def setup(self) -> None:
    super().setup()
    normal = nn.initializers.normal(0.3)
    shape = (self.length, self.base, self.width)
    self.written = self.param("written", normal, shape)
    self.place = self.param("place", normal, (self.length, self.width))
    self.kernel = self.param(
      "kernel",
      nn.initializers.lecun_normal(batch_axis=0),
      (self.length, self.width, self.base),
    )

  def _logits(self, head: Array, place: int, prefix: Array) -> Array:
    """Logits [N, base] of the digit at `place`, given prefixes [N, width]."""
    state = nn.relu(head[None] + self.place[place][None] + prefix)
    return jnp.dot(state, self.kernel[place], precision="highest")

  def _sample(self, key: Array, head: Array, num: int) -> Array:
    prefix = jnp.zeros((num, self.width), head.dtype)
    digits = []
    keys = jax.random.split(key, self.length)
    for place in range(self.length):
      logits = self._logits(head, place, prefix)
      digit = jax.random.categorical(keys[place], logits)
      prefix = prefix + self.written[place][digit]
      digits.append(digit)
    return jnp.stack(digits, -1)

  def _log_prob(self, head: Array, actions: Array) -> Array:
    prefix = jnp.zeros((actions.shape[0], self.width), head.dtype)
    total = jnp.zeros(actions.shape[0], head.dtype)
    for place in range(self.length):
      digit = actions[:, place]
      log_probs = jax.nn.log_softmax(self._logits(head, place, prefix))
      total += jnp.take_along_axis(log_probs, digit[:, None], -1)[:, 0]
      prefix = prefix + self.written[place][digit]
    return total

  def _components(self, head: Array) -> Components:
    # The tree of prefixes, one level per place; each prefix is decoded once.
    prefix, log_p = jnp.zeros((1, self.width), head.dtype), jnp.zeros((1, 1))
    for place in range(self.length):
      log_probs = jax.nn.log_softmax(self._logits(head, place, prefix))
      log_p = (log_p.reshape(-1, 1) + log_probs).astype(head.dtype)
      prefix = (prefix[:, None] + self.written[place][None]).reshape(
        -1, self.width
      )
    return Components(log_p.ravel(), jnp.asarray(self.values()))

  def values(self) -> np.ndarray:
    count = self.base**self.length
    midpoints = (np.arange(count) + 0.5) / count
    values = self.low + (self.high - self.low) * midpoints
    return values.astype(np.float32)

  def decode(self, actions: Array) -> Array:
    place_values = self.base ** np.arange(self.length)[::-1]
    # A table lookup, so that predictions are bit-identical to components.
    return jnp.asarray(self.values())[jnp.dot(actions, place_values)]
