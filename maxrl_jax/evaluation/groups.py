"""Many prompts, some at a time: what is between does not fill the memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from maxrl_jax.tasks.base import Prompts

MANY = 2048  # Prompts whose activations are in memory at a time.


def count(prompts: Prompts, size: int) -> int:
  """How many groups of at most `size` prompts there are."""
  return -(-prompts.inputs.shape[0] // size)


def by_groups(
  f: Callable[[Prompts, Any], Any], prompts: Prompts, size: int = MANY
) -> Any:
  """f of all prompts, one group after another.

  Args:
    f: (prompts [m, …], number of the group) → a tree of [m, …], of each prompt
      by itself.
    prompts: M of them.
    size: of a group, at most.

  Returns:
    a tree of [M, …].
  """
  groups, total = count(prompts, size), prompts.inputs.shape[0]
  if groups == 1:
    return f(prompts, 0)
  # The last group is filled up with the first prompts.
  rows = (np.arange(groups * size) % total).reshape(groups, size)

  def group(arguments: tuple[jax.Array, jax.Array]) -> Any:
    rows, number = arguments
    return f(jax.tree.map(lambda x: jnp.asarray(x)[rows], prompts), number)

  found = lax.map(group, (jnp.asarray(rows), jnp.arange(groups)))
  return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:total], found)
