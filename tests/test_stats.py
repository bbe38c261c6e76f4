import numpy as np
import pytest

from maxrl_jax import stats


def test_mean_interval_by_hand():
  """Three runs 1, 2, 3: mean 2, s = 1, t_{0.975, 2} = 4.3027."""
  interval = stats.mean_interval(np.array([1.0, 2.0, 3.0]))
  assert interval.mean == pytest.approx(2)
  assert interval.high == pytest.approx(2 + 4.302653 / np.sqrt(3), rel=1e-6)
  assert interval.low == pytest.approx(2 - 4.302653 / np.sqrt(3), rel=1e-6)


def test_mean_interval_covers_as_often_as_it_says():
  scores = np.random.default_rng(0).normal(3.0, 2.0, size=(5, 4000))
  interval = stats.mean_interval(scores)
  covered = np.mean((interval.low <= 3.0) & (interval.high >= 3.0))
  assert 0.935 < covered < 0.965


def test_one_run_has_no_interval():
  interval = stats.mean_interval(np.ones((1, 4)))
  assert interval.mean.shape == (4,)
  assert np.isnan(interval.low).all() and np.isnan(interval.high).all()


def test_difference_interval():
  """Equal variances and sizes: Welch is Student with 2n − 2 degrees."""
  first, second = np.array([3.0, 4.0, 5.0]), np.array([0.0, 1.0, 2.0])
  interval = stats.difference_interval(first, second)
  half = 2.776445 * np.sqrt(2 / 3)
  assert interval.mean == pytest.approx(3)
  assert interval.low == pytest.approx(3 - half, rel=1e-6)
  assert interval.high == pytest.approx(3 + half, rel=1e-6)
