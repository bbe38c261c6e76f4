"""What a policy or an estimator turned out to be, exactly where p is known."""

import functools
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import numpy as np
from jax import lax

from maxrl_jax.evaluation import coverage as _coverage
from maxrl_jax.evaluation import regression as _regression
from maxrl_jax.evaluation.coverage import (
  PassRates,
  coverage,
  exact_pass_at_k,
  gradient_norms,
  majority_vote,
  pass_at_k,
  pass_rates,
)
from maxrl_jax.evaluation.moments import (
  Moments,
  enumerated_moments,
  exact_gradient,
  sampled_moments,
)
from maxrl_jax.tasks import Task

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
]


def make_evaluate(policy: nn.Module, task: Task, ks: Sequence[int]) -> Callable:
  """Compiles (split, params with the run axis first) → metrics, each [runs].

  Means over the split's prompts: `coverage.metrics` of tasks that are right or
  wrong, `regression.metrics` of those with a noise model.
  """
  metrics = (_regression if task.is_regression else _coverage).metrics

  @functools.partial(jax.jit, static_argnums=0)
  def evaluate(split: str, params):
    return lax.map(lambda one: metrics(policy, task, one, split, ks), params)

  # jit sorts dictionaries by name; pass@k reads better by k.
  def in_order(split, params) -> dict[str, np.ndarray]:
    found = evaluate(split, params)
    names = [f"pass@{k}" for k in ks]
    names += [name for name in found if name not in names]
    return {name: np.asarray(found[name]) for name in names}

  return in_order
