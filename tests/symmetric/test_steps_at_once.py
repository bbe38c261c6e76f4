"""What accelerators compute in few steps, where a CPU takes many."""

import math
from fractions import Fraction

import jax
import numpy as np
import pytest

from maxrl_jax.symmetric import closed_form, waves


@pytest.mark.parametrize("rows", ["_rows_in_turn", "_rows_at_once"])
@pytest.mark.parametrize(("size", "terms"), [(1, 1), (2, 2), (9, 4), (40, 40)])
def test_rows_of_a_series_are_those_of_binomials(rows, size, terms):
  """ω(c) = Σ a_k C(n−c, k)/C(n, k), with c of n = N − 1 others successes."""
  a = np.random.default_rng(size).integers(0, 9, terms)
  n = size - 1

  def fails(of, k):
    return Fraction(math.comb(of, k), math.comb(n, k)) if k <= n else Fraction()

  weights = [
    sum(int(a[k]) * fails(n - c, k) for k in range(terms)) for c in range(size)
  ]
  # ē_k − ē_{k+1} for k < n: the first k others drawn fail, the next succeeds.
  baselines = [
    sum(
      int(a[k]) * (fails(n - c, k) - fails(n - c, k + 1))
      for k in range(min(terms, n))
    )
    for c in range(size)
  ]
  function = jax.jit(getattr(closed_form, rows))
  actual = function(np.arange(size, dtype=np.float32), np.float32(a), float(n))
  for computed, expected in zip(actual, (weights, baselines), strict=True):
    np.testing.assert_allclose(
      computed, np.array(expected, float), rtol=2e-6, atol=1e-6
    )


@pytest.mark.parametrize("steps", ["_of_earlier", "_of_earlier_joined"])
@pytest.mark.parametrize("size", [1, 2, 3, 17, 64])
def test_products_over_the_earlier_members_of_a_run(steps, size):
  rng = np.random.default_rng(size)
  x = rng.random((size, 2, 3)) * rng.integers(0, 2, (size, 2, 1))
  same = rng.random((size, 2, 1)) < 0.7
  same[0] = False
  expected = np.zeros_like(x)
  for side in range(2):
    for j in range(1, size):
      fail = 1.0
      i = j
      while same[i, side, 0]:
        i -= 1
        fail = fail * (1 - x[i, side])
      expected[j, side] = 1 - fail
  actual = jax.jit(getattr(waves, steps))(np.float32(x), same)
  np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=1e-6)
