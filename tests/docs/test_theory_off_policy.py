"""docs/theory/off_policy.md, over every outcome in exact arithmetic."""

import itertools
import math
import pathlib
from fractions import Fraction

import jax
import numpy as np
import pytest

from benchmarks import off_policy as benchmark
from tests.support import rationals as exact

MU, PI = exact.POLICY, (Fraction(1, 4), Fraction(1, 4), exact.HALF)
RATIOS = [new / old for new, old in zip(PI, MU, strict=True)]
SCORES = exact.scores(PI)
PAGE = pathlib.Path(__file__).parents[2] / "docs" / "theory" / "off_policy.md"
every_value = pytest.mark.parametrize(
  "values", [exact.GRADED, exact.TWO_RIGHT, exact.ONE_RIGHT]
)
every_order = pytest.mark.parametrize("a", [(1,), (1, 1), (1, 1, 1), (0, 2)])


def expectation(advantages, values, num):
  """E_μ[mean_j A_j S_j], A from (likelihoods, ratios) of a group."""
  total = [Fraction(0)] * 3
  for group in itertools.product(range(3), repeat=num):
    chance = math.prod(MU[z] for z in group)
    drawn = advantages(
      [Fraction(values[z]) for z in group], [RATIOS[z] for z in group]
    )
    for c in range(3):
      total[c] += chance * exact.mean(
        a * SCORES[z][c] for a, z in zip(drawn, group, strict=True)
      )
  return total


def rates(values):
  return exact.pass_rate(MU, values), exact.pass_rate(PI, values)


@every_value
@every_order
@pytest.mark.parametrize("estimator", [exact.plain, exact.centred])
def test_theorem_21(estimator, a, values):
  def advantages(l, ratios):
    return [r * x for r, x in zip(ratios, estimator(l, a), strict=True)]

  weight = exact.series(a, rates(values)[0])
  actual = expectation(advantages, values, 4)
  assert actual == exact.times(weight, exact.gradient(PI, values))


@every_value
@every_order
@pytest.mark.parametrize("failure", ["1 − ρl", "ρ(1 − l)"])
def test_theorem_23(failure, a, values):
  """Also with the other failure, and with pass@T of the others subtracted."""

  def advantages(l, ratios):
    shifted = [
      r * x if failure == "1 − ρl" else 1 - r * (1 - x)
      for r, x in zip(ratios, l, strict=True)
    ]
    weights = exact.series_weights(shifted, a)
    missed = exact.loo_means(shifted, len(a))
    rows = zip(ratios, weights, l, missed, strict=True)
    return [r * (w * x - (1 - m)) for r, w, x, m in rows]

  weight = exact.series(a, rates(values)[1])
  actual = expectation(advantages, values, 4)
  assert actual == exact.times(weight, exact.gradient(PI, values))


def test_theorem_22():
  grid = [Fraction(i, 12) for i in range(1, 13)]
  for T, low, high in itertools.product((1, 2, 5, 40), grid, grid):
    if low <= high:
      ratio = exact.maxrl(T, low) / exact.maxrl(T, high)
      assert 1 <= ratio <= high / low


@every_value
def test_second_moments_of_a_failure(values):
  p = rates(values)[1]
  columns = [*zip(MU, PI, RATIOS, values, strict=True)]
  mean = sum(m * (1 - r * l) ** 2 for m, _, r, l in columns)
  assert mean == 1 - 2 * p + sum(x * r * l * l for _, x, r, l in columns)
  mean = sum(m * (r * (1 - l)) ** 2 for m, _, r, l in columns)
  assert mean == sum(x * r * (1 - l) ** 2 for _, x, r, l in columns)


def test_ratios_of_tokens_are_biased_without_clipping():
  """Two fair tokens of μ, l = both are 1, one group of N = 1, A = l."""
  pi = Fraction(3, 4)  # Of a 1, for both tokens.
  unbiased, by_token = Fraction(0), Fraction(0)
  for tokens in itertools.product((0, 1), repeat=2):
    l = math.prod(tokens)
    ratios = [(pi if t else 1 - pi) / exact.HALF for t in tokens]
    scores = [t - pi for t in tokens]  # With respect to the logit of a 1.
    unbiased += l * math.prod(ratios) * sum(scores) / 4
    terms = zip(ratios, scores, strict=True)
    by_token += l * sum(r * s for r, s in terms) / 4
  assert unbiased == 2 * pi * pi * (1 - pi)  # ∇ π²
  assert by_token == 2 * pi * exact.HALF * (1 - pi)


@pytest.mark.parametrize(("moved", "shift"), [("right", 2.0), ("wrong", 1.0)])
def test_table_of_variances(moved, shift, x64):
  """Means by the theorems; cells as the page shows them."""
  for p in benchmark._PASS_RATES:
    old, new = benchmark.policies(p, moved, shift)
    rate = new @ benchmark._RIGHT
    slope = new * (benchmark._RIGHT - rate)
    for estimate, weight_of in zip(
      benchmark.ESTIMATES, (p, rate, rate), strict=True
    ):
      mean, _ = benchmark.moments(estimate, old, new)
      weight = sum((1 - weight_of) ** k for k in range(benchmark._T))
      np.testing.assert_allclose(mean, weight * slope, atol=1e-12)
  with jax.enable_x64(True):
    cells = [benchmark.cell(p, moved, shift) for p in benchmark._PASS_RATES]
  row = f"| {moved} | {shift:g} | " + " | ".join(cells) + " |"
  assert row in PAGE.read_text()
