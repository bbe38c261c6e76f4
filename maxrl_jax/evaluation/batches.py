"""Evaluation of many prompts in batches, with bounded memory."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from maxrl_jax.tasks.base import Prompts

BATCH_SIZE = 2048  # Prompts whose activations are in memory at a time.


def count(prompts: Prompts, size: int) -> int:
  """Number of batches of at most `size` prompts."""
  return -(-prompts.size // size)


def in_batches(
  f: Callable[[Prompts, Any], Any], prompts: Prompts, size: int = BATCH_SIZE
) -> Any:
  """Applies f to all prompts, batch by batch.

  Args:
    f: (prompts [m, …], index of the batch) → a pytree of [m, …]; it must treat
      prompts independently.
    prompts: M prompts.
    size: largest batch size.

  Returns:
    A pytree of [M, …].
  """
  batches, total = count(prompts, size), prompts.size
  if batches == 1:
    return f(prompts, 0)
  # The last batch is padded with the first prompts.
  rows = (np.arange(batches * size) % total).reshape(batches, size)

  def batch(arguments: tuple[jax.Array, jax.Array]) -> Any:
    rows, index = arguments
    return f(jax.tree.map(lambda x: jnp.asarray(x)[rows], prompts), index)

  results = lax.map(batch, (jnp.asarray(rows), jnp.arange(batches)))
  return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:total], results)


def map_components(
  f: Callable[[Any, Any], Any],
  policy: nn.Module,
  params: Any,
  prompts: Prompts,
) -> Any:
  """Maps f(components, target) over M prompts: a pytree of [M, …]."""

  def one(outputs: Any, target: Any) -> Any:
    return f(policy.apply(params, outputs, method="components"), target)

  def evaluate(batch: Prompts, _: Any) -> Any:
    return jax.vmap(one)(policy.apply(params, batch.inputs), batch.targets)

  return in_batches(evaluate, prompts, _batch_size(policy, prompts.inputs))


def _batch_size(policy: nn.Module, inputs: Any) -> int:
  """Fewer prompts if they are long, or if many numbers can be written.

  A transformer has activations for every token of a prompt and every prefix of
  a number, and attention's memory is quadratic. On a CPU, batches that fit into
  its caches take half as long.
  """
  length = max(
    (x.shape[1] for x in jax.tree.leaves(inputs) if _tokens(x)), default=1
  )
  tokens = length
  numerals = getattr(policy, "numerals", None)
  if numerals is not None:
    tokens += numerals.base ** (numerals.length - 1) * numerals.length
  limit = 2**12 if jax.default_backend() == "cpu" else 2**18
  return max(1, min(BATCH_SIZE, limit // tokens, 2**22 // length**2))


def _tokens(x: Any) -> bool:
  return x.ndim == 2 and jnp.issubdtype(x.dtype, jnp.integer)
