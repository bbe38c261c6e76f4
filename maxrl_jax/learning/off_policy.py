"""Several updates on a batch of rollouts, and rollouts of older parameters.

A batch of rollouts is drawn once, from the behaviour parameters, and gets its
advantages; each update then takes the gradient of a loss of `off_policy.LOSSES`
in the ratios of the current parameters to those.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from ml_collections import ConfigDict

from maxrl_jax import off_policy as losses
from maxrl_jax import options, ranges
from maxrl_jax.config.lookup import options_of
from maxrl_jax.devices.mesh import Layout
from maxrl_jax.estimators import ESTIMATORS
from maxrl_jax.learning import batch_losses, guards, rollouts
from maxrl_jax.learning.batch_losses import Hyper
from maxrl_jax.tasks import Prompts, RegressionTask, Task

Array = jax.Array

REWEIGHTED = "reweighted"  # Prompts have the weights of the current policy.
_NOT_LOSS_OPTIONS = ("updates", "staleness", "kl")


class Batch(NamedTuple):
  """Rollouts of the behaviour policy; [B, D, N] where they are factorized.

  Attributes:
    actions: z, [B, N, …], or [B, D, N].
    log_probs: log μ of each token [B, N, L], 0 after the end.
    likelihoods: l [B, N].
    advantages: [B, N].
    lengths: tokens [B, N]; None where they are not sequences.
    reference: log ν of each token [B, N, L]; None without a reference.
  """

  actions: Array
  log_probs: Array
  likelihoods: Array
  advantages: Array
  lengths: Array | None
  reference: Array | None


# (log_ratios [N, L], one prompt of a batch, options of the estimator) → loss.
GroupLoss = Callable[[Array, Batch, Hyper], Array]


@dataclasses.dataclass(frozen=True, eq=False)
class OffPolicy:
  """How to sample a batch, and the loss of an update on it.

  Attributes:
    estimator: signal [N], options → advantages [N].
    group_loss: the loss of one prompt.
    policy: the module.
    task: the task.
    num: N.
    signal: the field of `Rollouts` that the estimator takes.
    factorized: one group per target dimension.
    kl: β, of KL(π‖μ) per rollout, added to the loss.
    reference_kl: β, of KL(π‖ν), where there is a reference.
    layout: which devices have which prompts and rollouts.
  """

  estimator: Callable[..., Array]
  group_loss: GroupLoss
  policy: nn.Module
  task: Task
  num: int
  signal: str
  factorized: bool
  kl: float
  reference_kl: float
  layout: Layout

  def sample(
    self,
    params: Any,
    key: Array,
    prompts: Prompts,
    hyper: Hyper,
    reference: Any = None,
  ) -> tuple[Batch, dict[str, Array]]:
    """N rollouts of every prompt from `params`: (batch, its metrics).

    `reference`: parameters of ν, if there is one.
    """
    task = batch_losses.at(self.task, hyper)
    outputs, _ = rollouts.forward(self.policy, params, prompts.inputs)
    drawn = rollouts.sample_batch(
      key, self.policy, params, prompts, task, self.num, outputs
    )
    by_dimension = isinstance(task, RegressionTask)
    drawn = batch_losses.shard(drawn, self.layout, self.signal, by_dimension)
    if by_dimension and not self.factorized:
      drawn = jax.vmap(rollouts.joint)(drawn)
    options = self._options(hyper)
    advantages = self._each(functools.partial(self.estimator, **options))(
      getattr(drawn, self.signal)
    )
    log_probs = self._log_probs(params, outputs, drawn.actions)
    of_reference = None
    if reference is not None:
      outputs, _ = rollouts.forward(self.policy, reference, prompts.inputs)
      of_reference = self._log_probs(reference, outputs, drawn.actions)
    batch = Batch(
      drawn.actions,
      log_probs,
      drawn.likelihoods,
      advantages,
      drawn.lengths,
      of_reference,
    )
    return lax.stop_gradient(batch), batch_losses.sampled_metrics(drawn)

  def loss(
    self, params: Any, prompts: Prompts, batch: Batch, hyper: Hyper
  ) -> tuple[Array, dict[str, Any]]:
    """(loss of an update, its metrics)."""
    outputs, statistics = rollouts.forward(self.policy, params, prompts.inputs)
    log_probs = self._log_probs(params, outputs, batch.actions)
    log_ratios = log_probs - batch.log_probs
    options = self._options(hyper)

    def group(log_ratios: Array, batch: Batch) -> Array:
      return self.group_loss(log_ratios, batch, options)

    values = self._each(group)(log_ratios, batch)
    value = jnp.sum(values) / values.shape[0]
    metrics = {
      "kl": batch_losses.divergence(log_ratios),
      "ratio_max": jnp.exp(jnp.max(jnp.sum(log_ratios, -1))),
    }
    if self.kl:
      value += self.kl * metrics["kl"]
    if batch.reference is not None:
      metrics["reference_kl"] = batch_losses.divergence(
        log_ratios, batch.reference - batch.log_probs
      )
      beta = hyper.get("estimator.reference_kl", self.reference_kl)
      value += beta * metrics["reference_kl"]
    places = batch_losses.bad_prompt(values, batch.likelihoods)
    return value, metrics | places | statistics

  def _each(self, function: Callable) -> Callable:
    """Maps a function of one group over the groups of a batch."""
    function = jax.vmap(function)
    return jax.vmap(function) if self.factorized else function

  def _log_probs(self, params: Any, outputs: Any, actions: Array) -> Array:
    """Log-probabilities of tokens [B, (D,) N, L], 0 after the end."""
    joint = isinstance(self.task, RegressionTask) and not self.factorized
    return rollouts.token_log_probs(
      self.policy, params, outputs, actions, joint=joint
    )

  def _options(self, hyper: Hyper) -> Hyper:
    """Hyperparameters that are options of the estimator."""
    options = batch_losses.options_of(hyper, "estimator")
    options.pop("reference_kl", None)
    return options


def is_set(block: ConfigDict) -> bool:
  """Whether rollouts may come from other parameters than the updated ones."""
  return (block.updates or 1) > 1 or (block.staleness or 0) > 0


def first_field(block: ConfigDict) -> str:
  """The field that makes training off-policy, with its value, for errors."""
  name = "updates" if (block.updates or 1) > 1 else "staleness"
  return f"off_policy.{name} = {block[name]}"


def check_options(block: ConfigDict) -> None:
  """Raises ValueError at an unknown loss or an invalid option."""
  given, known = _options(block), [*losses.LOSSES, REWEIGHTED]
  if block.name is None:
    needing = [f"off_policy.{name} = {x}" for name, x in given.items()]
    needing += [first_field(block)] * is_set(block)
    if needing:
      raise ValueError(
        f"off_policy.name is not set: {needing[0]} needs a loss, one of"
        f" {sorted(known)}"
      )
    return
  ranges.one_of(known, of="off_policy.", name=block.name)
  function = losses.LOSSES.get(block.name, losses.uncorrected)
  options.check(
    block.name,
    function,
    given,
    block="off_policy.",
    exclude=losses.NON_OPTIONS,
  )
  zeros = jnp.zeros((1, 1))
  try:  # Losses check their options when they are traced.
    jax.eval_shape(functools.partial(function, **given), zeros, zeros[0])
  except ValueError as error:
    raise ValueError(f"off_policy.{error}") from None


def _options(block: ConfigDict) -> dict[str, Any]:
  """The options of the loss that are set."""
  return {
    name: value
    for name, value in options_of(block).items()
    if name not in _NOT_LOSS_OPTIONS
  }


def bind_loss(config: ConfigDict, signal: str) -> GroupLoss:
  """The loss of one prompt, with the options of a config."""
  block = config.off_policy
  if block.name == REWEIGHTED:
    return _reweighted(config, signal)
  function = functools.partial(losses.LOSSES[block.name], **_options(block))
  takes_lengths = "lengths" in options.parameters(losses.LOSSES[block.name])

  def group_loss(log_ratios: Array, batch: Batch, hyper: Hyper) -> Array:
    del hyper
    if takes_lengths:
      return function(log_ratios, batch.advantages, lengths=batch.lengths)
    return function(log_ratios, batch.advantages)

  return group_loss


def _reweighted(config: ConfigDict, signal: str) -> GroupLoss:
  """The loss whose advantages are recomputed for the current parameters."""
  block, size = config.estimator, config.rollouts
  make = ESTIMATORS[block.name].series
  if make is None or signal != "likelihoods":
    able = sorted(name for name, e in ESTIMATORS.items() if e.series)
    raise ValueError(
      f"off_policy.name = {REWEIGHTED!r}: only the weights of {able} on"
      f" likelihoods are series, not those of {block.name!r}"
    )
  coefficients_of = make
  baseline = "centred" if block.baseline is None else block.baseline
  try:
    losses.check_baseline(baseline)
  except ValueError as error:
    raise ValueError(f"estimator.{error}") from None
  order = block.order or max(size - 1, 1)

  def group_loss(log_ratios: Array, batch: Batch, hyper: Hyper) -> Array:
    given = {"order": order, "k": block.k, "alpha": block.alpha} | hyper
    traced = {"order", "k"} & hyper.keys()
    terms = size if traced else (block.k or order)
    series = coefficients_of(**given).coefficients
    assert series is not None
    ratios = jnp.exp(jnp.sum(lax.stop_gradient(log_ratios), -1))
    advantages = losses.reweighted(
      batch.likelihoods, ratios, coefficients=series(terms), baseline=baseline
    )
    return losses.uncorrected(log_ratios, advantages)

  return group_loss


def summarize(metrics: dict[str, Array]) -> dict[str, Array]:
  """Metrics of a batch from those of its updates, [U] each.

  Means; the largest of `ratio_max`, `skipped` and of indices of prompts.
  """
  largest = (*guards.PLACES, "ratio_max", "skipped")
  return {
    name: jnp.max(x, 0) if name in largest else jnp.mean(x, 0)
    for name, x in metrics.items()
  }
