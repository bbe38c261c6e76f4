"""Rounding and digits, by hand."""

import re

import numpy as np
import pytest

from maxrl_jax.numerals import Numerals, numerals


def test_values_are_centres_and_ties_go_up():
  written = numerals(2, 4, 2.0)
  assert written == Numerals(2, 2, 2.0)
  assert (written.num_values, written.spacing) == (4, 1.0)
  np.testing.assert_array_equal(written.values(), [-1.5, -0.5, 0.5, 1.5])
  x = np.array([-9.0, -2.0, -1.01, -1.0, 0.0, 0.99, 1.0, 1.99, 2.0, 9.0])
  expected = [0, 0, 0, 1, 2, 2, 3, 3, 3, 3]
  np.testing.assert_array_equal(written.nearest(x), expected)


def test_digits_are_most_significant_first():
  written = numerals(3, 27, 1.0)
  index = np.array([[0, 5], [26, 9]])
  digits = written.digits(index)
  assert digits.tolist() == [[[0, 0, 0], [0, 1, 2]], [[2, 2, 2], [1, 0, 0]]]
  np.testing.assert_array_equal(written.read(digits), index)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ((10, 64, 1.0), "num_values = 64: must be a power of base = 10, such as 1"),
    ((8, 1, 1.0), "num_values = 1: must be a power of base = 8, such as 8"),
    ((1, 1, 1.0), "base = 1"),
    ((8, 64, 0.0), "limit = 0.0: must be above 0"),
  ],
)
def test_numbers_that_cannot_be_written_are_refused(arguments, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    numerals(*arguments)
