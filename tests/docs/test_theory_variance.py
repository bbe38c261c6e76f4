"""docs/theory/variance.md, against every outcome in exact arithmetic."""

import functools
import itertools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxrl_jax import estimators, evaluation
from tests.support import rationals as exact

every_value = pytest.mark.parametrize(
  "values", [exact.ONE_RIGHT, exact.TWO_RIGHT]
)
# The successes of the second case have scores far apart.
CASES = (
  ((0.5, 0.2, 0.2, 0.1), (1, 0, 0, 0)),
  ((0.3, 0.2, 0.3, 0.2), (1, 1, 0, 0)),
  ((0.02, 0.03, 0.55, 0.4), (1, 1, 0, 0)),
  ((0.2, 0.6, 0.1, 0.1), (1, 1, 0, 0)),
)


def fractions(policy):
  return [Fraction(x).limit_denominator(100) for x in policy]


def mean_of_failures(N, K, k):
  return Fraction(math.comb(N - K, k), math.comb(N, k))


def formula(policy, values, N, T, centred):
  """tr Cov of the binary estimator of order T, by sums over K alone."""
  p = exact.pass_rate(policy, values)
  right, wrong = (exact.side(policy, values, x) for x in (1, 0))
  slope = sum(x * x for x in exact.gradient(policy, values))
  chances = exact.binomial(N, p)
  first, last = (1, T + 1) if centred else (0, T)
  means = functools.partial(mean_of_failures, N)
  m = [
    means(K, first) - (means(K, last) if last <= N else 0) for K in range(N + 1)
  ]
  expected = sum(c * x for c, x in zip(chances, m, strict=True))
  spread = sum(c * (x - expected) ** 2 for c, x in zip(chances, m, strict=True))
  scale = p * (1 - p) if centred else p
  total = slope * spread / scale**2
  for K, (c, x) in enumerate(zip(chances, m, strict=True)):
    total += c * x**2 * right.spread / K if K else 0
    if centred and K < N:
      total += c * x**2 * wrong.spread / (N - K)
  return total


@every_value
@pytest.mark.parametrize("N", [2, 3, 4])
def test_the_variance_is_a_sum_over_the_number_of_successes(N, values):
  for T in range(1, N + 1):
    for method in (exact.plain, exact.centred)[: 2 if T < N else 1]:
      actual = exact.moments(
        functools.partial(method, a=[1] * T), exact.POLICY, values, N
      )
      expected = formula(
        exact.POLICY, values, N, T, centred=method is exact.centred
      )
      assert actual.variance == expected


@every_value
def test_a_constant_baseline_at_order_N(values):
  """N (Var_β − Var_0) = β² tr F − 2β ((1−q^N) s₁ + N q^{N−1} |∇p|²/p)."""
  N, policy = 3, exact.POLICY
  p, right = exact.pass_rate(policy, values), exact.side(policy, values, 1)
  q, slope = 1 - p, sum(x * x for x in exact.gradient(policy, values))
  covariance = (1 - q**N) * right.spread + N * q ** (N - 1) * slope / p

  def variance(b):
    shifted = lambda l: [a - b for a in exact.plain(l, [1] * N)]  # noqa: E731
    return exact.moments(shifted, policy, values, N).variance

  for b in (Fraction(1, N), Fraction(1), Fraction(-2)):
    change = b**2 * exact.fisher(policy) - 2 * b * covariance
    assert N * (variance(b) - variance(Fraction(0))) == change


@pytest.mark.parametrize("T", [1, 2])
@pytest.mark.parametrize("N", [3, 4])
def test_what_one_rollout_changes_on_average(N, T):
  """N (E[ĝ | z_1] − E[ĝ]) = w (l S − ∇p) + w' (l − p) ∇p − p w S."""
  policy, values, score = exact.POLICY, exact.GRADED, exact.scores(exact.POLICY)
  p, slope = exact.pass_rate(policy, values), exact.gradient(policy, values)
  w = exact.maxrl(T, p)
  steeper = -sum(k * (1 - p) ** (k - 1) for k in range(1, T))
  for z, l in enumerate(values):
    for method, b in ((exact.plain, 0), (exact.centred, p * w)):
      given = _given(method, T, N, z)
      for c in range(3):
        expected = w * (l * score[z][c] - slope[c]) - b * score[z][c]
        expected += steeper * (l - p) * slope[c]
        assert N * (given[c] - w * slope[c]) == expected


