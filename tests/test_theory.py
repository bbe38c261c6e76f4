"""docs/theory: objectives, estimators and errata, in exact arithmetic.

The library's own expectations, floats over every outcome, are in
test_estimators; its weights against fractions in test_symmetric. Here the
theorems themselves are checked, as equalities of fractions.
"""

import itertools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rationals as exact

from maxrl_jax import estimators, objectives

SERIES = [Fraction(1, 2), 0, Fraction(3), Fraction(1, 7)]
GROUP = [Fraction(x) / 10 for x in (9, 0, 4, 10, 6)]
every_value = pytest.mark.parametrize(
  "values", [exact.GRADED, exact.TWO_RIGHT, exact.ONE_RIGHT]
)


def every_binary_group(num):
  return map(list, itertools.product(map(Fraction, (0, 1)), repeat=num))


def assert_weight(advantages, num, weight, values=exact.TWO_RIGHT):
  """E[ĝ] = w ∇p, to the last digit."""
  found = exact.expectation(advantages, exact.POLICY, values, num)
  slope = exact.gradient(exact.POLICY, values)
  assert found == exact.times(weight, slope)


# Objectives


@pytest.mark.parametrize("T", [1, 2, 7])
@pytest.mark.parametrize("p", [Fraction(1, 50), Fraction(2, 3), Fraction(1)])
def test_the_weight_is_that_of_the_likelihood_times_pass_at_T(T, p):
  assert exact.maxrl(T, p) == (1 - (1 - p) ** T) / p
  value = sum((1 - (1 - p) ** k) / k for k in range(1, T + 1))
  value -= sum(Fraction(1, k) for k in range(1, T + 1))
  gap = float(value) - math.log(p)
  assert 0 <= gap <= (1 - p) ** (T + 1) / ((T + 1) * p)
  assert float(objectives.maxrl(T).value(float(p))) == pytest.approx(
    float(value), rel=1e-5, abs=1e-6
  )


@pytest.mark.parametrize("alpha", [Fraction(0), Fraction(1, 2), Fraction(1)])
def test_a_power_is_a_mixture_of_orders(alpha):
  T, p = 9, Fraction(1, 5)
  a = [
    math.prod((i - alpha) / i for i in range(1, k + 1)) + Fraction(0)
    for k in range(T)
  ]
  largest = math.prod((i + 1 - alpha) / Fraction(i) for i in range(1, T))
  assert exact.series(a, 0) == largest  # C(T − α, T − 1)
  steps = [x - y for x, y in zip(a, [*a[1:], 0], strict=True)]
  assert min(steps) >= 0
  mixture = sum(
    step * exact.maxrl(order, p) for order, step in enumerate(steps, 1)
  )
  assert exact.series(a, p) == mixture
  found = objectives.power(float(alpha)).coefficients(T)
  np.testing.assert_allclose(found, np.array(a, float), rtol=1e-5)


def test_a_ceiling_too_high_divides_the_order():
  """w_T(p/s)/s → (1 − e^{−pT/s})/p for T, s → ∞ together."""
  p, order = 0.3, 5.0
  for s, error in ((100, 0.01), (10_000, 0.0001)):
    weight = objectives.maxrl(order * s).weight(p / s) / s
    limit = -math.expm1(-p * order) / p
    assert float(weight) == pytest.approx(limit, rel=error)


# Unbiasedness


@every_value
@pytest.mark.parametrize("N", [1, 2, 3, 4, 5])
def test_every_order_is_unbiased(N, values):
  p = exact.pass_rate(exact.POLICY, values)
  for T in range(1, N + 1):
    w = exact.maxrl(T, p)
    assert_weight(lambda l, T=T: exact.plain(l, [1] * T), N, w, values)
    if T < N:
      assert_weight(lambda l, T=T: exact.centred(l, [1] * T), N, w, values)


@every_value
def test_every_series_is_unbiased(values):
  p = exact.pass_rate(exact.POLICY, values)
  w = exact.series(SERIES, p)
  assert_weight(lambda l: exact.plain(l, SERIES), 4, w, values)
  w = exact.series(SERIES[:3], p)
  assert_weight(lambda l: exact.centred(l, SERIES[:3]), 4, w, values)


