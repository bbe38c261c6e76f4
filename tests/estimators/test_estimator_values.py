"""Advantages by hand, special cases that coincide, and precision."""

import math

import jax
import numpy as np
import pytest

from maxrl_jax import estimators
from tests.support.estimator_groups import BINARY, GRADED, assert_same

# By hand


def test_rloo_and_similar_estimators_by_hand():
  # l̄ = 1/2, σ² = (1/4 + 1/16 + 1/16)/3 = 1/8
  l = np.array([0, 3 / 4, 3 / 4])
  assert_same(estimators.reinforce(l), l, 1e-7)
  assert_same(estimators.dr_grpo(l), [-1 / 2, 1 / 4, 1 / 4], 1e-6)
  assert_same(estimators.rloo(l), [-3 / 4, 3 / 8, 3 / 8], 1e-6)
  root = math.sqrt(8)
  assert_same(estimators.grpo(l), [-root / 2, root / 4, root / 4], 1e-6)
  assert_same(
    estimators.grpo(l, epsilon=1 - 1 / root), [-1 / 2, 1 / 4, 1 / 4], 1e-6
  )
  assert_same(estimators.self_normalized(l), [-1, 1 / 2, 1 / 2], 1e-6)


def test_maxrl_by_hand():
  # The weights and baselines of order 2 in test_symmetric.
  l = np.array([1, 1 / 2, 0, 1 / 4])
  weighted = np.array([7 / 4, 19 / 24, 0, 3 / 8])
  subtracted = {
    "centred": np.array([11 / 24, 3 / 4, 7 / 8, 5 / 6]),
    "none": 0,
    "average_score": 1,
    0.25: 0.25,
    # ω_j times the mean of the others: 1/4, 5/12, 7/12, 1/2
    "loo_mean": np.array([7 / 16, 95 / 144, 119 / 144, 3 / 4]),
  }

  @jax.jit
  def every(l):
    return [estimators.maxrl(l, order=2, baseline=b) for b in subtracted]

  for got, b in zip(every(l), subtracted.values(), strict=True):
    assert_same(got, weighted - b, 1e-6)


def test_tail_rl_by_hand():
  # Thresholds up to 1/2: r̄ = 3/4, A = (−1, 1/3, 1/3, 1/3); from there to 1:
  # r̄ = 1/4, A = (−1, −1, −1, 3). Half of each.
  got = estimators.tail_rl(np.array([1 / 2, 1, 0, 1 / 2]))
  assert_same(got, [-1 / 3, 5 / 3, -1, -1 / 3], 1e-6)


def test_vimco_by_hand():
  l = np.array([0.5, 0.125, 0.5])
  others = [0.625 + 0.25, 1.0 + 0.5, 0.625 + 0.25]  # With geometric means.
  expected = 3 * (np.log(1.125 / 3) - np.log(np.array(others) / 3))
  assert_same(estimators.vimco(l), expected, 1e-6)


# Special cases


def test_order_1_is_rloo(x64):
  @jax.jit
  def order_1(l):
    return (
      estimators.maxrl(l, order=1),
      estimators.maxrl(l, order=1, baseline="loo_mean"),
      estimators.pass_at_k(l, k=1),
      estimators.power(l, alpha=1),
      estimators.power(l, alpha=0.3, order=1),
    )

  for got in order_1(GRADED):
    assert_same(got, estimators.rloo(GRADED), 1e-14)


def test_order_N_minus_1_is_algorithm_1_for_binary_rewards(x64):
  @jax.jit
  def algorithm_1(r):
    return (
      estimators.maxrl(r),
      estimators.maxrl(r == 1),
      estimators.maxrl(r, order=5, method="scan"),
      estimators.maxrl_paper(r),
      estimators.self_normalized(r),
      estimators.tail_rl(r),
      estimators.power(r, alpha=0),
    )

  for got in algorithm_1(BINARY):
    assert_same(got, (BINARY - BINARY.mean()) / BINARY.mean(), 1e-13)


def test_power_0_is_maxrl(x64):
  @jax.jit
  def both(l):
    return [
      (estimators.power(l, alpha=0, order=T), estimators.maxrl(l, order=T))
      for T in (None, 2, 6)
    ]

  for power, maxrl in both(GRADED):
    assert_same(power, maxrl, 1e-13)


# Precision


def test_vimco_is_accurate_in_large_groups():
  """N (L − L_j) with each mean recomputed in float64."""
  l = np.random.default_rng(5).random(1024).astype(np.float32)
  wide = l.astype(np.float64)
  expected = []
  for j in range(0, 1024, 93):
    others = np.delete(wide, j)
    without = (others.sum() + np.exp(np.log(others).mean())) / 1024
    expected.append(1024 * np.log(wide.mean() / without))
  actual = np.asarray(jax.jit(estimators.vimco)(l))[::93]
  np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("scale", [1.0, 2.0**-124])
def test_grpo_is_accurate_for_close_likelihoods(scale):
  rng = np.random.default_rng(6)
  l = (1 - 1e-5 * rng.random(64)).astype(np.float32)
  l = np.where(rng.random(64) < 0.1, l / 2, l) if scale < 1 else l
  l = (scale * l).astype(np.float32)
  wide = l.astype(np.float64)
  expected = (wide - wide.mean()) / wide.std()
  actual = jax.jit(estimators.grpo)(l)
  np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=1e-5)
