"""Rollouts of a policy and their likelihoods: sampled, or summed exactly."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from maxrl_jax.policies import Prepared, SequencePolicy
from maxrl_jax.tasks import Exact, Prompts, RegressionTask, Rewarded, Task

Array = jax.Array

# Flax's collection of running means and variances.
STATISTICS = "batch_stats"


class Rollouts(NamedTuple):
  """N rollouts of one prompt, [N]; [D, N] with one group per target dimension.

  Attributes:
    actions: z_j.
    log_probs: log m(z_j|x), differentiable in the policy; of sampled sequences
      they are not (`sequences.differentiable`).
    likelihoods: l_j, boolean if rollouts are right or wrong.
    log_likelihoods: log l_j of a noise model, differentiable if the policy
      learns its σ; None for other tasks.
    rewards: any reward that the task has besides l, or None.
    lengths: tokens of each answer; None unless the policy writes sequences.
    entropies: entropy of the next token, summed over an answer's tokens; None
      likewise.
  """

  actions: Array
  log_probs: Array
  likelihoods: Array
  log_likelihoods: Array | None = None
  rewards: Array | None = None
  lengths: Array | None = None
  entropies: Array | None = None

  def token_entropy(self) -> Array:
    """Mean over all tokens of the batch, in nats."""
    assert self.entropies is not None and self.lengths is not None
    return jnp.sum(self.entropies) / jnp.sum(self.lengths)


def score(
  actions: Array,
  policy: nn.Module,
  params: Any,
  outputs: Any,
  target: Any,
  task: Task,
) -> Rollouts:
  """Likelihoods and log-probabilities of given actions of one prompt.

  Args:
    actions: z [N], or [D, N] for regression.
    policy: a module of `policies`.
    params: its parameters; `log_probs` is differentiable in them.
    outputs: the policy's outputs for this prompt; differentiable likewise.
    target: the prompt's target.
    task: gives the likelihoods.
  """
  log_probs: Any = policy.apply(params, outputs, actions, method="log_prob")
  predictions: Any = policy.apply(params, actions, method="decode")
  rewards = None
  if isinstance(task, Rewarded):
    rewards = task.rewards(target, predictions)
  if isinstance(task, RegressionTask):
    log_l = task.log_likelihoods(target, predictions, outputs.noise_scale)
    return Rollouts(actions, log_probs, jnp.exp(log_l), log_l, rewards)
  likelihoods = task.likelihoods(target, predictions)
  return Rollouts(actions, log_probs, likelihoods, rewards=rewards)


def joint(drawn: Rollouts) -> Rollouts:
  """[D, N] → [N]: one rollout has all D dimensions, l is their product."""
  assert drawn.log_likelihoods is not None
  log_l = jnp.sum(drawn.log_likelihoods, 0)
  return drawn._replace(
    log_probs=jnp.sum(drawn.log_probs, 0),
    likelihoods=jnp.exp(log_l),
    log_likelihoods=log_l,
    rewards=None if drawn.rewards is None else jnp.sum(drawn.rewards, 0),
  )


def forward(
  policy: nn.Module, params: Any, inputs: Any
) -> tuple[Any, dict[str, Any]]:
  """The policy's outputs for a training batch.

  Batch normalization uses the batch's statistics here and updates its running
  statistics; elsewhere it uses the running ones.

  Returns:
    outputs [B, …], and {STATISTICS: updated running statistics}, or {} if the
    policy has none.
  """
  if STATISTICS not in params:
    return policy.apply(params, inputs), {}
  result: Any = policy.apply(
    params, inputs, training=True, mutable=[STATISTICS]
  )
  outputs, statistics = result
  return outputs, lax.stop_gradient(statistics)


def sample_batch(
  key: Array,
  policy: nn.Module,
  params: Any,
  prompts: Prompts,
  task: Task,
  num: int,
  outputs: Any = None,
  prepared: Any = None,
  rows: Any = None,
) -> Rollouts:
  """N rollouts of every prompt, fields [B, …].

  `outputs` are the policy's, if `forward` has computed them already. These
  prompts are the `rows` [B] of what `prepare` returned.
  """
  if outputs is None:
    outputs = policy.apply(params, prompts.inputs)
  # Draws of a normal are differentiable in its mean; the score must not be.
  frozen, fixed = lax.stop_gradient((params, outputs))
  keys = jax.random.split(key, prompts.size)
  if isinstance(policy, SequencePolicy):
    answers, scores = policy.apply(frozen, keys, fixed, num, method="generate")
    return _of_sequences(answers, scores, prompts, task)

  def one(key: Array, outputs: Any) -> Any:
    return policy.apply(frozen, key, outputs, num, method="sample")

  def of_row(key: Array, row: Array) -> Any:
    return policy.apply(frozen, key, prepared, row, num, method="draw")

  if prepared is not None:
    actions: Any = jax.vmap(of_row)(keys, rows)
  else:
    actions = jax.vmap(one)(keys, fixed)
  actions = lax.stop_gradient(actions)
  return score_batch(actions, policy, params, prompts, task, outputs)


def prepare(policy: nn.Module, params: Any, outputs: Any) -> Any:
  """Computations that all draws of a prompt share, [B, …], or None."""
  if not isinstance(policy, Prepared):
    return None

  def one(outputs: Any) -> Any:
    return policy.apply(params, outputs, method="prepare")

  return jax.vmap(one)(outputs)


def score_batch(
  actions: Array,
  policy: nn.Module,
  params: Any,
  prompts: Prompts,
  task: Task,
  outputs: Any,
) -> Rollouts:
  """`score` of every prompt's actions [B, …]."""
  if isinstance(policy, SequencePolicy):
    scores = policy.apply(params, outputs, actions, method="score")
    return _of_sequences(actions, scores, prompts, task)

  def one(actions: Array, outputs: Any, target: Any) -> Any:
    return score(actions, policy, params, outputs, target, task)

  return jax.vmap(one)(actions, outputs, prompts.targets)


