"""A finished run, which several tests begin with."""

import shutil

import pytest

from maxrl_jax.runs import train_to_folder
from tests.support.resumable_cases import small


@pytest.fixture(scope="session")
def _trained(tmp_path_factory):
  folder = tmp_path_factory.mktemp("trained") / "run"
  train_to_folder.train(small(), folder)
  return folder


@pytest.fixture
def trained(_trained, tmp_path):
  """A folder in which `small()` was trained; a copy for each test."""
  return shutil.copytree(_trained, tmp_path / "run")
