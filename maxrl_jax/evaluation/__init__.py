"""What a policy or an estimator turned out to be, exactly where p is known."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax

from maxrl_jax.evaluation import coverage as _coverage
from maxrl_jax.evaluation import regression as _regression
from maxrl_jax.evaluation import sampled as _sampled
from maxrl_jax.evaluation import streamed as _streamed
from maxrl_jax.evaluation.coverage import (
  PassRates,
  coverage,
  exact_pass_at_k,
  gradient_norms,
  majority_vote,
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
from maxrl_jax.evaluation.sampled import success_counts
from maxrl_jax.tasks.base import Prompts
from maxrl_jax.training import Train, TrainState

__all__ = [
  "Moments",
  "PassRates",
  "coverage",
  "enumerated_moments",
  "exact_gradient",
  "exact_pass_at_k",
  "gradient_norms",
  "majority_vote",
  "make_evaluate",
  "pass_at_k",
  "pass_rates",
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
    ValueError: `rollouts` is needed and missing.
  """
  metrics = (_regression if train.task.is_regression else _coverage).metrics
  if train.task.log_pass_rate is None:
    if rollouts is None:
      raise ValueError("rollouts = None: this task's pass rate must be sampled")
    ks = tuple(k for k in ks if k <= rollouts)
    metrics = functools.partial(_sampled.metrics, num=rollouts)

  if train.task.stream is not None:
    return _streamed.make_evaluate(train, ks)

  # Splits are arguments, not constants: those of one size are one program.
  # Only where runs have tasks of their own are they made in it, by name.
  @functools.partial(
    jax.jit, static_argnums=0, out_shardings=train.layout.everywhere()
  )
  def evaluate(
    own: str | None, prompts: Prompts, params: Any, varied: dict[str, Any]
  ) -> dict[str, jax.Array]:
    def one(params: Any, varied: dict[str, Any]) -> dict[str, jax.Array]:
      task = train.task_of(varied)
      these = prompts if own is None else task.splits[own]
      return metrics(train.policy, task, params, these, ks)

    return lax.map(lambda run: one(*run), (params, varied))

  # jit sorts dictionaries by name; pass@k reads better by k.
  def in_order(split: str, states: TrainState) -> dict[str, np.ndarray]:
    own, prompts = (
      split if train.task_varies else None,
      train.task.splits[split],
    )
    found = evaluate(own, prompts, states.params, states.varied)
    names = [f"pass@{k}" for k in ks]
    names += [name for name in found if name not in names]
    return {name: np.asarray(found[name]) for name in names}

  return in_order
