"""What is minimized over a batch: (params, key, prompts) → (loss, metrics).

One maker for each way to learn: from sampled rollouts and an estimator, from
the exact pass rate, from right answers, or by regression on the mean. Among the
metrics are the new statistics of a policy that has any (`rollouts.STATISTICS`).
"""

import functools
from collections.abc import Callable
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from maxrl_jax import losses
from maxrl_jax.devices.mesh import ONE_DEVICE, Layout
from maxrl_jax.learning import guards, rollouts
from maxrl_jax.tasks import Task
from maxrl_jax.tasks.base import Prompts

Array = jax.Array
Loss = Callable[[Any, Array, Prompts], tuple[Array, dict[str, Any]]]


def sampled(
  estimator: Callable,
  policy: nn.Module,
  task: Task,
  num: int,
  *,
  signal: str = "likelihoods",
  factorized: bool = False,
  pathwise: tuple[str, Callable] | None = None,
  entropy_bonus: float | Array | None = None,
  layout: Layout = ONE_DEVICE,
) -> Callable:
  """Policy gradient with N rollouts a prompt.

  Args:
    estimator: signal [N] → advantages [N].
    policy: the module.
    task: the task.
    num: N.
    signal: the field of `Rollouts` that the estimator is given.
    factorized: a group for each of D target dimensions, rather than one group
      with the product of their likelihoods.
    pathwise: where the likelihood itself is learned, the field of `Rollouts`
      that has a gradient of its own, and field [N] → ω [N].
    entropy_bonus: β; β times the mean entropy of the next token, over all
      tokens of the batch, is maximized too. Which tokens come before is taken
      as given. For policies that write sequences.
    layout: which devices have which prompts and rollouts.
  """
  group = functools.partial(group_loss, estimator, signal, pathwise)

  def loss(
    params: Any, key: Array, prompts: Prompts
  ) -> tuple[Array, dict[str, Any]]:
    outputs, statistics = rollouts.read(policy, params, prompts.inputs)
    drawn = rollouts.sample_batch(
      key, policy, params, prompts, task, num, outputs
    )
    drawn = _spread(drawn, layout, signal, task.is_regression)
    if task.is_regression and not factorized:
      drawn = jax.vmap(rollouts.joint)(drawn)
    each = jax.vmap(group)
    values = jax.vmap(each)(drawn) if factorized else each(drawn)
    # Objectives add up over dimensions, as log-likelihoods do.
    value = jnp.sum(values) / values.shape[0]
    if entropy_bonus is not None:
      value -= entropy_bonus * drawn.token_entropy()
    l = drawn.likelihoods
    blamed = _blamed(values, None if l.dtype == bool else l)
    return value, _sampled_metrics(drawn) | blamed | statistics

  return loss


def _spread(drawn: Any, layout: Layout, signal: str, by_dimension: bool) -> Any:
  """Rollouts over devices; all of a group's signal to each of its devices."""
  axes = ("data", None) if by_dimension else ("data",)
  drawn = layout.spread(drawn, *axes, "rollouts")
  whole = layout.spread(getattr(drawn, signal), *axes)
  return drawn._replace(**{signal: whole})


def group_loss(
  estimator: Callable,
  signal: str,
  pathwise: tuple[str, Callable] | None,
  drawn: rollouts.Rollouts,
) -> Array:
  """The surrogate of one group of N rollouts; arguments as in `sampled`."""
  advantages = estimator(getattr(drawn, signal))
  if pathwise is None:
    return losses.surrogate(drawn.log_probs, advantages)
  field, weigh = pathwise
  values = getattr(drawn, field)
  return losses.surrogate(
    drawn.log_probs, advantages, weights=weigh(values), likelihoods=values
  )


