"""What a config maximizes: an estimator's loss, or an exact one."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from maxrl_jax import ranges
from maxrl_jax.config import fields
from maxrl_jax.devices.mesh import ONE_DEVICE, Layout
from maxrl_jax.estimators import (
  ANY_REWARD,
  ESTIMATORS,
  GIVEN,
  LOG_ESTIMATORS,
  LOG_PATHWISE,
  PATHWISE,
)
from maxrl_jax.learning import batch_losses
from maxrl_jax.objectives import OBJECTIVES
from maxrl_jax.tasks import Task

Array = jax.Array

# Objectives of the exact pass rate, by the name a config gives them.
EXACT = {
  f"exact_{name}": make
  for name, make in OBJECTIVES.items()
  if name != "maximum_likelihood"
}


def make_loss(
  config: ConfigDict, task: Task, policy: nn.Module, layout: Layout = ONE_DEVICE
) -> batch_losses.Loss:
  """(params, key, prompts [B]) → (loss, metrics of the batch)."""
  name = config.estimator.name
  options = fields.options(config.estimator)
  factorized = options.pop("factorized", False)
  if factorized and not task.is_regression:
    raise ValueError(
      "estimator.factorized = True: this task has no target dimensions; it"
      " is for regression"
    )
  if name == "supervised":
    return _supervised(config, task, policy, options)
  if name == "cross_entropy" or name in EXACT:
    return _exact(config, task, policy, options, factorized)
  if name == "mse":
    return _mean_squared_error(config, task, policy, options, factorized)
  names = ("cross_entropy", "mse", "supervised", *ESTIMATORS, *EXACT)
  fields.choice(dict.fromkeys(names), "estimator.name", name)
  return _sampled_loss(config, task, policy, layout, options, factorized)


def _supervised(
  config: ConfigDict, task: Task, policy: nn.Module, options: dict[str, Any]
) -> batch_losses.Loss:
  fields.check_options("estimator", "supervised", lambda: None, options)
  if task.demonstrations is None:
    raise ValueError(
      "estimator.name = 'supervised': this task has no `demonstrations`, right"
      " answers to show; 'maze' has"
    )
  return batch_losses.supervised(policy, task)


def _exact(
  config: ConfigDict,
  task: Task,
  policy: nn.Module,
  options: dict[str, Any],
  factorized: bool,
) -> batch_losses.Loss:
  """An objective of the pass rate itself, summed over all answers."""
  name = config.estimator.name
  if task.log_pass_rate is None:
    raise ValueError(
      f"estimator.name = {name!r}: this task has no `log_pass_rate`, its pass"
      " rate cannot be summed exactly; take 'supervised' or one of"
      f" {sorted(ESTIMATORS)}"
    )
  if name == "cross_entropy":  # log p itself, finite where p underflows.
    fields.check_options("estimator", name, lambda: None, options)
    _refuse_factorized(name, factorized)
    return batch_losses.exact(lambda log_p: log_p, policy, task)
  value = fields.build(EXACT, "estimator", name, options).value
  on_log = lambda log_p: value(_inside(jnp.exp(log_p)))  # noqa: E731
  return batch_losses.exact(on_log, policy, task, factorized=factorized)


def _mean_squared_error(
  config: ConfigDict,
  task: Task,
  policy: nn.Module,
  options: dict[str, Any],
  factorized: bool,
) -> batch_losses.Loss:
  fields.check_options("estimator", "mse", lambda: None, options)
  if not task.is_regression:
    raise ValueError("estimator.name = 'mse': this task is no regression")
  if config.likelihood.learned is not None:
    raise ValueError(
      f"likelihood.learned = {config.likelihood.learned!r}: 'mse' has no"
      " gradient for a noise scale"
    )
  if policy.has_free_scale():
    raise ValueError(
      "estimator.name = 'mse': has no gradient for the scale of policy"
      f" {type(policy).__name__.lower()!r}; take 'normal' with"
      " policy.policy_scale set, 'grid' or 'digits'"
    )
  _refuse_factorized("mse", factorized)
  return batch_losses.mean_squared_error(policy)


def _refuse_factorized(name: str, factorized: bool) -> None:
  if factorized:
    raise ValueError(
      f"estimator.factorized = True: {name!r} is a sum over dimensions anyway"
    )


def _sampled_loss(
  config: ConfigDict,
  task: Task,
  policy: nn.Module,
  layout: Layout,
  options: dict[str, Any],
  factorized: bool,
) -> batch_losses.Loss:
  """The policy-gradient loss of an estimator of `ESTIMATORS`."""
  name = config.estimator.name
  signal = options.pop("signal", "likelihood")
  fields.choice({"likelihood": 0, "reward": 0}, "estimator.signal", signal)
  entropy_bonus = options.pop("entropy_bonus", None)
  if entropy_bonus is not None:
    _check_entropy_bonus(entropy_bonus, policy)
  fields.check_options("estimator", name, ESTIMATORS[name], options, GIVEN)
  if signal == "reward":
    _check_rewards(config, task)
    options["bounded"] = False
  function, field = _of_signal(name, signal, task)
  pathwise = None
  if config.likelihood.learned is not None:
    pathwise = _pathwise(config, name, signal, options)
  estimator = functools.partial(function, **options)
  _check_traced(config, estimator)
  return batch_losses.sampled(
    estimator,
    policy,
    task,
    config.rollouts,
    signal=field,
    factorized=factorized,
    pathwise=pathwise,
    entropy_bonus=entropy_bonus,
    layout=layout,
  )


def _check_entropy_bonus(value: Any, policy: nn.Module) -> None:
  if not getattr(policy, "is_sequence", False):
    raise ValueError(
      f"estimator.entropy_bonus = {value}: policy"
      f" {type(policy).__name__.lower()!r} has no entropy of tokens;"
      " 'transformer' has"
    )
  if not ranges.is_traced(value) and not 0 <= value < float("inf"):
    raise ValueError(
      f"estimator.entropy_bonus = {value}: must be at least 0 and finite"
    )


def _check_rewards(config: ConfigDict, task: Task) -> None:
  name = config.estimator.name
  if task.rewards is None:
    raise ValueError(
      "estimator.signal = 'reward': this task has likelihoods alone; take"
      " 'likelihood'"
    )
  if name not in ANY_REWARD:
    raise ValueError(
      f"estimator.signal = 'reward': {name!r} needs likelihoods in [0, 1];"
      f" any reward suits {sorted(ANY_REWARD)}"
    )


def _of_signal(
  name: str, signal: str, task: Task
) -> tuple[Callable[..., Array], str]:
  """The estimator's function, and the field of the rollouts that it reads."""
  if signal == "reward":
    return ESTIMATORS[name], "rewards"
  if name in LOG_ESTIMATORS and task.is_regression:
    return LOG_ESTIMATORS[name], "log_likelihoods"
  return ESTIMATORS[name], "likelihoods"


