"""Means over runs and their intervals; the run axis comes first."""

from typing import NamedTuple

import numpy as np
from scipy import stats


class Interval(NamedTuple):
  """A mean over runs with its confidence interval, each of shape […]."""

  mean: np.ndarray
  low: np.ndarray
  high: np.ndarray


def mean_interval(values: np.ndarray, confidence: float = 0.95) -> Interval:
  """Student-t interval of the mean over the run axis.

  With a handful of seeds a bootstrap interval is too narrow; Student's is exact
  for normal scores. One run has no interval: low and high are NaN.

  Args:
    values: [runs, …].
    confidence: two-sided, in (0, 1).
  """
  values = np.asarray(values, np.float64)
  runs = values.shape[0]
  mean = values.mean(0)
  if runs < 2:
    nothing = np.full_like(mean, np.nan)
    return Interval(mean, nothing, nothing)
  error = values.std(0, ddof=1) / np.sqrt(runs)
  half = stats.t.ppf((1 + confidence) / 2, runs - 1) * error
  return Interval(mean, mean - half, mean + half)


def difference_interval(
  first: np.ndarray, second: np.ndarray, confidence: float = 0.95
) -> Interval:
  """Welch interval of mean(first) − mean(second), runs unpaired.

  Args:
    first: [runs].
    second: [other runs].
    confidence: two-sided, in (0, 1).
  """
  test = stats.ttest_ind(first, second, equal_var=False)
  low, high = test.confidence_interval(confidence)
  mean = np.mean(first) - np.mean(second)
  return Interval(np.asarray(mean), np.asarray(low), np.asarray(high))
