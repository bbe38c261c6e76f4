"""What a config means: the task, policy, optimizer and loss that it names.

Names are looked up in plain dictionaries; a name, an option or a number that
cannot be meant is a ValueError that says which field, what value and what the
choices are, before anything compiles.
"""

import functools
import inspect
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from maxrl_jax import losses, rollouts
from maxrl_jax.estimators import ESTIMATORS
from maxrl_jax.objectives import OBJECTIVES
from maxrl_jax.policies import POLICIES
from maxrl_jax.tasks import TASKS, Task

Array = jax.Array


def make_task(config) -> Task:
  """The task that config.task names, with the options that are set."""
  return _build(TASKS, "task", config.task.name, _options(config.task))


def make_policy(config, task: Task) -> nn.Module:
  """The policy that config.policy names, sized for the task."""
  name = config.policy.name
  if name in POLICIES and (name == "tabular") != bool(task.policy_options):
    wants = "needs" if task.policy_options else "cannot have"
    raise ValueError(
      f"policy.name = {name!r}: task {config.task.name!r} {wants} 'tabular'"
    )
  options = _options(config.policy)
  for field in ("hidden", "channels"):
    widths = options.get(field, ())
    if not all(isinstance(w, int) and w >= 1 for w in widths):
      raise ValueError(
        f"policy.{field} = {widths}: must be whole numbers of at least 1"
      )
  options |= task.policy_options
  options["num_actions"] = task.num_actions
  return _build(POLICIES, "policy", config.policy.name, options)


def make_optimizer(config) -> optax.GradientTransformation:
  """Gradient → step direction; the caller multiplies by the learning rate."""
  block = config.optimizer
  parts = {
    "sgd": lambda: [optax.trace(block.momentum)] if block.momentum else [],
    "adam": lambda: [optax.scale_by_adam()],
    "adamw": lambda: [
      optax.scale_by_adam(),
      optax.add_decayed_weights(block.weight_decay),
    ],
  }
  rules = _choice(parts, "optimizer.name", block.name)()
  decay = config.steps - block.warmup
  schedules = {
    "cosine": lambda: optax.cosine_decay_schedule(1.0, max(decay, 1)),
    "constant": lambda: optax.constant_schedule(1.0),
  }
  schedule = _choice(schedules, "optimizer.schedule", block.schedule)()
  if block.warmup:
    # From 1/warmup, so that no step is wasted on a rate of zero.
    rise = optax.linear_schedule(1 / block.warmup, 1.0, block.warmup - 1)
    schedule = optax.join_schedules([rise, schedule], [block.warmup])
  clip = (
    []
    if block.clip_norm is None
    else [optax.clip_by_global_norm(block.clip_norm)]
  )
  return optax.chain(*clip, *rules, optax.scale_by_schedule(schedule))


# Objectives of the exact pass rate, by the name a config gives them.
EXACT = {
  f"exact_{name}": make
  for name, make in OBJECTIVES.items()
  if name != "maximum_likelihood"
}


def make_loss(config, task: Task, policy: nn.Module):
  """(params, key, prompts [B]) → (loss, metrics of the batch)."""
  name = config.estimator.name
  options = _options(config.estimator)
  if name == "cross_entropy":  # log p itself, finite where p underflows.
    _check_options("estimator", name, lambda: None, options)
    return _exact_loss(lambda log_p: log_p, task, policy)
  if name in EXACT:
    value = _build(EXACT, "estimator", name, options).value
    on_log = lambda log_p: value(_inside(jnp.exp(log_p)))  # noqa: E731
    return _exact_loss(on_log, task, policy)
  names = ESTIMATORS | EXACT | {"cross_entropy": None}
  estimator = _choice(names, "estimator.name", name)
  _check_options("estimator", name, estimator, options)
  estimator = functools.partial(estimator, **options)
  # Estimators check their options where they are traced: do it before.
  try:
    jax.eval_shape(estimator, jnp.zeros(config.rollouts))
  except ValueError as error:
    raise ValueError(
      f"estimator.name = {name!r}, rollouts = {config.rollouts}: {error}"
    ) from None
  return _sampled_loss(estimator, task, policy, config.rollouts)


def _inside(p: Array) -> Array:
  """p off the ends of [0, 1], where rounding lands but w(p) may be infinite."""
  limits = jnp.finfo(p.dtype)
  return jnp.clip(p, limits.tiny, 1 - limits.epsneg)


