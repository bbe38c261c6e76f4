"""Statistics over runs, with intervals; the run axis comes first."""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from maxrl_jax import ranges


class Interval(NamedTuple):
  """A mean over runs and its confidence interval, each of shape […]."""

  mean: np.ndarray
  low: np.ndarray
  high: np.ndarray


def mean_interval(values: np.ndarray, confidence: float = 0.95) -> Interval:
  """Student-t interval of the mean over the run axis.

  With few seeds a bootstrap interval is too narrow; Student's is exact for
  normal scores. With one run, low and high are NaN.

  Args:
    values: [runs, …].
    confidence: two-sided, in (0, 1).

  Raises:
    ValueError: no runs, or a confidence that is not in (0, 1).
  """
  ranges.open_unit_interval(confidence=confidence)
  values = np.asarray(values, np.float64)
  if not values.ndim or not len(values):
    raise ValueError(f"values: shape {values.shape}, must be [runs, …]")
  runs = values.shape[0]
  mean = values.mean(0)
  if runs < 2:
    nan = np.full_like(mean, np.nan)
    return Interval(mean, nan, nan)
  error = values.std(0, ddof=1) / np.sqrt(runs)
  half = stats.t.ppf((1 + confidence) / 2, runs - 1) * error
  return Interval(mean, mean - half, mean + half)


def difference_interval(
  first: np.ndarray, second: np.ndarray, confidence: float = 0.95
) -> Interval:
  """Welch interval of mean(first) − mean(second), for unpaired runs.

  Bounds are NaN if either has one run; the width is 0 if both are constant.

  Args:
    first: [runs].
    second: [other runs].
    confidence: two-sided, in (0, 1).

  Raises:
    ValueError: scores that are not [runs].
  """
  ranges.open_unit_interval(confidence=confidence)
  for name, scores in (("first", first), ("second", second)):
    if np.ndim(scores) != 1:
      raise ValueError(f"{name}: shape {np.shape(scores)}, must be [runs]")
  mean = np.mean(first) - np.mean(second)
  if min(len(first), len(second)) < 2:
    return Interval(np.asarray(mean), *(np.asarray(np.nan),) * 2)
  if not np.ptp(first) and not np.ptp(second):
    return Interval(*(np.asarray(mean),) * 3)
  with warnings.catch_warnings():  # Equal scores, as of collapsed runs.
    warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)
    test = stats.ttest_ind(first, second, equal_var=False)
  low, high = test.confidence_interval(confidence)
  return Interval(np.asarray(mean), np.asarray(low), np.asarray(high))


def interquartile_mean(scores: np.ndarray, axis: int = 0) -> np.ndarray:
  """Mean of the middle half of the runs, robust to outliers on either side.

  Args:
    scores: [runs, …].
    axis: the run axis; with several tasks, flatten runs and tasks into it
      (arXiv 2108.13264, section 4.3).
  """
  return stats.trim_mean(scores, 0.25, axis=axis)


def optimality_gap(
  scores: np.ndarray, target: float = 1.0, axis: int = 0
) -> np.ndarray:
  """Mean shortfall from the target: mean max(target − score, 0)."""
  return np.mean(np.maximum(target - np.asarray(scores), 0), axis)


def bootstrap_interval(
  scores: np.ndarray,
  statistic: Callable[..., Any] = interquartile_mean,
  *,
  rng: np.random.Generator,
  confidence: float = 0.95,
  resamples: int = 2000,
) -> Interval:
  """Percentile bootstrap interval of a statistic, stratified by task.

  Runs are resampled within every task, so that each keeps its number of runs
  (arXiv 2108.13264). With fewer than about ten runs per task the interval is
  too narrow: prefer `mean_interval`.

  Args:
    scores: [runs], or [runs, tasks].
    statistic: (scores […, runs × tasks], axis) → […].
    rng: random generator for the resamples.
    confidence: two-sided, in (0, 1).
    resamples: number of bootstrap resamples.

  Raises:
    ValueError: fewer than two runs, or scores of another shape.
  """
  ranges.open_unit_interval(confidence=confidence)
  scores = np.asarray(scores, np.float64)
  if scores.ndim not in (1, 2):
    raise ValueError(
      f"scores: shape {scores.shape}, must be [runs] or [runs, tasks]"
    )
  tasks = scores[:, None] if scores.ndim == 1 else scores
  if tasks.shape[0] < 2:
    raise ValueError(f"scores: {tasks.shape[0]} run per task; needs at least 2")

  def pooled_statistic(*strata: np.ndarray, axis: int = -1) -> Any:
    return statistic(np.concatenate(strata, axis), axis=axis)

  interval = stats.bootstrap(
    tuple(tasks.T),
    pooled_statistic,
    n_resamples=resamples,
    confidence_level=confidence,
    method="percentile",
    vectorized=True,
    rng=rng,
  ).confidence_interval
  point = statistic(tasks.T.ravel(), axis=-1)
  return Interval(np.asarray(point), *map(np.asarray, interval))