def _check_traced(
  config: ConfigDict, estimator: Callable[[Array], Array]
) -> None:
  """Estimators check their options where they are traced: does it before."""
  try:
    jax.eval_shape(estimator, jnp.zeros(config.rollouts))
  except (TypeError, ValueError) as error:
    raise ValueError(
      f"estimator.name = {config.estimator.name!r}, rollouts ="
      f" {config.rollouts}: {error}"
    ) from None


def _pathwise(
  config: ConfigDict, name: str, signal: str, options: dict[str, Any]
) -> tuple[str, Callable[..., Array]]:
  """The term through which a learned noise scale gets its gradient."""
  if name in LOG_PATHWISE:
    return "log_likelihoods", LOG_PATHWISE[name]
  if name not in PATHWISE or signal != "likelihood":
    raise ValueError(
      f"likelihood.learned = {config.likelihood.learned!r}: only"
      f" {sorted(PATHWISE | LOG_PATHWISE)} on likelihoods have a gradient for"
      f" it, not {name!r} on {signal!r}"
    )
  # A baseline is no part of the weights.
  options = {k: v for k, v in options.items() if k != "baseline"}
  return "likelihoods", functools.partial(PATHWISE[name], **options)


def _inside(p: Array) -> Array:
  """p off the ends of [0, 1], where rounding lands but w(p) may be infinite."""
  limits = jnp.finfo(p.dtype)
  return jnp.clip(p, limits.tiny, 1 - limits.epsneg)
