"""How many prompts a policy solves, from rollouts, where p is not known."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from maxrl_jax.evaluation import batches
from maxrl_jax.evaluation.coverage import graded_pass_at_k, pass_at_k
from maxrl_jax.learning import rollouts
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

  Arguments as in `sampled_likelihoods`.

  Raises:
    ValueError: the task grades its rollouts, and none is simply right.
  """
  l = sampled_likelihoods(policy, params, prompts, task, key, num)
  if l.dtype != bool:
    raise ValueError(
      f"task.likelihoods: {l.dtype}, must be boolean to count successes; graded"
      " ones have `sampled_likelihoods` and `graded_pass_at_k`"
    )
  return jnp.sum(l, -1, dtype=jnp.int32)


def sampled_likelihoods(
  policy: nn.Module,
  params: Any,
  prompts: Prompts,
  task: Task,
  key: Array,
  num: int,
) -> Array:
  """What n rollouts of every prompt are worth: l [M, n], as the task gives it.

  Args:
    policy: a module of `policies`.
    params: its parameters.
    prompts: M of them.
    task: says what a rollout is worth.
    key: a typed random key.
    num: n.
  """
  full, rest = divmod(num, _ROLLOUTS)
  keys = jax.random.split(key, batches.count(prompts, _PROMPTS))

  def batch(some: Prompts, number: Any) -> Array:
    def draw(key: Array, size: int) -> Array:
      drawn = rollouts.sample_batch(key, policy, params, some, task, size)
      return drawn.likelihoods

    first, last = jax.random.split(keys[number], 2)
    parts = []
    if full:
      many = lax.map(
        lambda k: draw(k, _ROLLOUTS), jax.random.split(first, full)
      )
      parts.append(jnp.moveaxis(many, 0, 1).reshape(many.shape[1], -1))
    if rest:
      parts.append(draw(last, rest))
    return jnp.concatenate(parts, 1)

  return batches.in_batches(batch, prompts, _PROMPTS)


def metrics(
  policy: nn.Module,
  task: Task,
  params: Any,
  prompts: Prompts,
  ks: Sequence[int],
  num: int,
) -> dict[str, Array]:
  """Means over prompts of one run, from n rollouts each.

  pass@k for each k ≤ n, without bias, where a graded rollout counts as right
  with chance l; `solved`, the share of prompts with any l > 0 among n; for
  policies that write sequences `length` in tokens and `entropy` of the next
  token in nats, from at most 16 rollouts. The rollouts' key is always the same.
  """
  key, other = jax.random.split(jax.random.key(0))
  l = sampled_likelihoods(policy, params, prompts, task, key, num)
  found = {f"pass@{k}": jnp.mean(_pass_at(l, k)) for k in ks}
  found["solved"] = jnp.mean((l > 0).any(-1).astype(jnp.float32))
  if getattr(policy, "is_sequence", False):
    few = min(num, 16)
    drawn = rollouts.sample_batch(other, policy, params, prompts, task, few)
    assert drawn.lengths is not None
    found["length"] = jnp.mean(drawn.lengths.astype(jnp.float32))
    found["entropy"] = drawn.token_entropy()
  return found


def _pass_at(l: Array, k: int) -> Array:
  """pass@k of prompts with l [M, n] each."""
  if l.dtype == bool:
    return pass_at_k(jnp.sum(l, -1, dtype=jnp.int32), l.shape[-1], k)
  return jax.vmap(lambda of_one: graded_pass_at_k(of_one, k))(l)
