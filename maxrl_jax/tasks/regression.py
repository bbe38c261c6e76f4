"""Noisy regression as RL: rollouts are numbers that a noise model judges."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from maxrl_jax import marginals, ranges
from maxrl_jax.distributions import Components
from maxrl_jax.likelihoods import Likelihood
from maxrl_jax.tasks.base import Prompts, Task

Array = jax.Array


class Target(NamedTuple):
  """What a prompt's rollouts are held against.

  Attributes:
    y: the noisy target, [D].
    clean: what y would be without noise, or its mean, [D].
    noise_scale: σ of this prompt's noise as the data set knows it, [D].
    log_reference: log p*(y|x) summed over dimensions, in nats.
  """

  y: Array
  clean: Array
  noise_scale: Array
  log_reference: Array


class Data(NamedTuple):
  """Prompts without a judge: `task` adds the likelihood."""

  draw: Callable[[Array, int], Prompts]
  splits: dict[str, Prompts]
  num_dims: int = 1


def task(
  data: Data,
  likelihood: Likelihood,
  *,
  per_prompt: bool = False,
  tolerance: float = 0.5,
) -> Task:
  """Regression data judged by a likelihood.

  Args:
    data: from a function of `regression_data`, or your own.
    likelihood: from `likelihoods`.
    per_prompt: use each prompt's own σ (`Target.noise_scale`), which must not
      be below `likelihood.smallest_scale`.
    tolerance: pass@k counts a prediction this close to y as right.

  Raises:
    ValueError: a target is not finite, a σ is below the smallest, or the
      tolerance is not above 0.
  """
  _check_data(data, likelihood, per_prompt)
  ranges.above_zero(tolerance=tolerance)

  def scale(target: Target, learned: Array | None) -> Array:
    """σ [D]: the policy's, the prompt's or the likelihood's own."""
    if learned is not None:
      return learned
    if per_prompt:
      return target.noise_scale
    return jnp.full(target.y.shape, likelihood.scale, target.y.dtype)

  def log_likelihoods(
    target: Any, predictions: Array, learned: Array | None = None
  ) -> Array:
    residuals = target.y[:, None] - predictions
    return jax.vmap(likelihood.log_likelihoods)(
      residuals, scale(target, learned)
    )

  def log_pass_rate(target: Any, policy: Components) -> Array:
    each = jax.vmap(marginals.log_pass_rate, (None, 0, 0, 0))
    noise = scale(target, policy.noise_scale)
    return each(likelihood, target.y, policy, noise)

  return Task(
    draw=data.draw,
    splits=data.splits,
    log_likelihoods=log_likelihoods,
    log_pass_rate=log_pass_rate,
    rewards=lambda target, z: -((target.y[:, None] - z) ** 2) / 2,
    policies=("grid", "normal", "mixture", "digits"),
    policy_options={"num_dims": data.num_dims},
    likelihood=likelihood,
    noise_scale=scale,
    tolerance=tolerance,
  )


def prompts(
  x: Array,
  y: Array,
  *,
  clean: Array | None = None,
  noise_scale: Array | None = None,
  log_reference: Array | None = None,
) -> Prompts:
  """Prompts of data of your own: inputs x [B, …], targets y [B, D].

  Without `clean` [B, D], squared errors are against y; without `log_reference`
  [B], excess NLL is NLL; `noise_scale` [B, D] is for `per_prompt`.
  """
  return Prompts(
    x,
    Target(
      y,
      y if clean is None else clean,
      jnp.ones_like(y) if noise_scale is None else noise_scale,
      jnp.zeros(y.shape[0]) if log_reference is None else log_reference,
    ),
  )


def _check_data(data: Data, likelihood: Likelihood, per_prompt: bool) -> None:
  if "validation" not in data.splits:
    raise ValueError(f"splits = {sorted(data.splits)}: 'validation' is needed")
  probe = data.draw(jax.random.key(0), 256)
  if ranges.is_traced(probe.targets.y):
    return  # Where fields vary, they were checked before.
  for name, prompts in {"training": probe, **data.splits}.items():
    _check_shapes(name, prompts, data.num_dims)
    y = np.asarray(prompts.targets.y)
    if not np.isfinite(y).all():
      row = int(np.argwhere(~np.isfinite(y))[0, 0])
      raise ValueError(
        f"{name} target {row} = {y[row].tolist()}: targets must be finite"
      )
    for leaf in jax.tree.leaves(prompts.inputs):
      if not np.isfinite(np.asarray(leaf)).all():
        raise ValueError(f"{name} inputs are not all finite")
    least = float(np.min(prompts.targets.noise_scale))
    if per_prompt and not least >= likelihood.smallest_scale * (1 - 1e-6):
      raise ValueError(
        f"likelihood.smallest_scale = {likelihood.smallest_scale}: a {name}"
        f" prompt has noise of scale {least:.4g}; set it to that or below"
      )


def _check_shapes(name: str, prompts: Prompts, num_dims: int) -> None:
  """Wrong shapes would broadcast, and train something else in silence."""
  target = prompts.targets
  count = target.y.shape[0]
  wanted = {
    "y": (count, num_dims),
    "clean": (count, num_dims),
    "noise_scale": (count, num_dims),
    "log_reference": (count,),
  }
  for field, shape in wanted.items():
    found = np.shape(getattr(target, field))
    if found != shape:
      raise ValueError(
        f"{name} targets: {field} has shape {found}, must be"
        f" {'[B, D]' if len(shape) > 1 else '[B]'} = {shape} with"
        f" num_dims = {num_dims}"
      )
