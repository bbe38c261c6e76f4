"""Metrics of policies and moments of estimators, exact where p is known.

Functions of a policy loop over batches of prompts. Called outside of `jax.jit`,
they are compiled at every call: compile them yourself where you call them again
and again. The function from `make_evaluate` is compiled once.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from maxrl_jax import ranges
from maxrl_jax.evaluation import coverage as _coverage
from maxrl_jax.evaluation import regression as _regression
from maxrl_jax.evaluation import sampled as _sampled
from maxrl_jax.evaluation import streamed as _streamed
from maxrl_jax.evaluation.coverage import (
  PassRates,
  best_at_k,
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
from maxrl_jax.tasks import Exact, Prompts, RegressionTask, Streamed, Task

__all__ = [
  "Moments",
  "PassRates",
  "best_at_k",
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

  Means over the split's prompts: `regression.metrics` with a noise model,
  `coverage.metrics` if pass rates are exact, else `sampled.metrics`. Splits
  that the host reads are read once per evaluation.

  Args:
    train: the trainer of the states.
    ks: k of pass@k; sampled metrics omit those above `rollouts`.
    rollouts: per prompt, only for sampled metrics.

  Raises:
    ValueError: `train` is not a trainer, `rollouts` is needed and missing, or
      the task has no such split.
  """
  if not isinstance(train, Train):
    raise ValueError(
      f"train: is a {type(train).__name__}, must be from make_train"
      + "; pass run.trainer" * hasattr(train, "trainer")
    )
  task = train.task
  if np.ndim(ks) != 1 or any(k != int(k) or k < 1 for k in ks):
    raise ValueError(f"ks = {ks}: must be a list of whole numbers, at least 1")
  ks = tuple(map(int, ks))
  if isinstance(task, Streamed):
    return _checked(_streamed.make_evaluate(train, ks), task)
  metrics: Callable[..., dict[str, jax.Array]]
  if isinstance(task, RegressionTask):
    metrics = _regression.metrics
  elif isinstance(task, Exact):
    metrics = _coverage.metrics
  else:
    if rollouts is None:
      raise ValueError(
        "rollouts = None: this task's pass rate must be sampled; pass"
        " rollouts=64, for example"
      )
    ranges.whole(1, rollouts=rollouts)
    ks = tuple(k for k in ks if k <= rollouts)
    metrics = functools.partial(_sampled.metrics, num=rollouts)
  return _checked(_in_memory(train, metrics, ks), task)


def _checked(evaluate: Callable, task: Task) -> Callable:
  """(split, states) → metrics, with errors that name the argument."""

  def checked(split: str, states: TrainState) -> dict[str, np.ndarray]:
    if not isinstance(split, str):
      raise ValueError(
        f"split: is a {type(split).__name__}, must be a name; evaluate takes"
        " (split, states)"
      )
    task.check_splits([split])
    if not isinstance(states, TrainState):
      raise ValueError(
        f"states: are a {type(states).__name__}, must be those that chunks"
        " yields, with the run axis first"
      )
    return evaluate(split, states)

  return checked


def _in_memory(
  train: Train, metrics: Callable[..., dict[str, jax.Array]], ks: Sequence[int]
) -> Callable:
  """(split, states) → metrics, for splits in memory."""

  @functools.cache
  def prompts_of(split: str) -> Callable[[dict[str, Any]], Prompts]:
    """Hyperparameters [runs] → prompts [runs, M, …], [1, M, …] if shared."""
    if train.task_varies:
      return jax.jit(jax.vmap(lambda hyper: train.task_at(hyper).splits[split]))
    shared = jax.tree.map(lambda x: x[None], train.task.splits[split])
    return lambda hyper: shared

  # Prompts are arguments, not constants: splits of one size are one program.
  @functools.partial(jax.jit, out_shardings=train.layout.replicated())
  def evaluate(
    prompts: Prompts, params: Any, hyper: dict[str, Any]
  ) -> dict[str, jax.Array]:
    def one(run: jax.Array) -> dict[str, jax.Array]:
      of_run = jax.tree.map(
        lambda x: x[run % x.shape[0]], (prompts, params, hyper)
      )
      prompts_of_run, params_of_run, hyper_of_run = of_run
      task = train.task_at(hyper_of_run)
      return metrics(train.policy, task, params_of_run, prompts_of_run, ks)

    return lax.map(one, jnp.arange(jax.tree.leaves(params)[0].shape[0]))

  # jit sorts dictionaries by name; pass@k reads better by k.
  def in_order(split: str, states: TrainState) -> dict[str, np.ndarray]:
    prompts = prompts_of(split)(states.hyper)
    values = evaluate(prompts, states.params, states.hyper)
    names = [f"pass@{k}" for k in ks]
    names += [name for name in values if name not in names]
    return {name: np.asarray(values[name]) for name in names}

  return in_order
