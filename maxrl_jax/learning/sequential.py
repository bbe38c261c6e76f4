"""The loss of rollouts drawn in waves until a prompt is solved."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from maxrl_jax import losses, options, ranges, symmetric
from maxrl_jax.devices.mesh import ONE_DEVICE, Layout
from maxrl_jax.learning import rollouts, sequences
from maxrl_jax.learning.batch_losses import (
  Hyper,
  Loss,
  at,
  bad_prompt,
  options_of,
)
from maxrl_jax.learning.rollouts import Rollouts
from maxrl_jax.learning.waves import Waves, draw_until_solved
from maxrl_jax.tasks import Prompts, RegressionTask, Task

Array = jax.Array

BASELINES = ("leave_one_out", "none")
_NON_OPTIONS = ("policy", "task", "wave", "layout")  # Not in a config.


def last_wave_advantages(
  likelihoods: Array, solved: Array, baseline: str
) -> Array:
  """A_j [m] of the wave that solved a prompt, 0 if none did.

      A_j = (ω_j l_j − b_j) / (1 − Π_i (1 − l_i))

  with the weights ω and baselines b of order m (`symmetric.leave_one_out`), or
  b = 0. For binary l this is `estimators.sequential` of these waves. For graded
  l it is the mean of that estimate over binary rewards with probabilities l,
  given that the wave has a success; it is unbiased, too.
  """
  l = likelihoods.astype(symmetric.compute_dtype(likelihoods))
  one_out = symmetric.leave_one_out(likelihoods, likelihoods.shape[0])
  weighted = one_out.weights * l
  chance = jnp.mean(weighted)  # 1 − Π_i (1 − l_i), without cancellation.
  if baseline == "leave_one_out":
    weighted -= one_out.baselines
  stopped = solved & (chance > 0)
  return jnp.where(stopped, weighted / jnp.where(stopped, chance, 1), 0)


def build(
  policy: nn.Module,
  task: Task,
  wave: int,
  given: dict[str, Any],
  layout: Layout = ONE_DEVICE,
) -> Loss:
  """`sequential` with the options of a config, checked."""
  options.check(
    "sequential", sequential, given, block="estimator.", exclude=_NON_OPTIONS
  )
  cap, baseline = given["cap"], given.get("baseline", BASELINES[0])
  if cap < wave or cap % wave:
    raise ValueError(
      f"estimator.cap = {cap}: must be a multiple of rollouts = {wave}, the"
      f" size of a wave, and at least {wave}"
    )
  ranges.one_of(BASELINES, of="estimator.", baseline=baseline)
  return sequential(policy, task, wave, layout=layout, **given)


def sequential(
  policy: nn.Module,
  task: Task,
  wave: int,
  *,
  cap: int | Array,
  baseline: str = BASELINES[0],
  layout: Layout = ONE_DEVICE,
) -> Loss:
  """The loss of waves of m rollouts until a prompt is solved.

  Args:
    policy: the module.
    task: the task.
    wave: m.
    cap: T, limit of rollouts per prompt; the gradient is that of −J_T.
    baseline: one of `BASELINES`. A constant needs the waves without a success,
      which are not in memory; the centred baseline has another order.
    layout: which devices have which prompts.
  """
  by_dimension = isinstance(task, RegressionTask)

  def loss(
    params: Any, key: Array, prompts: Prompts, hyper: Hyper | None = None
  ) -> tuple[Array, dict[str, Any]]:
    limit = options_of(hyper, "estimator").get("cap", cap)
    outputs, statistics = rollouts.forward(policy, params, prompts.inputs)
    task_of_run = at(task, hyper)
    frozen, *fixed = lax.stop_gradient((params, prompts, outputs))
    prepared = rollouts.prepare(policy, frozen, fixed[1])

    def joint(drawn: Rollouts) -> Rollouts:
      return jax.vmap(rollouts.joint)(drawn) if by_dimension else drawn

    def draw(key: Array, owner: Array) -> Rollouts:
      some, some_outputs = jax.tree.map(lambda x: x[owner], fixed)
      drawn = rollouts.sample_batch(
        *(key, policy, frozen, some, task_of_run, wave),
        *(some_outputs, prepared, owner),
      )
      return joint(drawn)

    count = prompts.size
    waves = draw_until_solved(key, draw, count, wave, limit)
    last = rollouts.score_batch(
      waves.actions, policy, params, prompts, task_of_run, outputs
    )
    if waves.log_probs is None:
      last = joint(last)
    else:  # Scored again where a wave had a success.
      last = last._replace(log_probs=waves.log_probs)
      last = sequences.differentiable(
        *(last, policy, params, outputs, waves.solved),
        layout=layout,
      )

    def group(last: Rollouts, solved: Array) -> Array:
      l = lax.stop_gradient(last.likelihoods)
      advantages = last_wave_advantages(l, solved, baseline)
      return losses.surrogate(last.log_probs, advantages)

    values = jax.vmap(group)(last, waves.solved)
    places = bad_prompt(values, last.likelihoods)
    return jnp.mean(values), _metrics(waves) | places | statistics

  return loss


def _metrics(waves: Waves) -> dict[str, Array]:
  def mean(x: Array) -> Array:
    return jnp.mean(x.astype(jnp.float32))

  metrics = {
    "pass_rate": waves.pass_rate,
    "solved": mean(waves.solved),
    "rollouts_needed": mean(waves.needed),
    "rollouts_drawn": mean(waves.drawn),
    "rounds": waves.rounds.astype(jnp.float32),
  }
  if waves.extremes is not None:  # For `guards.check_metrics`.
    metrics["likelihood_min"] = -waves.extremes[0]
    metrics["likelihood_max"] = waves.extremes[1]
  if waves.tokens is not None:
    metrics["tokens"] = waves.tokens.astype(jnp.float32)
  return metrics
