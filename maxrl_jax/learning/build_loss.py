"""The loss of a config: sampled, exact or off-policy."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from maxrl_jax import options, ranges
from maxrl_jax.config.lookup import options_of
from maxrl_jax.devices.mesh import ONE_DEVICE, Layout
from maxrl_jax.estimators import ESTIMATORS, NON_OPTIONS, Estimator
from maxrl_jax.learning import (
  batch_losses,
  exact_losses,
  off_policy,
  sequential,
)
from maxrl_jax.policies import SequencePolicy
from maxrl_jax.tasks import RegressionTask, Rewarded, Task

Array = jax.Array


class Sampled(NamedTuple):
  """Arguments of `batch_losses.sampled` that config.estimator determines."""

  estimator: Callable[..., Array]
  signal: str
  factorized: bool
  pathwise: tuple[str, Callable[..., Array]] | None
  entropy_bonus: float | None
  reference_kl: float


def make_loss(
  config: ConfigDict, task: Task, policy: nn.Module, layout: Layout = ONE_DEVICE
) -> batch_losses.Loss:
  """(params, key, prompts [B], hyper) → (loss, metrics of the batch).

  The on-policy loss, with rollouts of `params`. Raises as `make_off_policy`.
  """
  make_off_policy(config, task, policy, layout)
  name = _name(config)
  if name in ESTIMATORS:
    return batch_losses.sampled(
      policy=policy,
      task=task,
      num=config.rollouts,
      layout=layout,
      **_sampled(config, task, policy)._asdict(),
    )
  given, factorized = _given(config, task)
  if name == "sequential":
    _check_fixed(config, factorized)
    return sequential.build(policy, task, config.rollouts, given, layout)
  return exact_losses.build(config, task, policy, given, factorized)


def make_off_policy(
  config: ConfigDict, task: Task, policy: nn.Module, layout: Layout = ONE_DEVICE
) -> off_policy.OffPolicy | None:
  """How to sample a batch, and its loss; None if training is on policy.

  Raises:
    ValueError: an invalid option of config.off_policy, an estimator without a
      group of rollouts, or an option that needs rollouts of the current policy.
  """
  name, block = _name(config), config.off_policy
  off_policy.check_options(block)
  if not off_policy.is_set(block):
    return None
  field = off_policy.first_field(block)
  if name not in ESTIMATORS:
    raise ValueError(
      f"{field}: {name!r} has no group of rollouts to reuse; take one of"
      f" {sorted(ESTIMATORS)}"
    )
  sampled = _sampled(config, task, policy)
  for option, value in (
    ("estimator.entropy_bonus", sampled.entropy_bonus),
    ("likelihood.learned", config.likelihood.learned),
  ):
    if value is not None:
      raise ValueError(
        f"{option} = {value!r}: needs rollouts of the current policy; must be"
        f" None with {field}"
      )
  return off_policy.OffPolicy(
    sampled.estimator,
    off_policy.bind_loss(config, sampled.signal),
    policy,
    task,
    config.rollouts,
    signal=sampled.signal,
    factorized=sampled.factorized,
    kl=block.kl or 0.0,
    reference_kl=sampled.reference_kl,
    layout=layout,
  )


def _name(config: ConfigDict) -> str:
  """config.estimator.name, checked."""
  name = config.estimator.name
  names = (*ESTIMATORS, "sequential", *exact_losses.NAMES)
  ranges.one_of(names, of="estimator.", name=name)
  return name


def _given(config: ConfigDict, task: Task) -> tuple[dict[str, Any], bool]:
  """Options of the estimator that are set, and whether it is factorized."""
  given = options_of(config.estimator)
  factorized = given.pop("factorized", False)
  if factorized and not isinstance(task, RegressionTask):
    raise ValueError(
      "estimator.factorized = True: this task has no target dimensions; it"
      " is for regression"
    )
  return given, factorized


def _sampled(config: ConfigDict, task: Task, policy: nn.Module) -> Sampled:
  """The estimator of a config that draws groups of N rollouts."""
  name, entry = config.estimator.name, ESTIMATORS[config.estimator.name]
  given, factorized = _given(config, task)
  signal = given.pop("signal", "likelihood")
  ranges.one_of(("likelihood", "reward"), of="estimator.", signal=signal)
  entropy_bonus = given.pop("entropy_bonus", None)
  if entropy_bonus is not None:
    _check_entropy_bonus(entropy_bonus, policy)
  reference_kl = given.pop("reference_kl", 0.0)
  _check_finite("reference_kl", reference_kl)
  options.check(
    name, entry.function, given, block="estimator.", exclude=NON_OPTIONS
  )
  function, field = entry.function, "likelihoods"
  if signal == "reward":
    _check_rewards(name, entry, task)
    field = "rewards"
    if "bounded" in options.parameters(function):
      function = functools.partial(function, bounded=False)
  elif entry.log_function is not None and isinstance(task, RegressionTask):
    function, field = entry.log_function, "log_likelihoods"
  estimator = functools.partial(function, **given)
  _check_traced(config, estimator)
  pathwise = _pathwise(config, entry, signal, given)
  return Sampled(
    estimator, field, factorized, pathwise, entropy_bonus, reference_kl
  )


def _check_fixed(config: ConfigDict, factorized: bool) -> None:
  """Raises ValueError at fields that need N rollouts of every prompt."""
  for name, value, wanted in (
    ("estimator.factorized", factorized, False),
    ("likelihood.learned", config.likelihood.learned, None),
    ("mesh.rollouts", config.mesh.rollouts or 1, 1),
  ):
    if value != wanted:
      raise ValueError(
        f"{name} = {value!r}: 'sequential' draws no fixed number of rollouts;"
        f" must be {wanted!r}"
      )


def _check_entropy_bonus(value: float, policy: nn.Module) -> None:
  if not isinstance(policy, SequencePolicy):
    raise ValueError(
      f"estimator.entropy_bonus = {value}: policy"
      f" {type(policy).__name__.lower()!r} has no entropy of tokens;"
      " 'transformer' has"
    )
  _check_finite("entropy_bonus", value)


def _check_finite(name: str, value: float) -> None:
  ranges.at_least(0, of="estimator.", **{name: value})
  if value == float("inf"):
    raise ValueError(f"estimator.{name} = {value}: must be finite")


def _check_rewards(name: str, entry: Estimator, task: Task) -> None:
  if not isinstance(task, Rewarded):
    raise ValueError(
      "estimator.signal = 'reward': this task has only likelihoods; take"
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
  """Traces the estimator, which checks its options then."""
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
