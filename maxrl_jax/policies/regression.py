"""Policies whose rollouts predict numbers, one distribution a dimension.

All are one MLP and a head. With D target dimensions, actions, log-probabilities
and predictions of one prompt are [D, N]: given the prompt, the dimensions are
independent. The MLP may also give the noise model's σ (a learned decoder).
"""

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import special
from jax.scipy import stats as densities

from maxrl_jax import distributions
from maxrl_jax.distributions import Components
from maxrl_jax.policies.categorical import MLP

Array = jax.Array


class Outputs(NamedTuple):
  """What a policy says of B prompts: its head's inputs [B, D, …], learned σ."""

  head: Array
  noise_scale: Array | None  # [B, D]


class Regression(nn.Module):
  """What the heads share; a head gives the methods of one dimension.

  Attributes:
    num_dims: D.
    hidden: widths of the MLP's hidden layers.
    learned_scale: 'input' gives σ(x), 'global' one σ a dimension, None none.
    smallest_scale: what a learned σ cannot go below.
    initial_scale: where a learned σ starts, above `smallest_scale`, but for
      what an untrained MLP adds.
  """

  num_dims: int = 1
  hidden: Sequence[int] = (128, 128)
  learned_scale: str | None = None
  smallest_scale: float = 0.0
  initial_scale: float = 1.0

  def num_outputs(self) -> int:
    """Numbers that the head needs of the MLP, a dimension."""
    raise NotImplementedError

  def check(self) -> None:
    """Raises ValueError at a field that cannot be meant, before any use."""

  def setup(self):
    by_input = self.learned_scale == "input"
    self.body = MLP(
      self.num_dims * (self.num_outputs() + by_input), self.hidden
    )
    if self.learned_scale == "global":
      self.scale = self.param(
        "noise_scale", nn.initializers.zeros, (self.num_dims,)
      )

  def values(self) -> np.ndarray | None:
    """All predictions there are, ascending; None where they are a continuum."""
    return None

  def __call__(self, inputs: Array) -> Outputs:
    body = self.body(inputs).reshape(inputs.shape[0], self.num_dims, -1)
    if self.learned_scale is None:
      return Outputs(body, None)
    if self.learned_scale == "input":
      body, free = body[..., :-1], body[..., -1]
    else:
      free = jnp.broadcast_to(self.scale, body.shape[:2])
    # softplus, shifted so that 0 is the initial scale.
    above = self.initial_scale - self.smallest_scale
    shift = above + np.log(-np.expm1(-above))
    return Outputs(body, self.smallest_scale + jax.nn.softplus(free + shift))

  def sample(self, key: Array, outputs: Outputs, num: int) -> Array:
    keys = jax.random.split(key, self.num_dims)
    draw = lambda key, head: self._sample(key, head, num)  # noqa: E731
    return jax.vmap(draw)(keys, outputs.head)

  def log_prob(self, outputs: Outputs, actions: Array) -> Array:
    return jax.vmap(self._log_prob)(outputs.head, actions)

  def components(self, outputs: Outputs) -> Components:
    found = jax.vmap(self._components)(outputs.head)
    return found._replace(noise_scale=outputs.noise_scale)

  def decode(self, actions: Array) -> Array:
    return actions


class Grid(Regression):
  """Categorical over evenly spaced values: an action is an index."""

  bins: int = 64
  low: float = -4.0
  high: float = 4.0

  def num_outputs(self) -> int:
    return self.bins

  def check(self) -> None:
    _check_least(2, bins=self.bins)
    _check_range(self.low, self.high)

  def values(self) -> np.ndarray:
    return np.linspace(self.low, self.high, self.bins, dtype=np.float32)

  def _sample(self, key, head, num):
    return distributions.categorical(key, head, num)

  def _log_prob(self, head, actions):
    return distributions.categorical_log_prob(head, actions)

  def _components(self, head) -> Components:
    return Components(jax.nn.log_softmax(head), jnp.asarray(self.values()))

  def decode(self, actions: Array) -> Array:
    return jnp.asarray(self.values())[actions]


class Normal(Regression):
  """N(m(x), s): s is `policy_scale`, or learned where that is None."""

  policy_scale: float | None = None
  least_policy_scale: float = 0.01

  def num_outputs(self) -> int:
    return 1 if self.policy_scale else 2

  def check(self) -> None:
    if self.policy_scale is not None and not 0 < self.policy_scale < np.inf:
      raise ValueError(
        f"policy.policy_scale = {self.policy_scale}: must be above 0"
      )

  def _mean_and_scale(self, head):
    if self.policy_scale:
      return head[0], jnp.asarray(self.policy_scale, head.dtype)
    return head[0], self.least_policy_scale + jax.nn.softplus(head[1])

  def _sample(self, key, head, num):
    mean, scale = self._mean_and_scale(head)
    return mean + scale * jax.random.normal(key, (num,), head.dtype)

  def _log_prob(self, head, actions):
    return densities.norm.logpdf(actions, *self._mean_and_scale(head))

  def _components(self, head) -> Components:
    mean, scale = self._mean_and_scale(head)
    return Components(jnp.zeros(1, head.dtype), mean[None], scale[None])


