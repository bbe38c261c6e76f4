"""Claims of figures hold, fail, and fail on NaN, by made-up numbers."""

import numpy as np
import pytest

from experiments.reports.results import larger
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


def test_three_seeds_that_are_all_alike_are_reported():
  claim = larger("a", "b", "c", np.full(3, 0.979), np.full(3, 0.958))
  assert not claim.holds
  assert claim.measured == (
    "0.979 against 0.958, difference 0.021, equal for all seeds"
  )
