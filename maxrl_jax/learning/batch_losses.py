"""The loss of a batch: (params, key, prompts, hyper) → (loss, metrics).

This module has the losses that sample rollouts; `exact_losses` has the others.
`hyper` maps dotted config fields to values that override those of the config;
None overrides nothing. The metrics include the policy's updated batch
statistics (`rollouts.STATISTICS`), if it has any.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from maxrl_jax import losses, off_policy
from maxrl_jax.devices.mesh import ONE_DEVICE, Layout
from maxrl_jax.learning import guards, rollouts, sequences
from maxrl_jax.policies import SequencePolicy
from maxrl_jax.tasks import Prompts, RegressionTask, Task, Varying

Array = jax.Array
Hyper = dict[str, Array]
Loss = Callable[..., tuple[Array, dict[str, Any]]]


def options_of(hyper: Hyper | None, block: str) -> Hyper:
  """The hyperparameters of one block, by option."""
  prefix = f"{block}."
  return {
    name.removeprefix(prefix): value
    for name, value in (hyper or {}).items()
    if name.startswith(prefix)
  }


def at(task: Task, hyper: Hyper | None) -> Task:
  """The task with the values of `hyper`, if it is `Varying`."""
  return task.at(hyper) if hyper and isinstance(task, Varying) else task


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
  reference_kl: float | Array = 0.0,
  layout: Layout = ONE_DEVICE,
) -> Callable:
  """Policy gradient with N rollouts per prompt.

  Args:
    estimator: signal [N], options → advantages [N].
    policy: the module.
    task: the task.
    num: N.
    signal: the field of `Rollouts` that the estimator takes.
    factorized: one group per target dimension, rather than one group with the
      product of their likelihoods.
    pathwise: if the likelihood is learned: the differentiable field of
      `Rollouts`, and a function (field [N], options) → ω [N].
    entropy_bonus: β; adds β times the next-token entropy, averaged over all
      tokens of the batch, to the objective. For sequence policies.
    reference_kl: β; subtracts β KL(π‖ν) per rollout from the objective, where
      the loss is given `reference`, the parameters of ν.
    layout: which devices have which prompts and rollouts.
  """
  by_dimension = isinstance(task, RegressionTask)

  def loss(
    params: Any,
    key: Array,
    prompts: Prompts,
    hyper: Hyper | None = None,
    reference: Any = None,
  ) -> tuple[Array, dict[str, Any]]:
    options = options_of(hyper, "estimator")
    bonus = options.pop("entropy_bonus", entropy_bonus)
    beta = options.pop("reference_kl", reference_kl)
    outputs, statistics = rollouts.forward(policy, params, prompts.inputs)
    drawn = rollouts.sample_batch(
      key, policy, params, prompts, at(task, hyper), num, outputs
    )
    drawn = shard(drawn, layout, signal, by_dimension)
    joint = by_dimension and not factorized
    if joint:
      drawn = jax.vmap(rollouts.joint)(drawn)

    def of_groups(function: Callable) -> Callable:
      each = jax.vmap(function)
      return jax.vmap(each) if factorized else each

    estimate = of_groups(functools.partial(estimator, **options))
    advantages = estimate(getattr(drawn, signal))
    if isinstance(policy, SequencePolicy):
      few = bonus is None and reference is None
      drawn = sequences.differentiable(
        *(drawn, policy, params, outputs),
        jnp.any(advantages != 0, -1) if few else None,
        entropies=bonus is not None,
        layout=layout,
      )
    group = functools.partial(group_loss, pathwise, options)
    values = of_groups(group)(drawn, advantages)
    # Objectives add up over dimensions, as log-likelihoods do.
    value = jnp.sum(values / values.shape[0])
    if bonus is not None:
      value -= bonus * drawn.token_entropy()
    metrics = sampled_metrics(drawn)
    if reference is not None:
      metrics["reference_kl"] = _reference_kl(
        policy, reference, prompts, drawn, joint
      )
      value += beta * metrics["reference_kl"]
    l = drawn.likelihoods
    return value, metrics | bad_prompt(values, l) | statistics

  return loss


def shard(drawn: Any, layout: Layout, signal: str, by_dimension: bool) -> Any:
  """Shards rollouts; each device gets the signal of entire groups."""
  axes = ("data", None) if by_dimension else ("data",)
  drawn = layout.shard(drawn, *axes, "rollouts")
  whole = layout.shard(getattr(drawn, signal), *axes)
  return drawn._replace(**{signal: whole})


def group_loss(
  pathwise: tuple[str, Callable] | None,
  options: Hyper,
  drawn: rollouts.Rollouts,
  advantages: Array,
) -> Array:
  """The surrogate of one group of N rollouts and its advantages [N].

  `pathwise` is as in `sampled`, `options` are those of the estimator.
  """
  if pathwise is None:
    return losses.surrogate(drawn.log_probs, advantages)
  field, weigh = pathwise
  values = getattr(drawn, field)
  # A baseline is not part of the weights.
  known = {k: v for k, v in options.items() if k != "baseline"}
  weights = weigh(values, **known)
  return losses.surrogate(
    drawn.log_probs, advantages, weights=weights, likelihoods=values
  )


def _reference_kl(
  policy: nn.Module,
  reference: Any,
  prompts: Prompts,
  drawn: rollouts.Rollouts,
  joint: bool,
) -> Array:
  """KL(π‖ν) of a batch that π has drawn; differentiable in `log_probs`."""
  outputs, _ = rollouts.forward(policy, reference, prompts.inputs)
  tokens = rollouts.token_log_probs(
    policy, reference, outputs, drawn.actions, joint=joint
  )
  of_reference = jnp.sum(tokens, -1)
  behaviour = lax.stop_gradient(drawn.log_probs)
  log_ratios, of_reference = (
    (x - behaviour)[..., None] for x in (drawn.log_probs, of_reference)
  )
  return divergence(log_ratios, of_reference)


def divergence(log_ratios: Array, reference: Array | None = None) -> Array:
  """`off_policy.kl` of a batch [B, (D,) N, L]: a mean over prompts."""
  each = off_policy.kl
  for _ in range(log_ratios.ndim - 2):
    each = jax.vmap(each)
  return jnp.sum(each(log_ratios, reference=reference)) / log_ratios.shape[0]


def sampled_metrics(drawn: rollouts.Rollouts) -> dict[str, Array]:
  """Metrics of a batch of rollouts."""
  l = drawn.likelihoods
  of_groups = (
    jnp.mean(l.astype(jnp.float32), -1),
    jnp.any(l > 0, -1).astype(jnp.float32),
    jnp.all(l == 1, -1).astype(jnp.float32),
  )
  # One reduction instead of three, since each takes a kernel or two.
  means = jnp.mean(jnp.stack(of_groups).reshape(len(of_groups), -1), -1)
  metrics = dict(zip(("pass_rate", "solved", "all_solved"), means, strict=True))
  if l.dtype != bool:  # For `guards.check_metrics`.
    # XLA drops a NaN from a minimum or maximum over several devices.
    nan = jnp.any(jnp.isnan(l))
    metrics["likelihood_min"] = jnp.where(nan, jnp.nan, jnp.min(l))
    metrics["likelihood_max"] = jnp.where(nan, jnp.nan, jnp.max(l))
  if drawn.lengths is not None:
    metrics["length"] = jnp.mean(drawn.lengths.astype(jnp.float32))
    metrics["entropy"] = drawn.token_entropy()
  return metrics


def bad_prompt(
  losses_of_prompts: Array, likelihoods: Array | None = None
) -> dict[str, Array]:
  """Index of the last prompt with an invalid loss or likelihood, or −1.

  Args:
    losses_of_prompts: [B, …].
    likelihoods: [B, …]; booleans are always valid.
  """

  def last(valid: Array) -> Array:
    bad = ~valid.reshape(valid.shape[0], -1).all(-1)
    return jnp.max(jnp.where(bad, jnp.arange(bad.shape[0]), -1))

  places = {"prompt_of_loss": last(jnp.isfinite(losses_of_prompts))}
  if likelihoods is not None and likelihoods.dtype != bool:
    valid = guards.valid("likelihood", likelihoods)
    places["prompt_of_likelihood"] = last(valid)
  return places
