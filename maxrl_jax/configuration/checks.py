"""Numbers of a config that cannot be meant, whatever the task and policy."""

from ml_collections import ConfigDict

from maxrl_jax.configuration import fields


def check(config: ConfigDict) -> None:
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
  fields.choice(
    dict.fromkeys(("stop", "skip")), "on_nonfinite", config.on_nonfinite
  )
  _check_checkpoint(config)
  _check_optimizer(config.optimizer)
  if not 0 <= config.optimizer.warmup < config.steps:
    raise ValueError(
      f"optimizer.warmup = {config.optimizer.warmup}: must be at least"
      f" 0 and below steps = {config.steps}"
    )


def _check_checkpoint(config: ConfigDict) -> None:
  block = config.checkpoint
  every = block.every
  if every is not None and (every < 1 or every % config.log_every):
    raise ValueError(
      f"checkpoint.every = {every}: must be a multiple of"
      f" log_every = {config.log_every}"
    )
  for name, least in (("keep_last", 1), ("keep_best", 0)):
    if block[name] is None or block[name] < least:
      raise ValueError(
        f"checkpoint.{name} = {block[name]}: must be at least {least}"
      )


def _check_optimizer(block: ConfigDict) -> None:
  for name in ("learning_rate", "momentum", "weight_decay", "warmup"):
    if block[name] is None:
      raise ValueError(f"optimizer.{name} = None: must be a number")
  decays, spike = block.name == "adamw", block.spike_factor
  for name, holds, allowed in (
    ("learning_rate", 0 < block.learning_rate < float("inf"), "above 0"),
    ("momentum", 0 <= block.momentum < 1, "in [0, 1)"),
    ("weight_decay", block.weight_decay >= 0, "at least 0"),
    ("weight_decay", decays or not block.weight_decay, "0 but for adamw"),
    ("clip_norm", block.clip_norm is None or block.clip_norm > 0, "above 0"),
    ("spike_factor", spike is None or spike > 1, "above 1"),
  ):
    if not holds:
      raise ValueError(f"optimizer.{name} = {block[name]}: must be {allowed}")
