"""Other methods of allocating rollouts to prompts, as losses for comparison.

For policies over classes and binary rewards. Each is a function (policy, task,
Budget) → (params, key, prompts, hyper) → (loss, metrics), and its metrics have
`rollouts`, the number drawn in the step.

These are short reimplementations. Each docstring states what its source leaves
open and what was not checked against it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from maxrl_jax import losses
from maxrl_jax.learning import rollouts
from maxrl_jax.learning.batch_losses import Loss, bad_prompt
from maxrl_jax.learning.rollouts import Rollouts
from maxrl_jax.learning.waves import Draw, draw_until_solved
from maxrl_jax.tasks import Exact, Prompts, Task

Array = jax.Array


class Budget(NamedTuple):
  """How many rollouts a step may draw.

  Attributes:
    prompts: B.
    wave: m, rollouts drawn at a time.
    mean: mean rollouts per prompt, for methods that divide a fixed total.
    cap: limit of rollouts per prompt; for `dynamic`, of batches.
  """

  prompts: int
  wave: int
  mean: int
  cap: int


def ada_sequential(policy: nn.Module, task: Task, budget: Budget) -> Loss:
  """Reinforce-Ada, sequential: waves until a right answer.

  A_j = r_j − r̄ in the last wave, with r̄ the mean reward of all rollouts of the
  prompt (arXiv 2510.04996: rounds, exit at a right answer, statistics of the
  whole pool). The weight of a prompt is about (1 − q^T)/(1 − q^m), that of RLOO
  in every wave. The paper trains on a group resampled from the pool; here it is
  the last wave, which has all right answers. The weights in version 3 of the
  paper were not checked.
  """

  def loss(params: Any, key: Array, prompts: Prompts, hyper: Any = None) -> Any:
    del hyper
    outputs, draw = _drawing(policy, task, params, prompts, budget.wave)
    waves = draw_until_solved(
      key, draw, budget.prompts, budget.wave, budget.cap
    )
    last = rollouts.score_batch(
      waves.actions, policy, params, prompts, task, outputs
    )
    right = jnp.sum(last.likelihoods, -1) * waves.solved
    advantages = last.likelihoods - (right / waves.needed)[:, None]
    advantages = jnp.where(waves.solved[:, None], advantages, 0)
    values = jax.vmap(losses.surrogate)(last.log_probs, advantages)
    return jnp.mean(values), _metrics(values, jnp.sum(waves.drawn))

  return loss


def ada_estimated(policy: nn.Module, task: Task, budget: Budget) -> Loss:
  """Reinforce-Ada, estimated: a first wave decides how many waves follow.

  p̂ = (K + ½)/(m + 1) from the first wave; the other waves of the step are
  divided in proportion to 1/p̂, the weight of log p. Advantages are r_j − r̄
  over all rollouts of a prompt, summed rather than averaged: a prompt's weight
  is proportional to its rollouts. The paper's estimate of p, its bounds and its
  normalization were not checked.
  """
  more = budget.prompts * (budget.mean - budget.wave) // budget.wave

  def loss(params: Any, key: Array, prompts: Prompts, hyper: Any = None) -> Any:
    del hyper
    outputs, draw = _drawing(policy, task, params, prompts, budget.wave)
    first_key, key = jax.random.split(key)
    each_prompt = jnp.arange(budget.prompts)
    first = draw(first_key, each_prompt)
    p = (jnp.sum(first.likelihoods, -1) + 0.5) / (budget.wave + 1)
    owner = jnp.concatenate([each_prompt, proportional(1 / p, more)])
    drawn = _join(first, draw(key, owner[budget.prompts :]))
    count = _sum_by(owner, jnp.ones_like(drawn.log_probs), budget.prompts)
    mean = _sum_by(owner, drawn.likelihoods, budget.prompts) / count
    advantages = drawn.likelihoods - mean[owner][:, None]
    log_probs = _log_probs(outputs, owner, drawn.actions)
    value = -jnp.sum(advantages * log_probs) / owner.size / budget.wave
    return value, _metrics(value[None], owner.size * budget.wave)

  return loss


def likely_first(policy: nn.Module, task: Task, budget: Budget) -> Loss:
  """Gives each wave to the prompt where a first right answer is most likely.

  Its probability is q^n (1 − q^m) after n rollouts, p (1 − p)^n for waves of
  one (compare `allocation.allocate`), with the exact p of the current policy,
  which the other methods do not know. No baseline: the mean score of the right
  answers of a prompt, of order N_b, the rollouts of prompt b.
  """
  assert isinstance(task, Exact)
  total = budget.prompts * budget.mean // budget.wave

  def loss(params: Any, key: Array, prompts: Prompts, hyper: Any = None) -> Any:
    del hyper
    outputs, draw = _drawing(policy, task, params, prompts, budget.wave)
    log_p = rollouts.log_pass_rates(
      policy, params, prompts, task, lax.stop_gradient(outputs)
    )
    most = budget.cap // budget.wave
    owner = allocate(jnp.exp(log_p), budget.wave, most, total)
    drawn = draw(key, owner)
    right = _sum_by(owner, drawn.likelihoods, budget.prompts)
    weights = drawn.likelihoods / jnp.maximum(right, 1)[owner][:, None]
    log_probs = _log_probs(outputs, owner, drawn.actions)
    value = -jnp.sum(lax.stop_gradient(weights) * log_probs) / budget.prompts
    return value, _metrics(value[None], total * budget.wave)

  return loss


def dynamic(policy: nn.Module, task: Task, budget: Budget) -> Loss:
  """DAPO's dynamic sampling: groups with equal rewards are replaced.

  Groups of m, GRPO's advantages (r − r̄)/σ. Groups that are all right or all
  wrong are dropped and new prompts drawn, until there are B groups or `cap`
  batches were drawn (arXiv 2503.14476). Its clipping and token weights have no
  effect here, with one update per batch and one token.
  """

  def loss(params: Any, key: Array, prompts: Prompts, hyper: Any = None) -> Any:
    del hyper
    mixed, actions, count, batches = _fill_groups(
      key, policy, task, params, prompts, budget
    )
    outputs = policy.apply(params, mixed.inputs)
    last = rollouts.score_batch(actions, policy, params, mixed, task, outputs)
    r = last.likelihoods.astype(jnp.float32)
    mean = jnp.mean(r, -1, keepdims=True)
    deviation = jnp.sqrt(mean * (1 - mean))
    present = (jnp.arange(budget.prompts) < count)[:, None]
    advantages = jnp.where(
      present, (r - mean) / jnp.where(deviation > 0, deviation, 1), 0
    )
    values = jax.vmap(losses.surrogate)(last.log_probs, advantages)
    value = jnp.sum(values) / jnp.maximum(count, 1)
    drawn = batches * budget.prompts * budget.wave
    return value, _metrics(values, drawn)

  return loss


SAMPLERS: dict[str, Callable[..., Loss]] = {
  "ada_sequential": ada_sequential,
  "ada_estimated": ada_estimated,
  "likely_first": likely_first,
  "dynamic": dynamic,
}


def proportional(weights: Array, total: int) -> Array:
  """The prompt of each wave [total], sorted: b about total · w_b/Σw times."""
  ends = jnp.cumsum(weights) / jnp.sum(weights)
  middles = (jnp.arange(total) + 0.5) / total
  return jnp.minimum(jnp.searchsorted(ends, middles), weights.size - 1)


def allocate(p: Array, wave: int, most: int, total: int) -> Array:
  """The prompt of each wave [total]: where a first right answer is likeliest.

  Args:
    p: pass rates [B].
    wave: m.
    most: limit of waves per prompt, with B · most ≥ total.
    total: waves of all prompts.
  """
  log_q = jnp.log1p(-jnp.minimum(p, 1 - 1e-7))
  before = wave * jnp.arange(most, dtype=jnp.float32)
  unsolved = jnp.exp(before[None] * log_q[:, None])
  gains = unsolved * -jnp.expm1(wave * log_q)[:, None]
  _, places = lax.top_k(gains.ravel(), total)
  return places // most


def _fill_groups(
  key: Array,
  policy: nn.Module,
  task: Task,
  params: Any,
  prompts: Prompts,
  budget: Budget,
) -> tuple[Prompts, Array, Array, Array]:
  """Prompts [B] with unequal rewards.

  Returns:
    the prompts, their actions, the number that is valid, and batches drawn.
  """
  size = budget.prompts

  def batch(state: tuple) -> tuple:
    mixed, actions, count, batches, new = state
    draw_key, next_key = jax.random.split(jax.random.fold_in(key, batches))
    _, draw = _drawing(policy, task, params, new, budget.wave)
    drawn = draw(draw_key, jnp.arange(size))
    right = jnp.sum(drawn.likelihoods, -1)
    good = (right > 0) & (right < budget.wave)
    # Groups with equal rewards, and groups past the end, are dropped.
    place = jnp.where(good, count + jnp.cumsum(good) - 1, size)

    def put(old: Array, x: Array) -> Array:
      return old.at[place].set(x, mode="drop")

    mixed = jax.tree.map(put, mixed, new)
    count = jnp.minimum(count + jnp.sum(good), size)
    actions = put(actions, drawn.actions)
    return mixed, actions, count, batches + 1, task.draw(next_key, size)

  def unfinished(state: tuple) -> Array:
    return (state[2] < size) & (state[3] < budget.cap)

  zero = jnp.int32(0)
  actions = jnp.zeros((size, budget.wave), jnp.int32)
  start = (prompts, actions, zero, zero, prompts)
  return lax.while_loop(unfinished, batch, start)[:4]


def _drawing(
  policy: nn.Module, task: Task, params: Any, prompts: Prompts, wave: int
) -> tuple[Any, Draw]:
  """Differentiable outputs, and (key, prompts of waves [S]) → waves [S, m]."""
  outputs = policy.apply(params, prompts.inputs)
  frozen, *fixed = lax.stop_gradient((params, prompts, outputs))

  def draw(key: Array, owner: Array) -> Rollouts:
    some, some_outputs = jax.tree.map(lambda x: x[owner], fixed)
    drawn = rollouts.sample_batch(
      key, policy, frozen, some, task, wave, some_outputs
    )
    if drawn.likelihoods.dtype != bool:
      raise ValueError(
        f"likelihoods are {drawn.likelihoods.dtype}: samplers take binary"
        " rewards; use estimator.name = 'sequential'"
      )
    return drawn

  return outputs, draw


def _log_probs(outputs: Array, owner: Array, actions: Array) -> Array:
  """Log-probabilities of waves [S, m], differentiable in the logits."""
  return jax.nn.log_softmax(outputs)[owner[:, None], actions]


def _join(first: Rollouts, second: Rollouts) -> Rollouts:
  return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second)


def _sum_by(owner: Array, x: Array, size: int) -> Array:
  """Sums of waves [S, m] by the prompt that they belong to, [size]."""
  each = jnp.sum(x.astype(jnp.float32), -1)
  return jnp.zeros(size).at[owner].add(each)


def _metrics(values: Array, drawn: Any) -> dict[str, Array]:
  places = bad_prompt(values)
  return {"rollouts": jnp.asarray(drawn, jnp.float32)} | places
