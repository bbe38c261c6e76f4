"""pass@k of prompts from rollouts, if p is not known."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from maxrl_jax.evaluation import batches
from maxrl_jax.evaluation.coverage import graded_pass_at_k, pass_at_k
from maxrl_jax.learning import rollouts
from maxrl_jax.policies import SequencePolicy
from maxrl_jax.tasks import Prompts, Task

Array = jax.Array

# Prompts, and rollouts of each, in memory at a time.
_PROMPTS, _ROLLOUTS = 16, 256
# Seed of the rollouts in `metrics`; large, since small ones are seeds of data.
_SEED = 0x6576616C


def success_counts(
  policy: nn.Module,
  params: Any,
  prompts: Prompts,
  task: Task,
  key: Array,
  num: int,
) -> Array:
  """Number of successes in n rollouts of every prompt: c [M], int32.

  Arguments as in `sampled_likelihoods`.

  Raises:
    ValueError: the task's likelihoods are not boolean.
  """
  l = sampled_likelihoods(policy, params, prompts, task, key, num)
  if l.dtype != bool:
    raise ValueError(
      f"task.likelihoods: {l.dtype}, must be boolean to count successes; for"
      " graded ones use `sampled_likelihoods` and `graded_pass_at_k`"
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
  """Likelihoods of n rollouts of every prompt: l [M, n], in the task's dtype.

  Args:
    policy: a module of `policies`.
    params: its parameters.
    prompts: M prompts.
    task: defines the likelihoods.
    key: a typed random key.
    num: n.
  """
  full, rest = divmod(num, _ROLLOUTS)
  keys = jax.random.split(key, batches.count(prompts, _PROMPTS))

  def evaluate(batch: Prompts, index: Any) -> Array:
    def draw(key: Array, size: int) -> Array:
      drawn = rollouts.sample_batch(key, policy, params, batch, task, size)
      return drawn.likelihoods

    first, last = jax.random.split(keys[index], 2)
    parts = []
    if full:
      many = lax.map(
        lambda k: draw(k, _ROLLOUTS), jax.random.split(first, full)
      )
      parts.append(jnp.moveaxis(many, 0, 1).reshape(many.shape[1], -1))
    if rest:
      parts.append(draw(last, rest))
    return jnp.concatenate(parts, 1)

  return batches.in_batches(evaluate, prompts, _PROMPTS)


def metrics(
  policy: nn.Module,
  task: Task,
  params: Any,
  prompts: Prompts,
  ks: Sequence[int],
  num: int,
) -> dict[str, Array]:
  """Means over the prompts of one run, from n rollouts each.

  pass@k for each k ≤ n, unbiased, where a graded rollout succeeds with
  probability l; `solved`, the fraction of prompts with any l > 0; for sequence
  policies `length` in tokens and `entropy` of the next token in nats, from at
  most 16 rollouts. The random key is always the same.
  """
  key, other = jax.random.split(jax.random.key(_SEED))
  l = sampled_likelihoods(policy, params, prompts, task, key, num)
  values = {f"pass@{k}": jnp.mean(_pass_at(l, k)) for k in ks}
  values["solved"] = jnp.mean((l > 0).any(-1).astype(jnp.float32))
  if isinstance(policy, SequencePolicy):
    keys = jax.random.split(other, batches.count(prompts, _PROMPTS))

    def answers(batch: Prompts, index: Any) -> tuple[Array, Array]:
      drawn = rollouts.sample_batch(
        keys[index], policy, params, batch, task, min(num, 16)
      )
      assert drawn.lengths is not None and drawn.entropies is not None
      return drawn.lengths, jnp.sum(drawn.entropies, -1)

    lengths, entropies = batches.in_batches(answers, prompts, _PROMPTS)
    values["length"] = jnp.mean(lengths.astype(jnp.float32))
    values["entropy"] = jnp.sum(entropies) / jnp.sum(lengths)
  return values


def _pass_at(l: Array, k: int) -> Array:
  """pass@k [M] of prompts with likelihoods l [M, n]."""
  if l.dtype == bool:
    return pass_at_k(jnp.sum(l, -1, dtype=jnp.int32), l.shape[-1], k)
  return jax.vmap(lambda row: graded_pass_at_k(row, k))(l)
