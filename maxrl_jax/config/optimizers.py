"""The optimizer that a config names."""

import optax
from ml_collections import ConfigDict

from maxrl_jax.config import fields


def make_optimizer(config: ConfigDict) -> optax.GradientTransformation:
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
