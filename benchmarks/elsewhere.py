"""The advantages of the MaxRL authors' repository compared with ours, exactly.

    python -m benchmarks.elsewhere

Each formula gives the advantages of a success and of a failure in a binary
group, K successes of N, as in verl/trainer/ppo of tajwarfahim/maxrl
(7db6bb9), times N where that code divides by N, so that the gradient is
mean_j A_j S_j. Prints bias and variance over all K, for a softmax over four
actions, two of them right.
"""

import functools
import math
from collections.abc import Callable
from fractions import Fraction
from math import comb
from typing import NamedTuple

import numpy as np

from experiments.shell import console
from maxrl_jax import estimators, objectives

_GROUPS = ((8, 6), (16, 4))  # N, T.
_PASS_RATES = (0.02, 0.1, 0.3, 0.97)


def main() -> None:
  for N, T in _GROUPS:
    rates = " | ".join(f"p = {p}" for p in _PASS_RATES)
    print(f"\nN = {N}, T = {T}: w/target − 1, and variance over our default\n")
    print(f"| formula | {rates} |\n|---{'|---' * len(_PASS_RATES)}|")
    for name, formula in FORMULAS.items():
      cells = [_cell(formula, N, T, p) for p in _PASS_RATES]
      print(f"| {name} | " + " | ".join(cells) + " |")


def _cell(formula, N: int, T: int, p: float) -> str:
  bias = weight(formula.advantages, N, T, p) / formula.target(N, T)(p) - 1
  ratio = variance(formula.advantages, N, T, p)
  ratio /= variance(functools.partial(of_group, formula.ours), N, T, p)
  return f"{round(float(bias), 3) + 0:+.3f}, {ratio:.2f}"


def of_group(estimator: Callable, K: int, N: int, T: int):
  """Our advantage of a success, and of a failure; 0 where there is none."""
  advantages = np.asarray(estimator(np.arange(N) < K, T))
  return advantages[0] * (K > 0), advantages[-1] * (K < N)


def maclaurin(K: int, N: int, T: int):
  """Minus the score of failures, by the share of the subsets that all fail."""
  F = max(N - K, 1)
  return 1, -sum(Fraction(comb(F - 1, k), comb(N - 1, k)) for k in range(1, T))


def maclaurin_baseline(K: int, N: int, T: int):
  """From every subset of k, subtracts the mean over the other subsets."""
  F = N - K
  shares = [
    Fraction(comb(F, k), comb(N, k) - 1) for k in range(2, min(T, N - 1) + 1)
  ]
  failure = sum(shares) * (1 - Fraction(N, max(F, 1)))
  return 1 + sum(shares), failure - (F == N <= T and N > 1)


