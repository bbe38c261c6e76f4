"""What a policy's rollouts are worth: sampled, or summed exactly."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
from jax import lax

from maxrl_jax.tasks.base import Prompts, Task

Array = jax.Array


class Rollouts(NamedTuple):
  """N rollouts of one prompt: actions, log m(z_j|x) and l_j, each [N]."""

  actions: Array
  log_probs: Array
  likelihoods: Array


def sample(
  key: Array,
  policy: nn.Module,
  params: Any,
  outputs: Any,
  target: Any,
  task: Task,
  num: int,
) -> Rollouts:
  """Draws N rollouts of one prompt and scores them.

  Args:
    key: a typed random key.
    policy: a module of `policies`.
    params: its parameters; `log_probs` is differentiable in them.
    outputs: what it made of this prompt; differentiable likewise.
    target: the prompt's target.
    task: says what an action is worth.
    num: N.
  """
  frozen, still = lax.stop_gradient((params, outputs))
  actions = policy.apply(frozen, key, still, num, method="sample")
  return Rollouts(
    actions,
    policy.apply(params, outputs, actions, method="log_prob"),
    task.likelihoods(target, actions),
  )


def sample_batch(
  key: Array,
  policy: nn.Module,
  params: Any,
  prompts: Prompts,
  task: Task,
  num: int,
) -> Rollouts:
  """N rollouts of every prompt, fields [B, …]; the policy reads it once."""
  outputs = policy.apply(params, prompts.inputs)
  keys = jax.random.split(key, len(prompts.targets))

  def one(key, outputs, target):
    return sample(key, policy, params, outputs, target, task, num)

  return jax.vmap(one)(keys, outputs, prompts.targets)


def log_pass_rates(
  policy: nn.Module, params: Any, prompts: Prompts, task: Task
) -> Array:
  """log E[l] of every prompt, exactly, [B]."""
  outputs = policy.apply(params, prompts.inputs)

  def one(outputs, target):
    components = policy.apply(params, outputs, method="components")
    return task.log_pass_rate(target, components)

  return jax.vmap(one)(outputs, prompts.targets)
