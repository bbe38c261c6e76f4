"""docs/theory/algorithms.md: the quadrature identity, and what subtracts.

The closed form, the scans and the quadrature of the library are held against
fractions in test_symmetric.
"""

import math
from fractions import Fraction

import numpy as np
import pytest

from benchmarks import conditioning
from tests.support import rationals as exact

GROUP = [Fraction(x) / 10 for x in (9, 0, 4, 10, 6)]


def test_the_sum_of_all_means_is_an_integral():
  """Σ_{k≤n} ē_k = (n+1) ∫₀¹ Π (1 − t l_i) dt, term by term."""
  polynomial = [Fraction(1)]
  for l in GROUP:
    shifted = [Fraction(0), *(-l * c for c in polynomial)]
    polynomial = [x + y for x, y in zip([*polynomial, 0], shifted, strict=True)]
  integral = sum(c / (d + 1) for d, c in enumerate(polynomial))
  means = [
    exact.symmetric_mean([1 - x for x in GROUP], k)
    for k in range(len(GROUP) + 1)
  ]
  assert sum(means) == (len(GROUP) + 1) * integral


@pytest.mark.parametrize("order", range(1, len(GROUP) + 1))
@pytest.mark.parametrize("radius", [0.3, 1.7])
def test_an_order_is_a_mean_over_a_circle(order, radius):
  """Theorem 12: equidistant points are exact for a polynomial in z."""
  n = len(GROUP)
  l = np.array(GROUP, float)
  z = radius * np.exp(2j * np.pi * (np.arange(4 * n) + 0.5) / (4 * n))
  t, w = np.polynomial.legendre.leggauss(n)
  means = [
    float(exact.symmetric_mean([1 - x for x in GROUP], k)) for k in range(n + 1)
  ]

  def density(k):
    return (1 + z) ** n * z ** -float(k) / math.comb(n, k)

  def product(y):
    return np.prod(1 - l * y[..., None], -1)

  y = z / (1 + z)
  passed = np.mean(density(order) * (1 - product(y)))
  np.testing.assert_allclose(passed, 1 - means[order], atol=1e-12)
  inner = product((t + 1) / 2 * y[:, None]) @ (w / 2)
  weight = order * np.mean(density(order - 1) * inner)
  np.testing.assert_allclose(weight, sum(means[:order]), atol=1e-12)


@pytest.mark.parametrize("N", [2, 3, 6, 9])
def test_half_as_many_nodes_as_rollouts_and_no_fewer(N):
  def error(nodes):
    t, w = np.polynomial.legendre.leggauss(nodes)
    return abs(N * np.dot(w / 2, (1 - (t + 1) / 2) ** (N - 1)) - 1)

  enough = -(-N // 2)
  assert error(enough) < 1e-14
  assert enough == 1 or error(enough - 1) > 1e-4


@pytest.mark.parametrize("name", conditioning.SUBTRACTIVE)
def test_what_the_benchmark_compares_is_the_same_quantity(name):
  l = np.array([0.5, 0.25, 0.875, 0.125, 0.5])
  expected = [exact.loo_means([*map(Fraction, l)], k) for k in range(5)]
  actual = conditioning.SUBTRACTIVE[name](l)
  np.testing.assert_allclose(actual.T, np.array(expected, float), rtol=1e-12)
  for j in range(5):
    rational = conditioning.exact_means(l, j)
    assert rational == [row[j] for row in expected]