def _exact_loss(value, task: Task, policy: nn.Module):
  def loss(params, key, prompts):
    del key  # Nothing is sampled.
    log_p = rollouts.log_pass_rates(policy, params, prompts, task)
    p = jnp.exp(log_p)
    metrics = {"pass_rate": jnp.mean(p), "pass_rate_max": jnp.max(p)}
    return -jnp.mean(value(log_p)), metrics

  return loss


def _sampled_loss(estimator, task: Task, policy: nn.Module, num: int):
  def loss(params, key, prompts):
    drawn = rollouts.sample_batch(key, policy, params, prompts, task, num)
    advantages = jax.vmap(estimator)(drawn.likelihoods)
    losses_ = jax.vmap(losses.surrogate)(drawn.log_probs, advantages)
    return jnp.mean(losses_), _sampled_metrics(drawn.likelihoods)

  return loss


def _sampled_metrics(likelihoods: Array) -> dict[str, Array]:
  found = jnp.any(likelihoods > 0, -1)
  metrics = {
    "pass_rate": jnp.mean(likelihoods.astype(jnp.float32)),
    "solved": jnp.mean(found.astype(jnp.float32)),
  }
  if likelihoods.dtype != bool:  # Watched by `check_metrics`.
    metrics["likelihood_min"] = jnp.min(likelihoods)
    metrics["likelihood_max"] = jnp.max(likelihoods)
  return metrics


def check(config) -> None:
  """Raises ValueError at the first number that cannot be meant."""
  for name in ("runs", "steps", "batch_size", "rollouts", "log_every"):
    if config[name] < 1:
      raise ValueError(f"{name} = {config[name]}: must be at least 1")
  if config.steps % config.log_every:
    raise ValueError(
      f"log_every = {config.log_every}: must divide steps = {config.steps}"
    )
  if config.eval_every < 1 or config.eval_every % config.log_every:
    raise ValueError(
      f"eval_every = {config.eval_every}: must be a multiple of"
      f" log_every = {config.log_every}"
    )
  if not 0 <= config.seed < 2**31 - config.runs:
    raise ValueError(f"seed = {config.seed}: must be from 0 to 2^31 - runs - 1")
  _check_optimizer(config.optimizer)
  if not 0 <= config.optimizer.warmup < config.steps:
    raise ValueError(
      f"optimizer.warmup = {config.optimizer.warmup}: must be at least"
      f" 0 and below steps = {config.steps}"
    )


def _check_optimizer(block) -> None:
  decays = block.name == "adamw"
  for name, holds, allowed in (
    ("learning_rate", 0 < block.learning_rate < float("inf"), "above 0"),
    ("momentum", 0 <= block.momentum < 1, "in [0, 1)"),
    ("weight_decay", block.weight_decay >= 0, "at least 0"),
    ("weight_decay", decays or not block.weight_decay, "0 but for adamw"),
    ("clip_norm", block.clip_norm is None or block.clip_norm > 0, "above 0"),
  ):
    if not holds:
      raise ValueError(f"optimizer.{name} = {block[name]}: must be {allowed}")


def _options(block) -> dict[str, Any]:
  """The fields of a config block that are set, less its name."""
  return {
    name: value
    for name, value in block.items()
    if name != "name" and value is not None
  }


def _choice(choices, field: str, name: str):
  if name not in choices:
    raise ValueError(f"{field} = {name!r}: choose from {sorted(choices)}")
  return choices[name]


def _build(choices, block: str, name: str, options: dict[str, Any]):
  make = _choice(choices, f"{block}.name", name)
  _check_options(block, name, make, options)
  return make(**options)


def _check_options(block: str, name: str, make, options) -> None:
  """Names the option that `make` does not take, or misses."""
  parameters = inspect.signature(make).parameters
  for option, value in options.items():
    if option not in parameters:
      hidden = {"likelihoods", "mask", "method", "name", "parent"}
      hidden |= {"num_actions", "initial_logits"}
      taken = sorted(set(parameters) - hidden)
      raise ValueError(
        f"{block}.{option} = {value}: {name!r} takes {taken or 'no options'}"
      )
  for option, parameter in parameters.items():
    required = parameter.default is inspect.Parameter.empty
    if required and option not in options and option != "likelihoods":
      raise ValueError(f"{block}.{option} is not set: {name!r} needs it")
