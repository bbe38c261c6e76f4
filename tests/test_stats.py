import numpy as np
import pytest
from scipy import stats as scipy_stats

from maxrl_jax import stats


def test_mean_interval_by_hand():
  """Three runs 1, 2, 3: mean 2, s = 1, t_{0.975, 2} = 4.3027."""
  interval = stats.mean_interval(np.array([1.0, 2.0, 3.0]))
  assert interval.mean == pytest.approx(2)
  assert interval.high == pytest.approx(2 + 4.302653 / np.sqrt(3), rel=1e-6)
  assert interval.low == pytest.approx(2 - 4.302653 / np.sqrt(3), rel=1e-6)


def test_mean_interval_has_nominal_coverage():
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


def test_difference_interval_of_constant_scores():
  same = stats.difference_interval(np.zeros(3), np.full(4, 0.25))
  assert [float(x) for x in same] == [-0.25] * 3
  # If one is constant: Student's interval of the other's mean, 2 degrees.
  first = np.array([3.0, 4.0, 5.0])
  interval = stats.difference_interval(first, np.zeros(3))
  half = 4.302653 * np.sqrt(1 / 3)
  assert interval.low == pytest.approx(4 - half, rel=1e-6)
  assert interval.high == pytest.approx(4 + half, rel=1e-6)


def test_difference_interval_of_one_run_is_nan():
  for first, second in (([0.5], [0.7]), ([0.5], [0.7, 0.8])):
    actual = stats.difference_interval(np.array(first), np.array(second))
    assert float(actual.mean) == pytest.approx(0.5 - np.mean(second))
    assert np.isnan(actual.low) and np.isnan(actual.high)


def test_a_difference_is_of_runs_alone():
  with pytest.raises(ValueError, match=r"first: shape \(3, 2\), must"):
    stats.difference_interval(np.ones((3, 2)), np.ones((3, 2)))


def test_unequal_numbers_of_seeds_raise():
  scores = {"a": np.arange(4.0), "b": np.array([9.0])}
  with pytest.raises(ValueError, match="'b': 1"):
    stats.paired_comparisons(scores, "a")


def test_wrong_arguments_are_named():
  for interval in (stats.mean_interval, stats.difference_interval):
    arguments = [np.arange(3.0)] * (1 + (interval is not stats.mean_interval))
    with pytest.raises(ValueError, match="confidence = 95: must be between"):
      interval(*arguments, 95)
  with pytest.raises(ValueError, match="confidence = '95%': must be between"):
    stats.mean_interval(np.arange(3.0), "95%")
  with pytest.raises(ValueError, match=r"values: shape \(\), must be \[runs"):
    stats.mean_interval(0.5)
  with pytest.raises(ValueError, match=r"scores: shape \(3, 2, 2\), must be"):
    stats.bootstrap_interval(np.ones((3, 2, 2)), rng=np.random.default_rng(0))
  with pytest.raises(ValueError, match="with the same tasks"):
    stats.probability_of_improvement(np.ones((3, 2)), np.ones((3, 1)))
  with pytest.raises(ValueError, match=r"reference = 'c': choose from"):
    stats.paired_comparisons({"a": np.arange(3.0), "b": np.ones(3)}, "c")


def test_interquartile_mean_by_hand():
  """The mean of the middle four of eight runs."""
  scores = np.array([100.0, 1, 2, 3, 4, 5, 6, -50])
  assert stats.interquartile_mean(scores) == pytest.approx((2 + 3 + 4 + 5) / 4)


def test_optimality_gap_by_hand():
  scores = np.array([[0.5, 1.2], [0.9, 1.0]])
  np.testing.assert_allclose(stats.optimality_gap(scores), [0.3, 0.0])


def test_bootstrap_interval_equals_a_loop():
  scores = np.random.default_rng(3).normal(size=30)
  actual = stats.bootstrap_interval(
    scores, np.mean, rng=np.random.default_rng(0), resamples=20_000
  )
  rng = np.random.default_rng(1)
  means = [rng.choice(scores, 30).mean() for _ in range(20_000)]
  low, high = np.quantile(means, (0.025, 0.975))
  assert float(actual.mean) == pytest.approx(scores.mean())
  assert float(actual.low) == pytest.approx(low, abs=0.01)
  assert float(actual.high) == pytest.approx(high, abs=0.01)


