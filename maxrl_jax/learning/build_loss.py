"""The loss of a config: an estimator's, or an exact one."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from maxrl_jax import options, ranges
from maxrl_jax.config.lookup import choice, options_of
from maxrl_jax.devices.mesh import ONE_DEVICE, Layout
from maxrl_jax.estimators import ESTIMATORS, NON_OPTIONS, Estimator
from maxrl_jax.learning import batch_losses, exact_losses
from maxrl_jax.policies import SequencePolicy
from maxrl_jax.tasks import RegressionTask, Rewarded, Task

Array = jax.Array


def make_loss(
  config: ConfigDict, task: Task, policy: nn.Module, layout: Layout = ONE_DEVICE
) -> batch_losses.Loss:
  """(params, key, prompts [B], hyper) → (loss, metrics of the batch)."""
  name, given = config.estimator.name, options_of(config.estimator)
  factorized = given.pop("factorized", False)
  if factorized and not isinstance(task, RegressionTask):
    raise ValueError(
      "estimator.factorized = True: this task has no target dimensions; it"
      " is for regression"
    )
  choice(
    dict.fromkeys((*ESTIMATORS, *exact_losses.NAMES)), "estimator.name", name
  )
  if name in ESTIMATORS:
    return _sampled(config, task, policy, layout, given, factorized)
  return exact_losses.build(config, task, policy, given, factorized)


def _sampled(
  config: ConfigDict,
  task: Task,
  policy: nn.Module,
  layout: Layout,
  given: dict[str, Any],
  factorized: bool,
) -> batch_losses.Loss:
  """The policy-gradient loss of an estimator."""
  name, entry = config.estimator.name, ESTIMATORS[config.estimator.name]
  signal = given.pop("signal", "likelihood")
  choice({"likelihood": 0, "reward": 0}, "estimator.signal", signal)
  entropy_bonus = given.pop("entropy_bonus", None)
  if entropy_bonus is not None:
    _check_entropy_bonus(entropy_bonus, policy)
  options.check(
    name, entry.function, given, block="estimator.", exclude=NON_OPTIONS
  )
  function, field = entry.function, "likelihoods"
  if signal == "reward":
    _check_rewards(name, entry, task)
    function, field = functools.partial(function, bounded=False), "rewards"
  elif entry.log_function is not None and isinstance(task, RegressionTask):
    function, field = entry.log_function, "log_likelihoods"
  estimator = functools.partial(function, **given)
  _check_traced(config, estimator)
  return batch_losses.sampled(
    estimator,
    policy,
    task,
    config.rollouts,
    signal=field,
    factorized=factorized,
    pathwise=_pathwise(config, entry, signal, given),
    entropy_bonus=entropy_bonus,
    layout=layout,
  )


def _check_entropy_bonus(value: float, policy: nn.Module) -> None:
  if not isinstance(policy, SequencePolicy):
    raise ValueError(
      f"estimator.entropy_bonus = {value}: policy"
      f" {type(policy).__name__.lower()!r} has no entropy of tokens;"
      " 'transformer' has"
    )
  ranges.at_least(0, of="estimator.", entropy_bonus=value)
  if value == float("inf"):
    raise ValueError(f"estimator.entropy_bonus = {value}: must be finite")


def _check_rewards(name: str, entry: Estimator, task: Task) -> None:
  if not isinstance(task, Rewarded):
    raise ValueError(
      "estimator.signal = 'reward': this task has likelihoods alone; take"
      " 'likelihood'"
    )
  if not entry.any_reward:
    able = sorted(k for k, e in ESTIMATORS.items() if e.any_reward)
    raise ValueError(
      f"estimator.signal = 'reward': {name!r} needs likelihoods in [0, 1];"
      f" {able} take any reward"
    )


def _check_traced(
  config: ConfigDict, estimator: Callable[[Array], Array]
) -> None:
  """Estimators check their options when they are traced: do it now."""
  try:
    jax.eval_shape(estimator, jnp.zeros(config.rollouts))
  except (TypeError, ValueError) as error:
    raise ValueError(
      f"estimator.name = {config.estimator.name!r}, rollouts ="
      f" {config.rollouts}: {error}"
    ) from None


def _pathwise(
  config: ConfigDict, entry: Estimator, signal: str, given: dict[str, Any]
) -> tuple[str, Callable[..., Array]] | None:
  """The term through which a learned noise scale gets its gradient."""
  if config.likelihood.learned is None:
    return None
  if entry.log_pathwise is not None:
    return "log_likelihoods", entry.log_pathwise
  if entry.pathwise is None or signal != "likelihood":
    able = sorted(
      k for k, e in ESTIMATORS.items() if e.pathwise or e.log_pathwise
    )
    raise ValueError(
      f"likelihood.learned = {config.likelihood.learned!r}: only {able} on"
      " likelihoods have a gradient for it, not"
      f" {config.estimator.name!r} on {signal!r}"
    )
  # A baseline is not part of the weights.
  known = {k: v for k, v in given.items() if k != "baseline"}
  return "likelihoods", functools.partial(entry.pathwise, **known)
