"""Which cases are in the short suite."""

import pytest


def long(*case):
  """A case of `parametrize` that only the whole suite has."""
  return pytest.param(*case, marks=pytest.mark.long)
