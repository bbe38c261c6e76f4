"""The optimizer that a config names, and numbers that cannot be meant."""

import optax

from maxrl_jax.configuration import fields


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
  rules = fields.choice(parts, "optimizer.name", block.name)()
  decay = config.steps - block.warmup
  schedules = {
    "cosine": lambda: optax.cosine_decay_schedule(1.0, max(decay, 1)),
    "constant": lambda: optax.constant_schedule(1.0),
  }
  schedule = fields.choice(schedules, "optimizer.schedule", block.schedule)()
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


def check(config) -> None:
  """Raises ValueError at the first number that cannot be meant."""
  for name in (
    *("runs", "steps", "batch_size", "rollouts", "log_every"),
    "eval_rollouts",
  ):
    if config[name] is None or config[name] < 1:
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
  for name in ("learning_rate", "momentum", "weight_decay", "warmup"):
    if block[name] is None:
      raise ValueError(f"optimizer.{name} = None: must be a number")
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
