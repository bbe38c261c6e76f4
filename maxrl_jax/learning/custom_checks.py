"""A task and a policy of one's own, held to what training asks of them.

Shapes are traced, nothing is computed or compiled: wrong ones would broadcast,
and train something else in silence, or fail far from their cause.
"""

import warnings
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from maxrl_jax.learning import rollouts
from maxrl_jax.tasks.base import Prompts, Task


def check_types(task: Any, policy: Any) -> None:
  """Raises ValueError at what is no task, or no policy; None is neither."""
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
      f"policy: is a {type(policy).__name__}, must be a Flax Linen module"
    )


def check(task: Task, policy: nn.Module, batch: int, num: int) -> None:
  """Raises ValueError at a method that is missing or gives another shape.

  Args:
    task: with `draw` and `splits`.
    policy: a module with the methods that `policies` lists.
    batch: B.
    num: N.
  """
  example = jax.tree.map(lambda x: x[:1], task.splits["validation"])
  _check_draws(task, example, batch)
  _check_methods(task, policy)
  drawn = _drawn(task, policy, example, num)
  dims = np.shape(example.targets.y)[1:] if task.is_regression else ()
  found: Any  # What is one's own may give anything.
  for what, found in (
    (f"policy {type(policy).__name__}: {_scores(policy)[0]}", drawn.log_probs),
    ("task: likelihoods", drawn.likelihoods),
    *([("task: rewards", drawn.rewards)] if task.rewards else []),
  ):
    if not hasattr(found, "shape"):
      raise ValueError(f"{what} gives {type(found).__name__}, must be an array")
    if found.shape != (1, *dims, num):
      raise ValueError(
        f"{what} has shape {found.shape[1:]} for one prompt, must be"
        f" {'[D, N]' if dims else '[N]'} = {(*dims, num)}"
      )


def _scores(policy: nn.Module) -> tuple[str, ...]:
  """Methods that say how likely actions are."""
  is_sequence = getattr(policy, "is_sequence", False)
  return ("score",) if is_sequence else ("log_prob", "decode")


def _check_methods(task: Task, policy: nn.Module) -> None:
  # Exact pass rates are sums over the policy's whole distribution.
  exact = () if task.log_pass_rate is None else ("components",)
  numbers = ("has_free_scale",) if task.is_regression else ()
  methods = ("sample", *_scores(policy), *exact, *numbers)
  for method in methods:
    if not hasattr(policy, method):
      raise ValueError(
        f"policy {type(policy).__name__} has no method {method!r}; this task"
        f" needs {', '.join(methods)}"
      )


def _drawn(
  task: Task, policy: nn.Module, example: Prompts, num: int
) -> rollouts.Rollouts:
  """Shapes of N rollouts of one prompt."""

  def draw(key: jax.Array) -> rollouts.Rollouts:
    params = policy.init(key, example.inputs)
    return rollouts.sample_batch(key, policy, params, example, task, num)

  try:
    return jax.eval_shape(draw, jax.random.key(0))
  except (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
  ) as error:
    raise ValueError(
      "task or policy: needs values while it is compiled; Python and NumPy, as"
      " in a verifier, are to be called back by jax.pure_callback"
      f" ({str(error).splitlines()[0]})"
    ) from None


def _check_draws(task: Task, example: Prompts, batch: int) -> None:
  """Training prompts have the shapes of those that are evaluated."""
  draw = task.draw
  assert draw is not None  # What a stream reads is not checked.
  traced, drawn = jax.make_jaxpr(
    lambda key: draw(key, batch), return_shape=True
  )(jax.random.key(0))
  _check_prompts("task.draw", drawn)
  used = [v for eqn in traced.jaxpr.eqns for v in eqn.invars]
  if traced.jaxpr.invars[0] not in used:
    warnings.warn(
      "task.draw: makes no use of its key, so that every step has the same"
      " batch; NumPy's randomness, for one, is drawn once and never again",
      stacklevel=2,
    )
  for field in ("inputs", "targets"):
    ours, theirs = (
      [np.shape(x) for x in jax.tree.leaves(getattr(prompts, field))]
      for prompts in (drawn, example)
    )
    wanted = [(batch, *shape[1:]) for shape in theirs]
    if ours != wanted:
      raise ValueError(
        f"task.draw: {field} have shapes {ours}, must be {wanted}: [B, …] with"
        f" B = {batch}, the rest as in the split 'validation'"
      )


def _check_prompts(what: str, found: Any) -> None:
  if not isinstance(found, Prompts):
    raise ValueError(
      f"{what}: is a {type(found).__name__}, must be tasks.Prompts(inputs,"
      " targets)"
    )
