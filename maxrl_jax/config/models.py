"""The task and the policy that a config names."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from maxrl_jax.config import fields
from maxrl_jax.likelihoods import LIKELIHOODS, Likelihood
from maxrl_jax.policies import POLICIES, Transformer, qwen2
from maxrl_jax.tasks import REGRESSION, TASKS, Task, regression


def make_task(config: ConfigDict) -> Task:
  """The task that config.task names, with the options that are set."""
  name = config.task.name
  fields.choice(TASKS | REGRESSION, "task.name", name)
  options = fields.options(config.task)
  seed = options.get("task_seed", 0)
  if not 0 <= seed < 2**31:
    raise ValueError(f"task.task_seed = {seed}: must be from 0 to 2^31 - 1")
  if name in REGRESSION:
    tolerance = {k: options.pop(k) for k in ("tolerance",) if k in options}
    data = fields.build(REGRESSION, "task", name, options)
    return regression.task(data, **_noise_model(config), **tolerance)
  noise = fields.options(config.likelihood)
  if config.likelihood.name is not None:
    noise = {"name": repr(config.likelihood.name)} | noise
  for option, value in noise.items():
    raise ValueError(
      f"likelihood.{option} = {value}: task {name!r} is right or wrong by"
      " itself; only regression has a noise model"
    )
  return fields.build(TASKS, "task", name, options)


def _noise_model(config: ConfigDict) -> dict[str, Any]:
  """What config.likelihood says, as options of `regression.task`."""
  options = fields.options(config.likelihood)
  per_prompt = options.pop("per_prompt", False)
  learned = options.pop("learned", None)  # The policy's business.
  if "smallest_scale" in options and not (per_prompt or learned):
    raise ValueError(
      f"likelihood.smallest_scale = {options['smallest_scale']}: means nothing"
      " but for likelihood.per_prompt or likelihood.learned"
    )
  name = config.likelihood.name or "gaussian"
  likelihood = fields.build(LIKELIHOODS, "likelihood", name, options)
  return {"likelihood": likelihood, "per_prompt": per_prompt}


def make_policy(config: ConfigDict, task: Task) -> nn.Module:
  """The policy that config.policy names, sized for the task."""
  name = config.policy.name or task.policies[0]
  fields.choice(POLICIES, "policy.name", name)
  if name not in task.policies:
    raise ValueError(
      f"policy.name = {name!r}: task {config.task.name!r} takes"
      f" {list(task.policies)}"
    )
  options = fields.options(config.policy)
  for field in ("hidden", "channels", "stages"):
    widths = options.get(field, ())
    if not all(isinstance(w, int) and w >= 1 for w in widths):
      raise ValueError(
        f"policy.{field} = {widths}: must be whole numbers of at least 1"
      )
  checkpoint = options.pop("checkpoint", None)
  if checkpoint is not None:
    options = _architecture(name, checkpoint, task) | options
  options |= task.policy_options
  if task.is_regression:
    options |= _decoder_options(config, task)
  policy = fields.build(POLICIES, "policy", name, options)
  if hasattr(policy, "check"):
    policy.check()
  if task.is_regression:
    _check_coverage(policy, task)
  return policy


def _architecture(name: str, checkpoint: str, task: Task) -> dict[str, Any]:
  """What a checkpoint says of the policy; the config may repeat it."""
  if name != "transformer":
    raise ValueError(
      f"policy.checkpoint = {checkpoint!r}: only 'transformer' starts from a"
      f" checkpoint, not {name!r}"
    )
  found = qwen2.architecture(checkpoint)
  vocabulary = task.policy_options["vocab_size"]
  if found["vocab_size"] != vocabulary:
    raise ValueError(
      f"policy.checkpoint = {checkpoint!r}: its vocabulary has"
      f" {found['vocab_size']} tokens, the task's has {vocabulary}"
    )
  return found


def initial_params(config: ConfigDict, policy: nn.Module) -> Any:
  """The parameters of config.policy.checkpoint; None where none is named."""
  if config.policy.checkpoint is None:
    return None
  assert isinstance(policy, Transformer)
  return qwen2.load(config.policy.checkpoint, policy)


def _decoder_options(config: ConfigDict, task: Task) -> dict[str, Any]:
  """What a policy needs to know to learn the noise model's σ."""
  learned = config.likelihood.learned
  if learned is None:
    return {}
  fields.choice({"input": 0, "global": 0}, "likelihood.learned", learned)
  if config.likelihood.name in ("tolerance", "exact_match"):
    raise ValueError(
      f"likelihood.learned = {learned!r}: {config.likelihood.name!r} has no"
      " noise scale to learn"
    )
  assert task.likelihood is not None
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


def _check_width(policy: nn.Module, likelihood: Likelihood) -> None:
  """Raises ValueError where no draw from a continuum can hit a target."""
  if float(likelihood.log_shape(jnp.float32(1e-30))) == -np.inf:
    raise ValueError(
      "likelihood.name = 'exact_match': no draw of policy"
      f" {type(policy).__name__.lower()!r} ever equals a target; take"
      " policy.name = 'grid' or 'digits', or likelihood.name = 'tolerance'"
    )


def _check_coverage(policy: nn.Module, task: Task) -> None:
  """Raises ValueError at a target that no value of the policy can explain."""
  values, likelihood = policy.values(), task.likelihood
  assert likelihood is not None and task.noise_scale is not None
  if values is None:
    _check_width(policy, likelihood)
    return
  for name, prompts in task.splits.items():
    y = np.asarray(prompts.targets.y).ravel()
    sigma = np.asarray(task.noise_scale(prompts.targets, None)).ravel()
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
        f" likelihood scale {sigma[row]:g}; widen the range, or take more"
        " values"
      )
