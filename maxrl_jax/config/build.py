"""The task, policy and optimizer of a config."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from maxrl_jax import optimizers, options, ranges
from maxrl_jax.config import noise
from maxrl_jax.config.defaults import OF_EVERY_OPTIMIZER
from maxrl_jax.config.lookup import call, choice, options_of
from maxrl_jax.optimizers import OPTIMIZERS, SCHEDULES
from maxrl_jax.policies import POLICIES, Checked, parameters, qwen2
from maxrl_jax.tasks import TASKS, RegressionTask, Task, regression


def make_task(config: ConfigDict) -> Task:
  """The task of config.task, with a noise model for regression."""
  name, given = config.task.name, options_of(config.task)
  choice(TASKS, "task.name", name)
  seed = given.get("task_seed", 0)
  if not 0 <= seed < 2**31:
    raise ValueError(f"task.task_seed = {seed}: must be from 0 to 2^31 - 1")
  own = options.parameters(TASKS[name])
  apart = {k: given.pop(k) for k in ("tolerance",) if k in {*given} - {*own}}
  task = call(TASKS, "task", name, given)
  ranges.above_zero(of="task.", **apart)
  if isinstance(task, regression.Data):
    return noise.make_task(config, task, **apart)
  if not isinstance(task, Task):
    raise ValueError(
      f"task.name = {name!r}: its function returned a {type(task).__name__},"
      " must return a Task or a regression.Data"
    )
  noise.refuse(config)
  return task


def make_policy(config: ConfigDict, task: Task) -> nn.Module:
  """The policy of config.policy, sized for the task."""
  name = config.policy.name or task.policies[0]
  choice(POLICIES, "policy.name", name)
  if name not in task.policies:
    raise ValueError(
      f"policy.name = {name!r}: the task takes {list(task.policies)}, its"
      " `policies`; any module can be passed to make_train(policy=)"
    )
  given = options_of(config.policy)
  for field in ("hidden", "channels", "stages"):
    widths = given.get(field, ())
    if isinstance(widths, tuple) and not all(
      isinstance(w, int) and w >= 1 for w in widths
    ):
      raise ValueError(
        f"policy.{field} = {widths}: must be whole numbers of at least 1"
      )
  checkpoint = given.pop("checkpoint", None)
  if checkpoint is not None and name == "transformer":
    given = _architecture(checkpoint, task) | given
  given |= task.policy_options
  if isinstance(task, RegressionTask):
    given |= noise.decoder_options(config, task)
  policy = call(POLICIES, "policy", name, given)
  if isinstance(policy, Checked):
    policy.check()
  if isinstance(task, RegressionTask):
    noise.check_coverage(policy, task)
  return policy


def _architecture(checkpoint: str, task: Task) -> dict[str, Any]:
  """A transformer's sizes in a checkpoint; the config may repeat them."""
  sizes = qwen2.architecture(checkpoint)
  vocabulary = task.policy_options["vocab_size"]
  if sizes["vocab_size"] != vocabulary:
    raise ValueError(
      f"policy.checkpoint = {checkpoint!r}: its vocabulary has"
      f" {sizes['vocab_size']} tokens, the task's has {vocabulary}"
    )
  return sizes


def initial_params(config: ConfigDict, policy: nn.Module, task: Task) -> Any:
  """The parameters in config.policy.checkpoint; None without one."""
  if config.policy.checkpoint is None:
    return None
  return parameters.load(config.policy.checkpoint, policy, task.example)


def make_optimizer(
  config: ConfigDict, schedule: optax.Schedule | None = None
) -> optax.GradientTransformation:
  """Gradient → step direction; the update multiplies by the learning rate.

  Args:
    config: its `optimizer` block.
    schedule: update → factor of the learning rate, instead of the block's
      schedule and warm-up.
  """
  block, given = config.optimizer, options_of(config.optimizer)
  given = {k: v for k, v in given.items() if k not in OF_EVERY_OPTIMIZER}
  function = choice(OPTIMIZERS, "optimizer.name", block.name)
  if "momentum" not in options.parameters(function):
    # A command may change the optimizer for which a config file set it.
    given.pop("momentum", None)
  if "learning_rate" in options.parameters(function):
    raise ValueError(
      f"optimizer.name = {block.name!r}: includes the learning rate; take its"
      " directions alone, such as optax.scale_by_lion, or pass it to"
      " make_train(optimizer=)"
    )
  rule = call(OPTIMIZERS, "optimizer", block.name, given)
  if function.__module__ != optimizers.__name__:
    _check_direction(block.name, rule)
  schedule = _schedule(config) if schedule is None else schedule
  clip = []
  if block.clip_norm is not None:
    clip = [optax.clip_by_global_norm(block.clip_norm)]
  return optax.chain(*clip, rule, optax.scale_by_schedule(schedule))


def _check_direction(name: str, rule: optax.GradientTransformation) -> None:
  """Raises ValueError if a positive gradient has a negative direction."""
  one = jnp.ones((2, 2))
  with jax.ensure_compile_time_eval():
    direction, _ = rule.update(one, rule.init(one), one)
  if jnp.sum(direction) < 0:
    raise ValueError(
      f"optimizer.name = {name!r}: its direction has the opposite sign of the"
      " gradient, as if it included the learning rate, which the update"
      " multiplies it by and subtracts"
    )


def _schedule(config: ConfigDict) -> optax.Schedule:
  """The block's schedule, after its warm-up."""
  block, updates = config.optimizer, config.off_policy.updates or 1
  warmup = block.warmup * updates
  make = choice(SCHEDULES, "optimizer.schedule", block.schedule)
  schedule = make(max(config.steps * updates - warmup, 1))
  if not callable(schedule):
    raise ValueError(
      f"optimizer.schedule = {block.schedule!r}: must be a function of the"
      " number of updates that returns a schedule; make_train(schedule=) takes"
      " a schedule itself"
    )
  if not warmup:
    return schedule
  # From 1/warmup, so that no step is wasted on a rate of zero.
  rise = optax.linear_schedule(1 / warmup, 1.0, warmup - 1)
  return optax.join_schedules([rise, schedule], [warmup])
