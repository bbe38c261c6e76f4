"""How many prompts a policy solves, from rollouts, where p is not known."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from maxrl_jax import rollouts
from maxrl_jax.evaluation.coverage import pass_at_k
from maxrl_jax.tasks.base import Prompts, Task

Array = jax.Array

# Rollouts in memory at a time.
_PROMPTS, _ROLLOUTS = 16, 256


def success_counts(
  policy: nn.Module,
  params: Any,
  prompts: Prompts,
  task: Task,
  key: Array,
  num: int,
) -> Array:
  """How many of n rollouts of every prompt are right: c [M], int32.

  Args:
    policy: a module of `policies`.
    params: its parameters.
    prompts: M of them.
    task: right or wrong.
    key: a typed random key.
    num: n.
  """
  total = prompts.inputs.shape[0]
  padded = -total % _PROMPTS
  # The last group is filled up with prompts of the first.
  rows = np.arange(total + padded) % total
  grouped = jax.tree.map(
    lambda x: x[rows].reshape(-1, _PROMPTS, *x.shape[1:]), prompts
  )
  full, rest = divmod(num, _ROLLOUTS)
  keys = jax.random.split(key, (total + padded) // _PROMPTS)

  def group(arguments: tuple[Array, Prompts]) -> Array:
    key, some = arguments
    counts = jnp.zeros(_PROMPTS, jnp.int32)

    def add(counts: Array, key: Array, size: int) -> Array:
      drawn = rollouts.sample_batch(key, policy, params, some, task, size)
      return counts + jnp.sum(drawn.likelihoods, -1, dtype=jnp.int32)

    own = jax.random.split(key, 2)
    counts, _ = lax.scan(
      lambda c, k: (add(c, k, _ROLLOUTS), None),
      counts,
      jax.random.split(own[0], full),
    )
    return add(counts, own[1], rest) if rest else counts

  return lax.map(group, (keys, grouped)).ravel()[:total]


def metrics(
  policy: nn.Module,
  task: Task,
  params: Any,
  prompts: Prompts,
  ks: Sequence[int],
  num: int,
) -> dict[str, Array]:
  """Means over prompts of one run, from n rollouts each.

  pass@k for each k ≤ n, without bias; `solved`, the share of prompts with a
  success among n; for policies that write sequences `length` in tokens and
  `entropy` of the next token in nats, from at most 16 rollouts. The
  rollouts' key is always the same.
  """
  key, other = jax.random.split(jax.random.key(0))
  correct = success_counts(policy, params, prompts, task, key, num)
  found = {f"pass@{k}": jnp.mean(pass_at_k(correct, num, k)) for k in ks}
  found["solved"] = jnp.mean((correct > 0).astype(jnp.float32))
  if getattr(policy, "is_sequence", False):
    few = min(num, 16)
    drawn = rollouts.sample_batch(other, policy, params, prompts, task, few)
    assert drawn.lengths is not None
    found["length"] = jnp.mean(drawn.lengths.astype(jnp.float32))
    found["entropy"] = drawn.token_entropy()
  return found
