"""Sampling in waves until a success, in fractions, over every outcome.

Nothing here imports the package. A record is what one prompt's sampling leaves:
its waves in order, each a tuple of rollouts (action z, success r). r is drawn
with probability l(z), so that a graded likelihood stops a prompt at random.
"""

import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

from tests.support import rationals as exact

Record = tuple  # of waves, each a tuple of (z, r)


def wave_outcomes(policy, values, size):
  """(probability, wave) of every wave of this size."""
  single = [
    (share * (l if r else 1 - l), (z, r))
    for z, (share, l) in enumerate(zip(policy, values, strict=True))
    for r in (0, 1)
    if (l if r else 1 - l)
  ]
  for drawn in itertools.product(single, repeat=size):
    yield math.prod(x for x, _ in drawn), tuple(y for _, y in drawn)


def solved(wave):
  return any(r for _, r in wave)


def records(policy, values, sizes):
  """(probability, record) of every way in which sampling can go."""
  going = [(Fraction(1), ())]
  for size in sizes:
    following = []
    for chance, record in going:
      for more, wave in wave_outcomes(policy, values, size):
        if solved(wave):
          yield chance * more, (*record, wave)
        else:
          following.append((chance * more, (*record, wave)))
    going = following
  yield from going


class Moments(NamedTuple):
  """E[ĝ] [C], the trace of Cov[ĝ], and E[number of rollouts]."""

  gradient: list[Fraction]
  variance: Fraction
  cost: Fraction


def estimate(coefficients, record, score):
  """ĝ = Σ_j c_j S_j over the rollouts of all waves."""
  total = [Fraction(0)] * len(score)
  for wave, row in zip(record, coefficients, strict=True):
    for (z, _), c in zip(wave, row, strict=True):
      total = [t + c * s for t, s in zip(total, score[z], strict=True)]
  return total


def moments(rule: Callable, policy, values, sizes) -> Moments:
  """Of ĝ, for a rule record → coefficients of each rollout of each wave."""
  score = exact.scores(policy)
  gradient, squares, cost = [Fraction(0)] * len(policy), 0, 0
  for chance, record in records(policy, values, sizes):
    g = estimate(rule(record), record, score)
    gradient = [t + chance * x for t, x in zip(gradient, g, strict=True)]
    squares += chance * sum(x * x for x in g)
    cost += chance * sum(map(len, record))
  return Moments(gradient, squares - sum(x * x for x in gradient), cost)


# Rules: the mean score of the last wave's successes, less a baseline.


def successes(wave):
  """r_j / K, 0 at K = 0."""
  K = sum(r for _, r in wave)
  return [Fraction(r, K) if K else Fraction(0) for _, r in wave]


def none(record):
  return [successes(wave) for wave in record]


def average_score(record, factor=Fraction(1)):
  """Less the mean score of every wave, of those without a success too."""
  return [[c - factor / len(wave) for c in successes(wave)] for wave in record]


def centred(record):
  """Less the mean score of the wave with a success, as in Algorithm 1."""
  return [
    [c - Fraction(solved(wave), len(wave)) for c in successes(wave)]
    for wave in record
  ]


def leave_one_out(record):
  """Less 1/m where another rollout of the wave has success."""
  rows = []
  for wave in record:
    K = sum(r for _, r in wave)
    rows.append(
      [
        c - Fraction(K - r > 0, len(wave))
        for c, (_, r) in zip(successes(wave), wave, strict=True)
      ]
    )
  return rows


# Rules for graded likelihoods.


def _worths(values, record):
  return [[Fraction(values[z]) for z, _ in wave] for wave in record]


def by_wave(values):
  """Order m of every wave drawn, with or without a success: ω_j l_j / m."""

  def rule(record):
    return [
      [a / len(l) for a in exact.plain(l, [1] * len(l))]
      for l in _worths(values, record)
    ]

  return rule


def last_wave(values, baseline=False):
  """E[r_j/K | a success] in the last wave, less E[b_j/m | a success]."""

  def rule(record):
    rows = [[Fraction(0)] * len(wave) for wave in record]
    if solved(record[-1]):
      l = _worths(values, record)[-1]
      chance = 1 - math.prod(1 - x for x in l)
      weighted = exact.plain(l, [1] * len(l))
      if baseline:  # Whether another rollout succeeds.
        for j in range(len(l)):
          weighted[j] -= 1 - math.prod(1 - x for x in l[:j] + l[j + 1 :])
      rows[-1] = [a / (len(l) * chance) for a in weighted]
    return rows

  return rule


def over_orders(values):
  """l_j Σ_{s≤k<n} ē_k^j over its sum, if solved; s rollouts before the last."""

  def rule(record):
    l = [x for wave in _worths(values, record) for x in wave]
    before = len(l) - len(record[-1])
    shares = exact.plain(l, [0] * before + [1] * len(record[-1]))
    total = sum(shares) if solved(record[-1]) else math.inf
    shares = iter(Fraction(x / total) for x in shares)
    return [[next(shares) for _ in wave] for wave in record]

  return rule


# Two prompts whose waves depend on each other


def pooled(policy, values, pool, rounds):
  """(probability, record of each prompt): the unsolved ones share a pool."""
  going = [(Fraction(1), ((), ()))]
  for _ in range(rounds):
    following = []
    for chance, records in going:
      done = [any(map(solved, record)) for record in records]
      sizes = [0 if x else pool // done.count(False) for x in done]
      waves = map(wave_outcomes, (policy, policy), values, sizes)
      for drawn in itertools.product(*waves):
        pairs = zip(records, (wave for _, wave in drawn), strict=True)
        longer = tuple((*x, wave) if wave else x for x, wave in pairs)
        following.append((chance * math.prod(x for x, _ in drawn), longer))
    going = following
  return going


def pooled_gradient(rule, policy, values, prompt):
  """E[ĝ] of one prompt in two rounds with a pool of two."""
  score, gradient = exact.scores(policy), [Fraction(0)] * len(policy)
  for chance, records in pooled(policy, values, pool=2, rounds=2):
    record = records[prompt]
    g = estimate(rule(record), record, score)
    gradient = [t + chance * x for t, x in zip(gradient, g, strict=True)]
  return gradient


def pooled_chance(policy, values, prompt):
  """P(solved): the second wave is of two if the other is solved, else one."""
  p, other = (exact.pass_rate(policy, values[i]) for i in (prompt, 1 - prompt))
  q = 1 - p
  return 1 - q * ((1 - other) * q + other * q**2)
