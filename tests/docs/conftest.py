"""What every test of a page runs under."""

import contextlib
from unittest import mock

import pytest

from maxrl_jax.estimators import ESTIMATORS
from maxrl_jax.optimizers import OPTIMIZERS, SCHEDULES
from maxrl_jax.policies import POLICIES
from maxrl_jax.tasks import TASKS


@pytest.fixture(autouse=True)
def tables_stay_as_they_are():
  """Pages register functions of their own."""
  with contextlib.ExitStack() as stack:
    for table in (TASKS, POLICIES, ESTIMATORS, OPTIMIZERS, SCHEDULES):
      stack.enter_context(mock.patch.dict(table))
    yield
