"""docs/theory.md: objectives and errata, in exact arithmetic.

The library's objectives are held against sixty digits in test_objectives.
"""

import math
from fractions import Fraction

import jax
import numpy as np
import pytest

from maxrl_jax import estimators, objectives
from tests.support import rationals as exact

every_value = pytest.mark.parametrize(
  "values", [exact.GRADED, exact.TWO_RIGHT, exact.ONE_RIGHT]
)


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
  actual = objectives.power(float(alpha)).coefficients(T)
  np.testing.assert_allclose(actual, np.array(a, float), rtol=1e-5)


def test_a_ceiling_too_high_divides_the_order():
  """w_T(p/s)/s → (1 − e^{−pT/s})/p for T, s → ∞ together."""
  p, order = 0.3, 5.0
  for s, error in ((100, 0.01), (10_000, 0.0001)):
    weight = objectives.maxrl(order * s).weight(p / s) / s
    limit = -math.expm1(-p * order) / p
    assert float(weight) == pytest.approx(limit, rel=error)


# Errata


@pytest.mark.parametrize("N", [2, 3, 4])
def test_what_equations_9_and_10_and_algorithm_1_estimate(N):
  def equation_9(r):
    K = sum(r)
    return [N * x / K if K else Fraction(0) for x in r]

  p = exact.pass_rate(exact.POLICY, exact.TWO_RIGHT)
  some = 1 - (1 - p) ** N
  exact.assert_weight(equation_9, N, exact.maxrl(N, p))
  exact.assert_weight(equation_9, N, some / p)  # ∇log p, given a success.
  exact.assert_weight(lambda r: [a - 1 for a in equation_9(r)], N, some / p)
  exact.assert_weight(exact.algorithm_1, N, exact.maxrl(N - 1, p))
  # The order-N weights themselves, with the constant 1/N of the blog.
  for r in exact.binary_groups(N):
    assert exact.plain(r, [1] * N) == equation_9(r)
  shifted = [Fraction(1, N)] * N
  exact.assert_weight(
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
    exact.assert_weight(lambda l, T=T: advantages(l, T), N, mixed, values)
  for r in exact.binary_groups(N):
    assert advantages(r, N) == exact.algorithm_1(r)


def test_what_grpo_weighs_in_finite_groups(x64):
  """Bernstein coefficients √((N−c−1)/(c+1)) + √(c/(N−c)): RL at N = 2."""
  for N in (2, 3, 8):
    groups = 1.0 * (np.arange(N) < np.arange(N + 1)[:, None])
    actual = np.asarray(jax.jit(jax.vmap(estimators.grpo))(groups))
    coefficients = actual[1:, 0] - actual[:-1, -1]
    c = np.arange(N)
    expected = np.sqrt((N - c - 1) / (c + 1)) + np.sqrt(c / (N - c))
    np.testing.assert_allclose(coefficients, expected, rtol=1e-12)
  assert exact.algorithm_1([1, 0]) == exact.centred([1, 0], [1]) == [1, -1]
  np.testing.assert_allclose(
    jax.jit(estimators.grpo)(np.array([1.0, 0.0])), [1, -1], rtol=1e-12
  )