def exact(
  value: Callable, policy: nn.Module, task: Task, *, factorized: bool = False
) -> Callable:
  """Gradient ascent on mean J, from the exact log pass rate.

  Args:
    value: log p → J.
    policy: the module.
    task: the task.
    factorized: J summed over D target dimensions, rather than J of the product
      of their pass rates.
  """

  def loss(
    params: Any, key: Array, prompts: Prompts
  ) -> tuple[Array, dict[str, Any]]:
    del key  # Nothing is sampled.
    outputs, statistics = rollouts.read(policy, params, prompts.inputs)
    log_p = rollouts.log_pass_rates(policy, params, prompts, task, outputs)
    if log_p.ndim > 1 and not factorized:
      log_p = jnp.sum(log_p, -1)
    p = jnp.exp(log_p)
    metrics = {"pass_rate": jnp.mean(p), "pass_rate_max": jnp.max(p)}
    values = value(log_p)
    metrics |= _blamed(values, p) | statistics
    return -jnp.sum(values) / log_p.shape[0], metrics

  return loss


def supervised(policy: nn.Module, task: Task) -> Callable:
  """−log m(z*|x) a token, z* the answer that the task demonstrates."""

  def loss(
    params: Any, key: Array, prompts: Prompts
  ) -> tuple[Array, dict[str, Any]]:
    del key
    outputs = policy.apply(params, prompts.inputs)
    assert task.demonstrations is not None
    answers = jax.vmap(task.demonstrations)(prompts.targets)[:, None]
    scores: Any = policy.apply(params, outputs, answers, method="score")
    value = -jnp.sum(scores.log_probs) / jnp.sum(scores.lengths)
    return value, {"token_nll": value} | _blamed(scores.log_probs)

  return loss


def mean_squared_error(policy: nn.Module) -> Callable:
  """½ (y − E[ŷ])² summed over dimensions: plain regression on the mean."""

  def loss(
    params: Any, key: Array, prompts: Prompts
  ) -> tuple[Array, dict[str, Any]]:
    del key
    outputs = policy.apply(params, prompts.inputs)
    chex.assert_shape(prompts.targets.y, (None, policy.num_dims))

    def mean(outputs: Any) -> Array:
      components: Any = policy.apply(params, outputs, method="components")
      return components.mean()

    errors = (prompts.targets.y - jax.vmap(mean)(outputs)) ** 2
    value = jnp.sum(errors) / errors.shape[0]
    return value / 2, {"squared_error": value} | _blamed(errors)

  return loss


def _sampled_metrics(drawn: rollouts.Rollouts) -> dict[str, Array]:
  l = drawn.likelihoods
  found = jnp.any(l > 0, -1)
  metrics = {
    "pass_rate": jnp.mean(l.astype(jnp.float32)),
    "solved": jnp.mean(found.astype(jnp.float32)),
  }
  if l.dtype != bool:  # Watched by `check_metrics`.
    # XLA forgets a NaN in the least and the largest of several devices.
    nan = jnp.any(jnp.isnan(l))
    metrics["likelihood_min"] = jnp.where(nan, jnp.nan, jnp.min(l))
    metrics["likelihood_max"] = jnp.where(nan, jnp.nan, jnp.max(l))
  if drawn.lengths is not None:
    metrics["length"] = jnp.mean(drawn.lengths.astype(jnp.float32))
    metrics["entropy"] = drawn.token_entropy()
  return metrics


def _blamed(
  losses_of_prompts: Array, likelihoods: Array | None = None
) -> dict[str, Array]:
  """Metrics that name the first prompt with an impossible number, −1 for none.

  Args:
    losses_of_prompts: [B, …].
    likelihoods: [B, …], where there are any.
  """

  def first(possible: Array) -> Array:
    bad = ~possible.reshape(possible.shape[0], -1).all(-1)
    return jnp.where(bad.any(), jnp.argmax(bad), -1)

  found = {"prompt_of_loss": first(jnp.isfinite(losses_of_prompts))}
  if likelihoods is not None:
    possible = guards.possible("likelihood", likelihoods)
    found["prompt_of_likelihood"] = first(possible)
  return found
