"""From a policy's logits to rollouts and what they are worth."""

from typing import NamedTuple

import jax

from maxrl_jax import distributions
from maxrl_jax.tasks.base import Task

Array = jax.Array


class Rollouts(NamedTuple):
  """N rollouts of one prompt: actions, log m(z_j|x) and l_j, each [N]."""

  actions: Array
  log_probs: Array
  likelihoods: Array


def sample(
  key: Array, logits: Array, target: Array, task: Task, num: int
) -> Rollouts:
  """Draws N rollouts of one prompt and scores them.

  Args:
    key: a typed random key.
    logits: [C]; `log_probs` is differentiable in them.
    target: the prompt's target.
    task: says what an action is worth.
    num: N.
  """
  actions = distributions.categorical(key, jax.lax.stop_gradient(logits), num)
  return Rollouts(
    actions,
    distributions.categorical_log_prob(logits, actions),
    task.likelihoods(target, actions),
  )