def test_bootstrap_is_stratified_and_reproducible():
  """If all runs of a task are equal, the stratified interval has width 0."""
  scores = np.tile([0.1, 0.9, 0.4], (5, 1))
  actual = stats.bootstrap_interval(
    scores, np.mean, rng=np.random.default_rng(0)
  )
  np.testing.assert_allclose(actual, scores.mean())
  scores = np.random.default_rng(0).normal(size=(10, 2))
  one, two = (
    stats.bootstrap_interval(scores, rng=np.random.default_rng(7))
    for _ in range(2)
  )
  assert one.low == two.low and one.high == two.high and one.low < one.high
  with pytest.raises(ValueError, match="needs at least 2"):
    stats.bootstrap_interval(scores[:1], rng=np.random.default_rng(0))


def test_bootstrap_has_nominal_coverage():
  rng = np.random.default_rng(0)
  covered = []
  for _ in range(300):
    interval = stats.bootstrap_interval(
      rng.normal(1.0, 2.0, 40), np.mean, rng=rng, resamples=400
    )
    covered.append(interval.low <= 1.0 <= interval.high)
  assert 0.90 < np.mean(covered) < 0.98


def test_probability_of_improvement_counts_pairs():
  first, second = np.array([1.0, 2.0, 3.0]), np.array([2.0, 0.0])
  # 1: beats 0. 2: beats 0, ties 2. 3: beats both.
  expected = (1 + 1.5 + 2) / 6
  assert stats.probability_of_improvement(first, second) == pytest.approx(
    expected
  )
  both = stats.probability_of_improvement(
    np.stack([first, first], 1), np.stack([second, second + 10], 1)
  )
  assert both == pytest.approx(expected / 2)


def test_holm_by_hand():
  np.testing.assert_allclose(
    stats.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02]
  )
  assert stats.holm([0.9, 0.8]) == [1.0, 1.0]
  assert stats.holm([]) == []


def test_paired_comparisons_remove_differences_between_seeds():
  """A difference of 1 between methods, and of 100 between seeds."""
  rng = np.random.default_rng(0)
  seeds = rng.normal(0, 100, 8)
  noise = rng.normal(0, 0.1, 8)
  scores = {"a": seeds, "b": seeds + 1 + noise, "c": seeds.copy()}
  actual = stats.paired_comparisons(scores, "a")
  differences = 1 + noise
  t = differences.mean() / (differences.std(ddof=1) / np.sqrt(8))
  p = 2 * scipy_stats.t.sf(t, 7)
  assert actual["b"].p_value == pytest.approx(p, rel=1e-6)
  assert actual["b"].corrected == pytest.approx(2 * p, rel=1e-6)
  assert actual["b"].difference.low > 0.8
  assert actual["c"].p_value == 1.0 and actual["c"].difference.mean == 0


def test_equal_differences_use_the_sign_test():
  """Four equal increases have p = 2 / 2⁴ (two-sided); one has p = 1."""
  for count, p in ((4, 0.125), (1, 1.0)):
    scores = {"a": np.zeros(count), "b": np.ones(count)}
    assert stats.paired_comparisons(scores, "a")["b"].p_value == p


def test_differences_that_are_equal_but_for_rounding_are_equal():
  scores = {"a": np.array([0.2, 0.3, 0.5]), "b": np.array([0.3, 0.4, 0.6])}
  assert np.ptp(scores["b"] - scores["a"]) > 0
  assert stats.paired_comparisons(scores, "a")["b"].p_value == 0.25


def test_comparisons_need_a_seed():
  with pytest.raises(ValueError, match="and at least one"):
    stats.paired_comparisons({"a": np.array([]), "b": np.array([])}, "a")


def test_a_run_without_a_score_has_no_p_value():
  scores = {"a": np.zeros(3), "b": np.array([np.nan, 1, 1]), "c": np.ones(3)}
  actual = stats.paired_comparisons(scores, "a")
  assert np.isnan(actual["b"].p_value) and np.isnan(actual["b"].corrected)
  assert actual["c"].corrected == 2 * 0.25


def test_performance_profile_by_hand():
  scores = np.array([[0.1, 0.5], [0.7, 0.9]])
  np.testing.assert_allclose(
    stats.performance_profile(scores, [0.0, 0.5, 0.8, 1.0]), [1, 0.5, 0.25, 0]
  )