def probability_of_improvement(first: np.ndarray, second: np.ndarray) -> float:
  """P(a first run beats a second one), ties counting half; mean over tasks.

  Args:
    first: [runs], or [runs, tasks].
    second: [other runs], or [other runs, tasks].

  Raises:
    ValueError: other shapes, or different numbers of tasks.
  """
  first, second = np.asarray(first), np.asarray(second)
  if first.ndim not in (1, 2) or first.shape[1:] != second.shape[1:]:
    raise ValueError(
      f"first {first.shape}, second {second.shape}: must be [runs] or [runs,"
      " tasks], with the same tasks"
    )
  wins = stats.mannwhitneyu(first, second, axis=0).statistic
  return float(np.mean(wins / (first.shape[0] * second.shape[0])))


class Comparison(NamedTuple):
  """A method against a reference on shared seeds.

  Attributes:
    difference: mean of method − reference with its interval.
    p_value: two-sided, of the paired t test, or of the sign test if all seeds
      differ by the same amount.
    corrected: p_value after Holm's correction for all comparisons.
  """

  difference: Interval
  p_value: float
  corrected: float


def paired_comparisons(
  scores: dict[Any, np.ndarray],
  reference: Any,
  confidence: float = 0.95,
) -> dict[Any, Comparison]:
  """Compares every method with the reference, paired by seed.

  Args:
    scores: method → scores [seeds], in the same order of seeds.
    reference: one of the methods.
    confidence: of each interval separately.

  Raises:
    ValueError: methods with unequal numbers of seeds, or no such reference.
  """
  ranges.one_of(scores, reference=reference)
  counts = {name: len(values) for name, values in scores.items()}
  if len(set(counts.values())) > 1 or not all(counts.values()):
    raise ValueError(
      f"scores: {counts} seeds; must be equal, to form pairs, and at least one"
    )
  intervals, p_values = {}, []
  for name, values in scores.items():
    if name == reference:
      continue
    differences = np.asarray(values) - np.asarray(scores[reference])
    intervals[name] = mean_interval(differences, confidence)
    p_values.append(_paired_p_value(differences))
  corrected = holm(p_values)
  return {
    name: Comparison(interval, p, q)
    for (name, interval), p, q in zip(
      intervals.items(), p_values, corrected, strict=True
    )
  }


def _paired_p_value(differences: np.ndarray) -> float:
  """p-value of the t test, or of the sign test if differences are equal."""
  rounding = 1e-12 * np.max(np.abs(differences))
  if not np.ptp(differences) <= rounding:  # NaN propagates.
    return float(stats.ttest_1samp(differences, 0).pvalue)
  return 1.0 if differences[0] == 0 else 0.5 ** (len(differences) - 1)


def holm(p_values: npt.ArrayLike) -> list[float]:
  """P-values corrected for multiple comparisons by Holm's procedure.

  The i-th smallest of m is multiplied by m − i + 1 and raised to the previous
  one if smaller; this controls the family-wise error rate (Holm, 1979).
  """
  p = np.asarray(p_values, np.float64)
  order = np.argsort(p)
  stepped = p[order] * (len(p) - np.arange(len(p)))
  corrected = np.empty_like(p)
  corrected[order] = np.minimum(np.maximum.accumulate(stepped), 1)
  return corrected.tolist()


def performance_profile(
  scores: np.ndarray, thresholds: np.ndarray
) -> np.ndarray:
  """Fraction of runs above each threshold, [thresholds] (arXiv 2108.13264).

  Args:
    scores: [runs], or [runs, tasks].
    thresholds: τ.
  """
  flat = np.ravel(scores)
  return np.mean(flat[:, None] > np.asarray(thresholds)[None], 0)
