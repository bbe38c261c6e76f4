"""Claims of figures hold, fail, and fail on NaN, by made-up numbers."""

import numpy as np
import pytest

from experiments.reports.results import bounded, larger
from maxrl_jax.stats import Interval
from tests.support.claim_cases import CASES


def _spoilt(tree):
  """The same with a NaN at the end of every array, where few look first."""
  if isinstance(tree, dict):
    return {name: _spoilt(value) for name, value in tree.items()}
  if isinstance(tree, tuple | list):
    return type(tree)(_spoilt(value) for value in tree)
  array = np.array(tree, float)
  array.flat[-1] = np.nan
  return array if array.ndim else np.nan


@pytest.mark.parametrize("name", CASES)
def test_claims_follow_the_numbers(name):
  judge, numbers = CASES[name](True, 1.0)
  held = judge(*numbers)
  assert held and all(claim.holds is True for claim in held), held
  judge, numbers = CASES[name](False, 1.0)
  failed = judge(*numbers)
  assert [claim.id for claim in failed] == [claim.id for claim in held]
  assert all(claim.holds is False for claim in failed), failed


@pytest.mark.parametrize("name", CASES)
def test_no_claim_holds_on_nan(name):
  judge, numbers = CASES[name](True, 1.0)
  assert not any(claim.holds for claim in judge(*_spoilt(numbers)))


@pytest.mark.parametrize(
  ("name", "place", "method"),
  [
    ("heteroscedastic", 2, "MaxRL"),
    ("low_snr", 0, ("VIMCO", 8, 0.7)),
  ],
)
def test_one_method_that_is_nan_is_enough(name, place, method):
  judge, numbers = CASES[name](True, 1.0)
  lost = numbers[place] | {method: _spoilt(numbers[place][method])}
  claims = judge(*numbers[:place], lost, *numbers[place + 1 :])
  assert not all(claim.holds for claim in claims)


@pytest.mark.parametrize("name", CASES)
def test_no_interval_of_no_width_establishes_a_claim(name):
  """Seeds that are all alike say nothing of how another one would end."""
  judge, numbers = CASES[name](True, 0.0)
  for claim in judge(*numbers):
    assert claim.holds is ("interval" not in claim.threshold), claim


@pytest.mark.parametrize(
  ("first", "why"),
  [
    ([1.0, 2.0, 3.0], "The interval contains 0: these seeds do not"),
    ([-9.0, -9.1, -8.9], "The opposite was measured; the reason is not known."),
    ([2.0, 2.0, 2.0], "All seeds agree"),
    ([2.0, 2.0, np.nan], "A score is not a number"),
  ],
)
def test_a_comparison_that_fails_says_why(first, why):
  second = np.full(3, 1.0) if first[0] == first[1] else np.array([1.0, 2.1, 3])
  claim = larger("a", "b", "c", np.array(first), second)
  assert not claim.holds and claim.why.startswith(why)


@pytest.mark.parametrize(
  ("limits", "threshold", "holds", "why"),
  [
    ({"above": 0.4}, "above 0.4", True, ""),
    ({"above": 0.6}, "above 0.6", False, "The interval contains 0.6"),
    ({"above": 1.6}, "above 1.6", False, ""),
    ({"below": 1.6}, "below 1.6", True, ""),
    ({"below": 1.4}, "below 1.4", False, "The interval contains 1.4"),
    ({"above": -2, "below": 2}, "inside ±2", True, ""),
    ({"above": -1, "below": 1}, "inside ±1", False, "The interval contains 1:"),
  ],
)
def test_claims_that_an_interval_is_bounded(limits, threshold, holds, why):
  interval = Interval(*map(np.array, (1.0, 0.5, 1.5)))
  claim = bounded("a", "b", "c", interval, **limits)
  assert claim.threshold == f"95 % interval {threshold}"
  assert claim.measured == "difference 1.000 [0.500, 1.500]"
  assert claim.holds is holds
  assert claim.why.startswith(why) and bool(claim.why) == bool(why)


def test_three_seeds_that_are_all_alike_are_reported():
  claim = larger("a", "b", "c", np.full(3, 0.979), np.full(3, 0.958))
  assert not claim.holds
  assert claim.measured == (
    "0.979 against 0.958, difference 0.021, equal for all seeds"
  )
