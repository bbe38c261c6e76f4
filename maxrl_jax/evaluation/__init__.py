"""What a policy or an estimator turned out to be, exactly where p is known."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from maxrl_jax.config import fields
from maxrl_jax.evaluation import coverage as _coverage
from maxrl_jax.evaluation import regression as _regression
from maxrl_jax.evaluation import sampled as _sampled
from maxrl_jax.evaluation import streamed as _streamed
from maxrl_jax.evaluation.coverage import (
  PassRates,
  coverage,
  graded_pass_at_k,
  gradient_norms,
  pass_at_k,
  pass_rates,
  sampling_efficiency,
)
from maxrl_jax.evaluation.moments import (
  Moments,
  enumerated_moments,
  exact_gradient,
  sampled_moments,
)
from maxrl_jax.evaluation.sampled import sampled_likelihoods, success_counts
from maxrl_jax.learning.training import Train, TrainState
from maxrl_jax.tasks.base import Prompts

__all__ = [
  "Moments",
  "PassRates",
  "coverage",
  "enumerated_moments",
  "exact_gradient",
  "graded_pass_at_k",
  "gradient_norms",
  "make_evaluate",
  "pass_at_k",
  "pass_rates",
  "sampled_likelihoods",
  "sampled_moments",
  "sampling_efficiency",
  "success_counts",
]


def make_evaluate(
  train: Train, ks: Sequence[int], rollouts: int | None = None
) -> Callable:
  """Compiles (split, states with the run axis first) → metrics, each [runs].

  Means over the split's prompts: `coverage.metrics` of tasks that are right or
  wrong, `regression.metrics` of those with a noise model, `sampled.metrics` of
  those whose pass rate only rollouts tell. What the host has to read, it reads
  each time, once.

  Args:
    train: what made the states.
    ks: k of pass@k; the last kind leaves out those above `rollouts`.
    rollouts: a prompt, for the last kind; the others do not sample.

  Raises:
    ValueError: `rollouts` is needed and missing, or the task has no such split.
  """
  metrics = (_regression if train.task.is_regression else _coverage).metrics
  if train.task.log_pass_rate is None:
    if train.task.stream is not None:
      raise ValueError(
        "task.log_pass_rate = None: a task whose prompts the host reads needs"
        " it to be evaluated"
      )
    if rollouts is None:
      raise ValueError("rollouts = None: this task's pass rate must be sampled")
    ks = tuple(k for k in ks if k <= rollouts)
    metrics = functools.partial(_sampled.metrics, num=rollouts)

  if train.task.stream is not None:
    return _streamed.make_evaluate(train, ks)

  return _in_memory(train, metrics, ks)


def _in_memory(
  train: Train, metrics: Callable[..., dict[str, jax.Array]], ks: Sequence[int]
) -> Callable:
  @functools.cache
  def prompts_of(split: str) -> Callable[[dict[str, Any]], Prompts]:
    """Values of fields [runs] → prompts [runs, M, …], [1, M, …] if shared."""
    if train.task_varies:
      return jax.jit(jax.vmap(lambda own: train.task_of(own).splits[split]))
    shared = jax.tree.map(lambda x: x[None], train.task.splits[split])
    return lambda varied: shared

  # Prompts are arguments, not constants: splits of one size are one program.
  @functools.partial(jax.jit, out_shardings=train.layout.everywhere())
  def evaluate(
    prompts: Prompts, params: Any, varied: dict[str, Any]
  ) -> dict[str, jax.Array]:
    def one(run: jax.Array) -> dict[str, jax.Array]:
      own_prompts, own_params, own = jax.tree.map(
        lambda x: x[run % x.shape[0]], (prompts, params, varied)
      )
      task = train.task_of(own)
      return metrics(train.policy, task, own_params, own_prompts, ks)

    return lax.map(one, jnp.arange(jax.tree.leaves(params)[0].shape[0]))

  # jit sorts dictionaries by name; pass@k reads better by k.
  def in_order(split: str, states: TrainState) -> dict[str, np.ndarray]:
    fields.choice(train.task.splits, "split", split)
    prompts = prompts_of(split)(states.varied)
    found = evaluate(prompts, states.params, states.varied)
    names = [f"pass@{k}" for k in ks]
    names += [name for name in found if name not in names]
    return {name: np.asarray(found[name]) for name in names}

  return in_order
