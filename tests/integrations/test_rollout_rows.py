"""Rollouts of several rows, masked rollouts and missing ids, by hand."""

import math

import numpy as np
import pytest

from maxrl_jax.integrations.groups import advantages, diagnostics
from tests.support import oracles


def test_a_rollout_of_several_rows_counts_once():
  # Four rollouts, two of which succeed: (1 − 1/2)/(1/2) = 1 for a success.
  rewards, sessions = [1, 1, 0, 1, 1, 0], [0, 0, 1, 2, 2, 3]
  got = advantages(rewards, ["uid"] * 6, rollouts=sessions)
  np.testing.assert_allclose(got, [1, 1, -1, 1, 1, -1], atol=1e-6)
  # As rows, four of six would succeed.
  rows = advantages(rewards, ["uid"] * 6)
  np.testing.assert_allclose(rows, [0.5, 0.5, -1, 0.5, 0.5, -1], atol=1e-6)


def test_a_long_rollout_counts_as_much_as_a_short_one():
  got = advantages([1] * 9 + [0], ["a"] * 10, rollouts=[0] * 9 + [1])
  np.testing.assert_allclose(got, [1] * 9 + [-1], atol=1e-6)


@pytest.mark.parametrize("kind", ["numbers", "strings", "distinct"])
def test_rows_in_any_order_and_ids_that_recur_in_other_groups(kind):
  groups = np.array(["a", "b", "a", "a", "b", "b", "a", "b"])
  sessions = np.array([0, 0, 1, 0, 2, 1, 2, 0])
  rewards = np.array([0.2, 0.9, 0.6, 0.2, 0.3, 0.0, 1.0, 0.9])
  # RLOO over the sessions of a: .2, .6, 1; of b: .9, .3, 0.
  expected = [-0.6, 0.75, 0.0, -0.6, -0.15, -0.6, 0.6, 0.75]
  ids = {
    "numbers": sessions,
    "strings": [f"session {i}" for i in sessions],
    "distinct": [f"{i}_{j}" for i, j in zip(groups, sessions, strict=True)],
  }[kind]
  got = advantages(rewards, groups, rollouts=ids, order=1)
  np.testing.assert_allclose(got, expected, atol=1e-6)


def test_one_row_per_rollout_is_the_default():
  rng = np.random.default_rng(0)
  rewards, groups = rng.random(40), rng.integers(0, 6, 40)
  for ids in (np.arange(40), rng.permutation(40)):
    got = advantages(rewards, groups, rollouts=ids)
    np.testing.assert_array_equal(got, advantages(rewards, groups))


def test_a_rollout_is_masked_if_all_its_rows_are():
  # Session 0 keeps one of two rows, session 1 none: one success among three.
  got = advantages(
    [1, math.nan, math.nan, 0, 0, 0],
    [7] * 6,
    rollouts=[0, 0, 1, 2, 2, 3],
    mask=[True, False, False, True, True, True],
  )
  np.testing.assert_allclose(got, [2, 0, 0, -1, -1, -1], atol=1e-6)


def test_a_survivor_of_masking_is_a_group_of_one():
  masked = {"mask": [False, True, True, True]}
  rewards, groups = [100, 1, 1, 0], [0, 0, 1, 1]
  # Alone, it has nothing to be compared with; without a baseline A = l.
  got = advantages(rewards, groups, **masked)
  np.testing.assert_allclose(got, [0, 0, 1, -1], atol=1e-6)
  got = advantages(rewards, groups, baseline="none", order=1, **masked)
  np.testing.assert_allclose(got, [0, 1, 1, 0], atol=1e-6)


@pytest.mark.parametrize("kept", [3, 4])
def test_rejection_conditions_the_pass_rate(kept):
  """Over all groups of actions right, wrong and rejected, `kept` of 4 kept."""
  logits, order = np.array([-0.7, 0.4, 0.1]), 2
  actions, probability, scores = oracles.outcomes(logits, 4)
  mask = actions < 2
  some = mask.sum(1) == kept
  actions, mask, scores = actions[some], mask[some], scores[some]
  probability = probability[some] / probability[some].sum()
  rate = 1 / (1 + np.exp(logits[1] - logits[0]))
  slope = rate * (1 - rate) * np.array([1, -1, 0])
  exact = (1 - (1 - rate) ** order) / rate * slope

  def expectation(**options):
    A = advantages(
      np.ravel(actions == 0), num=4, mask=mask.ravel(), order=order, **options
    )
    A = A.reshape(-1, 4)
    return np.einsum("g,gn,gna->a", probability, A, scores) / kept

  np.testing.assert_allclose(expectation(), exact, atol=1e-6)
  # Without a baseline, the probability of being kept is not cancelled.
  assert np.abs(expectation(baseline="none") - exact).max() > 0.1


