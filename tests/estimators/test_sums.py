"""Several rewards: expectations over every outcome of a policy."""

import functools
import math

import jax
import numpy as np
import pytest

from maxrl_jax import estimators
from tests.support import oracles
from tests.support.estimator_groups import assert_same

LOGITS = np.array([0.4, -0.6, 0.9, 0.1])
POLICY = oracles.softmax(LOGITS)
# Right answers are long or short; every action has a cost in [0, 1].
SUCCESS = np.array([1.0, 1.0, 0.0, 0.0])
LENGTH = np.array([5.0, 1.0, 9.0, -2.0])
COST = np.array([0.3, 0.0, 1.0, 0.1])
VALUE = np.array([0.2, 0.9, 0.5, 0.5])
N = 4


def expectation(advantages):
  """E[mean_j A_j S_j] of (success, length, cost, value) [N] → A [N]."""
  groups, probability, scores = oracles.outcomes(LOGITS, N)
  signals = (x[groups] for x in (SUCCESS, LENGTH, COST, VALUE))
  A = jax.jit(jax.vmap(advantages))(*signals)
  return np.einsum("g,gn,gna->a", probability, A, scores) / N


def slope(values):
  """∇E[values]."""
  return POLICY * (values - POLICY @ values)


def truncated(p, T):
  return sum((1 - p) ** k for k in range(T))


def test_a_sum_estimates_the_sum_of_its_objectives(x64):
  maxrl = functools.partial(estimators.maxrl, order=2)
  rloo = functools.partial(estimators.rloo, bounded=False)

  def advantages(success, length, cost, value):
    parts = [(1, success, maxrl), (-0.1, length, rloo)]
    return estimators.combine(parts)

  p = POLICY @ SUCCESS
  expected = truncated(p, 2) * slope(SUCCESS) - 0.1 * slope(LENGTH)
  assert_same(expectation(advantages), expected)


@pytest.mark.parametrize("T", [1, 3])
def test_success_less_cost(T, x64):
  """∇(J_T(p) − J_T(q)), q = E[cost]."""
  maxrl = functools.partial(estimators.maxrl, order=T)

  def advantages(success, length, cost, value):
    parts = [(1.0, success, maxrl), (-1.0, cost, maxrl)]
    return estimators.combine(parts)

  p, q = POLICY @ SUCCESS, POLICY @ COST
  expected = truncated(p, T) * slope(SUCCESS) - truncated(q, T) * slope(COST)
  assert_same(expectation(advantages), expected)


def test_a_success_gate_estimates_the_mean_given_success(x64):
  """P(K ≥ 2) ∇E[length | success], which failures have no part in."""
  rloo = functools.partial(estimators.rloo, bounded=False)
  p = POLICY @ SUCCESS
  mean = POLICY @ (SUCCESS * LENGTH) / p
  of_mean = POLICY * SUCCESS / p * (LENGTH - mean)
  one = N * p * (1 - p) ** (N - 1)
  enough = 1 - (1 - p) ** N - one
  actual = expectation(
    lambda success, length, cost, value: estimators.given_success(
      length, success, rloo
    )
  )
  assert_same(actual, enough * of_mean)
  # Without N/K, as a mask alone: p (1 − q^{N−1}) of it.
  actual = expectation(
    lambda success, length, cost, value: rloo(length, mask=success > 0)
  )
  assert_same(actual, p * (1 - (1 - p) ** (N - 1)) * of_mean)


def test_a_gate_of_maxrl_estimates_every_group_size(x64):
  """Σ_K P(K) w_{K−1}(v) ∇v, v = E[value | success]."""
  p = POLICY @ SUCCESS
  v = POLICY @ (SUCCESS * VALUE) / p
  of_v = POLICY * SUCCESS / p * (VALUE - v)
  chances = [math.comb(N, K) * p**K * (1 - p) ** (N - K) for K in range(N + 1)]
  weight = sum(chances[K] * truncated(v, K - 1) for K in range(2, N + 1))
  actual = expectation(
    lambda success, length, cost, value: estimators.given_success(
      value, success, estimators.maxrl
    )
  )
  assert_same(actual, weight * of_v)


def test_a_product_is_the_success_times_the_mean_given_success(x64):
  """MaxRL of success · value: p' = P(success) E[value | success]."""
  gated = SUCCESS * VALUE
  p, v = POLICY @ SUCCESS, POLICY @ (gated) / (POLICY @ SUCCESS)
  of_v = POLICY * SUCCESS / p * (VALUE - v)
  # ∇(p v) = v ∇p + p ∇v
  expected = truncated(p * v, 3) * (v * slope(SUCCESS) + p * of_v)
  assert_same(
    expectation(
      lambda success, length, cost, value: estimators.maxrl(success * value)
    ),
    expected,
  )


def test_gate_by_hand_and_masked():
  success, length = np.array([1, 0, 1, 1]), np.array([-3.0, 9.0, -1.0, np.nan])
  rloo = functools.partial(estimators.rloo, bounded=False)
  mask = np.array([True, True, True, False])
  gate = functools.partial(estimators.given_success, estimator=rloo)
  expected = np.array([-2, 0, 2, 0]) * 3 / 2
  assert_same(gate(length, success, mask=mask), expected, 1e-6)
  compiled = jax.jit(lambda s, r, m: gate(s, r, mask=m))
  assert_same(compiled(length, success, mask), expected, 1e-6)
  # A lone success, or none.
  assert not gate(length[:3], success=np.array([1, 0, 0])).any()
  assert not gate(length[:3], success=np.zeros(3)).any()


def test_signals_have_one_size():
  parts = [
    (1.0, np.array([1, 0, 0]), estimators.maxrl),
    (1.0, np.array([0.5]), estimators.reinforce),
  ]
  with pytest.raises(ValueError, match=r"parts\[1\]: a signal of shape \(1,"):
    estimators.combine(parts)


def test_errors_name_what_is_wrong():
  with pytest.raises(ValueError, match="parts: empty"):
    estimators.combine([])
  with pytest.raises(ValueError, match=r"parts\[0\]: has 2 entries, must be"):
    estimators.combine([(1.0, np.ones(2))])
  wrong = [(1.0, np.ones(2), estimators.rloo), (1.0, np.ones(2), "maxrl")]
  with pytest.raises(ValueError, match=r"parts\[1\]: 'maxrl' must be a func"):
    estimators.combine(wrong)
  for bad in (0.5, 2.0, np.nan):
    with pytest.raises(
      ValueError, match=rf"success\[1\] = {bad}: must be 0 or"
    ):
      estimators.given_success(LENGTH[:2], np.array([1, bad]), estimators.rloo)


def test_normalizing_each_reward_is_what_gdpo_does_before_the_batch():
  """GRPO of a sum cannot tell 0, 1 from 0, 2 (arXiv 2601.05242); a sum can."""
  right, short = np.array([0.0, 1.0]), np.array([0.0, 1.0])
  nothing = np.zeros(2)
  whole = functools.partial(estimators.grpo, bounded=False)
  assert_same(whole(right + short), whole(right + nothing), 1e-6)

  def decoupled(second):
    parts = [(1.0, right, estimators.grpo), (1.0, second, estimators.grpo)]
    return estimators.combine(parts)

  assert_same(decoupled(nothing), [-1, 1], 1e-6)
  assert_same(decoupled(short), [-2, 2], 1e-6)
