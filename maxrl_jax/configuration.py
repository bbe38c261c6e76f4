"""What a config means: the task, policy, optimizer and loss that it names.

Names are looked up in plain dictionaries; a name, an option or a number that
cannot be meant is a ValueError that says which field, what value and what the
choices are, before anything compiles.
"""

import functools
import inspect
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from maxrl_jax import batch_losses
from maxrl_jax.estimators import (
  ANY_REWARD,
  ESTIMATORS,
  LOG_ESTIMATORS,
  LOG_PATHWISE,
  PATHWISE,
)
from maxrl_jax.likelihoods import LIKELIHOODS
from maxrl_jax.objectives import OBJECTIVES
from maxrl_jax.policies import POLICIES
from maxrl_jax.tasks import REGRESSION, TASKS, Task, regression

Array = jax.Array


def make_task(config) -> Task:
  """The task that config.task names, with the options that are set."""
  names = TASKS | REGRESSION
  make = _choice(names, "task.name", config.task.name)
  made = _build(names, "task", config.task.name, _options(config.task))
  if make is not REGRESSION.get(config.task.name):
    for option, value in _options(config.likelihood).items():
      raise ValueError(
        f"likelihood.{option} = {value}: task {config.task.name!r} is right or"
        " wrong by itself; only regression has a noise model"
      )
    return made
  options = _options(config.likelihood)
  per_prompt = options.pop("per_prompt", False)
  learned = options.pop("learned", None)  # The policy's business.
  if "smallest_scale" in options and not (per_prompt or learned):
    raise ValueError(
      f"likelihood.smallest_scale = {options['smallest_scale']}: means nothing"
      " but for likelihood.per_prompt or likelihood.learned"
    )
  name = config.likelihood.name or "gaussian"
  likelihood = _build(LIKELIHOODS, "likelihood", name, options)
  return regression.task(made, likelihood, per_prompt=per_prompt)


def make_policy(config, task: Task) -> nn.Module:
  """The policy that config.policy names, sized for the task."""
  name = config.policy.name or task.policies[0]
  _choice(POLICIES, "policy.name", name)
  if name not in task.policies:
    raise ValueError(
      f"policy.name = {name!r}: task {config.task.name!r} takes"
      f" {list(task.policies)}"
    )
  options = _options(config.policy)
  for field in ("hidden", "channels"):
    widths = options.get(field, ())
    if not all(isinstance(w, int) and w >= 1 for w in widths):
      raise ValueError(
        f"policy.{field} = {widths}: must be whole numbers of at least 1"
      )
  options |= task.policy_options
  if task.is_regression:
    options |= _decoder_options(config, task)
  policy = _build(POLICIES, "policy", name, options)
  if task.is_regression:
    policy.check()
    _check_coverage(policy, task)
  return policy


def _decoder_options(config, task: Task) -> dict[str, Any]:
  """What a policy needs to know to learn the noise model's σ."""
  learned = config.likelihood.learned
  if learned is None:
    return {}
  _choice({"input": 0, "global": 0}, "likelihood.learned", learned)
  if config.likelihood.name in ("tolerance", "exact_match"):
    raise ValueError(
      f"likelihood.learned = {learned!r}: {config.likelihood.name!r} has no"
      " noise scale to learn"
    )
  least, start = task.likelihood.smallest_scale, task.likelihood.scale
  if least >= start or config.likelihood.per_prompt:
    raise ValueError(
      f"likelihood.learned = {learned!r}: needs smallest_scale below scale ="
      f" {start}, where σ starts, and no per_prompt"
    )
  return {
    "learned_scale": learned,
    "smallest_scale": least,
    "initial_scale": start,
  }


def _check_coverage(policy: nn.Module, task: Task) -> None:
  """Raises ValueError at a target that no value of the policy can explain."""
  values = policy.values()
  if values is None:
    return
  likelihood = task.likelihood
  for name, prompts in task.splits.items():
    y, sigma = (np.asarray(prompts.targets.y).ravel(), likelihood.scale)
    at = np.clip(np.searchsorted(values, y), 1, len(values) - 1)
    nearest = np.minimum(np.abs(y - values[at - 1]), np.abs(y - values[at]))
    log_l = np.asarray(likelihood.log_shape(jnp.asarray(nearest / sigma)))
    if log_l.min() < -12.5:  # Five σ of a Gaussian.
      row = int(np.argmin(log_l))
      raise ValueError(
        f"policy {type(policy).__name__.lower()}: a {name} target is"
        f" {y[row]:.4g}, {nearest[row]:.3g} from the nearest of"
        f" {len(values)} values between policy.low = {policy.low} and"
        f" policy.high = {policy.high}, and its likelihood is 0 at"
        f" likelihood scale {sigma:g}; widen the range, or take more values"
      )


