"""One run: its initial state and its update.

task → prompts → policy → rollouts → estimator → surrogate → update
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import lax
from ml_collections import ConfigDict

from maxrl_jax import config as configs
from maxrl_jax.config import RATE
from maxrl_jax.devices.mesh import Layout, layout
from maxrl_jax.learning import (
  batch_losses,
  custom_checks,
  guards,
  off_policy,
  rollouts,
)
from maxrl_jax.learning.batch_losses import Hyper, Loss
from maxrl_jax.learning.build_loss import make_loss, make_off_policy
from maxrl_jax.learning.off_policy import OffPolicy
from maxrl_jax.policies import Checked, parameters
from maxrl_jax.tasks import Prompts, Streamed, Task

Array = jax.Array

_FEW = 1 << 14  # Weights of an array that one kernel adds up.


class TrainState(struct.PyTreeNode):
  """One run: everything its next step depends on, besides its key."""

  step: Array
  params: Any  # Of the policy; with its batch statistics, if it has any.
  opt_state: Any
  hyper: Hyper  # Values of the fields in which runs of a program differ.
  typical_norm: Array  # Running mean of gradient norms, for the spike guard.
  # Parameters before each of the last S batches, the oldest first; None for
  # S = 0.
  past: tuple[Any, ...] | None = None
  reference: Any = None  # Parameters at the start, for reference_kl.


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
  """The parts of a run; its methods are pure functions.

  Attributes:
    config: from `config.default()`.
    varying: fields whose values come from `TrainState.hyper`.
    task: the task.
    policy: the policy's module.
    initial_params: parameters to start from; None initializes the policy.
    optimizer: gradient → direction, which is multiplied by minus the learning
      rate; if that is not among `varying`, gradient → update.
    loss: (params, key, prompts, hyper) → (loss, metrics), on policy.
    off_policy: how to sample a batch, and its loss; None on policy.
    layout: how arrays are sharded over devices.
  """

  config: ConfigDict
  varying: tuple[str, ...]
  task: Task
  policy: nn.Module
  initial_params: Any
  optimizer: optax.GradientTransformation
  loss: Loss
  off_policy: OffPolicy | None
  layout: Layout

  def init(self, key: Array, hyper: dict[str, Any] | None = None) -> TrainState:
    """The state before the first step; see `training.Train`."""
    unknown = sorted(set(hyper or {}) - set(self.varying))
    if unknown:
      raise ValueError(
        f"hyper: {unknown[0]} is not a varying field of this program; those are"
        f" {sorted(self.varying)}"
      )
    values = configs.values_of(self.config, self.varying) | (hyper or {})
    values = {k: jnp.asarray(v, jnp.float32) for k, v in values.items()}
    params = self.initial_params
    if params is None:
      params = self.policy.init(key, self.task.example)
    staleness = self.config.off_policy.staleness
    has_reference = self.config.estimator.reference_kl is not None
    return TrainState(
      jnp.zeros((), jnp.int32),
      params,
      self.optimizer.init(params),
      values,
      jnp.zeros(()),
      # Copies, since the memory of each is donated.
      tuple(jax.tree.map(jnp.copy, params) for _ in range(staleness))
      if staleness
      else None,
      jax.tree.map(jnp.copy, params) if has_reference else None,
    )

  def task_at(self, hyper: Hyper) -> Task:
    """The task of a run with these hyperparameters."""
    return batch_losses.at(self.task, hyper)

  def step(
    self, state: TrainState, key: Array, batch: Prompts | None = None
  ) -> tuple[TrainState, dict[str, Array]]:
    """The updates of one batch; see `training.Train`."""
    draw_key, rollout_key = jax.random.split(
      jax.random.fold_in(key, state.step)
    )
    prompts = self._prompts(state.hyper, draw_key, batch)
    prompts = self.layout.shard(prompts, "data")
    if self.off_policy is not None:
      return self._off_policy_step(state, rollout_key, prompts)
    arguments: tuple[Any, ...] = rollout_key, prompts, state.hyper
    if state.reference is not None:
      arguments += (state.reference,)
    return self._update(state, lambda params: self.loss(params, *arguments))

  def _off_policy_step(
    self, state: TrainState, key: Array, prompts: Prompts
  ) -> tuple[TrainState, dict[str, Array]]:
    """U updates on rollouts of the parameters before S batches."""
    method, past = self.off_policy, state.past
    assert method is not None
    behaviour = past[0] if past else state.params
    batch, sampled = method.sample(
      behaviour, key, prompts, state.hyper, state.reference
    )

    def update(after: TrainState, _: None) -> tuple[TrainState, Any]:
      after, metrics = self._update(
        after, lambda params: method.loss(params, prompts, batch, state.hyper)
      )
      return after.replace(step=state.step), metrics

    updates = self.config.off_policy.updates or 1
    after, metrics = lax.scan(update, state, length=updates)
    if past:
      after = after.replace(past=(*past[1:], state.params))
    after = after.replace(step=state.step + 1)
    return after, sampled | off_policy.summarize(metrics)

  def _update(
    self, state: TrainState, loss: Callable[[Any], tuple[Array, dict]]
  ) -> tuple[TrainState, dict[str, Array]]:
    """One update by the gradient of params → (loss, metrics)."""
    (value, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(
      state.params
    )
    after = self._updated(state, gradient)
    if rollouts.STATISTICS in metrics:
      name = rollouts.STATISTICS
      after = after.replace(params={**after.params, name: metrics.pop(name)})
    metrics["loss"] = value
    norms = _norms(self.layout, gradient, after.params)
    metrics["gradient_norm"], metrics["parameter_norm"] = norms
    return guards.guarded(
      state,
      after,
      metrics,
      skip_nonfinite=self.config.on_nonfinite == "skip",
      spike_factor=self.config.optimizer.spike_factor,
    )

  def _prompts(self, hyper: Hyper, key: Array, batch: Any) -> Prompts:
    """Prompts of a step: drawn here, or prepared from the host's batch."""
    if isinstance(self.task, Streamed) and batch is not None:
      return self.task.stream.prepare(batch)
    return self.task_at(hyper).draw(key, self.config.batch_size)

  def _updated(self, state: TrainState, gradient: Any) -> TrainState:
    """One step of the optimizer along its direction."""
    direction, opt_state = self.optimizer.update(
      gradient, state.opt_state, state.params
    )
    if RATE in state.hyper:
      rate = state.hyper[RATE]
      direction = jax.tree.map(lambda d: -rate.astype(d.dtype) * d, direction)
    params = optax.apply_updates(state.params, direction)
    return state.replace(
      step=state.step + 1, params=params, opt_state=opt_state
    )


