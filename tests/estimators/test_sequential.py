"""Waves of rollouts until a success: by hand, special cases, errors."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxrl_jax import estimators
from tests.support.estimator_groups import BINARY, GRADED, assert_same

sequential = estimators.sequential
BASELINES = [*estimators.SEQUENTIAL_BASELINES, 0.25]
each_baseline = pytest.mark.parametrize("baseline", BASELINES)

# By hand: n = 7; the third wave, of 4, has K = 2 successes.
SUCCESS = np.array([0, 0, 0, 1, 0, 1, 0], bool)
WAVES = np.array([0, 0, 1, 2, 2, 2, 2])
BY_HAND = {
  "none": np.array([0, 0, 0, 1 / 2, 0, 1 / 2, 0]),
  "leave_one_out": np.array([0, 0, 0, 1 / 4, -1 / 4, 1 / 4, -1 / 4]),
  "centred": np.array([0, 0, 0, 1 / 4, -1 / 4, 1 / 4, -1 / 4]),
  "average_score": np.array([-1 / 2, -1 / 2, -1, 1 / 4, -1 / 4, 1 / 4, -1 / 4]),
  0.25: np.array([-1 / 8, -1 / 8, -1 / 4, 7 / 16, -1 / 16, 7 / 16, -1 / 16]),
}


@each_baseline
@pytest.mark.parametrize("dtype", [bool, np.int32, np.float32])
def test_by_hand(baseline, dtype):
  actual = sequential(SUCCESS.astype(dtype), WAVES, baseline=baseline)
  assert_same(actual, 7 * BY_HAND[baseline], 3e-6)


def test_a_lone_success_by_hand():
  """Of three; nobody else has success, so leave-one-out spares it."""
  expected = {
    "none": [3, 0, 0],
    "leave_one_out": [3, -1, -1],
    "centred": [2, -1, -1],
    "average_score": [2, -1, -1],
  }
  for baseline, by_hand in expected.items():
    actual = sequential(
      [True, False, False], np.zeros(3, int), baseline=baseline
    )
    assert_same(actual, by_hand, 1e-6)


def test_graded_by_hand():
  # Waves of one: ω = 1 and 1/m = 1, without a baseline for 'leave_one_out'.
  l, each = np.array([0.25, 0.5, 0.5]), np.arange(3)
  for baseline, b in (("leave_one_out", 0), ("none", 0), ("centred", l)):
    assert_same(sequential(l, each, baseline=baseline), 3 * (l - b), 1e-6)
  # A wave of two: ω = 2 (1 − l'/2), b = l' and 1 − q q'.
  l = np.array([0.25, 0.5])
  weighted = l * np.array([1.5, 1.75])
  for baseline, b in (
    ("leave_one_out", np.array([0.5, 0.25])),
    ("centred", 1 - 0.75 * 0.5),
    ("average_score", 1),
  ):
    actual = sequential(l, [4, 4], baseline=baseline)
    assert_same(actual, weighted - b, 1e-6)
  # Over orders, in waves of one: in proportion to the odds, 1/3, 1 and 1/4.
  l = np.array([0.25, 0.5, 0.2])
  odds = np.array([1 / 3, 1, 1 / 4])
  actual = sequential(l, each, solved=True, baseline="none")
  assert_same(actual, 3 * odds / odds.sum(), 1e-6)
  actual = sequential(l, each, solved=False, baseline="none")
  assert_same(actual, np.zeros(3), 0)


# Special cases


@each_baseline
@pytest.mark.parametrize("l", [GRADED, BINARY, BINARY == 1, GRADED[:1]])
def test_one_wave_is_maxrl(l, baseline):
  waves = np.full(len(l), 3)
  actual = sequential(l, waves, baseline=baseline)
  if baseline == "centred":
    ones = 1 - np.prod(1 - np.asarray(l, float))
    expected = estimators.maxrl(l, order=len(l), baseline=0) - ones
  elif baseline == "leave_one_out" and len(l) > 1:
    expected = estimators.maxrl(l, order=len(l))
  elif baseline == "leave_one_out":
    expected = l
  else:
    expected = estimators.maxrl(l, order=len(l), baseline=baseline)
  assert_same(actual, expected, 3e-6)
  if baseline == "centred" and l.dtype == bool:
    assert_same(actual, estimators.maxrl_paper(l), 1e-6)


@each_baseline
def test_never_solved(baseline):
  waves = np.array([0, 0, 1, 2, 2, 2])
  sizes = np.array([2, 2, 1, 3, 3, 3])
  b = {"average_score": 1, 0.25: 0.25}.get(baseline, 0)
  for dtype in (bool, float):
    actual = sequential(np.zeros(6, dtype), waves, baseline=baseline)
    assert_same(actual, -b * 6 / sizes, 1e-6)


@each_baseline
@pytest.mark.parametrize("dtype", [bool, float])
def test_a_wave_in_which_all_succeed(baseline, dtype):
  b = {"none": 0, 0.25: 0.25}.get(baseline, 1)
  l = np.array([1, 0, 1, 1, 0, 1]).astype(dtype)
  waves = np.array([5, 4, 5, 5, 4, 5])
  actual = np.asarray(sequential(l, waves, baseline=baseline))
  assert_same(actual[l == 1], 6 / 4 * (1 - b), 2e-6)
  alone = sequential(np.ones(1, dtype), np.zeros(1, int), baseline=baseline)
  by_hand = {"leave_one_out": 1, "none": 1, 0.25: 0.75}.get(baseline, 0)
  assert_same(alone, [by_hand], 1e-6)


@each_baseline
def test_centred_sums_to_zero_in_each_wave_and_no_other_does(baseline):
  rng = np.random.default_rng(1)
  l, waves = rng.random(12), np.repeat([0, 1, 2], [3, 4, 5])
  actual = np.asarray(sequential(l, waves, baseline=baseline))
  sums = np.array([actual[waves == i].sum() for i in range(3)])
  if baseline == "centred":
    assert_same(sums, 0, 1e-5)
  else:
    assert np.all(np.abs(sums) > 1e-3)


@each_baseline
def test_waves_after_the_first_with_a_success_are_ignored(baseline):
  l = np.array([0, 0, 1, 0, 1, 0, 1], bool)
  waves = np.array([0, 0, 1, 1, 2, 2, 2])
  early = np.asarray(sequential(l[:4], waves[:4], baseline=baseline))
  for dtype in (bool, float):
    actual = sequential(l.astype(dtype), waves, baseline=baseline)
    # n is 7, not 4: mean_j A_j S_j is the same.
    assert_same(actual, np.append(early * 7 / 4, [0, 0, 0]), 3e-6)


@each_baseline
@pytest.mark.parametrize("dtype", [bool, float])
def test_rows_in_any_order_and_waves_of_any_number(baseline, dtype):
  expected = sequential(SUCCESS.astype(dtype), WAVES, baseline=baseline)
  order = np.random.default_rng(0).permutation(7)
  top = np.iinfo(np.int32).max
  numbers = np.array([-top - 1, 3, top], np.int32)[WAVES]
  actual = sequential(
    SUCCESS.astype(dtype)[order], numbers[order], baseline=baseline
  )
  assert_same(actual, np.asarray(expected)[order], 1e-6)


@each_baseline
@pytest.mark.parametrize("garbage", [np.nan, 1.0, -3.0])
def test_masked_rollouts_change_nothing(baseline, garbage):
  mask = np.arange(10) % 3 != 1
  l, waves = np.full(10, garbage), np.zeros(10, int)
  l[mask], waves[mask] = SUCCESS, WAVES + 1
  expected = sequential(SUCCESS, WAVES, baseline=baseline)
  for number in (0, 2, np.iinfo(int).max):
    waves[~mask] = number
    actual = np.asarray(sequential(l, waves, mask=mask, baseline=baseline))
    assert_same(actual[mask], expected, 3e-6)
    assert not actual[~mask].any()
  if math.isnan(garbage):
    nothing = sequential(l, waves, mask=~mask & mask, baseline=baseline)
    assert_same(nothing, np.zeros(10), 0)


# Types


@pytest.mark.parametrize("dtype", [bool, jnp.int8, jnp.float16, jnp.bfloat16])
def test_advantages_are_in_single_precision(dtype):
  l = jax.ShapeDtypeStruct((6,), dtype)
  waves = jax.ShapeDtypeStruct((6,), np.int32)
  assert jax.eval_shape(sequential, l, waves).dtype == np.float32


def test_one_program_serves_every_constant_and_coin():
  traces = []

  @jax.jit
  def call(l, waves, solved, beta):
    traces.append(1)
    return sequential(l, waves, solved=solved, baseline=beta)

  l, waves = np.array([0.5, 0.25, 0.5], np.float32), np.array([0, 1, 1])
  for solved, beta in ((True, 0.5), (False, 1.0)):
    expected = sequential(l, waves, solved=solved, baseline=beta)
    assert_same(call(l, waves, solved, beta), expected, 1e-6)
  assert len(traces) == 1


# Errors


@pytest.mark.parametrize(
  ("changed", "message"),
  [
    ({"baseline": "mean"}, "baseline = 'mean': choose from .*or a number"),
    ({"waves": [0, 1]}, r"waves: shape \(2,\), must be \[n\] = \(3,\)"),
    ({"waves": [0.0, 1.0, 1.0]}, "waves: float64, must be integers"),
    ({"waves": [True, False, False]}, "waves: bool, must be integers"),
    ({"likelihoods": [0.5, 2.0, 0]}, r"likelihoods\[1\] = 2.0: must be in"),
    ({"likelihoods": [[0.5]] * 3}, "likelihoods: shape .* vmap"),
    ({"mask": [True]}, r"mask: shape \(1,\)"),
    ({"waves": [0, 2**31, 0]}, r"waves\[1\] = 2147483648: must fit in 32"),
    ({"solved": [True] * 3}, r"solved: shape \(3,\), must be one boolean"),
    ({"solved": True, "likelihoods": [0.5, 0, 0]}, "solved = True: all .* 1,"),
    ({"solved": False, "likelihoods": [0, 0, 1]}, r"likelihoods\[2\] = 1.0: a"),
    ({"solved": True, "likelihoods": [1, 0, 0.5]}, r"likelihoods\[0\] = 1.0"),
  ],
)
def test_error_names_an_invalid_argument(changed, message):
  call = {"likelihoods": [0.5, 0.0, 0.5], "waves": [0, 1, 1]}
  with pytest.raises(ValueError, match="^" + message):
    sequential(**(call | changed))
