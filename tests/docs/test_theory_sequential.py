"""docs/theory/sequential.md, over every outcome in exact arithmetic."""

import pathlib
import re
from fractions import Fraction

import numpy as np
import pytest

from tests.support import rationals as exact
from tests.support import sequential

P = exact.POLICY
PAGE = pathlib.Path(__file__).parents[2] / "docs" / "theory" / "sequential.md"
PAGE = PAGE.read_text()
SIZES = [(1, 1, 1, 1), (2, 2), (1, 3), (3, 1), (2, 1, 1), (4,)]
UNBIASED = {
  "none": sequential.none,
  "average_score": sequential.average_score,
  "a third of it": lambda x: sequential.average_score(x, Fraction(1, 3)),
  "leave_one_out": sequential.leave_one_out,
}
each_size = pytest.mark.parametrize("sizes", SIZES)
every_value = pytest.mark.parametrize(
  "values", [exact.GRADED, exact.TWO_RIGHT, exact.ONE_RIGHT]
)
binary = pytest.mark.parametrize("values", [exact.TWO_RIGHT, exact.ONE_RIGHT])


def weighs(values, weight):
  return exact.times(weight, exact.gradient(P, values))


def reached(sizes, p):
  """P(wave i is drawn), in order."""
  return [(1 - p) ** sum(sizes[:i]) for i in range(len(sizes))]


# Unbiased, and what it costs


@every_value
@each_size
@pytest.mark.parametrize("name", UNBIASED)
def test_waves_are_unbiased_for_their_total(name, sizes, values):
  p = exact.pass_rate(P, values)
  actual = sequential.moments(UNBIASED[name], P, values, sizes)
  assert actual.gradient == weighs(values, exact.maxrl(sum(sizes), p))


@every_value
@each_size
def test_a_baseline_that_failing_waves_lack_lowers_the_weight(sizes, values):
  p = exact.pass_rate(P, values)
  waves = zip(reached(sizes, p), sizes, strict=True)
  weight = sum(x * exact.maxrl(m - 1, p) for x, m in waves)
  actual = sequential.moments(sequential.centred, P, values, sizes)
  assert actual.gradient == weighs(values, weight)
  if len(set(sizes)) == 1:
    m, R = sizes[0], len(sizes)
    q = 1 - p
    waves = (1 - q ** (m * R)) / (1 - q**m)
    assert weight == exact.maxrl(m - 1, p) * waves


@every_value
@each_size
def test_the_price_is_the_weight(sizes, values):
  p = exact.pass_rate(P, values)
  cost = sequential.moments(sequential.none, P, values, sizes).cost
  waves = zip(reached(sizes, p), sizes, strict=True)
  assert cost == sum(x * m for x, m in waves)
  if len(set(sizes)) == 1:
    m, q = sizes[0], 1 - p
    assert cost == m * (1 - q ** sum(sizes)) / (1 - q**m)
  if set(sizes) == {1}:
    assert cost == exact.maxrl(len(sizes), p)


@binary
def test_rloo_in_every_wave_has_the_expected_number_of_waves(values):
  def rloo(record):
    return [
      [
        Fraction(r - exact.mean(exact.others([s for _, s in wave], j)), 2)
        for j, (_, r) in enumerate(wave)
      ]
      for wave in record
    ]

  q = 1 - exact.pass_rate(P, values)
  actual = sequential.moments(rloo, P, values, (2, 2, 2)).gradient
  assert actual == weighs(values, (1 - q**6) / (1 - q**2))


# Pooling: two prompts whose waves depend on each other


@pytest.mark.parametrize("prompt", [0, 1])
@pytest.mark.parametrize("name", UNBIASED)
def test_pooled_waves_are_unbiased_for_the_chance_of_success(name, prompt):
  """The rule is of one prompt; its sizes follow the other's outcomes."""
  values = exact.TWO_RIGHT, exact.ONE_RIGHT
  actual = sequential.pooled_gradient(UNBIASED[name], P, values, prompt)
  chance = sequential.pooled_chance(P, values, prompt)
  p = exact.pass_rate(P, values[prompt])
  assert actual == exact.times(chance / p, exact.gradient(P, values[prompt]))


