"""Noisy regression as RL: a noise model scores the numbers of rollouts."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import stats as densities

from maxrl_jax import marginals, ranges
from maxrl_jax.distributions import Components
from maxrl_jax.likelihoods import Likelihood
from maxrl_jax.tasks import base
from maxrl_jax.tasks.base import Prompts, Task

Array = jax.Array


class Target(NamedTuple):
  """The target of a prompt.

  Attributes:
    y: the noisy target, [D].
    clean: the target without noise, or its mean, [D].
    noise_scale: σ of this prompt's noise, if the data set has it, [D].
    log_reference: log p*(y|x) summed over dimensions, in nats.
  """

  y: Array
  clean: Array
  noise_scale: Array
  log_reference: Array


@dataclass(frozen=True)
class Data:
  """Regression prompts; `task` adds the likelihood.

  Attributes:
    draw: (key, B) → training Prompts.
    splits: fixed Prompts by name: 'train', 'validation', 'test'.
    num_dims: D.
    at: values of options by name → the same data with these values; None if
      no option can vary.
    policies: names of the policies that can answer; the first is the default.
    policy_options: options that the data set in their policy.
  """

  draw: Callable[[Array, int], Prompts]
  splits: dict[str, Prompts]
  num_dims: int = 1
  at: Callable[[dict[str, Any]], "Data"] | None = None
  policies: tuple[str, ...] = ("grid", "normal", "mixture", "digits")
  policy_options: dict[str, Any] = field(default_factory=dict)


def generated(
  sample: Callable[..., Prompts],
  eval_size: int,
  task_seed: int,
  num_dims: int = 1,
  *,
  train_size: int | None = None,
  fields: dict[str, Any] | None = None,
  **options: Any,
) -> Data:
  """Data whose fixed splits come from the distribution of training prompts.

  Args:
    sample: (key, B, options by name) → Prompts.
    eval_size: prompts in each fixed split.
    task_seed: of the fixed splits.
    num_dims: D.
    train_size: number of training prompts; None: every batch is fresh.
    fields: further fields of `Data`.
    options: numbers that may vary between the runs of one program.
  """
  ranges.at_least(1, eval_size=eval_size)
  draw: Callable[[Array, int], Prompts] = functools.partial(sample, **options)
  again = functools.partial(
    generated,
    sample,
    eval_size,
    task_seed,
    num_dims,
    train_size=train_size,
    fields=fields,
  )
  keys = jax.random.split(jax.random.key(task_seed), 3)
  compiled = jax.jit(draw, static_argnums=1)

  def at(others: dict[str, Any]) -> Data:
    return again(**options | others)

  splits = base.drawn_splits(compiled, keys, eval_size)
  if train_size is not None:
    pool = splits["train"] = compiled(keys[0], train_size)
    draw = lambda key, batch: base.uniform_rows(key, pool, batch)  # noqa: E731
  return Data(draw, splits, num_dims, at, **fields or {})


def normal_prompts(x: Array, y: Array, clean: Array, sigma: Array) -> Prompts:
  """Prompts whose reference is N(clean, σ)."""
  reference = densities.norm.logpdf(y, clean, sigma).sum(-1)
  return Prompts(x, Target(y, clean, sigma, reference))


@dataclass(frozen=True, kw_only=True)
class RegressionTask(Task):
  """Regression data with a noise model; [D, N] numbers per prompt.

  Attributes:
    data: the prompts.
    likelihood: the noise model.
    per_prompt: use each prompt's σ (`Target.noise_scale`).
    tolerance: pass@k counts a prediction this close to the target as right.
  """

  data: Data
  likelihood: Likelihood
  per_prompt: bool = False
  tolerance: float = 0.5

  def noise_scale(self, target: Any, learned: Array | None) -> Array:
    """σ [D]: the policy's, the prompt's or the likelihood's."""
    if learned is not None:
      return learned
    if self.per_prompt:
      return target.noise_scale
    return jnp.full(target.y.shape, self.likelihood.scale, target.y.dtype)

  def log_likelihoods(
    self, target: Any, predictions: Array, learned: Array | None = None
  ) -> Array:
    """log l [D, N] ≤ 0 of predictions [D, N]; `learned` is σ [D] or None."""
    residuals = target.y[:, None] - predictions
    return jax.vmap(self.likelihood.log_likelihoods)(
      residuals, self.noise_scale(target, learned)
    )

  def log_pass_rate(self, target: Any, policy: Components) -> Array:
    """log E[l], [D]."""
    each = jax.vmap(marginals.log_pass_rate, (None, 0, 0, 0))
    noise = self.noise_scale(target, policy.noise_scale)
    return each(self.likelihood, target.y, policy, noise)

  def rewards(self, target: Any, predictions: Array) -> Array:
    """−(y − ŷ)²/2, [D, N]."""
    return -((target.y[:, None] - predictions) ** 2) / 2

  def at(self, hyper: dict[str, Array]) -> "RegressionTask":
    """The task at other values of `task.*` and `likelihood.*`."""
    blocks: dict[str, dict[str, Array]] = {"task": {}, "likelihood": {}}
    for name, value in hyper.items():
      block, _, option = name.partition(".")
      if block in blocks:
        blocks[block][option] = value
    data, likelihood = self.data, self.likelihood
    if blocks["task"] and data.at is not None:
      data = data.at(blocks["task"])
    for scale in blocks["likelihood"].values():  # Or `width`, of a window.
      likelihood = likelihood.at(scale)
    return _regression(data, likelihood, self.per_prompt, self.tolerance)


