"""Many prompts, some at a time: what is between does not fill the memory."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from maxrl_jax.tasks.base import Prompts

MANY = 2048  # Prompts whose activations are in memory at a time.


def count(prompts: Prompts, size: int) -> int:
  """How many batches of at most `size` prompts there are."""
  return -(-prompts.inputs.shape[0] // size)


def in_batches(
  f: Callable[[Prompts, Any], Any], prompts: Prompts, size: int = MANY
) -> Any:
  """f of all prompts, one batch after another.

  Args:
    f: (prompts [m, …], number of the batch) → a tree of [m, …], of each prompt
      by itself.
    prompts: M of them.
    size: of a batch, at most.

  Returns:
    a tree of [M, …].
  """
  batches, total = count(prompts, size), prompts.inputs.shape[0]
  if batches == 1:
    return f(prompts, 0)
  # The last one is filled up with the first prompts.
  rows = (np.arange(batches * size) % total).reshape(batches, size)

  def batch(arguments: tuple[jax.Array, jax.Array]) -> Any:
    rows, number = arguments
    return f(jax.tree.map(lambda x: jnp.asarray(x)[rows], prompts), number)

  found = lax.map(batch, (jnp.asarray(rows), jnp.arange(batches)))
  return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:total], found)


def judged(
  policy: nn.Module,
  params: Any,
  prompts: Prompts,
  judge: Callable[[Any, Any], Any],
) -> Any:
  """(Components, target) → `judge` of every prompt: a tree of [M, …]."""

  def one(outputs: Any, target: Any) -> Any:
    return judge(policy.apply(params, outputs, method="components"), target)

  def batch(some: Prompts, _: Any) -> Any:
    return jax.vmap(one)(policy.apply(params, some.inputs), some.targets)

  return in_batches(batch, prompts)
