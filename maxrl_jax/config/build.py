"""The task, policy and optimizer of a config."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import optax
from ml_collections import ConfigDict

from maxrl_jax.config import noise
from maxrl_jax.config.lookup import call, choice, options_of
from maxrl_jax.policies import POLICIES, Checked, Transformer, qwen2
from maxrl_jax.tasks import TASKS, RegressionTask, Task, regression


def make_task(config: ConfigDict) -> Task:
  """The task of config.task, with a noise model for regression."""
  name, given = config.task.name, options_of(config.task)
  choice(TASKS, "task.name", name)
  seed = given.get("task_seed", 0)
  if not 0 <= seed < 2**31:
    raise ValueError(f"task.task_seed = {seed}: must be from 0 to 2^31 - 1")
  tolerance = {k: given.pop(k) for k in ("tolerance",) if k in given}
  task = call(TASKS, "task", name, given)
  if isinstance(task, regression.Data):
    return noise.make_task(config, task, **tolerance)
  noise.refuse(config)
  return task


def make_policy(config: ConfigDict, task: Task) -> nn.Module:
  """The policy of config.policy, sized for the task."""
  name = config.policy.name or task.policies[0]
  choice(POLICIES, "policy.name", name)
  if name not in task.policies:
    raise ValueError(
      f"policy.name = {name!r}: task {config.task.name!r} takes"
      f" {list(task.policies)}"
    )
  given = options_of(config.policy)
  for field in ("hidden", "channels", "stages"):
    widths = given.get(field, ())
    if not all(isinstance(w, int) and w >= 1 for w in widths):
      raise ValueError(
        f"policy.{field} = {widths}: must be whole numbers of at least 1"
      )
  checkpoint = given.pop("checkpoint", None)
  if checkpoint is not None:
    given = _architecture(name, checkpoint, task) | given
  given |= task.policy_options
  if isinstance(task, RegressionTask):
    given |= noise.decoder_options(config, task)
  policy = call(POLICIES, "policy", name, given)
  if isinstance(policy, Checked):
    policy.check()
  if isinstance(task, RegressionTask):
    noise.check_coverage(policy, task)
  return policy


def _architecture(name: str, checkpoint: str, task: Task) -> dict[str, Any]:
  """The policy's sizes in a checkpoint; the config may repeat them."""
  if name != "transformer":
    raise ValueError(
      f"policy.checkpoint = {checkpoint!r}: only 'transformer' starts from a"
      f" checkpoint, not {name!r}"
    )
  sizes = qwen2.architecture(checkpoint)
  vocabulary = task.policy_options["vocab_size"]
  if sizes["vocab_size"] != vocabulary:
    raise ValueError(
      f"policy.checkpoint = {checkpoint!r}: its vocabulary has"
      f" {sizes['vocab_size']} tokens, the task's has {vocabulary}"
    )
  return sizes


def initial_params(config: ConfigDict, policy: nn.Module) -> Any:
  """The parameters in config.policy.checkpoint; None without one."""
  if config.policy.checkpoint is None:
    return None
  assert isinstance(policy, Transformer)
  return qwen2.load(config.policy.checkpoint, policy)


def make_optimizer(config: ConfigDict) -> optax.GradientTransformation:
  """Gradient → step direction; the update multiplies by the learning rate."""
  block = config.optimizer
  b2 = 0.999 if block.b2 is None else block.b2
  rules: dict[str, Callable[[], list]] = {
    "sgd": lambda: [optax.trace(block.momentum)] if block.momentum else [],
    "adam": lambda: [optax.scale_by_adam(b2=b2)],
    "adamw": lambda: [
      optax.scale_by_adam(b2=b2),
      optax.add_decayed_weights(block.weight_decay),
    ],
  }
  updates = config.off_policy.updates or 1
  warmup = block.warmup * updates
  decay = max(config.steps * updates - warmup, 1)
  schedules = {
    "cosine": lambda: optax.cosine_decay_schedule(1.0, decay),
    "constant": lambda: optax.constant_schedule(1.0),
  }
  rule = choice(rules, "optimizer.name", block.name)()
  schedule = choice(schedules, "optimizer.schedule", block.schedule)()
  if block.warmup:
    # From 1/warmup, so that no step is wasted on a rate of zero.
    rise = optax.linear_schedule(1 / warmup, 1.0, warmup - 1)
    schedule = optax.join_schedules([rise, schedule], [warmup])
  clip = []
  if block.clip_norm is not None:
    clip = [optax.clip_by_global_norm(block.clip_norm)]
  return optax.chain(*clip, *rule, optax.scale_by_schedule(schedule))