def test_binary_advantages_weigh_by_a_bernstein_polynomial():
  N, policy, values = 4, exact.POLICY, exact.TWO_RIGHT
  right = [Fraction(x) for x in (0, 3, -1, 5, 2)]  # A⁺(K), A⁻(K), K = 0 … N
  wrong = [Fraction(x, 3) for x in (2, -7, 1, 1, 0)]

  def advantages(r):
    K = int(sum(r))
    return [right[K] if x else wrong[K] for x in r]

  p = exact.pass_rate(policy, values)
  chances = exact.binomial(N - 1, p)
  weight = sum(c * (right[k + 1] - wrong[k]) for k, c in enumerate(chances))
  assert_weight(advantages, N, weight)


@pytest.mark.parametrize("N", [2, 3, 5, 8])
def test_centred_binary_advantages_reach_degree_N_minus_2(N):
  """The coefficient of p^{N−1} vanishes, whatever they are; that of w_N not."""
  rng = np.random.default_rng(N)
  right = [Fraction(int(x)) for x in rng.integers(-9, 9, N + 1)]
  right[0] = right[N] = Fraction(0)
  wrong = [-Fraction(K, max(N - K, 1)) * right[K] for K in range(N + 1)]

  def leading(weights):
    signed = ((-1) ** (N - 1 - c) * math.comb(N - 1, c) for c in range(N))
    return sum(s * w for s, w in zip(signed, weights, strict=True))

  assert leading([right[c + 1] - wrong[c] for c in range(N)]) == 0
  assert leading([Fraction(N, c + 1) for c in range(N)]) == (-1) ** (N - 1)


# The estimators of the library are those of the page


@pytest.mark.parametrize("values", [exact.GRADED, exact.TWO_RIGHT])
def test_the_library_computes_the_definitions(values, x64):
  N = 4
  groups = [[values[z] for z in g] for g in itertools.product(*[range(3)] * N)]
  l = np.array(groups, float)

  def check(estimator, rational):
    found = jax.jit(jax.vmap(estimator))(l)
    expected = np.array([rational([*map(Fraction, g)]) for g in groups], float)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)

  def maxrl(l):
    orders = jnp.arange(1, N)
    return jax.vmap(lambda T: estimators.maxrl(l, order=T))(orders)

  check(maxrl, lambda l: [exact.centred(l, [1] * T) for T in range(1, N)])
  check(estimators.rloo, lambda l: exact.centred(l, [1]))
  check(
    lambda l: estimators.pass_at_k(l, k=3),
    lambda l: exact.centred(l, [0, 0, 3]),
  )
  if set(values) == {0, 1}:
    check(estimators.maxrl_paper, exact.algorithm_1)
    check(estimators.maxrl, exact.algorithm_1)


def test_a_binary_group_has_one_number():
  """A⁺ = (N/K) m and A⁻ = −N/(N−K) m, m = ē_1 − ē_{T+1} of the group."""
  for N in (2, 3, 5):
    for r, T in itertools.product(every_binary_group(N), range(1, N)):
      q, K = [1 - x for x in r], sum(r)
      m = exact.symmetric_mean(q, 1) - exact.symmetric_mean(q, T + 1)
      expected = [N * m / K if x else -N * m / (N - K) for x in r]
      assert exact.centred(r, [1] * T) == expected


# What the estimator is, in other words


def test_centred_advantages_are_sums_over_pairs():
  N = len(GROUP)
  for T in range(1, N):
    expected = []
    for j in range(N):
      pairs = []
      for i in {*range(N)} - {j}:
        rest = [1 - x for k, x in enumerate(GROUP) if k not in (i, j)]
        weight = sum(exact.symmetric_mean(rest, k) for k in range(T))
        pairs.append(weight * (GROUP[j] - GROUP[i]))
      expected.append(exact.mean(pairs))
    assert exact.centred(GROUP, [1] * T) == expected
    assert sum(expected) == 0


@pytest.mark.parametrize("method", [exact.plain, exact.centred])
def test_graded_advantages_are_means_of_binary_ones(method):
  """A(l) = E[A(r) | l], r_j ~ Bernoulli(l_j)."""
  for T in range(1, len(GROUP)):
    total = [Fraction(0)] * len(GROUP)
    for r in every_binary_group(len(GROUP)):
      chance = math.prod(
        x if s else 1 - x for x, s in zip(GROUP, r, strict=True)
      )
      if chance:
        terms = zip(total, method(r, [1] * T), strict=True)
        total = [t + chance * a for t, a in terms]
    assert total == method(GROUP, [1] * T)


