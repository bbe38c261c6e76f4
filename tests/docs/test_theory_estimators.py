"""docs/theory/estimators.md, as equalities of fractions.

The library's own expectations, floats over every outcome, are in
test_estimator_expectations; its weights against fractions in test_symmetric.
"""

import itertools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxrl_jax import estimators
from tests.support import oracles
from tests.support import rationals as exact

SERIES = [Fraction(1, 2), 0, Fraction(3), Fraction(1, 7)]
GROUP = [Fraction(x) / 10 for x in (9, 0, 4, 10, 6)]
every_value = pytest.mark.parametrize(
  "values", [exact.GRADED, exact.TWO_RIGHT, exact.ONE_RIGHT]
)


@every_value
@pytest.mark.parametrize("N", [1, 2, 3, 4, 5])
def test_every_order_is_unbiased(N, values):
  p = exact.pass_rate(exact.POLICY, values)
  for T in range(1, N + 1):
    w = exact.maxrl(T, p)
    exact.assert_weight(lambda l, T=T: exact.plain(l, [1] * T), N, w, values)
    if T < N:
      exact.assert_weight(
        lambda l, T=T: exact.centred(l, [1] * T), N, w, values
      )


@every_value
def test_every_series_is_unbiased(values):
  p = exact.pass_rate(exact.POLICY, values)
  w = exact.series(SERIES, p)
  exact.assert_weight(lambda l: exact.plain(l, SERIES), 4, w, values)
  w = exact.series(SERIES[:3], p)
  exact.assert_weight(lambda l: exact.centred(l, SERIES[:3]), 4, w, values)


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
  exact.assert_weight(advantages, N, weight)


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


@pytest.mark.parametrize("N", [2, 3, 4, 6])
def test_centred_binary_advantages_are_unique(N):
  """A⁺(1 … N) and A⁻(0 … N−1) from N weights and N + 1 sums of zero."""
  equations = np.zeros((2 * N + 1, 2 * N))
  for c in range(N):
    equations[c, [c, N + c]] = 1, -1
  for K in range(N + 1):
    if K > 0:
      equations[N + K, K - 1] = K
    if K < N:
      equations[N + K, N + K] = N - K
  assert np.linalg.matrix_rank(equations) == 2 * N

  def solvable(weights):
    sides = np.append(weights, np.zeros(N + 1))[:, None]
    return np.linalg.matrix_rank(np.append(equations, sides, 1)) == 2 * N

  for T in range(1, N + 1):
    # ω of a failure beside c successes is the Bernstein coefficient of w_T.
    weights = [oracles.binary_loo(N, c, T)[0] for c in range(N)]
    assert solvable(weights) == (T < N)


@pytest.mark.parametrize(("N", "levels"), [(3, 4), (4, 3), (5, 3)])
def test_no_other_baseline_sums_to_zero(N, levels):
  """h ↦ Σ_j h(l_{−j}) has no kernel: groups against groups less one."""

  def multisets(size):
    chosen = itertools.combinations_with_replacement(range(levels), size)
    return {group: place for place, group in enumerate(chosen)}

  columns = multisets(N - 1)
  sums = np.zeros((len(multisets(N)), len(columns)))
  for group, row in multisets(N).items():
    for j in range(N):
      sums[row, columns[tuple(exact.others(group, j))]] += 1
  assert np.linalg.matrix_rank(sums) == len(columns)


# The estimators of the library are those of the page


@pytest.mark.parametrize("values", [exact.GRADED, exact.TWO_RIGHT])
def test_the_library_computes_the_definitions(values, x64):
  N = 4
  groups = [[values[z] for z in g] for g in itertools.product(*[range(3)] * N)]
  l = np.array(groups, float)

  def check(estimator, rational):
    actual = jax.jit(jax.vmap(estimator))(l)
    expected = np.array([rational([*map(Fraction, g)]) for g in groups], float)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-13)

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
    for r, T in itertools.product(exact.binary_groups(N), range(1, N)):
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
    for r in exact.binary_groups(len(GROUP)):
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
