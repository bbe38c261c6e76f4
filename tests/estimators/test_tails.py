"""Series objectives of graded rewards: every threshold, in fractions."""

import functools
import itertools
import math
from fractions import Fraction

import jax
import numpy as np
import pytest

from maxrl_jax import estimators
from tests.support import oracles
from tests.support import rationals as exact
from tests.support.estimator_groups import BINARY, GRADED, assert_same
from tests.support.extent import long

N = 4
SERIES = (Fraction(1), Fraction(1, 2), Fraction(2))
# Options, and a_k for a group of n.
CASES = {
  "order None": ({}, lambda n: [1] * (n - 1)),
  "order 1": ({"order": 1}, lambda n: [1]),
  "order 2": ({"order": 2}, lambda n: [1] * 2),
  "order N": ({"order": N}, lambda n: [1] * min(N, n)),
  "k 1": ({"k": 1}, lambda n: [1]),
  "k 3": ({"k": 3}, lambda n: [0, 0, 3]),
  "k N": ({"k": N}, lambda n: [0, 0, 0, 4][:n]),
  "alpha": (
    {"alpha": 0.25},
    lambda n: [
      math.prod((i - Fraction(1, 4)) / i for i in range(1, k + 1))
      for k in range(n - 1)
    ],
  ),
  "coefficients": (
    {"coefficients": np.array(SERIES, float)},
    lambda n: SERIES[:n],
  ),
}
# Three actions, two of equal reward; with and without negative ones.
VALUES = (
  (Fraction(-4), Fraction(13, 10), Fraction(13, 10)),
  (Fraction(3), Fraction(0), Fraction(1, 2)),
)
each = pytest.mark.parametrize("name", CASES)


def plain(r, a):
  return exact.plain(r, a)


def centred(r, a):
  """b_j = Σ a_k (ē_k − ē_{k+1}), without k = N−1."""
  a, pairs = [*map(Fraction, a)], zip(plain(r, a), baselines(r, a), strict=True)
  return [x - b for x, b in pairs]


def baselines(r, a):
  total = [Fraction(0)] * len(r)
  for k, a_k in enumerate(a[: len(r) - 1]):
    means = zip(exact.loo_means(r, k), exact.loo_means(r, k + 1), strict=True)
    total = [t + a_k * (x - y) for t, (x, y) in zip(total, means, strict=True)]
  return total


def loo_mean(r, a):
  n = len(r) - 1
  weights = zip(exact.series_weights(r, a), r, strict=True)
  return [w * (x - (sum(r) - x) / Fraction(n)) for w, x in weights]


METHODS = {"centred": centred, "none": plain, "loo_mean": loo_mean}


def over_thresholds(rewards, binary):
  """∫ A(τ) dτ over τ > 0, less ∫ (A of all ones − A(τ)) dτ over τ < 0."""
  levels = sorted({Fraction(0), *rewards})
  ones, total = binary([Fraction(1)] * len(rewards)), [0] * len(rewards)
  for low, high in itertools.pairwise(levels):
    drawn = binary([Fraction(r >= high) for r in rewards])
    if high <= 0:
      drawn = [a - b for a, b in zip(drawn, ones, strict=True)]
    total = [t + (high - low) * a for t, a in zip(total, drawn, strict=True)]
  return total


def by_thresholds(rewards, a, baseline):
  binary = functools.partial(METHODS[baseline], a=a)
  return over_thresholds([*map(Fraction, rewards)], binary)


# By hand


def test_best_of_two_by_hand():
  best = functools.partial(estimators.tail, k=2)
  r = np.array([0.3, 0.9, 0.1, 0.6])
  assert_same(best(r), [-0.4, 0.8, -0.4, 0], 1e-6)
  # PKPO's own form: 2 Σ_i gap_i · (share of the others below).
  assert_same(best(r, baseline="none"), [2 / 15, 17 / 15, 0, 8 / 15], 1e-6)
  expected = [-7 / 15, 1, -1 / 15, -7 / 15]
  assert_same(best(np.array([0.2, 0.9, 0.5, 0.1])), expected, 1e-6)


