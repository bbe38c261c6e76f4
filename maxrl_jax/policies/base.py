"""The interface of a policy, and optional protocols."""

from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from maxrl_jax.distributions import Components

Array = jax.Array


def check_draw(key: Any, num: Any) -> None:
  """Raises ValueError at arguments of a draw in the wrong order."""
  kinds = jax.dtypes.prng_key, jnp.uint32
  dtype = getattr(key, "dtype", None)
  if dtype is None or not any(jnp.issubdtype(dtype, kind) for kind in kinds):
    name = type(key).__name__ if dtype is None else dtype
    raise ValueError(
      f"key: is of type {name}, must be a random key; the arguments"
      " are (key, outputs, num)"
    )
  if not isinstance(num, (int, np.integer)):
    raise ValueError(
      f"num: is a {type(num).__name__}, must be a whole number; the arguments"
      " are (key, outputs, num)"
    )


@runtime_checkable
class Policy(Protocol):
  """A Flax Linen module: inputs [B, …] → outputs [B, …], once per batch.

  These methods are for one prompt, with that prompt's outputs (vmap them). They
  are called as `policy.apply(params, outputs, actions, method="log_prob")`,
  since a policy may need its parameters for them.
  """

  def sample(self, key: Array, outputs: Any, num: int) -> Array:
    """N actions z_j, [N, …]."""

  def log_prob(self, outputs: Any, actions: Array) -> Array:
    """log m(z_j|x), [N]; differentiable."""

  def decode(self, actions: Array) -> Array:
    """Predictions ŷ(z_j), [N]."""


@runtime_checkable
class SequencePolicy(Protocol):
  """A policy of sequences, which decodes all answers of a batch together."""

  def generate(self, keys: Array, outputs: Any, num: int) -> tuple[Array, Any]:
    """Answers [B, N, L], from a key for each prompt, and their `score`."""

  def score(self, outputs: Any, answers: Array) -> Any:
    """`log_probs`, `entropies` and `lengths` of answers, each [B, N]."""


@runtime_checkable
class Prepared(Protocol):
  """A policy that shares a computation between several calls of `draw`."""

  def prepare(self, outputs: Any) -> Any:
    """What `draw` needs, from the outputs of one prompt."""

  def draw(self, key: Array, prepared: Any, row: Array, num: int) -> Array:
    """`sample` of one prompt: a row of what `prepare` returned for all."""


@runtime_checkable
class Summable(Protocol):
  """A policy whose whole distribution is known, for exact sums."""

  def components(self, outputs: Any) -> Components:
    """The distribution of one prompt's predictions."""


@runtime_checkable
class Checked(Protocol):
  """A policy that checks its fields before it is used."""

  def check(self) -> None:
    """Raises ValueError at the first invalid field."""


@runtime_checkable
class Sharded(Protocol):
  """A policy whose weights several devices can share.

  Attributes:
    split: layer's name → axis of its weights that is sharded.
    num_kv_heads: the number of devices must divide it.
    prompts_apart: whether to keep prompts in an axis of their own, which is
      faster where several devices have rollouts of one prompt.
  """

  split: Any
  num_kv_heads: int
  prompts_apart: bool