def test_pooled_successes_are_p_of_the_rollouts():
  values = exact.TWO_RIGHT, exact.ONE_RIGHT
  cost, successes = [0, 0], [0, 0]
  for chance, records in sequential.pooled(P, values, pool=2, rounds=2):
    for i, record in enumerate(records):
      cost[i] += chance * sum(map(len, record))
      successes[i] += chance * sum(r for wave in record for _, r in wave)
  for i in (0, 1):
    assert successes[i] == exact.pass_rate(P, values[i]) * cost[i]


def test_the_first_of_a_wave_to_finish_is_biased():
  """Taking the shorter of two successes: an action of half the length."""
  values, lengths = exact.TWO_RIGHT, (2, 3, 1)

  def shortest(record):
    rows = []
    for wave in record:
      right = [(lengths[z], j) for j, (z, r) in enumerate(wave) if r]
      chosen = min(right)[1] if right else None
      rows.append([Fraction(j == chosen) for j in range(len(wave))])
    return rows

  actual = sequential.moments(shortest, P, values, (2, 2)).gradient
  w = exact.maxrl(4, exact.pass_rate(P, values))
  target = weighs(values, w)
  assert actual[2] > 1.5 * target[2] and actual != target


# Variance


def formula(values, m, R, u, v, policy=P):
  """Theorem 16: u(K) and v(K) of successes and of failures."""
  p = exact.pass_rate(policy, values)
  q, chances = 1 - p, exact.binomial(m, p)
  right, wrong = (exact.side(policy, values, x) for x in (1, 0))
  slope = sum(x * x for x in exact.gradient(policy, values))
  waves = sum(q ** (m * i) for i in range(R))
  weight, total = Fraction(0), Fraction(0)
  for K in range(1, m + 1):
    pull = u(K) / p + v(K) / q
    weight += waves * chances[K] * pull
    inside = right.spread * u(K) ** 2 / K + slope * pull**2
    inside += wrong.spread * v(K) ** 2 / (m - K) if m > K else 0
    total += waves * chances[K] * inside
  return total - weight**2 * slope


def pulls(m):
  """u(K) and v(K) of each baseline."""

  def rest(K):
    return 1 - Fraction(K, m)

  return {
    sequential.none: (lambda K: Fraction(1), lambda K: Fraction(0)),
    sequential.centred: (rest, rest),
    sequential.leave_one_out: (lambda K: rest(K) if K > 1 else 1, rest),
  }


@binary
@pytest.mark.parametrize(("m", "R"), [(1, 4), (2, 2), (4, 1), (3, 1), (1, 1)])
def test_the_variance_is_a_sum_over_the_successes_of_a_wave(m, R, values):
  for rule, (u, v) in pulls(m).items():
    actual = sequential.moments(rule, P, values, (m,) * R).variance
    assert actual == formula(values, m, R, u, v)


@binary
@pytest.mark.parametrize(("m", "R"), [(1, 4), (2, 2), (4, 1), (1, 2)])
def test_what_a_constant_changes(m, R, values):
  """β² E[W] F/m − 2β ((1−q^T) s₁/m + R q^{T−1} |∇p|²/p)."""
  p, T = exact.pass_rate(P, values), m * R
  q, right = 1 - p, exact.side(P, values, 1)
  slope = sum(x * x for x in exact.gradient(P, values))
  waves = sum(q ** (m * i) for i in range(R))
  plain = sequential.moments(sequential.none, P, values, (m,) * R).variance
  for b in (Fraction(1), Fraction(1, 3), Fraction(-2)):
    actual = sequential.moments(
      lambda x, b=b: sequential.average_score(x, b), P, values, (m,) * R
    ).variance
    change = b**2 * waves * exact.fisher(P) / m
    change -= 2 * b * (1 - q**T) * right.spread / m
    change -= 2 * b * R * q ** (T - 1) * slope / p
    assert actual - plain == change


