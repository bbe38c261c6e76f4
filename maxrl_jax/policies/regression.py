"""Policies that predict numbers, with one distribution per dimension.

Each has a head on an MLP (`FromMLP`) or on a transformer (`digit_transformer`).
With D target dimensions, actions, log-probabilities and predictions of one
prompt are [D, N]; dimensions are independent given the prompt. The network may
also predict the noise model's σ (a learned decoder).
"""

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import special
from jax.scipy import stats as densities

from maxrl_jax import distributions, ranges
from maxrl_jax.distributions import Components
from maxrl_jax.policies.base import check_draw
from maxrl_jax.policies.categorical import MLP

Array = jax.Array


class Outputs(NamedTuple):
  """Outputs for B prompts: inputs of the head [B, D, …] and learned σ."""

  head: Array
  noise_scale: Array | None  # [B, D]


class Regression(nn.Module):
  """Base class; a subclass defines `_sample` and so on for one dimension.

  Attributes:
    num_dims: D.
    learned_scale: 'input' learns σ(x), 'global' one σ per dimension, None no σ.
    smallest_scale: lower bound of a learned σ.
    initial_scale: initial learned σ where the network's output for it is 0;
      above `smallest_scale`.
  """

  num_dims: int = 1
  learned_scale: str | None = None
  smallest_scale: float = 0.0
  initial_scale: float = 1.0

  def check(self) -> None:
    """Raises ValueError at an invalid field."""

  def setup(self) -> None:
    if self.learned_scale == "global":
      self.scale = self.param(
        "noise_scale", nn.initializers.zeros, (self.num_dims,)
      )

  def has_free_scale(self) -> bool:
    """Whether the policy learns its width, which an MSE loss cannot train."""
    return False

  def values(self) -> np.ndarray | None:
    """All possible predictions, ascending; None if they are continuous."""
    return None

  def with_scale(self, head: Array, free: Array) -> Outputs:
    """Outputs of B prompts, with σ if it is learned.

    Args:
      head: [B, D, …].
      free: [B, D], any real numbers, of which σ is a function if it is learned
        from the input.
    """
    if self.learned_scale is None:
      return Outputs(head, None)
    if self.learned_scale == "global":
      free = jnp.broadcast_to(self.scale, head.shape[:2])
    # softplus, shifted so that 0 is the initial scale.
    above = self.initial_scale - self.smallest_scale
    shift = above + np.log(-np.expm1(-above))
    return Outputs(head, self.smallest_scale + jax.nn.softplus(free + shift))

  def sample(self, key: Array, outputs: Outputs, num: int) -> Array:
    check_draw(key, num)
    keys = jax.random.split(key, self.num_dims)
    draw = lambda key, head: self._sample(key, head, num)  # noqa: E731
    return jax.vmap(draw)(keys, outputs.head)

  def log_prob(self, outputs: Outputs, actions: Array) -> Array:
    return jax.vmap(self._log_prob)(outputs.head, actions)

  def components(self, outputs: Outputs) -> Components:
    mixture = jax.vmap(self._components)(outputs.head)
    return mixture._replace(noise_scale=outputs.noise_scale)

  def decode(self, actions: Array) -> Array:
    return actions


class FromMLP(Regression):
  """A head on an MLP.

  Attributes:
    hidden: widths of the MLP's hidden layers.
  """

  hidden: Sequence[int] = (128, 128)

  def num_outputs(self) -> int:
    """MLP outputs that the head needs per dimension."""
    raise NotImplementedError

  def setup(self) -> None:
    by_input = self.learned_scale == "input"
    self.body = MLP(
      self.num_dims * (self.num_outputs() + by_input), self.hidden
    )
    super().setup()

  def __call__(self, inputs: Array) -> Outputs:
    body = self.body(inputs).reshape(inputs.shape[0], self.num_dims, -1)
    if self.learned_scale == "input":
      return self.with_scale(body[..., :-1], body[..., -1])
    return self.with_scale(body, body[..., 0])


