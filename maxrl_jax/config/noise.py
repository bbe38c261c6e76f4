"""The noise model of a regression config, and its checks with the policy."""

import warnings
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from maxrl_jax import ranges
from maxrl_jax.config.lookup import call, options_of
from maxrl_jax.likelihoods import LIKELIHOODS, Likelihood
from maxrl_jax.policies import Regression
from maxrl_jax.tasks import RegressionTask, regression


def make_task(
  config: ConfigDict, data: regression.Data, **options: Any
) -> RegressionTask:
  """A regression task with the noise model of config.likelihood."""
  given = options_of(config.likelihood)
  per_prompt = given.pop("per_prompt", False)
  learned = given.pop("learned", None)  # An option of the policy.
  if "smallest_scale" in given and not (per_prompt or learned):
    raise ValueError(
      f"likelihood.smallest_scale = {given['smallest_scale']}: has no effect"
      " without likelihood.per_prompt or likelihood.learned"
    )
  name = config.likelihood.name or "gaussian"
  likelihood = call(LIKELIHOODS, "likelihood", name, given)
  return regression.task(data, likelihood, per_prompt=per_prompt, **options)


def refuse(config: ConfigDict) -> None:
  """Raises ValueError if a noise model is set for a task without one."""
  given = options_of(config.likelihood)
  if config.likelihood.name is not None:
    given = {"name": repr(config.likelihood.name)} | given
  for option, value in given.items():
    raise ValueError(
      f"likelihood.{option} = {value}: task {config.task.name!r} has no noise"
      " model; only regression has one"
    )


def decoder_options(config: ConfigDict, task: RegressionTask) -> dict:
  """Options of a policy that learns the noise model's σ."""
  learned = config.likelihood.learned
  if learned is None:
    return {}
  ranges.one_of(("input", "global"), of="likelihood.", learned=learned)
  if config.likelihood.name in ("tolerance", "exact_match"):
    raise ValueError(
      f"likelihood.learned = {learned!r}: {config.likelihood.name!r} has no"
      " noise scale to learn"
    )
  smallest, start = task.likelihood.smallest, task.likelihood.scale
  if smallest >= start or config.likelihood.per_prompt:
    raise ValueError(
      f"likelihood.learned = {learned!r}: needs smallest_scale below scale ="
      f" {start}, the initial σ, and no per_prompt"
    )
  return {
    "learned_scale": learned,
    "smallest_scale": smallest,
    "initial_scale": start,
  }


def check_coverage(policy: nn.Module, task: RegressionTask) -> None:
  """Raises ValueError if a target is too far from every value of the policy.

  Warns if targets are values of the policy and the noise is below their
  spacing: likelihoods are then those of an exact match.
  """
  if not isinstance(policy, Regression):
    raise ValueError(
      f"policy.name = {type(policy).__name__.lower()!r}: is no"
      " policies.Regression, as policies of regression must be"
    )
  values, likelihood = policy.values(), task.likelihood
  name = type(policy).__name__.lower()
  if values is None:
    if float(likelihood.log_shape(jnp.float32(1e-30))) == -np.inf:
      raise ValueError(
        f"likelihood.name = 'exact_match': no draw of policy {name!r} ever"
        " equals a target; take policy.name = 'grid' or 'digits', or"
        " likelihood.name = 'tolerance'"
      )
    return
  for split, prompts in task.splits.items():
    y = np.asarray(prompts.targets.y).ravel()
    sigma = np.asarray(task.noise_scale(prompts.targets, None)).ravel()
    at = np.clip(np.searchsorted(values, y), 1, len(values) - 1)
    nearest = np.minimum(np.abs(y - values[at - 1]), np.abs(y - values[at]))
    if split == "validation" and not nearest.any():
      _warn_of_exact_match(values, likelihood, float(sigma.min()))
    log_l = np.asarray(likelihood.log_shape(jnp.asarray(nearest / sigma)))
    if log_l.min() < -12.5:  # Five σ of a Gaussian.
      row = int(np.argmin(log_l))
      raise ValueError(
        f"policy {name}: a {split} target is {y[row]:.4g}, {nearest[row]:.3g}"
        f" from the nearest of the policy's {len(values)} values between"
        f" {values[0]:g} and {values[-1]:g}, and its likelihood is 0 at"
        f" likelihood scale {sigma[row]:g}; widen policy.low and policy.high,"
        " or take more values"
      )


def _warn_of_exact_match(
  values: np.ndarray, likelihood: Likelihood, sigma: float
) -> None:
  spacing = float(np.diff(values).min())
  near = float(likelihood.log_shape(jnp.float32(1e-30)))
  if sigma < spacing and near > -np.inf:  # Not 'exact_match' itself.
    warnings.warn(
      f"likelihood.scale = {sigma:g}: below {spacing:.3g}, the spacing of the"
      " policy's values, which makes the likelihood an exact match",
      stacklevel=2,
    )
