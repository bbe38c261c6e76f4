"""The gradient that each estimator estimates, in closed form.

`experiments.gradient_study` compares estimates with these.
"""

from typing import NamedTuple

from maxrl_jax import objectives
from maxrl_jax.objectives import Objective


class Setting(NamedTuple):
  """Group size N, order T or K, α, and whether l is graded or binary."""

  rollouts: int
  order: int
  alpha: float
  graded: bool


class Estimand(NamedTuple):
  """∇ of factor · J(p), or of factor · ∫ J(P(l ≥ τ)) dτ.

  Attributes:
    target: a short description; starts with → if reached only as N → ∞.
    objective: J; None if no closed form is known.
    factor: of J.
    over_thresholds: whether J is integrated over thresholds τ of l.
  """

  target: str
  objective: Objective | None
  factor: float = 1.0
  over_thresholds: bool = False


def rl(setting: Setting) -> Estimand:
  """∇p."""
  del setting
  return Estimand("p", objectives.rl())


def dr_grpo(setting: Setting) -> Estimand:
  """(1 − 1/N) ∇p."""
  return Estimand("(1 − 1/N) p", objectives.rl(), 1 - 1 / setting.rollouts)


def grpo(setting: Setting) -> Estimand:
  """∇ 2 arcsin √p, in the limit of large groups of binary l."""
  if setting.graded:
    return Estimand("none: l is graded", None)
  return Estimand("→ 2 arcsin √p", objectives.grpo())


def maxrl(setting: Setting) -> Estimand:
  """∇J_T."""
  order = setting.order
  return Estimand(f"MaxRL T={order}", objectives.maxrl(order))


def self_normalized(setting: Setting) -> Estimand:
  """∇log p, in the limit of large groups."""
  del setting
  return Estimand("→ log p", objectives.maximum_likelihood())


def maxrl_paper(setting: Setting) -> Estimand:
  """∇J_{N−1} for binary l; as `self_normalized` for graded."""
  if setting.graded:
    return self_normalized(setting)
  return maxrl(setting._replace(order=setting.rollouts - 1))


def pass_at_k(setting: Setting) -> Estimand:
  """∇ pass@K."""
  k = setting.order
  return Estimand(f"pass@{k}", objectives.pass_at_k(k))


def power(setting: Setting) -> Estimand:
  """The gradient of the power-α series truncated at T."""
  alpha, order = setting.alpha, setting.order
  coefficients = objectives.power(alpha).coefficients
  assert coefficients is not None
  series = objectives.series(coefficients(order))
  return Estimand(f"power {alpha:g} T={order}", series)


def tail(setting: Setting) -> Estimand:
  """∇ ∫ J_T(P(l ≥ τ)) dτ, for `estimators.tail` with `order`."""
  order = setting.order
  return Estimand(
    f"∫ MaxRL T={order} of P(l ≥ τ) dτ",
    objectives.maxrl(order),
    over_thresholds=True,
  )


def tail_rl(setting: Setting) -> Estimand:
  """∇ ∫ J_{N−1}(P(l ≥ τ)) dτ."""
  return tail(setting._replace(order=setting.rollouts - 1))