class Atoms(Regression):
  """Categorical over `values()`: an action is an index."""

  def _sample(self, key: Array, head: Array, num: int) -> Array:
    return distributions.categorical(key, head, num)

  def _log_prob(self, head: Array, actions: Array) -> Array:
    return distributions.categorical_log_prob(head, actions)

  def _components(self, head: Array) -> Components:
    return Components(jax.nn.log_softmax(head), jnp.asarray(self.values()))

  def decode(self, actions: Array) -> Array:
    return jnp.asarray(self.values())[actions]


class Grid(FromMLP, Atoms):
  """Categorical over evenly spaced values."""

  bins: int = 64
  low: float = -4.0
  high: float = 4.0

  def num_outputs(self) -> int:
    return self.bins

  def check(self) -> None:
    ranges.at_least(2, of="policy.", bins=self.bins)
    check_range(self.low, self.high)

  def values(self) -> np.ndarray:
    return np.linspace(self.low, self.high, self.bins, dtype=np.float32)


class Normal(FromMLP):
  """N(m(x), s): s is `policy_scale`, or learned where that is None."""

  policy_scale: float | None = None
  least_policy_scale: float = 0.01

  def has_free_scale(self) -> bool:
    return self.policy_scale is None

  def num_outputs(self) -> int:
    return 1 if self.policy_scale else 2

  def check(self) -> None:
    if self.policy_scale is not None:
      ranges.above_zero(of="policy.", policy_scale=self.policy_scale)
    least = self.least_policy_scale
    ranges.above_zero(of="policy.", least_policy_scale=least)

  def _mean_and_scale(self, head: Array) -> tuple[Array, Array]:
    if self.policy_scale:
      return head[0], jnp.asarray(self.policy_scale, head.dtype)
    return head[0], self.least_policy_scale + jax.nn.softplus(head[1])

  def _sample(self, key: Array, head: Array, num: int) -> Array:
    mean, scale = self._mean_and_scale(head)
    return mean + scale * jax.random.normal(key, (num,), head.dtype)

  def _log_prob(self, head: Array, actions: Array) -> Array:
    return densities.norm.logpdf(actions, *self._mean_and_scale(head))

  def _components(self, head: Array) -> Components:
    mean, scale = self._mean_and_scale(head)
    return Components(jnp.zeros(1, head.dtype), mean[None], scale[None])


class Mixture(FromMLP):
  """Mixture of `num_components` normals; an action is the number alone."""

  num_components: int = 4
  least_policy_scale: float = 0.01
  mean_range: float = 2.0  # Initial means are evenly spaced in ± mean_range.

  def has_free_scale(self) -> bool:
    return True

  def num_outputs(self) -> int:
    return 3 * self.num_components

  def check(self) -> None:
    ranges.at_least(1, of="policy.", num_components=self.num_components)
    least = self.least_policy_scale
    ranges.above_zero(of="policy.", least_policy_scale=least)
    ranges.above_zero(of="policy.", mean_range=self.mean_range)

  def _components(self, head: Array) -> Components:
    logits, means, scales = jnp.split(head, 3)
    start = (np.arange(self.num_components) + 0.5) / self.num_components
    start = self.mean_range * (2 * start - 1)
    return Components(
      jax.nn.log_softmax(logits),
      means + start.astype(head.dtype),
      self.least_policy_scale + jax.nn.softplus(scales),
    )

  def _sample(self, key: Array, head: Array, num: int) -> Array:
    which_key, noise_key = jax.random.split(key)
    mixture = self._components(head)
    assert mixture.scales is not None
    which = distributions.categorical(which_key, mixture.log_weights, num)
    noise = jax.random.normal(noise_key, (num,), head.dtype)
    return mixture.locations[which] + mixture.scales[which] * noise

  def _log_prob(self, head: Array, actions: Array) -> Array:
    mixture = self._components(head)
    assert mixture.scales is not None
    terms = mixture.log_weights[None] + densities.norm.logpdf(
      actions[:, None], mixture.locations[None], mixture.scales[None]
    )
    return special.logsumexp(terms, axis=-1)


def check_range(low: float, high: float) -> None:
  if not -np.inf < low < high < np.inf:
    raise ValueError(
      f"policy.low = {low}, policy.high = {high}: must be finite, low below"
      " high"
    )