@pytest.mark.parametrize("as_array", [False, True])
@pytest.mark.parametrize("missing", [None, math.nan])
@pytest.mark.parametrize("argument", ["groups", "rollouts"])
def test_missing_ids_raise(argument, missing, as_array):
  ids = ["a", missing, "a", missing]
  call = {"groups": [0] * 4} | {argument: np.array(ids, object)}
  if not as_array:
    call[argument] = ids
  with pytest.raises(
    ValueError, match=rf"{argument}\[1\] = {missing}: must be"
  ):
    advantages([0, 1, 1, 0], **call)


def test_nan_in_an_array_of_numbers_raises():
  with pytest.raises(ValueError, match=r"groups\[2\] = nan: must be an id"):
    advantages([0, 1, 1, 0], np.array([1.0, 1.0, math.nan, math.nan]))


@pytest.mark.parametrize(
  ("changed", "message"),
  [
    (
      {"rewards": [1, 0, 0, 1]},
      r"rewards\[0\] = 1\.0, rewards\[1\] = 0\.0: .* one rollout",
    ),
    ({"rollouts": [0, 0, 1]}, r"rollouts: shape \(3,\), must be \[R\], R = 4"),
    ({"rollouts": [[0], [0], [1], [2]]}, r"rollouts: .*hashable"),
    ({"groups": None, "num": 2}, r"num = 2: .*any number of rows; pass groups"),
    ({"rewards": [1, math.nan, 0, 1]}, r"rewards\[1\] = nan: .*mask="),
    ({"order": 4}, r"order = 4: .* 1 to 3 with N = 3"),
  ],
)
def test_error_names_an_invalid_argument(changed, message):
  call = {"rewards": [1, 1, 0, 1], "groups": [0] * 4, "rollouts": [0, 0, 1, 2]}
  with pytest.raises(ValueError, match=message):
    advantages(**(call | changed))


def test_groups_of_one_name_the_way_out():
  with pytest.raises(ValueError, match=r"only one rollout .*baseline='none'"):
    advantages([1, 0], [0, 1])
  got = advantages([1, 0], [0, 1], baseline="none")
  np.testing.assert_array_equal(got, [1, 0])


def test_diagnostics():
  groups = [0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 4]
  rewards = [1, 0, 0, 0, 0, 0, 0, 1, 1, 1, math.nan, math.nan]
  mask = [True] * 10 + [False] * 2
  got = diagnostics(rewards, groups, mask=mask)
  # Group 0: K = 1 of 4, group 1: 0 of 3, group 2: 2 of 2, group 3: 1 of 1.
  assert (got.none_solved, got.all_solved, got.singletons) == (0.25, 0.5, 0.25)
  # (1 − 1/4)/(1/4) = 3; only group 0, four of ten rollouts, has a gradient.
  np.testing.assert_allclose((got.largest, got.active), (3, 0.4), rtol=1e-6)
  assert got.order == pytest.approx((3 + 2 + 1) / 3)
  assert diagnostics(rewards, groups, mask=np.array(mask)) == got
  got = diagnostics(rewards, groups, mask=mask, order=3)
  assert got.order == pytest.approx((3 + 3 + 2) / 3)
  got = diagnostics(rewards, groups, mask=mask, estimator="grpo")
  assert math.isnan(got.order) and got.largest == pytest.approx(3**0.5)


def test_diagnostics_count_rollouts():
  got = diagnostics([1, 1, 1, 0], [0] * 4, rollouts=[0, 0, 0, 1])
  assert got.largest == pytest.approx(1) and got.active == 1 and got.order == 1


def test_diagnostics_of_a_batch_without_rollouts():
  got = diagnostics([1, 0], [0, 0], mask=[False, False])
  assert got.largest == 0 and math.isnan(got.active)
  assert math.isnan(got.none_solved)