def _of_sequences(
  answers: Array, scores: Any, prompts: Prompts, task: Task
) -> Rollouts:
  """Rollouts of a policy that scores answers of all prompts at once."""
  likelihoods = jax.vmap(task.likelihoods)(prompts.targets, answers)
  rewards = None
  if isinstance(task, Rewarded):
    rewards = jax.vmap(task.rewards)(prompts.targets, answers)
  return Rollouts(
    answers,
    scores.log_probs,
    likelihoods,
    rewards=rewards,
    lengths=scores.lengths,
    entropies=scores.entropies,
  )


def token_log_probs(
  policy: nn.Module,
  params: Any,
  outputs: Any,
  actions: Array,
  *,
  joint: bool = False,
) -> Array:
  """Log-probabilities of the L tokens of given actions.

  Actions [B, …, N] → [B, …, N, L], 0 after the end of an answer; L = 1 if the
  policy does not write sequences. With `joint`, a rollout has all D dimensions:
  [B, D, N] → [B, N, 1].
  """
  if isinstance(policy, SequencePolicy):
    scores: Any = policy.apply(params, outputs, actions, method="score")
    return scores.token_log_probs

  def one(outputs: Any, actions: Array) -> Any:
    return policy.apply(params, outputs, actions, method="log_prob")

  log_probs = jax.vmap(one)(outputs, actions)
  return (jnp.sum(log_probs, 1) if joint else log_probs)[..., None]


def log_pass_rates(
  policy: nn.Module,
  params: Any,
  prompts: Prompts,
  task: Exact,
  outputs: Any = None,
) -> Array:
  """log E[l] of every prompt, exactly: [B], or [B, D] for regression.

  `outputs` as in `sample_batch`.
  """
  if outputs is None:
    outputs = policy.apply(params, prompts.inputs)

  def one(outputs: Any, target: Any) -> Any:
    components: Any = policy.apply(params, outputs, method="components")
    return task.log_pass_rate(target, components)

  return jax.vmap(one)(outputs, prompts.targets)
