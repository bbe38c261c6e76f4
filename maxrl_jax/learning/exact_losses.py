"""Losses of a batch without rollouts, with the signature of `batch_losses`.

They use the exact pass rate, demonstrations, or the policy's mean.
"""

from collections.abc import Callable
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from maxrl_jax import options
from maxrl_jax.config.lookup import call
from maxrl_jax.estimators import ESTIMATORS
from maxrl_jax.learning import rollouts
from maxrl_jax.learning.batch_losses import (
  Hyper,
  Loss,
  at,
  bad_prompt,
  options_of,
)
from maxrl_jax.objectives import OBJECTIVES
from maxrl_jax.policies import Regression
from maxrl_jax.tasks import Demonstrated, Exact, Prompts, RegressionTask, Task

Array = jax.Array

# Objectives of the exact pass rate, by their name in a config.
EXACT = {
  f"exact_{name}": make
  for name, make in OBJECTIVES.items()
  if name != "maximum_likelihood"
}
NAMES = ("cross_entropy", "mse", "supervised", *EXACT)


def exact(
  value: Callable, policy: nn.Module, task: Task, *, factorized: bool = False
) -> Callable:
  """Gradient ascent on mean J, from the exact log pass rate.

  Args:
    value: (log p, options) → J.
    policy: the module.
    task: the task.
    factorized: J summed over D target dimensions, rather than J of the product
      of their pass rates.
  """

  def loss(
    params: Any, key: Array, prompts: Prompts, hyper: Hyper | None = None
  ) -> tuple[Array, dict[str, Any]]:
    del key  # Nothing is sampled.
    outputs, statistics = rollouts.forward(policy, params, prompts.inputs)
    task_of_run: Any = at(task, hyper)  # `Exact`, as the task is.
    log_p = rollouts.log_pass_rates(
      policy, params, prompts, task_of_run, outputs
    )
    if log_p.ndim > 1 and not factorized:
      log_p = jnp.sum(log_p, -1)
    p = jnp.exp(log_p)
    metrics = {"pass_rate": jnp.mean(p), "pass_rate_max": jnp.max(p)}
    values = value(log_p, options_of(hyper, "estimator"))
    metrics |= bad_prompt(values, p) | statistics
    return -jnp.sum(values) / log_p.shape[0], metrics

  return loss


def supervised(
  policy: nn.Module, demonstrations: Callable[[Any], Array]
) -> Callable:
  """−log m(z*|x) per token of a demonstration z*.

  Args:
    policy: the module.
    demonstrations: target → z*.
  """

  def loss(
    params: Any, key: Array, prompts: Prompts, hyper: Hyper | None = None
  ) -> tuple[Array, dict[str, Any]]:
    del key, hyper
    outputs, statistics = rollouts.forward(policy, params, prompts.inputs)
    answers = jax.vmap(demonstrations)(prompts.targets)[:, None]
    scores: Any = policy.apply(params, outputs, answers, method="score")
    value = -jnp.sum(scores.log_probs) / jnp.sum(scores.lengths)
    metrics = {"token_nll": value} | bad_prompt(scores.log_probs)
    return value, metrics | statistics

  return loss


def mean_squared_error(policy: nn.Module) -> Callable:
  """½ (y − E[ŷ])² summed over dimensions: plain regression on the mean."""

  def loss(
    params: Any, key: Array, prompts: Prompts, hyper: Hyper | None = None
  ) -> tuple[Array, dict[str, Any]]:
    del key, hyper
    outputs, statistics = rollouts.forward(policy, params, prompts.inputs)
    chex.assert_shape(prompts.targets.y, (None, policy.num_dims))

    def mean(outputs: Any) -> Array:
      components: Any = policy.apply(params, outputs, method="components")
      return components.mean()

    errors = (prompts.targets.y - jax.vmap(mean)(outputs)) ** 2
    value = jnp.sum(errors) / errors.shape[0]
    metrics = {"squared_error": value} | bad_prompt(errors)
    return value / 2, metrics | statistics

  return loss