@pytest.mark.parametrize(
  ("method", "extra"), [(exact.plain, 0), (exact.centred, 1)]
)
def test_order_T_of_N_is_the_mean_over_small_groups(method, extra):
  N = len(GROUP)
  for T in range(1, N):
    size, total = T + extra, [Fraction(0)] * N
    for members in itertools.combinations(range(N), size):
      small = method([GROUP[j] for j in members], [1] * T)
      for j, a in zip(members, small, strict=True):
        total[j] += a * Fraction(N, size * math.comb(N, size))
    assert total == method(GROUP, [1] * T)


def test_weights_are_the_slopes_of_the_estimate_of_J():
  """Ĵ = −Σ a_k ē_{k+1}(q)/(k+1) is affine in every l_j, with slope ω_j/N."""

  def estimate(l):
    q = [1 - x for x in l]
    terms = enumerate(SERIES)
    return -sum(a * exact.symmetric_mean(q, k + 1) / (k + 1) for k, a in terms)

  for j, weight in enumerate(exact.series_weights(GROUP, SERIES)):
    right, wrong = GROUP.copy(), GROUP.copy()
    right[j], wrong[j] = Fraction(1), Fraction(0)
    assert len(GROUP) * (estimate(right) - estimate(wrong)) == weight


# Errata


@pytest.mark.parametrize("N", [2, 3, 4])
def test_what_equations_9_and_10_and_algorithm_1_estimate(N):
  def equation_9(r):
    K = sum(r)
    return [N * x / K if K else Fraction(0) for x in r]

  p = exact.pass_rate(exact.POLICY, exact.TWO_RIGHT)
  some = 1 - (1 - p) ** N
  assert_weight(equation_9, N, exact.maxrl(N, p))
  assert_weight(equation_9, N, some / p)  # ∇log p, given a success.
  assert_weight(lambda r: [a - 1 for a in equation_9(r)], N, some / p)
  assert_weight(exact.algorithm_1, N, exact.maxrl(N - 1, p))
  # The order-N weights themselves, with the constant 1/N of the blog.
  for r in every_binary_group(N):
    assert exact.plain(r, [1] * N) == equation_9(r)
  shifted = [Fraction(1, N)] * N
  assert_weight(
    lambda r: [a - b for a, b in zip(equation_9(r), shifted, strict=True)],
    N,
    exact.maxrl(N, p),
  )


@every_value
@pytest.mark.parametrize("N", [2, 3, 4])
def test_the_group_mean_as_baseline_mixes_two_orders(N, values):
  """Order T with its own group mean: (1 − T/N) w_T + (T/N) w_{T−1}."""

  def advantages(l, T):
    plain = exact.plain(l, [1] * T)
    return [a - exact.mean(plain) for a in plain]

  p = exact.pass_rate(exact.POLICY, values)
  for T in range(1, N + 1):
    share = Fraction(T, N)
    mixed = (1 - share) * exact.maxrl(T, p) + share * exact.maxrl(T - 1, p)
    assert_weight(lambda l, T=T: advantages(l, T), N, mixed, values)
  for r in every_binary_group(N):
    assert advantages(r, N) == exact.algorithm_1(r)


def test_what_grpo_weighs_in_finite_groups(x64):
  """Bernstein coefficients √((N−c−1)/(c+1)) + √(c/(N−c)): RL at N = 2."""
  for N in (2, 3, 8):
    groups = 1.0 * (np.arange(N) < np.arange(N + 1)[:, None])
    found = np.asarray(jax.jit(jax.vmap(estimators.grpo))(groups))
    coefficients = found[1:, 0] - found[:-1, -1]
    c = np.arange(N)
    expected = np.sqrt((N - c - 1) / (c + 1)) + np.sqrt(c / (N - c))
    np.testing.assert_allclose(coefficients, expected, rtol=1e-12)
  assert exact.algorithm_1([1, 0]) == exact.centred([1, 0], [1]) == [1, -1]
  np.testing.assert_allclose(
    estimators.grpo(np.array([1.0, 0.0])), [1, -1], rtol=1e-12
  )
