"""Shape checks for your own task and policy, and checks of hyperparameters.

Shapes are traced; nothing is computed or compiled. Wrong shapes would broadcast
and silently train something else, or fail far from their cause.
"""

import warnings
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from maxrl_jax import config as configs
from maxrl_jax import ranges
from maxrl_jax.learning import rollouts
from maxrl_jax.learning.build_loss import make_loss
from maxrl_jax.policies import SequencePolicy
from maxrl_jax.tasks import Exact, Prompts, RegressionTask, Rewarded, Task


def check_types(
  task: Any, policy: Any, optimizer: Any = None, schedule: Any = None
) -> None:
  """Raises ValueError if one of your own parts has a wrong type."""
  if task is not None and not isinstance(task, Task):
    raise ValueError(f"task: is a {type(task).__name__}, must be a tasks.Task")
  for split, prompts in task.splits.items() if task is not None else ():
    _check_prompts(f"task.splits[{split!r}]", prompts)
  if isinstance(policy, type):
    raise ValueError(
      f"policy: is the class {policy.__name__}, must be a module:"
      f" {policy.__name__}(…)"
    )
  if policy is not None and not isinstance(policy, nn.Module):
    raise ValueError(
      f"policy: is a {type(policy).__name__}, must be a Flax Linen module; a"
      " network in NNX goes into integrations.nnx.Network"
    )
  if optimizer is not None and schedule is not None:
    raise ValueError("schedule: your own optimizer includes one; omit one")
  kind = optax.GradientTransformation
  if optimizer is not None and not isinstance(optimizer, kind):
    raise ValueError(
      f"optimizer: is a {type(optimizer).__name__}, must be an optax one, such"
      " as optax.adam(1e-3)"
    )
  if schedule is not None:
    _check_schedule(schedule)


def _check_schedule(schedule: Any) -> None:
  wrong = f"is a {type(schedule).__name__}"
  if callable(schedule):
    factor = jax.eval_shape(schedule, jax.ShapeDtypeStruct((), np.int32))
    wrong = f"returns {getattr(factor, 'shape', factor)}"
    if getattr(factor, "shape", None) == ():
      return
  raise ValueError(
    f"schedule: {wrong}, must be a function from the number of updates done to"
    " one number, such as optax.linear_schedule(1.0, 0.0, 1000)"
  )


def check(task: Task, policy: nn.Module, batch: int, num: int) -> None:
  """Raises ValueError if a method is missing or returns a wrong shape.

  Args:
    task: with `draw` and `splits`.
    policy: a module with the methods that `policies` lists.
    batch: B.
    num: N.
  """
  example = jax.tree.map(lambda x: x[:1], task.splits["validation"])
  _check_draws(task, example, batch)
  _check_methods(task, policy)
  drawn, scored = _drawn(task, policy, example, num)
  by_dimension = isinstance(task, RegressionTask)
  dims = np.shape(example.targets.y)[1:] if by_dimension else ()
  array: Any  # A user's functions may return anything.
  named = f"policy {type(policy).__name__}"
  draw_method, score_method, *_ = _needed(policy)
  for source, array in (
    (f"{named}: {score_method}", scored.log_probs),
    (f"{named}: {draw_method}", drawn.log_probs),
    ("task: likelihoods", drawn.likelihoods),
    *([("task: rewards", drawn.rewards)] if isinstance(task, Rewarded) else []),
  ):
    if not hasattr(array, "shape"):
      raise ValueError(
        f"{source} returns {type(array).__name__}, must be an array"
      )
    if array.shape != (1, *dims, num):
      raise ValueError(
        f"{source} has shape {array.shape[1:]} for one prompt, must be"
        f" {'[D, N]' if dims else '[N]'} = {(*dims, num)}"
      )


def _needed(policy: nn.Module) -> tuple[str, ...]:
  """Methods that draw actions, give their log-probabilities, decode them."""
  if isinstance(policy, SequencePolicy):
    return ("generate", "score")
  return ("sample", "log_prob", "decode")