def build(
  config: ConfigDict,
  task: Task,
  policy: nn.Module,
  given: dict[str, Any],
  factorized: bool,
) -> Loss:
  """The loss of a config whose estimator is one of `NAMES`.

  Args:
    config: the config.
    task: the task.
    policy: the module.
    given: options of config.estimator.
    factorized: as in `exact`.

  Raises:
    ValueError: an option that the loss does not have, or a task or policy that
      it cannot train.
  """
  name = config.estimator.name
  if name == "supervised":
    return _supervised(task, policy, given)
  if name == "mse":
    return _mean_squared_error(config, task, policy, given, factorized)
  return _exact(name, task, policy, given, factorized)


def _no_options(name: str, given: dict[str, Any]) -> None:
  """Raises ValueError if any option is given."""
  options.check(name, lambda: None, given, block="estimator.")


def _supervised(task: Task, policy: nn.Module, given: dict[str, Any]) -> Loss:
  _no_options("supervised", given)
  if not isinstance(task, Demonstrated):
    raise ValueError(
      "estimator.name = 'supervised': this task has no `demonstrations` of"
      " correct answers; 'maze' has"
    )
  return supervised(policy, task.demonstrations)


def _exact(
  name: str,
  task: Task,
  policy: nn.Module,
  given: dict[str, Any],
  factorized: bool,
) -> Loss:
  """An objective of the exact pass rate."""
  if not isinstance(task, Exact):
    raise ValueError(
      f"estimator.name = {name!r}: this task has no `log_pass_rate`, its pass"
      " rate cannot be summed exactly; take 'supervised' or one of"
      f" {sorted(ESTIMATORS)}"
    )
  if name == "cross_entropy":  # J = log p, which is finite if p underflows.
    _no_options(name, given)
    _refuse_factorized(name, factorized)
    return exact(lambda log_p, hyper: log_p, policy, task)
  call(EXACT, "estimator", name, given)  # Checks the options.

  def value(log_p: Array, hyper: dict[str, Array]) -> Array:
    if name == "exact_power":
      return _power(log_p, **given | hyper)
    objective = EXACT[name](**given | hyper)
    return objective.value(_inside(jnp.exp(log_p)))

  return exact(value, policy, task, factorized=factorized)


def _mean_squared_error(
  config: ConfigDict,
  task: Task,
  policy: nn.Module,
  given: dict[str, Any],
  factorized: bool,
) -> Loss:
  _no_options("mse", given)
  if not isinstance(task, RegressionTask):
    raise ValueError(
      "estimator.name = 'mse': this task is not a regression task"
    )
  if config.likelihood.learned is not None:
    raise ValueError(
      f"likelihood.learned = {config.likelihood.learned!r}: 'mse' has no"
      " gradient for a noise scale"
    )
  assert isinstance(policy, Regression)
  if policy.has_free_scale():
    raise ValueError(
      "estimator.name = 'mse': has no gradient for the scale of policy"
      f" {type(policy).__name__.lower()!r}; take 'normal' with"
      " policy.policy_scale set, 'grid' or 'digits'"
    )
  _refuse_factorized("mse", factorized)
  return mean_squared_error(policy)


def _refuse_factorized(name: str, factorized: bool) -> None:
  if factorized:
    raise ValueError(
      f"estimator.factorized = True: {name!r} is a sum over dimensions anyway"
    )


def _power(log_p: Array, alpha: float | Array) -> Array:
  """(p^α − 1)/α, or log p at α = 0, also where p underflows."""
  log_p = jnp.maximum(log_p, jnp.finfo(log_p.dtype).min / 4)
  positive = jnp.where(alpha == 0, 1, alpha)
  x = alpha * log_p
  # JAX has expm1(x) + 1 as the slope of expm1: exp(x), but for its digits.
  power = jnp.where(x > -0.5, jnp.expm1(x), jnp.exp(x) - 1)
  return jnp.where(alpha == 0, log_p, power / positive)


def _inside(p: Array) -> Array:
  """p clipped inside (0, 1): it may round to 0 or 1, where w(p) may be ∞."""
  limits = jnp.finfo(p.dtype)
  return jnp.clip(p, limits.tiny, 1 - limits.epsneg)