def test_tail_rl_of_any_reward_by_hand():
  """Gaps of 4.5, 6.75, 92.75 reached by 4, 2 and 1 of five."""
  r = np.array([-4, 0.5, 0.5, 7.25, 100])
  expected = [-104, -98.375, -98.375, -81.5, 382.25]
  assert_same(estimators.tail_rl(r), expected, 1e-4)
  assert_same(estimators.tail_rl(r[::-1]), expected[::-1], 1e-4)
  assert_same(estimators.tail_rl(r + 4096), expected, 1e-4)
  assert_same(estimators.tail_rl(r / 64), np.divide(expected, 64), 1e-5)


def test_order_1_is_rloo_for_any_reward(x64):
  r = np.array([-3.0, 2.0, 7.0, 2.0])
  expected = estimators.rloo(r, bounded=False)
  for options in ({"order": 1}, {"k": 1}, {"alpha": 1.0}):
    assert_same(estimators.tail(r, **options), expected, 1e-13)
  assert_same(estimators.tail(r, order=1, baseline="none"), r, 1e-13)
  assert_same(estimators.tail(r, order=1, baseline=0.5), r - 0.5, 1e-13)


# Definition and expectation, in fractions


@each
@pytest.mark.parametrize("values", VALUES)
def test_expectation_is_the_gradient_over_thresholds(name, values):
  """E[ĝ] = ∫ w(P(r ≥ τ)) ∇P(r ≥ τ) dτ."""
  a = CASES[name][1](N)
  levels, expected = sorted(set(values)), [Fraction(0)] * 3
  for low, high in itertools.pairwise(levels):
    above = [int(v >= high) for v in values]
    weight = exact.series(a, exact.pass_rate(exact.POLICY, above))
    slope = exact.times(weight, exact.gradient(exact.POLICY, above))
    pairs = zip(expected, slope, strict=True)
    expected = [x + (high - low) * y for x, y in pairs]
  for baseline in METHODS:
    actual = exact.expectation(
      functools.partial(by_thresholds, a=a, baseline=baseline),
      exact.POLICY,
      values,
      N,
    )
    assert actual == expected


def test_best_of_k_climbs_the_expected_maximum():
  """∇E[max of 3] by differentiating P(max ≤ r) = P(r)³ over the policy."""
  values, policy, k = VALUES[1], exact.POLICY, 3
  levels, expected = sorted(values), [Fraction(0)] * 3
  for low, high in itertools.pairwise(levels):
    below = [int(v < high) for v in values]
    chance = exact.pass_rate(policy, below)
    slope = exact.times(-k * chance ** (k - 1), exact.gradient(policy, below))
    pairs = zip(expected, slope, strict=True)
    expected = [x + (high - low) * y for x, y in pairs]
  a = [0] * (k - 1) + [k]
  actual = exact.expectation(
    functools.partial(by_thresholds, a=a, baseline="centred"), policy, values, N
  )
  assert actual == expected


@each
@pytest.mark.parametrize("values", [VALUES[0], long(VALUES[1])])
def test_the_library_computes_the_definition(name, values, x64):
  """Every group of four, and of three of them with a fourth one masked."""
  options, a = CASES[name]
  groups = np.array([*itertools.product(map(float, values), repeat=N)])
  mask = np.arange(N) != 1
  for baseline in METHODS:
    call = functools.partial(estimators.tail, baseline=baseline, **options)
    expected = [by_thresholds(r, a(N), baseline) for r in groups]
    actual = jax.jit(jax.vmap(call))(groups)
    assert_same(actual, np.array(expected, float), 1e-12)
    masked = jax.jit(jax.vmap(lambda r, m, f=call: f(r, mask=m), (0, None)))
    expected = [by_thresholds(r, a(N - 1), baseline) for r in groups[:, mask]]
    actual = np.array(masked(np.where(mask, groups, np.nan), mask))
    assert_same(actual[:, mask], np.array(expected, float), 1e-12)
    assert not actual[:, 1].any()