def cross_fitted_maclaurin(K: int, N: int, T: int):
  """From every subset of k, subtracts the mean over those disjoint from it.

  Where 2k > N there are none, and nothing is subtracted.
  """
  success, failure = Fraction(1), maclaurin(K, N, T)[1]
  for k in range(2, min(T, N // 2) + 1):
    subsets = comb(N - 1, k - 1) * comb(N - k, k)
    success += Fraction(_disjoint(N - K, K - 1, k), subsets)
    failure += Fraction(_disjoint(N - K - 1, K, k), subsets)
  return success, failure


def _disjoint(F: int, K: int, k: int) -> int:
  """Pairs of k − 1 of F + K others and k failures disjoint from them."""
  chosen = range(max(k - 1 - K, 0), min(k - 1, F) + 1)
  return sum(comb(F, t) * comb(K, k - 1 - t) * comb(F - t, k) for t in chosen)


def oversample_subset_vr(K: int, N: int, T: int):
  """Mean over subsets of T of the mean score of their successes, minus 1."""
  sizes = range(1, min(T, K) + 1)
  drawn = sum(
    (Fraction(comb(K - 1, k - 1) * comb(N - K, T - k), k) for k in sizes),
    Fraction(0),
  )
  return N * drawn / comb(N, T) - 1, -1


def vr_cond(K: int, N: int, T: int):
  """Mean score of successes minus mean score of all; T has no effect."""
  del T
  return Fraction(N - K, max(K, 1)), -1


def p_normalization(K: int, N: int, T: int):
  """The paper's Algorithm 1, 'maxrl' there: vr_cond with 0 at K = 0."""
  return vr_cond(K, N, T) if K else (0, 0)


def pkpo(K: int, N: int, T: int):
  """ē_{T−1} of the others for a success; minus the mean of the others' A."""
  a = Fraction(comb(N - K, T - 1), comb(N - 1, T - 1))
  return a * Fraction(N - K, N - 1), -a * Fraction(K, N - 1)


def one_sided_grpo(K: int, N: int, T: int):
  """(r − r̄)/√r̄."""
  del T
  root = math.sqrt(K / N)
  return (1 - K / N) / root if K else 0, -root


def clipped_pnorm(K: int, N: int, T: int):
  """(r − r̄)/max(r̄, 1/8)."""
  del T
  mean = Fraction(K, N)
  largest = max(mean, Fraction(1, 8))
  return (1 - mean) / largest, -mean / largest


class Formula(NamedTuple):
  """A formula of that repository, and our estimator to compare it with.

  Attributes:
    advantages: K, N, T → A of a success, A of a failure.
    ours: our estimator of the same objective, likelihoods, T → A [N].
    target: N, T → w of that objective.
  """

  advantages: Callable
  ours: Callable
  target: Callable


def _order(order: Callable) -> tuple[Callable, Callable]:
  """Our MaxRL of an order that depends on N and T."""
  return (
    lambda l, T: estimators.maxrl(l, order=order(len(l), T)),
    lambda N, T: objectives.maxrl(order(N, T)).weight,
  )


def _pass_at_k(l, T):
  return estimators.pass_at_k(l, k=T) / T


_SERIES = _order(lambda N, T: T)
_ALGORITHM_1 = _order(lambda N, T: N - 1)
FORMULAS = {
  "maclaurin": Formula(maclaurin, *_SERIES),
  "maclaurin_baseline": Formula(maclaurin_baseline, *_SERIES),
  "cross_fitted_maclaurin": Formula(cross_fitted_maclaurin, *_SERIES),
  "oversample_subset_vr": Formula(oversample_subset_vr, *_SERIES),
  "vr_cond": Formula(vr_cond, *_order(lambda N, T: N)),
  "p_normalization": Formula(p_normalization, *_ALGORITHM_1),
  "pkpo": Formula(pkpo, _pass_at_k, lambda N, T: lambda p: (1 - p) ** (T - 1)),
  "one_sided_grpo": Formula(
    one_sided_grpo,
    lambda l, T: estimators.power(l, alpha=0.5),
    lambda N, T: objectives.power(0.5).weight,
  ),
  "clipped_pnorm": Formula(clipped_pnorm, *_ALGORITHM_1),
}


def weight(formula: Callable, N: int, T: int, p):
  """w of the expected gradient w ∇p, exact if p is a Fraction."""
  total = 0
  for K in range(N + 1):
    success, failure = formula(K, N, T)
    slope = K * success / p - (N - K) * failure / (1 - p)
    total += _probability(K, N, p) * slope
  return total / N


class Scores(NamedTuple):
  """Scores of a softmax policy given success or failure.

  Attributes:
    right: E|S − E S|² given success.
    wrong: E|S − E S|² given failure.
    distance: |E[S | success] − E[S | failure]|².
  """

  right: float
  wrong: float
  distance: float


# Four actions of probabilities p/2, p/2, q/2, q/2, the first two right. The
# mean of S = e_a − π is q u for a right action and −p u for a wrong one, with
# u = (1, 1, −1, −1)/2.
_EVEN = Scores(0.5, 0.5, 1.0)


def variance(
  formula: Callable, N: int, T: int, p: float, scores: Scores = _EVEN
) -> float:
  """Trace of the covariance of the gradient estimate."""
  first = second = 0.0
  for K in range(N + 1):
    success, failure = map(float, formula(K, N, T))
    mean = (K * success * (1 - p) - (N - K) * failure * p) / N
    noise = K * success**2 * scores.right + (N - K) * failure**2 * scores.wrong
    first += _probability(K, N, p) * mean
    second += _probability(K, N, p) * (scores.distance * mean**2 + noise / N**2)
  return second - scores.distance * first**2


def _probability(K: int, N: int, p):
  return comb(N, K) * p**K * (1 - p) ** (N - K)


if __name__ == "__main__":
  console.run(main)