def _check_methods(task: Task, policy: nn.Module) -> None:
  """Raises ValueError if the policy lacks a method that the task needs."""
  # Exact pass rates are sums over the policy's whole distribution.
  exact = ("components",) if isinstance(task, Exact) else ()
  scale = ("has_free_scale",) if isinstance(task, RegressionTask) else ()
  methods = (*_needed(policy), *exact, *scale)
  for method in methods:
    if not hasattr(policy, method):
      raise ValueError(
        f"policy {type(policy).__name__} has no method {method!r}; this task"
        f" needs {', '.join(methods)}"
      )


def _drawn(
  task: Task, policy: nn.Module, example: Prompts, num: int
) -> tuple[rollouts.Rollouts, rollouts.Rollouts]:
  """Shapes of N rollouts of one prompt, as drawn and as scored afterwards."""

  def draw(key: jax.Array) -> tuple[rollouts.Rollouts, rollouts.Rollouts]:
    params = policy.init(key, example.inputs)
    outputs = policy.apply(params, example.inputs)
    drawn = rollouts.sample_batch(
      key, policy, params, example, task, num, outputs
    )
    scored = rollouts.score_batch(
      drawn.actions, policy, params, example, task, outputs
    )
    return drawn, scored

  try:
    return jax.eval_shape(draw, jax.random.key(0))
  except (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
  ) as error:
    raise ValueError(
      "task or policy: needs values while it is compiled; call Python and NumPy"
      " code, such as a verifier, through jax.pure_callback"
      f" ({str(error).splitlines()[0]})"
    ) from None


def _check_draws(task: Task, example: Prompts, batch: int) -> None:
  """Raises ValueError unless `draw` gives prompts like those evaluated.

  Warns if it ignores its key.
  """
  draw = task.draw
  traced, drawn = jax.make_jaxpr(
    lambda key: draw(key, batch), return_shape=True
  )(jax.random.key(0))
  _check_prompts("task.draw", drawn)
  used = [v for eqn in traced.jaxpr.eqns for v in eqn.invars]
  if traced.jaxpr.invars[0] not in used:
    warnings.warn(
      "task.draw: ignores its key, so that every step has the same batch; NumPy"
      " random numbers, for example, are drawn once, while it is compiled",
      stacklevel=2,
    )
  for field in ("inputs", "targets"):
    shapes, evaluated = (
      [np.shape(x) for x in jax.tree.leaves(getattr(prompts, field))]
      for prompts in (drawn, example)
    )
    wanted = [(batch, *shape[1:]) for shape in evaluated]
    if shapes != wanted:
      raise ValueError(
        f"task.draw: {field} have shapes {shapes}, must be {wanted}: [B, …]"
        f" with B = {batch}, the rest as in the split 'validation'"
      )


def _check_prompts(source: str, value: Any) -> None:
  if not isinstance(value, Prompts):
    raise ValueError(
      f"{source}: is a {type(value).__name__}, must be tasks.Prompts(inputs,"
      " targets)"
    )


def check_learned_scale(config: ConfigDict, policy: nn.Module) -> None:
  """Raises ValueError if your own policy does not learn what a config says."""
  learned = config.likelihood.learned
  if learned is not None and getattr(policy, "learned_scale", None) != learned:
    raise ValueError(
      f"likelihood.learned = {learned!r}: your own policy has no such scale;"
      f" build it with learned_scale={learned!r}, or leave the field unset"
    )


def check_values(
  config: ConfigDict,
  hyper: dict[str, np.ndarray],
  task: Task,
  policy: nn.Module,
) -> None:
  """Raises ValueError at values [runs, …] that are invalid in a config.

  Fields of tasks are checked when a sweep is planned, by their functions, which
  may generate data.
  """
  for name, values in hyper.items():
    block = name.split(".")[0]
    if block == "likelihood":  # All that may vary are scales and degrees.
      ranges.above_zero(**{name: np.min(values)})
    if block not in ("estimator", "optimizer"):
      continue
    for value in np.unique(values, axis=0):
      changed = configs.overlay(config, {name: _plain(value)})
      configs.check(changed)
      if block == "estimator":  # No loss depends on a learning rate.
        make_loss(changed, task, policy)


def _plain(value: np.ndarray) -> Any:
  """A value as a config has it: a tuple, an int if it is whole, or a float."""
  if value.ndim:
    return tuple(value.tolist())
  number = float(value)
  return int(number) if number.is_integer() else number