class Mixture(Regression):
  """Mixture of `num_components` normals; rollouts do not tell which."""

  num_components: int = 4
  least_policy_scale: float = 0.01
  spread: float = 2.0  # The initial means lie evenly in ± spread.

  def num_outputs(self) -> int:
    return 3 * self.num_components

  def check(self) -> None:
    _check_least(1, num_components=self.num_components)

  def _components(self, head) -> Components:
    logits, means, scales = jnp.split(head, 3)
    start = (np.arange(self.num_components) + 0.5) / self.num_components
    start = self.spread * (2 * start - 1)
    return Components(
      jax.nn.log_softmax(logits),
      means + start.astype(head.dtype),
      self.least_policy_scale + jax.nn.softplus(scales),
    )

  def _sample(self, key, head, num):
    which_key, noise_key = jax.random.split(key)
    mixture = self._components(head)
    which = distributions.categorical(which_key, mixture.log_weights, num)
    noise = jax.random.normal(noise_key, (num,), head.dtype)
    return mixture.locations[which] + mixture.scales[which] * noise

  def _log_prob(self, head, actions):
    mixture = self._components(head)
    terms = mixture.log_weights[None] + densities.norm.logpdf(
      actions[:, None], mixture.locations[None], mixture.scales[None]
    )
    return special.logsumexp(terms, axis=-1)


class Digits(Regression):
  """Writes a number digit by digit, each given those before it.

  An action is the `length` digits of (ŷ − low)/(high − low) in `base`, most
  significant first; ŷ is the middle of the interval that they leave. What has
  been written enters the decoder as a sum of one vector a digit and place.
  """

  base: int = 10
  length: int = 2
  low: float = -4.0
  high: float = 4.0
  width: int = 64

  def num_outputs(self) -> int:
    return self.width

  def check(self) -> None:
    _check_least(2, base=self.base)
    _check_least(1, length=self.length)
    _check_range(self.low, self.high)
    if self.base**self.length > 4096:
      raise ValueError(
        f"policy.base = {self.base}, policy.length = {self.length}:"
        f" {self.base**self.length} numbers, more than the 4096 that exact"
        " sums run over"
      )

  def setup(self):
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

  def _logits(self, head, place: int, prefix: Array) -> Array:
    """Logits [N, base] of the digit at `place`, given prefixes [N, width]."""
    state = nn.relu(head[None] + self.place[place][None] + prefix)
    return jnp.dot(state, self.kernel[place], precision="highest")

  def _sample(self, key, head, num):
    prefix = jnp.zeros((num, self.width), head.dtype)
    digits = []
    keys = jax.random.split(key, self.length)
    for place in range(self.length):
      logits = self._logits(head, place, prefix)
      digit = jax.random.categorical(keys[place], logits)
      prefix = prefix + self.written[place][digit]
      digits.append(digit)
    return jnp.stack(digits, -1)

  def _log_prob(self, head, actions):
    prefix = jnp.zeros((actions.shape[0], self.width), head.dtype)
    total = 0.0
    for place in range(self.length):
      digit = actions[:, place]
      log_probs = jax.nn.log_softmax(self._logits(head, place, prefix))
      total += jnp.take_along_axis(log_probs, digit[:, None], -1)[:, 0]
      prefix = prefix + self.written[place][digit]
    return total

  def _components(self, head) -> Components:
    # The tree of prefixes, a level a place: each is decoded once.
    prefix, log_p = jnp.zeros((1, self.width), head.dtype), jnp.zeros((1, 1))
    for place in range(self.length):
      log_probs = jax.nn.log_softmax(self._logits(head, place, prefix))
      log_p = (log_p.reshape(-1, 1) + log_probs).astype(head.dtype)
      prefix = (prefix[:, None] + self.written[place][None]).reshape(
        -1, self.width
      )
    return Components(log_p.ravel(), jnp.asarray(self.values(), head.dtype))

  def values(self) -> np.ndarray:
    count = self.base**self.length
    middles = (np.arange(count) + 0.5) / count
    return self.low + (self.high - self.low) * middles

  def decode(self, actions: Array) -> Array:
    share = 0.5
    for place in reversed(range(self.length)):
      share = (actions[..., place] + share) / self.base
    return self.low + (self.high - self.low) * share


def _check_least(least: int, **fields) -> None:
  for name, value in fields.items():
    if value < least:
      raise ValueError(f"policy.{name} = {value}: must be at least {least}")


def _check_range(low: float, high: float) -> None:
  if not -np.inf < low < high < np.inf:
    raise ValueError(
      f"policy.low = {low}, policy.high = {high}: must be finite, low below"
      " high"
    )