def make_run(
  config: ConfigDict,
  task: Task | None,
  varying: Sequence[str],
  policy: nn.Module | None,
  devices: Sequence[jax.Device] | None = None,
  optimizer: optax.GradientTransformation | None = None,
  schedule: optax.Schedule | None = None,
  params: Any = None,
) -> Run:
  """Builds and checks the parts; see `training.make_train`."""
  custom_checks.check_types(task, policy, optimizer, schedule)
  configs.check(config)
  if optimizer is not None and RATE in varying:
    raise ValueError(f"{RATE}: has no effect beside your own optimizer")
  if isinstance(varying, str):
    raise ValueError(f"varying = {varying!r}: must be a list, [{varying!r}]")
  rate = (RATE,) if optimizer is None else ()
  varying = tuple(dict.fromkeys((*rate, *varying)))
  configs.check_names(config, varying, custom_task=task is not None)
  custom = task is not None or policy is not None
  task = configs.make_task(config) if task is None else task
  if policy is None:
    policy = configs.make_policy(config, task)
  else:
    custom_checks.check_learned_scale(config, policy)
    if isinstance(policy, Checked):
      policy.check()
  if params is None:
    params = configs.initial_params(config, policy, task)
  if optimizer is None:
    optimizer = configs.make_optimizer(config, schedule)
  mesh_layout = layout(config, policy, devices)
  policy = mesh_layout.adapt_policy(policy)
  # Errors of shapes are raised here, before compilation.
  shapes = jax.eval_shape(policy.init, jax.random.key(0), task.example)
  if params is not None:
    params = parameters.fitted(params, shapes)
  if custom and not isinstance(task, Streamed):
    custom_checks.check(task, policy, config.batch_size, config.rollouts)
  return Run(
    config,
    varying,
    task,
    policy,
    params,
    optimizer,
    make_loss(config, task, policy, mesh_layout),
    make_off_policy(config, task, policy, mesh_layout),
    mesh_layout,
  )


def _norms(where: Layout, *trees: Any) -> list[Array]:
  """Euclidean norm of the weights in each tree, without batch statistics."""
  weights = [
    jax.tree.leaves({k: v for k, v in x.items() if k != rollouts.STATISTICS})
    for x in trees
  ]
  # Sums of rows would move between devices that share the weights.
  if where.size("model") > 1 or len(weights[0]) == 1:
    return _by_array(weights)
  return lax.platform_dependent(weights, tpu=_by_array, default=_by_row)


def _by_array(trees: list[list[Array]]) -> list[Array]:
  return [optax.tree.norm(arrays) for arrays in trees]


def _by_row(trees: list[list[Array]]) -> list[Array]:
  """The sums of all rows at once: each of an array would be a kernel."""

  def row(x: Array) -> Array:
    squares = jnp.square(x)
    one = x.ndim < 2 or x.size < _FEW
    return jnp.ravel(squares if one else jnp.sum(squares, -1))

  rows = [jnp.concatenate(list(map(row, arrays))) for arrays in trees]
  return list(jnp.sqrt(jnp.sum(jnp.stack(rows), -1)))
