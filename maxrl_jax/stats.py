"""Means over runs and their intervals; the run axis comes first."""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
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

  NaN bounds with one run of either; of no width where neither varies.

  Args:
    first: [runs].
    second: [other runs].
    confidence: two-sided, in (0, 1).
  """
  mean = np.mean(first) - np.mean(second)
  if min(len(first), len(second)) < 2:
    return Interval(np.asarray(mean), *(np.asarray(np.nan),) * 2)
  if not np.ptp(first) and not np.ptp(second):
    return Interval(*(np.asarray(mean),) * 3)
  with warnings.catch_warnings():  # Runs that all collapsed are alike.
    warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)
    test = stats.ttest_ind(first, second, equal_var=False)
  low, high = test.confidence_interval(confidence)
  return Interval(np.asarray(mean), np.asarray(low), np.asarray(high))


def interquartile_mean(scores: np.ndarray, axis: int = 0) -> np.ndarray:
  """Mean of the middle half of the runs: outliers of either side do not count.

  Args:
    scores: [runs, …].
    axis: of the runs; with tasks too, flatten both into it
      (arXiv 2108.13264, section 4.3).
  """
  return stats.trim_mean(scores, 0.25, axis=axis)


def optimality_gap(
  scores: np.ndarray, target: float = 1.0, axis: int = 0
) -> np.ndarray:
  """What is missing to the target on average: mean max(target − score, 0)."""
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

  Runs are drawn anew within every task, so that each keeps its number of runs
  (arXiv 2108.13264). With fewer than about ten runs a task it is too narrow:
  prefer `mean_interval` there.

  Args:
    scores: [runs], or [runs, tasks].
    statistic: (scores […, runs × tasks], axis) → […].
    rng: what makes the interval reproducible.
    confidence: two-sided, in (0, 1).
    resamples: how many.

  Raises:
    ValueError: fewer than two runs.
  """
  scores = np.asarray(scores, np.float64)
  tasks = scores[:, None] if scores.ndim == 1 else scores
  if tasks.shape[0] < 2:
    raise ValueError(f"scores: {tasks.shape[0]} run a task; two are needed")

  def of_all(*strata: np.ndarray, axis: int = -1) -> Any:
    return statistic(np.concatenate(strata, axis), axis=axis)

  found = stats.bootstrap(
    tuple(tasks.T),
    of_all,
    n_resamples=resamples,
    confidence_level=confidence,
    method="percentile",
    vectorized=True,
    rng=rng,
  ).confidence_interval
  point = statistic(tasks.T.ravel(), axis=-1)
  return Interval(np.asarray(point), *map(np.asarray, found))


def probability_of_improvement(ours: np.ndarray, theirs: np.ndarray) -> float:
  """P(a run of ours beats one of theirs), ties counting half, over tasks.

  Args:
    ours: [runs], or [runs, tasks].
    theirs: [other runs], or [other runs, tasks].
  """
  ours, theirs = np.asarray(ours), np.asarray(theirs)
  wins = stats.mannwhitneyu(ours, theirs, axis=0).statistic
  return float(np.mean(wins / (ours.shape[0] * theirs.shape[0])))


class Comparison(NamedTuple):
  """A method against a reference on shared seeds.

  Attributes:
    difference: mean of theirs − reference with its interval.
    p_value: of the paired t test, two-sided; where all seeds differ by the same
      amount, of the sign test.
    corrected: the same after Holm's correction for all comparisons made.
  """

  difference: Interval
  p_value: float
  corrected: float


def paired_comparisons(
  scores: dict[Any, np.ndarray],
  reference: Any,
  confidence: float = 0.95,
) -> dict[Any, Comparison]:
  """Every method against the reference, seed by seed.

  Args:
    scores: by method, [seeds] in the same order.
    reference: one of the methods.
    confidence: of each interval, on its own.

  Raises:
    ValueError: methods with unequal numbers of seeds.
  """
  counts = {name: len(values) for name, values in scores.items()}
  if len(set(counts.values())) > 1:
    raise ValueError(f"scores: {counts} seeds; pairs need the same ones")
  found, p_values = {}, []
  for name, values in scores.items():
    if name == reference:
      continue
    apart = np.asarray(values) - np.asarray(scores[reference])
    found[name] = mean_interval(apart, confidence)
    p_values.append(_paired_p_value(apart))
  corrected = holm(p_values)
  return {
    name: Comparison(interval, p, q)
    for (name, interval), p, q in zip(
      found.items(), p_values, corrected, strict=True
    )
  }


def _paired_p_value(apart: np.ndarray) -> float:
  """Student's; without any spread, which says nothing, that of the signs."""
  if np.ptp(apart) > 0:
    return float(stats.ttest_1samp(apart, 0).pvalue)
  return 1.0 if apart[0] == 0 else 0.5 ** (len(apart) - 1)


def holm(p_values: npt.ArrayLike) -> list[float]:
  """P-values corrected for their number by Holm's step-down procedure.

  The i-th smallest of m is multiplied by m − i + 1 and kept above those before
  it: the chance of any false finding stays below the level (Holm, 1979).
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
  """Share of runs above each threshold, [thresholds] (arXiv 2108.13264).

  Args:
    scores: [runs], or [runs, tasks].
    thresholds: τ.
  """
  flat = np.ravel(scores)
  return np.mean(flat[:, None] > np.asarray(thresholds)[None], 0)
