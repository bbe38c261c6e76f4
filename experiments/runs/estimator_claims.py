"""The gradient that each estimator says it estimates, on one prompt.

An estimator is held against its own words, those of its docstring and of the
README's table; `experiments.gradient_study` studies what is named here.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from maxrl_jax import evaluation, objectives

Array = jax.Array


class Case(NamedTuple):
  """Group size N, order T or K, α, and whether l is more than 0 or 1."""

  rollouts: int
  order: int
  alpha: float
  graded: bool


class Claim(NamedTuple):
  """What an estimate is held against.

  Attributes:
    target: in words; → before what only ever larger groups come to.
    gradient: (logits [C], likelihoods [C]) → ∇ [C]; None where the estimator
      claims nothing, and the target says why.
  """

  target: str
  gradient: Callable[[Array, Array], Array] | None


def _of_pass_rate(
  target: str, objective: objectives.Objective, factor: float = 1.0
) -> Claim:
  """`factor` times the gradient of an objective of p = E[l]."""

  def gradient(logits: Array, likelihoods: Array) -> Array:
    return factor * evaluation.exact_gradient(objective, logits, likelihoods)

  return Claim(target, gradient)


def _rl(case: Case) -> Claim:
  del case
  return _of_pass_rate("p", objectives.rl())


def _dr_grpo(case: Case) -> Claim:
  return _of_pass_rate("(1 − 1/N) p", objectives.rl(), 1 - 1 / case.rollouts)


def _grpo(case: Case) -> Claim:
  if case.graded:
    return Claim("none: l is graded", None)
  return _of_pass_rate("→ 2 arcsin √p", objectives.grpo())


def _maxrl(case: Case) -> Claim:
  return _of_pass_rate(f"MaxRL T={case.order}", objectives.maxrl(case.order))


def _self_normalized(case: Case) -> Claim:
  del case
  return _of_pass_rate("→ log p", objectives.maximum_likelihood())


def _maxrl_paper(case: Case) -> Claim:
  if case.graded:
    return _self_normalized(case)
  return _maxrl(case._replace(order=case.rollouts - 1))


def _pass_at_k(case: Case) -> Claim:
  return _of_pass_rate(f"pass@{case.order}", objectives.pass_at_k(case.order))


def _power(case: Case) -> Claim:
  whole = objectives.power(case.alpha)
  assert whole.coefficients is not None
  series = objectives.series(whole.coefficients(case.order))
  return _of_pass_rate(f"power {case.alpha:g} T={case.order}", series)


def _tail_rl(case: Case) -> Claim:
  order = case.rollouts - 1
  gradient = functools.partial(_over_thresholds, objectives.maxrl(order))
  return Claim(f"∫ MaxRL T={order} of P(l ≥ τ) dτ", gradient)


def _over_thresholds(
  objective: objectives.Objective, logits: Array, likelihoods: Array
) -> Array:
  """∇ ∫ J(P(l ≥ τ)) dτ: between two likelihoods P(l ≥ τ) does not change."""
  l = np.asarray(likelihoods, float)
  total = 0 * logits
  below = 0.0
  for level in np.unique(l[l > 0]):
    above = l >= level
    if not above.all():  # P = 1 has no slope, and may be rounded beyond 1.
      of_level = evaluation.exact_gradient(objective, logits, above)
      total += (level - below) * of_level
    below = level
  return total


CLAIMS: dict[str, Callable[[Case], Claim]] = {
  "reinforce": _rl,
  "rloo": _rl,
  "dr_grpo": _dr_grpo,
  "grpo": _grpo,
  "maxrl": _maxrl,
  "maxrl_paper": _maxrl_paper,
  "pass_at_k": _pass_at_k,
  "power": _power,
  "tail_rl": _tail_rl,
  "self_normalized": _self_normalized,
}