def test_binary_rewards_have_the_advantages_of_the_binary_estimator():
  pairs = [
    (estimators.maxrl, {"order": 2}),
    (estimators.maxrl, {"order": 6}),
    (estimators.pass_at_k, {"k": 6}),
    (estimators.power, {"alpha": 0.3}),
    (estimators.series, {"coefficients": np.array([0.5, 0, 2.0])}),
  ]
  for baseline in ("centred", "none", "loo_mean", 0.25):
    for binary, options in pairs:
      expected = binary(BINARY, baseline=baseline, **options)
      actual = estimators.tail(BINARY, baseline=baseline, **options)
      assert_same(actual, expected, 3e-6)


def test_traced_options_equal_static_ones():
  for name, values in (("order", (1, 3, 6)), ("k", (1, 3, 6))):
    call = jax.jit(
      lambda x, name=name: estimators.tail(GRADED, **{name: x}, check=True)
    )
    for x in values:
      expected = estimators.tail(GRADED, **{name: x})
      assert_same(call(x), expected, 3e-6)
  call = jax.jit(lambda x: estimators.tail(GRADED, alpha=x))
  assert_same(call(0.3), estimators.tail(GRADED, alpha=0.3), 3e-6)


# Precision


def loop(rewards, binary):
  """Advantages from those for K of N, one gap after the other, in float64."""
  r = np.sort(rewards.astype(np.longdouble))
  size, gaps = len(r), np.diff(r)
  total = np.zeros(size, np.longdouble)
  for K in range(size - 1, 0, -1):
    success, failure = binary(K)
    gap = gaps[size - K - 1]
    total[: size - K] += gap * failure
    total[size - K :] += gap * success
  return total[np.argsort(np.argsort(rewards, kind="stable"))].astype(float)


def of_order(size, T, K):
  (w, b), (_, b_failure) = (oracles.binary_loo(size, c, T) for c in (K - 1, K))
  return (w - b if K == 1 else (size - K) / K * b_failure), -b_failure


def of_k(size, k, K):
  b = k * K / (size - 1) * _none_of(size - 2, K - 1, k - 1)
  return (size - K) / K * b, -b


def _none_of(n, c, k):
  if c + k > n:
    return 0.0
  return float(Fraction(math.comb(n - c, k), math.comb(n, k)))


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize(
  ("options", "binary"),
  [
    ({}, functools.partial(of_order, T=4095)),
    ({"order": 64}, functools.partial(of_order, T=64)),
    ({"k": 2}, functools.partial(of_k, k=2)),
    ({"k": 512}, functools.partial(of_k, k=512)),
  ],
)
def test_groups_of_thousands_in_single_precision(options, binary, traced):
  size = 4096
  rng = np.random.default_rng(0)
  rewards = rng.standard_exponential(size).astype(np.float32)
  rewards[::5] = rewards[0]  # ties
  call = functools.partial(estimators.tail, **options)
  if traced:  # With a mask, the table is computed in float32 too.
    call = jax.jit(lambda r, m: estimators.tail(r, mask=m, **options))
    actual = call(rewards, np.ones(size, bool))
  else:
    actual = jax.jit(call)(rewards)
  expected = loop(rewards, lambda K: binary(size, K=K))
  # Both signs occur in the sum of one rollout: a rounding of its terms.
  scale = np.abs(expected).max()
  np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=2e-7 * scale)


# Errors


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"order": 2, "k": 2}, "order and k: choose one of order, k, alpha"),
    ({"order": 0}, "order = 0: .* 1 to 3"),
    ({"k": 4}, "k = 4: .* 1 to 3"),
    ({"alpha": 1.5}, "alpha = 1.5: must be in"),
    ({"coefficients": np.ones(4)}, "coefficients: 4 terms for N = 3"),
    ({"coefficients": -np.ones(2)}, "coefficients: -1, all must"),
    ({"baseline": "average_score"}, "baseline = 'average_score': choose from"),
  ],
)
def test_error_names_an_argument_out_of_range(options, message):
  with pytest.raises(ValueError, match=message):
    estimators.tail(np.array([0.1, -2, 30]), **options)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_error_names_a_reward_that_is_not_finite(bad):
  with pytest.raises(ValueError, match=rf"rewards\[1\] = {bad}: must be fini"):
    estimators.tail_rl(np.array([1.3, bad, -1]))
