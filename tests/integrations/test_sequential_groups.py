"""Waves until a success in NumPy: by hand, and against the JAX estimator."""

import functools
import math
import uuid

import jax
import numpy as np
import pytest

from maxrl_jax import estimators
from maxrl_jax.integrations.groups import sequential

BASELINES = [*estimators.SEQUENTIAL_BASELINES, 0.25]
each_baseline = pytest.mark.parametrize("baseline", BASELINES)

# Prompt a: waves of 2 and 3, K = 2. b: one wave, all of whom succeed. c: never
# solved, waves of 1 and 2.
ROWS = [
  *(("a", 0, 0), ("a", 0, 0), ("a", 1, 1), ("a", 1, 1), ("a", 1, 0)),
  *(("b", 4, 1), ("b", 4, 1)),
  *(("c", -1, 0), ("c", 7, 0), ("c", 7, 0)),
]
BY_HAND = {
  "none": [0, 0, 5 / 2, 5 / 2, 0, 1, 1, 0, 0, 0],
  "leave_one_out": [0, 0, 5 / 6, 5 / 6, -5 / 3, 0, 0, 0, 0, 0],
  "centred": [0, 0, 5 / 6, 5 / 6, -5 / 3, 0, 0, 0, 0, 0],
  "average_score": [
    *(-5 / 2, -5 / 2, 5 / 6, 5 / 6, -5 / 3),
    *(0, 0),
    *(-3, -3 / 2, -3 / 2),
  ],
  0.25: [
    *(-5 / 8, -5 / 8, 25 / 12, 25 / 12, -5 / 12),
    *(3 / 4, 3 / 4),
    *(-3 / 4, -3 / 8, -3 / 8),
  ],
}


@each_baseline
@pytest.mark.parametrize("seed", [None, 0, 1])
def test_by_hand_in_any_order(baseline, seed):
  order = np.arange(len(ROWS))
  if seed is not None:
    order = np.random.default_rng(seed).permutation(len(ROWS))
  ids, waves, rewards = zip(*(ROWS[i] for i in order), strict=True)
  expected = np.array(BY_HAND[baseline])
  actual = sequential(rewards, ids, waves, baseline=baseline)
  assert actual.dtype == np.float32
  np.testing.assert_allclose(actual, expected[order], rtol=1e-6)
  # Ten rollouts of three prompts: 10/3 on average, instead of 5, 2 and 3.
  n = np.array([5] * 5 + [2] * 2 + [3] * 3)
  batch = sequential(rewards, ids, waves, baseline=baseline, average="batch")
  np.testing.assert_allclose(batch, (expected * 10 / 3 / n)[order], rtol=1e-6)


def test_a_lone_success_is_spared_by_leave_one_out():
  rewards, ids = [1, 0, 0, 1, 0], ["x", "y", "x", "y", "y"]
  actual = sequential(rewards, ids, [0] * 5)
  np.testing.assert_allclose(actual, [2, -1, -1, 3, -1], rtol=1e-6)
  actual = sequential(rewards, ids, [0] * 5, baseline="centred")
  np.testing.assert_allclose(actual, [1, -1, -1, 2, -1], rtol=1e-6)


@pytest.fixture
def batch():
  """Ragged waves of interleaved prompts, some masked, some after a success."""
  rng = np.random.default_rng(0)
  prompt, wave = rng.integers(0, 9, 200), rng.integers(0, 5, 200)
  rewards = rng.random(200) < 0.15
  return rewards, prompt, wave, rng.random(200) < 0.8


@functools.cache
def _estimator(baseline):
  def call(rewards, waves, mask):
    return estimators.sequential(rewards, waves, mask=mask, baseline=baseline)

  return jax.jit(call)


@each_baseline
def test_equals_the_jax_estimator(baseline, batch):
  rewards, prompt, wave, mask = batch
  ids = np.array([str(uuid.UUID(int=int(i))) for i in prompt], object)
  masked = np.where(mask, rewards, np.nan)
  actual = sequential(masked, ids, wave, mask=mask, baseline=baseline)
  assert not actual[~mask].any()
  successes = [
    rewards[mask & (prompt == i) & (wave == w)].any()
    for i in range(9)
    for w in range(5)
  ]
  assert sum(successes) > 9  # Some prompts have more than one such wave.
  for i in range(9):
    mine = prompt == i
    pad = 64 - mine.sum()
    padded = [np.pad(x[mine], (0, pad)) for x in (rewards, wave, mask)]
    expected = _estimator(baseline)(*padded)[: mine.sum()]
    np.testing.assert_allclose(actual[mine], expected, rtol=1e-5, atol=1e-6)


def test_nothing_left_by_the_mask():
  actual = sequential([1, 0], ["a", "a"], [0, 0], mask=[False, False])
  assert actual.tolist() == [0, 0]
  actual = sequential(
    [1, 0, 1], list("aab"), [0, 0, 0], mask=[True, True, False], average="batch"
  )
  np.testing.assert_allclose(actual, [2, -1, 0])


@pytest.mark.parametrize(
  ("changed", "message"),
  [
    ({"rewards": [0, 0.5, 1]}, r"rewards\[1\] = 0.5: must be 0 or 1"),
    ({"rewards": [0, math.nan, 1]}, r"rewards\[1\] = nan: must be 0 or 1"),
    ({"waves": [0, 1]}, r"waves: int64 \(2,\), must be integers \[R\], R = 3"),
    ({"waves": [0, 0.5, 1]}, r"waves: float64 \(3,\), must be integers"),
    ({"groups": ["a", "b"]}, "groups: shape"),
    ({"groups": None}, "groups, num: neither given"),
    ({"mask": [True]}, "mask: shape"),
    ({"baseline": "mean"}, "baseline = 'mean': choose from .*or a number"),
    ({"baseline": [1, 2, 3]}, r"baseline: shape \(3,\), must be a number"),
    ({"baseline": math.inf}, "baseline = inf: must be a finite number"),
    ({"average": "token"}, "average = 'token': choose from"),
  ],
)
def test_error_names_an_invalid_argument(changed, message):
  call = {"rewards": [0, 1, 0], "groups": ["a", "a", "b"], "waves": [0, 1, 0]}
  with pytest.raises(ValueError, match="^" + message):
    sequential(**(call | changed))