def _given(method, T, N, z):
  """E[ĝ | z_1 = z]: the rest of the group by enumeration."""
  policy, values, score = exact.POLICY, exact.GRADED, exact.scores(exact.POLICY)

  def rest(l):
    return method([values[z], *l], [1] * T)[1:]

  others = exact.expectation(rest, policy, values, N - 1)
  own = _own_mean(lambda l: method([values[z], *l], [1] * T)[0], N - 1)
  return [((N - 1) * x + own * score[z][c]) / N for c, x in enumerate(others)]


def _own_mean(advantage, num):
  total = Fraction(0)
  for group in np.ndindex(*[3] * num):
    chance = math.prod(exact.POLICY[z] for z in group)
    total += chance * advantage([exact.GRADED[z] for z in group])
  return total


@every_value
@pytest.mark.parametrize("T", [1, 2, 3])
def test_more_rollouts_are_worth_at_least_groups_of_T(T, values):
  """N Var_N falls with N, for the plain and for the centred estimator."""
  for centred in (False, True):
    scaled = [
      N * formula(exact.POLICY, values, N, T, centred)
      for N in range(T + centred, 12)
    ]
    assert all(y <= x for x, y in itertools.pairwise(scaled))


def scaled_changes(policy, values, T):
  """N (Var_centred − Var_plain) at N = 400, and what it tends to."""
  p = float(exact.pass_rate(policy, values))
  right = exact.side(policy, values, 1)
  length = float(sum(x * x for x in right.mean))
  w = (1 - (1 - p) ** T) / p
  elasticity = 1 - T * p * (1 - p) ** (T - 1) / (1 - (1 - p) ** T)
  criterion = float(exact.fisher(policy)) / 2 - (
    float(right.spread) + (1 - elasticity) * length
  )
  N = 400
  change = formula(policy, values, N, T, True)
  change -= formula(policy, values, N, T, False)
  return N * float(change), 2 * (p * w) ** 2 * criterion


@pytest.mark.parametrize(("policy", "values"), CASES)
@pytest.mark.parametrize("T", [1, 4, 16])
def test_when_centring_helps(T, policy, values):
  policy = fractions(policy)
  actual, limit = scaled_changes(policy, values, T)
  assert actual == pytest.approx(limit, rel=0.2, abs=0.01)
  assert (actual > 0) == (limit > 0)


def rare(values=(1, 1, 0, 0)):
  tiny = Fraction(1, 10**9)
  policy = (tiny, 2 * tiny, Fraction(1, 3), Fraction(2, 3) - 3 * tiny)
  return policy, values, exact.pass_rate(policy, values)


@pytest.mark.parametrize("N", [4, 9])
def test_where_success_is_rare_the_order_is_a_factor(N):
  policy, values, p = rare()
  right, wrong = (exact.side(policy, values, x) for x in (1, 0))
  length = sum(x * x for x in right.mean)
  for T in range(1, N):
    plain, centred = (formula(policy, values, N, T, c) for c in (False, True))
    assert float(plain) == pytest.approx(
      T**2 * p / N * (right.spread + length), rel=1e-6
    )
    added = wrong.spread / ((N - 1) * (right.spread + length))
    assert float(centred / plain) == pytest.approx(1 + added, rel=1e-6)
    signal = exact.maxrl(T, p) ** 2 * p**2 * length
    assert float(signal / plain) == pytest.approx(
      N * p * length / (right.spread + length), rel=1e-6
    )


def test_one_right_action_costs_a_baseline_its_variance():
  """s₁ = 0: exponentially little without a baseline, of order 1/N with one."""
  policy, values = fractions(CASES[0][0]), CASES[0][1]
  assert exact.side(policy, values, 1).spread == 0
  p = exact.pass_rate(policy, values)
  slope = sum(x * x for x in exact.gradient(policy, values))
  for N in (6, 12, 24):
    q = (1 - p) ** N
    plain = formula(policy, values, N, N, centred=False)
    assert plain == slope * q * (1 - q) / p**2
    centred = formula(policy, values, N, N - 1, centred=True)
    assert 0.8 < N * centred / exact.fisher(policy) < 1.1


def test_the_library_enumerates_the_same_variance(x64):
  policy, values = CASES[1]
  logits, l = jnp.log(jnp.array(policy)), jnp.array(values, float)
  for T, baseline in ((2, "none"), (2, "centred"), (4, "centred")):
    estimator = functools.partial(estimators.maxrl, order=T, baseline=baseline)
    run = jax.jit(
      lambda x, y, e=estimator: evaluation.enumerated_moments(e, x, y, 5)
    )
    expected = formula(fractions(policy), values, 5, T, baseline == "centred")
    assert float(run(logits, l).variance) == pytest.approx(float(expected))
