"""The definitions of docs/theory in fractions, subset by subset.

Nothing here imports the package. A policy over a few actions has rational
probabilities π, and its scores ∇ log π(z) = onehot(z) − π are rational too, so
that expectations over all groups of N rollouts are exact numbers.
"""

import itertools
import math
from fractions import Fraction
from typing import NamedTuple

HALF, THIRD, SIXTH = Fraction(1, 2), Fraction(1, 3), Fraction(1, 6)
POLICY = (HALF, THIRD, SIXTH)
# What each action is worth: graded; right or wrong, one and two right.
GRADED = (Fraction(1, 5), Fraction(1), Fraction(3, 4))
ONE_RIGHT, TWO_RIGHT = (1, 0, 0), (1, 0, 1)


def others(x, j):
  return [*x[:j], *x[j + 1 :]]


def mean(x):
  x = list(x)
  return sum(x) / Fraction(len(x))


def symmetric_mean(x, k):
  """ē_k: the mean over all k-subsets of the product; none for k > len(x)."""
  return mean(math.prod(s) for s in itertools.combinations(x, k))


def loo_means(l, k):
  """ē_k^j of the failures of all rollouts but j [N]."""
  q = [1 - x for x in l]
  return [symmetric_mean(others(q, j), k) for j in range(len(l))]


def series_weights(l, a):
  columns = [[x * a_k for x in loo_means(l, k)] for k, a_k in enumerate(a)]
  return [sum(row) for row in zip(*columns, strict=True)]


def plain(l, a):
  """A_j = ω_j l_j."""
  return [w * x for w, x in zip(series_weights(l, a), l, strict=True)]


def centred(l, a):
  """A_j = Σ a_k (ē_{k+1}^j − q_j ē_k^j)."""
  total = [Fraction(0)] * len(l)
  for k, a_k in enumerate(a):
    rows = zip(loo_means(l, k + 1), l, loo_means(l, k), strict=True)
    drops = [up - (1 - x) * e for up, x, e in rows]
    total = [t + a_k * d for t, d in zip(total, drops, strict=True)]
  return total


def algorithm_1(r):
  rate = mean(r)
  return [(x - rate) / rate if rate else Fraction(0) for x in r]


class Moments(NamedTuple):
  """E[ĝ] [C], and the trace of Cov[ĝ]."""

  gradient: list[Fraction]
  variance: Fraction


def scores(policy):
  return [
    [(c == z) - share for c, share in enumerate(policy)]
    for z in range(len(policy))
  ]


def moments(advantages, policy, values, num) -> Moments:
  """Of ĝ = mean_j A_j S_j, over every group of `num` rollouts."""
  score = scores(policy)
  gradient, squares = [Fraction(0)] * len(policy), Fraction(0)
  for group in itertools.product(range(len(policy)), repeat=num):
    chance = math.prod(policy[z] for z in group)
    drawn = advantages([Fraction(values[z]) for z in group])
    estimate = [
      mean(a * score[z][c] for a, z in zip(drawn, group, strict=True))
      for c in range(len(policy))
    ]
    gradient = [g + chance * x for g, x in zip(gradient, estimate, strict=True)]
    squares += chance * sum(x * x for x in estimate)
  return Moments(gradient, squares - sum(g * g for g in gradient))


def expectation(advantages, policy, values, num):
  return moments(advantages, policy, values, num).gradient


def pass_rate(policy, values):
  return sum(share * l for share, l in zip(policy, values, strict=True))


def gradient(policy, values):
  """∇p [C] of p = E[l]."""
  p = pass_rate(policy, values)
  return [share * (l - p) for share, l in zip(policy, values, strict=True)]


def times(weight, vector):
  return [weight * x for x in vector]


def series(a, p):
  """w(p) = Σ a_k (1−p)^k."""
  return sum(a_k * (1 - p) ** k for k, a_k in enumerate(a))


def maxrl(T, p):
  """w_T(p), the sum of its T terms."""
  return series([1] * T, p)


class Side(NamedTuple):
  """Scores of the successes, or of the failures: E[S] [C], tr Cov[S]."""

  mean: list[Fraction]
  spread: Fraction


def side(policy, values, value) -> Side:
  chosen = [z for z, l in enumerate(values) if l == value]
  total, score = sum(policy[z] for z in chosen), scores(policy)
  first = [
    sum(policy[z] * score[z][c] for z in chosen) / total
    for c in range(len(policy))
  ]
  second = sum(policy[z] * sum(x * x for x in score[z]) for z in chosen) / total
  return Side(first, second - sum(x * x for x in first))


def fisher(policy):
  """E|S|²."""
  return 1 - sum(x * x for x in policy)


def binomial(num, p):
  """P(K = 0) … P(K = N)."""
  return [
    math.comb(num, k) * p**k * (1 - p) ** (num - k) for k in range(num + 1)
  ]


def binary_groups(num):
  """All 2^N groups of rewards."""
  return map(list, itertools.product(map(Fraction, (0, 1)), repeat=num))


def assert_weight(advantages, num, weight, values=TWO_RIGHT):
  """E[ĝ] = w ∇p, to the last digit."""
  actual = expectation(advantages, POLICY, values, num)
  assert actual == times(weight, gradient(POLICY, values))
