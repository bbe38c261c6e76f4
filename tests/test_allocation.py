"""Rollouts per prompt against every other allocation, and their activity."""

import itertools
import math

import jax
import numpy as np
import pytest

from maxrl_jax import objectives
from maxrl_jax.allocation import allocate


def pass_at(p, num):
  return 1 - (1 - p) ** num


@pytest.mark.parametrize("smallest", [0, 1, 2])
@pytest.mark.parametrize(
  "rates", [[0.01, 0.3, 0.9], [0.5, 0.05, 0.2], [0.0, 0.4, 1.0]]
)
def test_no_allocation_has_more_expected_solved_prompts(rates, smallest):
  p, total = np.array(rates), 12
  num = allocate(p, total, smallest=smallest)
  assert num.sum() == total and num.min() >= smallest
  choices = range(smallest, total + 1)
  best = max(
    pass_at(p, np.array(other)).sum()
    for other in itertools.product(choices, repeat=3)
    if sum(other) == total
  )
  assert pass_at(p, num).sum() == pytest.approx(best, abs=1e-12)


def test_by_hand():
  # p (1−p)^N: .5, .25, .125 for N = 0, 1, 2 of the first, .2, .16, .128.
  assert allocate([0.5, 0.2], 5, smallest=0).tolist() == [2, 3]
  # The sixth: .125 beside .1024.
  assert allocate([0.5, 0.2], 6, smallest=0).tolist() == [3, 3]


def test_maximizes_activity_too():
  p, total = np.array([0.03, 0.2, 0.6]), 14
  totals = {
    other: float(
      sum(objectives.activity(x, n) for x, n in zip(p, other, strict=True))
    )
    for other in itertools.product(range(2, total), repeat=3)
    if sum(other) == total
  }
  num = tuple(allocate(p, total).tolist())
  assert totals[num] == pytest.approx(max(totals.values()), rel=1e-6)


def test_hopeless_and_solved_prompts_share_what_is_left():
  assert allocate([0, 1, 0.3], 9).tolist() == [2, 2, 5]
  assert allocate([0, 0, 1], 8).tolist() == [3, 3, 2]
  # (1−p)^N underflows, and ties alternate.
  assert allocate([0.999, 0.999], 1001, smallest=1).tolist() == [501, 500]


@pytest.mark.parametrize(
  ("rates", "total", "message"),
  [
    ([0.5, 1.5], 8, r"pass_rates = .*1\.5.*: must be \[B\], in \[0, 1\]"),
    ([0.5, float("nan")], 8, "pass_rates"),
    (0.5, 8, "pass_rates"),
    ([0.5, 0.5], 10.0, "total = 10.0: must be a whole number"),
    ([0.5, 0.5], 3, "total = 3: must be at least 4, 2 for each of 2 prompts"),
  ],
)
def test_error_names_an_invalid_argument(rates, total, message):
  with pytest.raises(ValueError, match=message):
    allocate(rates, total)


def test_error_names_a_negative_number_of_rollouts():
  with pytest.raises(ValueError, match="smallest = -1: must be at least 0"):
    allocate([0.5, 0.1], 4, smallest=-1)


@pytest.mark.parametrize("num", [1, 2, 5, 16])
def test_activity_is_the_mean_size_of_an_advantage(num):
  """Over K, with Algorithm 1's (r − r̄)/r̄, 0 where no rollout succeeds."""
  for p in (0.0, 0.07, 0.5, 0.97, 1.0):
    expected = 0.0
    for k in range(1, num + 1):
      chance = math.comb(num, k) * p**k * (1 - p) ** (num - k)
      success, failure = num / k - 1, 1
      expected += chance * (k * success + (num - k) * failure) / num
    actual = objectives.activity(p, num)
    assert float(actual) == pytest.approx(expected, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("num", [2, 4, 64, 1024])
def test_peak_of_activity(num):
  peak = 1 - num ** (-1 / (num - 1))
  around = np.array([peak * 0.99, peak, peak * 1.01])
  with jax.enable_x64(True):
    below, top, above = objectives.activity(around, num)
    assert top > below and top > above
    # N q^{N−1} = 1 there.
    expected = 2 * (1 - peak) * (1 - 1 / num)
    np.testing.assert_allclose(top, expected, rtol=1e-12)


def test_activity_of_rare_successes_is_accurate():
  # 2 (N−1) p, to first order in p.
  actual = objectives.activity(np.float32(1e-10), 9)
  assert float(actual) == pytest.approx(16e-10, rel=1e-6)


def test_activity_needs_a_rollout():
  with pytest.raises(ValueError, match="num = 0: must be at least 1"):
    objectives.activity(0.5, 0)
