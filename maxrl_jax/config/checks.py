"""Checks of config values that do not depend on the task or policy."""

from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from maxrl_jax import ranges


def check_type(config: Any) -> None:
  """Raises ValueError if this is not a config, or lacks fields."""
  names = (
    *("seed", "runs", "steps", "batch_size", "rollouts", "task", "estimator"),
    *("off_policy", "likelihood", "policy", "optimizer", "mesh"),
    *("checkpoint", "log_every", "eval_every", "eval_rollouts"),
    "on_nonfinite",
  )
  if not isinstance(config, ConfigDict):
    wrong = f"is a {type(config).__name__}"
  elif missing := [name for name in names if name not in config]:
    wrong = f"has no field {missing[0]}"
  else:
    return
  raise ValueError(
    f"config: {wrong}; start from maxrl_jax.config.default() and set its fields"
  )


def check(config: ConfigDict) -> None:
  """Raises a ValueError that names every invalid number."""
  check_type(config)
  problems = [
    *_sizes(config),
    *_multiples(config),
    *_checkpoint(config.checkpoint, config.log_every),
    *_optimizer(config.optimizer, config.steps),
    *_off_policy(config.off_policy),
  ]
  if problems:
    raise ValueError("; ".join(problems))
  ranges.one_of(("stop", "skip"), on_nonfinite=config.on_nonfinite)


def _missing_or_below(value: float | None, least: float) -> bool:
  return value is None or not value >= least


def _sizes(config: ConfigDict) -> Iterator[str]:
  for name in ("runs", "steps", "batch_size", "rollouts", "eval_rollouts"):
    if _missing_or_below(config[name], 1):
      yield f"{name} = {config[name]}: must be at least 1"
  seed = config.seed
  if seed is None or not 0 <= seed < 2**31 - (config.runs or 0):
    yield f"seed = {seed}: must be from 0 to 2^31 - runs - 1"


def _multiples(config: ConfigDict) -> Iterator[str]:
  steps, log_every, eval_every = (
    config[name] for name in ("steps", "log_every", "eval_every")
  )
  if _missing_or_below(log_every, 1):
    yield f"log_every = {log_every}: must be at least 1"
    return
  if steps and steps % log_every:
    yield (
      f"log_every = {log_every}: must divide steps = {steps}, as"
      f" log_every = eval_every = {steps} does"
    )
  if _missing_or_below(eval_every, 1) or eval_every % log_every:
    yield (
      f"eval_every = {eval_every}: must be a multiple of"
      f" log_every = {log_every}"
    )


def _checkpoint(block: ConfigDict, log_every: int) -> Iterator[str]:
  every = block.every
  if every is not None and (every < 1 or (log_every and every % log_every)):
    yield (
      f"checkpoint.every = {every}: must be a multiple of"
      f" log_every = {log_every}"
    )
  for name, least in (("keep_last", 1), ("keep_best", 0)):
    if _missing_or_below(block[name], least):
      yield f"checkpoint.{name} = {block[name]}: must be at least {least}"


def _optimizer(block: ConfigDict, steps: int) -> Iterator[str]:
  for name in ("learning_rate", "warmup"):
    if block[name] is None:
      yield f"optimizer.{name} = None: must be a number"
      return
  spike = block.spike_factor
  for name, holds, allowed in (
    (
      "learning_rate",
      0 < block.learning_rate < float("inf"),
      "above 0 and finite",
    ),
    ("clip_norm", block.clip_norm is None or block.clip_norm > 0, "above 0"),
    ("spike_factor", spike is None or spike > 1, "above 1"),
    (
      "warmup",
      0 <= block.warmup < max(steps or 1, 1),
      f"at least 0 and below steps = {steps}",
    ),
  ):
    if not holds:
      yield f"optimizer.{name} = {block[name]}: must be {allowed}"


def _off_policy(block: ConfigDict) -> Iterator[str]:
  for name, least in (("updates", 1), ("staleness", 0), ("kl", 0)):
    value = block[name]
    if value is not None and not least <= value < float("inf"):
      yield f"off_policy.{name} = {value}: must be at least {least} and finite"
