"""A task and a policy of one's own, held to what training asks of them.

Shapes are traced, nothing is computed or compiled: wrong ones would broadcast,
and train something else in silence, or fail far from their cause.
"""

import flax.linen as nn
import jax
import numpy as np

from maxrl_jax import rollouts
from maxrl_jax.tasks.base import Prompts, Task


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
  name = type(policy).__name__
  is_sequence = getattr(policy, "is_sequence", False)
  scores = ("score",) if is_sequence else ("log_prob", "decode")
  # Exact pass rates are sums over the policy's whole distribution.
  exact = () if task.log_pass_rate is None else ("components",)
  numbers = ("has_free_scale",) if task.is_regression else ()
  methods = ("sample", *scores, *exact, *numbers)
  for method in methods:
    if not hasattr(policy, method):
      raise ValueError(
        f"policy {name} has no method {method!r}; this task needs"
        f" {', '.join(methods)}"
      )

  def draw(key: jax.Array) -> tuple[jax.Array | None, ...]:
    params = policy.init(key, example.inputs)
    drawn = rollouts.sample_batch(key, policy, params, example, task, num)
    return drawn.log_probs, drawn.likelihoods, drawn.rewards

  log_probs, likelihoods, rewards = jax.eval_shape(draw, jax.random.key(0))
  dims = np.shape(example.targets.y)[1:] if task.is_regression else ()
  for what, found in (
    (f"policy {name}: {scores[0]}", log_probs),
    ("task: likelihoods", likelihoods),
    ("task: rewards", rewards),
  ):
    if found is not None and found.shape != (1, *dims, num):
      raise ValueError(
        f"{what} has shape {found.shape[1:]} for one prompt, must be"
        f" {'[D, N]' if dims else '[N]'} = {(*dims, num)}"
      )


def _check_draws(task: Task, example: Prompts, batch: int) -> None:
  """Training prompts have the shapes of those that are evaluated."""
  draw = task.draw
  assert draw is not None  # What a stream reads is not checked.
  drawn = jax.eval_shape(lambda key: draw(key, batch), jax.random.key(0))
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
