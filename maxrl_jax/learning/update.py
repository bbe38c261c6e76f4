"""One run: what it is made of, its start and its update.

task → prompts → policy → rollouts → estimator → surrogate → update
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct
from ml_collections import ConfigDict

from maxrl_jax import config as configuration
from maxrl_jax.devices import mesh as meshes
from maxrl_jax.learning import custom_checks as interfaces
from maxrl_jax.learning import guards, rollouts
from maxrl_jax.tasks import Prompts, Task

Array = jax.Array

RATE = "optimizer.learning_rate"  # May vary without being asked for.


class TrainState(struct.PyTreeNode):
  """One run: everything its next step depends on, besides its key."""

  step: Array
  params: Any  # Of the policy; with its batch statistics, if it has any.
  opt_state: Any
  varied: dict[str, Array]  # Config fields in which runs of a program differ.
  typical_norm: Array  # Of gradients: a running mean, for the spike guard.


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
  """What a run is made of; its methods are pure functions.

  Attributes:
    config: as maxrl_jax/config/defaults.py.
    varying: fields whose values come from `TrainState.varied`.
    task: of a run in which no field of the task varies.
    policy: the policy's module.
    checkpoint: parameters to start from; None is the policy's own start.
    example: inputs of a batch of one.
    optimizer: gives a direction, for a learning rate of 1.
    layout: where arrays are, if there are several devices.
  """

  config: ConfigDict
  varying: tuple[str, ...]
  task: Task
  policy: nn.Module
  checkpoint: Any
  example: Any
  optimizer: optax.GradientTransformation
  layout: meshes.Layout

  def init(
    self, key: Array, varied: dict[str, Any] | None = None
  ) -> TrainState:
    """The state before the first step; see `training.Train`."""
    unknown = sorted(set(varied or {}) - set(self.varying))
    if unknown:
      raise ValueError(
        f"varied: {unknown[0]} is not among the fields that this program was"
        f" made to vary, {sorted(self.varying)}"
      )
    values = configuration.values_of(self.config, self.varying)
    values |= varied or {}
    values = {k: jnp.asarray(v, jnp.float32) for k, v in values.items()}
    params = self.checkpoint
    if params is None:
      params = self.policy.init(key, self.example)
    return TrainState(
      jnp.zeros((), jnp.int32),
      params,
      self.optimizer.init(params),
      values,
      jnp.zeros(()),
    )

  @property
  def task_varies(self) -> bool:
    """Whether runs have tasks of their own."""
    return any(name.startswith(("task.", "likeli")) for name in self.varying)

  def task_of(self, varied: dict[str, Any]) -> Task:
    """The task of a run, where its fields may vary."""
    if not self.task_varies:
      return self.task
    return configuration.make_task(configuration.overlay(self.config, varied))

  def step(
    self, state: TrainState, key: Array, batch: Prompts | None = None
  ) -> tuple[TrainState, dict[str, Array]]:
    """One update; see `training.Train`."""
    draw_key, rollout_key = jax.random.split(
      jax.random.fold_in(key, state.step)
    )
    ours = configuration.overlay(self.config, state.varied)
    task = self.task_of(state.varied)
    loss = configuration.make_loss(ours, task, self.policy, self.layout)
    prompts = _prompts(task, draw_key, self.config.batch_size, batch)
    prompts = self.layout.spread(prompts, "data")
    (value, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(
      state.params, rollout_key, prompts
    )
    after = _updated(state, self.optimizer, gradient)
    if rollouts.STATISTICS in metrics:
      name = rollouts.STATISTICS
      after = after.replace(params={**after.params, name: metrics.pop(name)})
    metrics["loss"] = value
    metrics["gradient_norm"] = optax.tree.norm(gradient)
    metrics["parameter_norm"] = optax.tree.norm(_weights(after.params))
    return guards.guarded(self.config, state, after, metrics)


def make_run(
  config: ConfigDict,
  task: Task | None,
  varying: Sequence[str],
  policy: nn.Module | None,
) -> Run:
  """Builds and checks the parts; see `training.make_train`."""
  interfaces.check_types(task, policy)
  configuration.check(config)
  varying = tuple(dict.fromkeys((RATE, *varying)))
  configuration.check_varying(config, varying, own_task=task is not None)
  own = task is not None or policy is not None
  task = configuration.make_task(config) if task is None else task
  checkpoint = None
  if policy is None:
    policy = configuration.make_policy(config, task)
    checkpoint = configuration.initial_params(config, policy)
  optimizer = configuration.make_optimizer(config)
  layout = meshes.layout(config, policy)
  policy = layout.suited(policy)
  example = task.example
  # Errors come early.
  jax.eval_shape(policy.init, jax.random.key(0), example)
  if own and task.stream is None:
    interfaces.check(task, policy, config.batch_size, config.rollouts)
  configuration.make_loss(config, task, policy, layout)
  return Run(
    config, varying, task, policy, checkpoint, example, optimizer, layout
  )


def _prompts(task: Task, key: Array, size: int, batch: Any) -> Prompts:
  """Drawn here, or made of what the host has read."""
  if task.draw is not None:
    return task.draw(key, size)
  if task.stream is None or batch is None:
    raise ValueError("step: this task's prompts are read by the host: batch")
  return task.stream.prepare(batch)


def _weights(params: Any) -> dict[str, Any]:
  """Without statistics of batches, which no gradient moves."""
  return {k: v for k, v in params.items() if k != rollouts.STATISTICS}


def _updated(state: TrainState, optimizer: Any, gradient: Any) -> TrainState:
  """One step of the optimizer along its direction."""
  direction, opt_state = optimizer.update(
    gradient, state.opt_state, state.params
  )
  params = jax.tree.map(
    lambda p, d: p - state.varied[RATE].astype(p.dtype) * d,
    state.params,
    direction,
  )
  return state.replace(step=state.step + 1, params=params, opt_state=opt_state)