def inverse(num, p):
  """E[1/K; K ≥ 1], K ~ Bin(num, p)."""
  chances = exact.binomial(num, p)
  return sum(c / K for K, c in enumerate(chances) if K)


@binary
@pytest.mark.parametrize("T", [1, 2, 4])
def test_variance_times_cost_is_at_most_a_fixed_group_s(T, values):
  one_by_one = sequential.moments(sequential.none, P, values, (1,) * T)
  fixed = sequential.moments(sequential.none, P, values, (T,))
  assert fixed.variance <= one_by_one.variance
  product = one_by_one.variance * one_by_one.cost
  assert product <= fixed.variance * T
  assert (product == fixed.variance * T) == (T == 1)
  group = exact.moments(lambda l: exact.plain(l, [1] * T), P, values, T)
  assert group.variance == fixed.variance


def test_the_table_of_costs_is_right():
  rows = re.findall(r"^\| (\.\d+) \|(.*)\|$", PAGE, re.M)
  assert len(rows) == 7
  T, m = 1024, 16
  for p, cells in rows:
    p, shown = float(p), [float(x) for x in cells.split("|")]
    passed = 1 - (1 - p) ** T
    waves = passed / (1 - (1 - p) ** m)
    costs = np.array([passed / p, m * waves, T])
    noise = [passed, waves * inverse(m, p), inverse(T, p)]
    product = costs * noise / (costs[0] * noise[0])
    expected = [*costs[:2], *noise, *product[1:]]
    rounded = [0.051] * 2 + [5.1e-4] * 3 + [5.1e-3] * 2
    assert np.all(np.abs(np.subtract(shown, expected)) < rounded), p


def test_a_fixed_group_costs_at_most_137_percent():
  T = 1024
  ratios = []
  for p in np.geomspace(1e-5, 0.99, 120):
    passed = 1 - (1 - p) ** T
    ratios.append(T * inverse(T, p) * p / passed**2)
  assert min(ratios) > 0.999 and 1.36 < max(ratios) < 1.37


@pytest.mark.parametrize(
  ("m", "p", "ratio"),
  [
    (16, 0.01, 1.052),
    (16, 0.1, 0.980),
    (16, 0.5, 0.549),
    (4, 0.01, 1.18),
    (4, 0.1, 1.13),
    (4, 0.5, 0.78),
  ],
)
def test_leave_one_out_against_none(m, p, ratio):
  """Of 40 equal actions 20 are right; s₁ = .95."""
  values = (1,) * 20 + (0,) * 20
  policy = (p / 20,) * 20 + ((1 - p) / 20,) * 20
  variances = {
    rule: formula(values, m, 1024 // m, u, v, policy)
    for rule, (u, v) in pulls(m).items()
  }
  plain = variances[sequential.none]
  actual = variances[sequential.leave_one_out] / plain
  assert actual == pytest.approx(ratio, abs=0.001 if m == 16 else 0.005)


# Where it loses


def test_which_allocation_has_the_least_noise():
  """Noise Σ s₁/(p n) against random allocations of the same cost."""
  p, s1 = np.array([0.9, 0.1, 0.001]), np.array([0.2, 1.0, 3.0])

  def noise(shares):
    return np.sum(s1 / (p * 1000 * shares / shares.sum(-1, keepdims=True)), -1)

  others = noise(np.random.default_rng(0).dirichlet([0.5] * 3, 10_000))
  least, sequential_one = noise(np.sqrt(s1 / p)), noise(1 / p)
  assert least < others.min() < 1.001 * least
  assert sequential_one > 1.05 * least