def task(
  data: Data,
  likelihood: Likelihood,
  *,
  per_prompt: bool = False,
  tolerance: float = 0.5,
) -> RegressionTask:
  """Regression data scored by a likelihood.

  Args:
    data: from a function of `regression_data`, or your own.
    likelihood: from `likelihoods`.
    per_prompt: use each prompt's σ (`Target.noise_scale`), which must not be
      below `likelihood.smallest_scale`.
    tolerance: pass@k counts a prediction this close to y as right.

  Raises:
    ValueError: a target is not finite, a σ is below the smallest, or the
      tolerance is not above 0.
  """
  _check_data(data, likelihood, per_prompt)
  ranges.above_zero(tolerance=tolerance)
  return _regression(data, likelihood, per_prompt, tolerance)


def _regression(
  data: Data, likelihood: Likelihood, per_prompt: bool, tolerance: float
) -> RegressionTask:
  def likelihoods(target: Any, predictions: Array) -> Array:
    return jnp.exp(built.log_likelihoods(target, predictions))

  built = RegressionTask(
    draw=data.draw,
    likelihoods=likelihoods,
    splits=data.splits,
    policies=data.policies,
    policy_options={"num_dims": data.num_dims} | data.policy_options,
    data=data,
    likelihood=likelihood,
    per_prompt=per_prompt,
    tolerance=tolerance,
  )
  return built


def prompts(
  x: Array,
  y: Array,
  *,
  clean: Array | None = None,
  noise_scale: Array | None = None,
  log_reference: Array | None = None,
) -> Prompts:
  """Prompts of your own data: inputs x [B, …], targets y [B, D].

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
  probe = jax.jit(data.draw, static_argnums=1)(jax.random.key(0), 256)
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
    smallest = float(np.min(prompts.targets.noise_scale))
    least = likelihood.smallest
    if per_prompt and not smallest >= least * (1 - 1e-6):
      raise ValueError(
        f"likelihood.smallest_scale = {least}: a {name} prompt has noise of"
        f" scale {smallest:.4g}; set it to that or below"
      )


def _check_shapes(name: str, prompts: Prompts, num_dims: int) -> None:
  """Wrong shapes would broadcast, and silently train something else."""
  target = prompts.targets
  count = target.y.shape[0]
  if not count:
    raise ValueError(f"{name} targets: y is empty, must have at least one row")
  wanted = {
    "y": (count, num_dims),
    "clean": (count, num_dims),
    "noise_scale": (count, num_dims),
    "log_reference": (count,),
  }
  for part, shape in wanted.items():
    actual = np.shape(getattr(target, part))
    if actual != shape:
      raise ValueError(
        f"{name} targets: {part} has shape {actual}, must be"
        f" {'[B, D]' if len(shape) > 1 else '[B]'} = {shape} with"
        f" num_dims = {num_dims}"
      )


def log_ceiling(task: Task) -> float | None:
  """log l plus this is a log density, in nats; None without a noise model."""
  if isinstance(task, RegressionTask):
    return float(task.likelihood.log_ceiling)
  return None
