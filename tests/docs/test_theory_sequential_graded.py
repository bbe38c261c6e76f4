"""docs/theory/sequential.md on graded likelihoods, in exact arithmetic."""

import collections
import math
from fractions import Fraction

import pytest

from tests.support import rationals as exact
from tests.support import sequential

P = exact.POLICY
LOW = (Fraction(1, 10), Fraction(1, 5), Fraction(3, 10))


GRADED = [exact.GRADED, LOW, (Fraction(1, 3), 0, 0)]
each_graded = pytest.mark.parametrize("values", GRADED)


@each_graded
@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 2), (1, 2), (2, 1), (3,)])
def test_three_means_of_the_thinned_estimate_are_unbiased(sizes, values):
  p = exact.pass_rate(P, values)
  target = exact.times(exact.maxrl(sum(sizes), p), exact.gradient(P, values))
  less, last, orders, waves, thinned = (
    sequential.moments(rule, P, values, sizes)
    for rule in (
      sequential.last_wave(values, baseline=True),
      sequential.last_wave(values),
      sequential.over_orders(values),
      sequential.by_wave(values),
      sequential.none,
    )
  )
  for actual in (less, last, orders, waves, thinned):
    assert actual.gradient == target
  assert orders.variance <= last.variance <= thinned.variance


@each_graded
@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 2), (1, 2)])
def test_over_orders_is_the_mean_given_what_was_drawn(sizes, values):
  """Given the actions in any order, the number of waves, and the outcome."""
  score = exact.scores(P)
  total = collections.defaultdict(Fraction)
  sums = collections.defaultdict(lambda: [Fraction(0)] * 3)

  def drawn(record):
    actions = sorted(z for wave in record for z, _ in wave)
    return (*actions, len(record), sequential.solved(record[-1]))

  every = list(sequential.records(P, values, sizes))
  for chance, record in every:
    g = sequential.estimate(sequential.none(record), record, score)
    key = drawn(record)
    total[key] += chance
    sums[key] = [t + chance * x for t, x in zip(sums[key], g, strict=True)]
  rule = sequential.over_orders(values)
  for _, record in every:
    key = drawn(record)
    expected = [x / total[key] for x in sums[key]]
    assert sequential.estimate(rule(record), record, score) == expected


@each_graded
@pytest.mark.parametrize("T", [1, 2, 4])
def test_when_the_sum_over_waves_has_less_variance(T, values):
  """E|X|² − E|Y|² = w E[l q |S|²] + 2 w' ∇p · E[l q S], waves of one."""
  p, slope = exact.pass_rate(P, values), exact.gradient(P, values)
  score, sizes = exact.scores(P), (1,) * T
  w = exact.maxrl(T, p)
  steeper = -sum(k * (1 - p) ** (k - 1) for k in range(1, T))
  squares, products = Fraction(0), Fraction(0)
  for share, l, s in zip(P, map(Fraction, values), score, strict=True):
    squares += share * l * (1 - l) * sum(x * x for x in s)
    dot = sum(x * y for x, y in zip(slope, s, strict=True))
    products += share * l * (1 - l) * dot
  thinned, summed = (
    sequential.moments(rule, P, values, sizes).variance
    for rule in (sequential.none, sequential.by_wave(values))
  )
  assert thinned - summed == w * squares + 2 * steeper * products
  # The limit of many waves, in terms of the scores of good answers.
  mu = exact.times(1 / p, slope)
  length, limit = sum(x * x for x in mu), Fraction(0)
  for share, l, s in zip(P, map(Fraction, values), score, strict=True):
    apart = sum((x - y) ** 2 for x, y in zip(s, mu, strict=True))
    limit += share * l / p * (1 - l) * (apart - length)
  assert limit == squares / p - 2 * products / p**2


@pytest.mark.parametrize("T", [2, 4, 6])
def test_with_one_worthy_action_the_elasticity_decides(T):
  """The sum has more variance if and only if κ > ½, over orders never more."""
  policy, values = (Fraction(3, 5), Fraction(2, 5)), (Fraction(1, 2), 0)
  summed, orders, thinned = (
    sequential.moments(rule, policy, values, (1,) * T).variance
    for rule in (
      sequential.by_wave(values),
      sequential.over_orders(values),
      sequential.none,
    )
  )
  p = exact.pass_rate(policy, values)
  elasticity = 1 - T * p * (1 - p) ** (T - 1) / (1 - (1 - p) ** T)
  assert (summed > thinned) == (elasticity > Fraction(1, 2)) == (T == 6)
  assert orders <= thinned


def test_binary_rewards_make_them_one():
  for sizes in ((1, 2), (2, 2)):
    for _, record in sequential.records(P, exact.TWO_RIGHT, sizes):
      expected = sequential.none(record)
      assert sequential.by_wave(exact.TWO_RIGHT)(record) == expected
      assert sequential.last_wave(exact.TWO_RIGHT)(record) == expected
      assert sequential.over_orders(exact.TWO_RIGHT)(record) == expected


@pytest.mark.parametrize("prompt", [0, 1])
@pytest.mark.parametrize(
  "rule",
  [sequential.by_wave, sequential.last_wave, sequential.over_orders],
)
def test_pooled_waves_are_unbiased_for_the_chance_of_success(rule, prompt):
  values = exact.GRADED, LOW
  rule = rule(values[prompt])
  actual = sequential.pooled_gradient(rule, P, values, prompt)
  chance = sequential.pooled_chance(P, values, prompt)
  p = exact.pass_rate(P, values[prompt])
  assert actual == exact.times(chance / p, exact.gradient(P, values[prompt]))


@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 2), (1, 2)])
@pytest.mark.parametrize("values", GRADED)
def test_baselines_of_graded_waves(sizes, values):
  """Less 1 − Π (1 − l) of the other rollouts, or of all, in every wave."""
  p = exact.pass_rate(P, values)

  def chance(wave):
    return 1 - math.prod(1 - Fraction(values[z]) for z, _ in wave)

  def less(b):
    def rule(record):
      rows = sequential.by_wave(values)(record)
      return [
        [c - Fraction(b(wave, j)) / len(wave) for j, c in enumerate(row)]
        for wave, row in zip(record, rows, strict=True)
      ]

    return rule

  others = less(lambda wave, j: chance(exact.others(wave, j)))
  every = less(lambda wave, j: chance(wave))
  falls = [(1 - p) ** sum(sizes[:i]) for i in range(len(sizes))]
  lower = sum(
    x * exact.maxrl(m - 1, p) for x, m in zip(falls, sizes, strict=True)
  )
  for rule, w in ((others, exact.maxrl(sum(sizes), p)), (every, lower)):
    actual = sequential.moments(rule, P, values, sizes).gradient
    assert actual == exact.times(w, exact.gradient(P, values))