def make_optimizer(config) -> optax.GradientTransformation:
  """Gradient → step direction; the caller multiplies by the learning rate."""
  block = config.optimizer
  parts = {
    "sgd": lambda: [optax.trace(block.momentum)] if block.momentum else [],
    "adam": lambda: [optax.scale_by_adam()],
    "adamw": lambda: [
      optax.scale_by_adam(),
      optax.add_decayed_weights(block.weight_decay),
    ],
  }
  rules = _choice(parts, "optimizer.name", block.name)()
  decay = config.steps - block.warmup
  schedules = {
    "cosine": lambda: optax.cosine_decay_schedule(1.0, max(decay, 1)),
    "constant": lambda: optax.constant_schedule(1.0),
  }
  schedule = _choice(schedules, "optimizer.schedule", block.schedule)()
  if block.warmup:
    # From 1/warmup, so that no step is wasted on a rate of zero.
    rise = optax.linear_schedule(1 / block.warmup, 1.0, block.warmup - 1)
    schedule = optax.join_schedules([rise, schedule], [block.warmup])
  clip = (
    []
    if block.clip_norm is None
    else [optax.clip_by_global_norm(block.clip_norm)]
  )
  return optax.chain(*clip, *rules, optax.scale_by_schedule(schedule))


# Objectives of the exact pass rate, by the name a config gives them.
EXACT = {
  f"exact_{name}": make
  for name, make in OBJECTIVES.items()
  if name != "maximum_likelihood"
}


def make_loss(config, task: Task, policy: nn.Module):
  """(params, key, prompts [B]) → (loss, metrics of the batch)."""
  name = config.estimator.name
  options = _options(config.estimator)
  factorized = options.pop("factorized", False)
  if factorized and not task.is_regression:
    raise ValueError(
      f"estimator.factorized = True: task {config.task.name!r} has no target"
      " dimensions"
    )
  if name == "cross_entropy":  # log p itself, finite where p underflows.
    _check_options("estimator", name, lambda: None, options)
    return batch_losses.exact(lambda log_p: log_p, policy, task)
  if name == "mse":
    _check_options("estimator", name, lambda: None, options)
    _require_regression(config, task, "estimator.name = 'mse'")
    if config.likelihood.learned is not None:
      raise ValueError(
        f"likelihood.learned = {config.likelihood.learned!r}: 'mse' has no"
        " gradient for a noise scale"
      )
    if factorized:
      raise ValueError(
        "estimator.factorized = True: 'mse' is a sum over dimensions anyway"
      )
    return batch_losses.mean_squared_error(policy)
  if name in EXACT:
    value = _build(EXACT, "estimator", name, options).value
    on_log = lambda log_p: value(_inside(jnp.exp(log_p)))  # noqa: E731
    return batch_losses.exact(on_log, policy, task, factorized=factorized)
  names = ESTIMATORS | EXACT | {"cross_entropy": None, "mse": None}
  _choice(names, "estimator.name", name)
  return _sampled_loss(config, task, policy, options, factorized)


def _sampled_loss(config, task, policy, options, factorized):
  """The policy-gradient loss of an estimator of `ESTIMATORS`."""
  name = config.estimator.name
  signal = options.pop("signal", "likelihood")
  _choice({"likelihood": 0, "reward": 0}, "estimator.signal", signal)
  function = ESTIMATORS[name]
  _check_options("estimator", name, function, options)
  if signal == "reward":
    _require_regression(config, task, "estimator.signal = 'reward'")
    if task.rewards is None:
      raise ValueError("estimator.signal = 'reward': the task has no rewards")
    if name not in ANY_REWARD:
      raise ValueError(
        f"estimator.signal = 'reward': {name!r} needs likelihoods in [0, 1];"
        f" any reward suits {sorted(ANY_REWARD)}"
      )
    options["bounded"] = False
    field = "rewards"
  elif name in LOG_ESTIMATORS and task.is_regression:
    function, field = LOG_ESTIMATORS[name], "log_likelihoods"
  else:
    field = "likelihoods"
  pathwise = None
  if config.likelihood.learned is not None:
    pathwise = _pathwise(config, name, signal, options)
  estimator = functools.partial(function, **options)
  # Estimators check their options where they are traced: do it before.
  try:
    jax.eval_shape(estimator, jnp.zeros(config.rollouts))
  except (TypeError, ValueError) as error:
    raise ValueError(
      f"estimator.name = {name!r}, rollouts = {config.rollouts}: {error}"
    ) from None
  return batch_losses.sampled(
    estimator,
    policy,
    task,
    config.rollouts,
    signal=field,
    factorized=factorized,
    pathwise=pathwise,
  )


def _pathwise(config, name: str, signal: str, options):
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


def _require_regression(config, task: Task, what: str) -> None:
  if not task.is_regression:
    raise ValueError(f"{what}: task {config.task.name!r} is no regression")


def _inside(p: Array) -> Array:
  """p off the ends of [0, 1], where rounding lands but w(p) may be infinite."""
  limits = jnp.finfo(p.dtype)
  return jnp.clip(p, limits.tiny, 1 - limits.epsneg)


def check(config) -> None:
  """Raises ValueError at the first number that cannot be meant."""
  for name in ("runs", "steps", "batch_size", "rollouts", "log_every"):
    if config[name] < 1:
      raise ValueError(f"{name} = {config[name]}: must be at least 1")
  if config.steps % config.log_every:
    raise ValueError(
      f"log_every = {config.log_every}: must divide steps = {config.steps}"
    )
  if config.eval_every < 1 or config.eval_every % config.log_every:
    raise ValueError(
      f"eval_every = {config.eval_every}: must be a multiple of"
      f" log_every = {config.log_every}"
    )
  if not 0 <= config.seed < 2**31 - config.runs:
    raise ValueError(f"seed = {config.seed}: must be from 0 to 2^31 - runs - 1")
  _check_optimizer(config.optimizer)
  if not 0 <= config.optimizer.warmup < config.steps:
    raise ValueError(
      f"optimizer.warmup = {config.optimizer.warmup}: must be at least"
      f" 0 and below steps = {config.steps}"
    )


def _check_optimizer(block) -> None:
  decays = block.name == "adamw"
  for name, holds, allowed in (
    ("learning_rate", 0 < block.learning_rate < float("inf"), "above 0"),
    ("momentum", 0 <= block.momentum < 1, "in [0, 1)"),
    ("weight_decay", block.weight_decay >= 0, "at least 0"),
    ("weight_decay", decays or not block.weight_decay, "0 but for adamw"),
    ("clip_norm", block.clip_norm is None or block.clip_norm > 0, "above 0"),
  ):
    if not holds:
      raise ValueError(f"optimizer.{name} = {block[name]}: must be {allowed}")


def _options(block) -> dict[str, Any]:
  """The fields of a config block that are set, less its name."""
  return {
    name: value
    for name, value in block.items()
    if name != "name" and value is not None
  }


def _choice(choices, field: str, name: str):
  if name not in choices:
    raise ValueError(f"{field} = {name!r}: choose from {sorted(choices)}")
  return choices[name]


def _build(choices, block: str, name: str, options: dict[str, Any]):
  make = _choice(choices, f"{block}.name", name)
  _check_options(block, name, make, options)
  return make(**options)


def _check_options(block: str, name: str, make, options) -> None:
  """Names the option that `make` does not take, or misses."""
  parameters = inspect.signature(make).parameters
  for option, value in options.items():
    if option not in parameters:
      hidden = {"likelihoods", "mask", "method", "name", "parent"}
      hidden |= {"num_actions", "initial_logits", "bounded", "num_dims"}
      if block == "policy":
        hidden |= {"learned_scale", "smallest_scale", "initial_scale"}
        hidden |= {"spread", "least_policy_scale", "width"}
      taken = sorted(set(parameters) - hidden)
      raise ValueError(
        f"{block}.{option} = {value}: {name!r} takes {taken or 'no options'}"
      )
  for option, parameter in parameters.items():
    required = parameter.default is inspect.Parameter.empty
    if required and option not in options and option != "likelihoods":
      raise ValueError(f"{block}.{option} is not set: {name!r} needs it")
