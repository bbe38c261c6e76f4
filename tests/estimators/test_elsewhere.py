"""Formulas of the authors' repository: definitions, equalities, moments."""

import itertools
import math
import pathlib
import re
from fractions import Fraction

import numpy as np
import pytest

from benchmarks import elsewhere
from maxrl_jax import estimators
from tests.support import oracles

GROUPS = [(N, K) for N in (2, 3, 5, 6) for K in range(N + 1)]
P = Fraction(3, 7)
Q = 1 - P


def advantages(name, rewards, T):
  """Advantages [N] of one binary group."""
  formula = elsewhere.FORMULAS[name].advantages
  success, failure = formula(int(sum(rewards)), len(rewards), T)
  return np.where(rewards, float(success), float(failure))


def over_subsets(rewards, T, baseline):
  """r_j − Σ_k Σ_t∋j (f_t − b_t)/k per subset t of k, f_t: all of t fail."""
  N = len(rewards)
  A = np.array(rewards, float)
  for k in range(2, T + 1):
    subsets = list(itertools.combinations(range(N), k))
    fails = {t: float(not any(rewards[i] for i in t)) for t in subsets}
    for t in subsets:
      share = (fails[t] - baseline(t, fails)) / (k * len(subsets))
      A[list(t)] -= N * share
  return A


def none(t, fails):
  return 0.0


def mean_of_others(t, fails):
  return np.mean([fails[s] for s in fails if s != t] or [0.0])


def mean_of_disjoint(t, fails):
  return np.mean([fails[s] for s in fails if not set(s) & set(t)] or [0.0])


@pytest.mark.parametrize(
  ("name", "baseline"),
  [
    ("maclaurin", none),
    ("maclaurin_baseline", mean_of_others),
    ("cross_fitted_maclaurin", mean_of_disjoint),
  ],
)
def test_definition_over_subsets(name, baseline):
  for N, K in GROUPS:
    rewards = np.arange(N) < K
    for T in range(1, N + 1):
      expected = over_subsets(rewards, T, baseline)
      actual = advantages(name, rewards, T)
      np.testing.assert_allclose(
        actual, expected, atol=1e-12, err_msg=(N, K, T)
      )


def test_definition_of_the_subset_estimator():
  """Mean score of the successes of every subset of T, minus that of all."""
  for N, K in GROUPS:
    rewards = np.arange(N) < K
    for T in range(1, N + 1):
      expected = np.full(N, -1.0)
      for t in itertools.combinations(range(N), T):
        right = [i for i in t if rewards[i]]
        expected[right] += N / len(right or [0]) / math.comb(N, T)
      actual = advantages("oversample_subset_vr", rewards, T)
      np.testing.assert_allclose(actual, expected, atol=1e-12)


def random_groups():
  rng = np.random.default_rng(0)
  for _ in range(30):
    N = int(rng.integers(2, 13))
    yield rng.random(N) < rng.random(), N, int(rng.integers(1, N + 1))


def test_which_equals_which():
  for rewards, N, T in random_groups():
    orders = {"order": T, "baseline": "average_score"}
    equal = {
      "oversample_subset_vr": estimators.maxrl(rewards, **orders),
      "vr_cond": estimators.maxrl(rewards, **(orders | {"order": N})),
      "p_normalization": estimators.maxrl(rewards),
      # Our weights ω with the baseline ω − 1: ω l − (ω − 1).
      "maclaurin": 1 - weights(rewards, T) * (1 - rewards.astype(float)),
    }
    if N <= 8:
      equal["clipped_pnorm"] = estimators.maxrl(rewards)
    for name, expected in equal.items():
      actual = advantages(name, rewards, T)
      np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
    for name in ("maclaurin", "maclaurin_baseline", "cross_fitted_maclaurin"):
      expected = estimators.reinforce(rewards.astype(float))
      np.testing.assert_allclose(advantages(name, rewards, 1), expected)
    expected = estimators.rloo(rewards.astype(float))
    np.testing.assert_allclose(
      advantages("pkpo", rewards, 1), expected, atol=1e-6
    )


def weights(rewards, T):
  """ω of every rollout, exact."""
  return oracles.exact_loo(rewards.astype(float)).maxrl(T)[0]


def weight(name, N, T):
  return elsewhere.weight(elsewhere.FORMULAS[name].advantages, N, T, P)


def truncated(T):
  return sum(Q**k for k in range(T))


@pytest.mark.parametrize("N", [2, 3, 6, 9])
def test_expectations(N):
  assert weight("vr_cond", N, 1) == truncated(N)
  assert weight("p_normalization", N, 1) == truncated(N - 1)
  for T in range(1, N + 1):
    for name in ("maclaurin", "cross_fitted_maclaurin", "oversample_subset_vr"):
      assert weight(name, N, T) == truncated(T)
    # Subsets overlap, so that the mean of the others depends on rollout j.
    factors = [Fraction(1)] * T
    for k in range(2, min(T, N - 1) + 1):
      subsets = math.comb(N, k)
      factors[k - 1] = Fraction(N - k, N) * Fraction(subsets, subsets - 1)
    terms = [factor * Q**k for k, factor in enumerate(factors)]
    assert weight("maclaurin_baseline", N, T) == sum(terms)
    # A mixture of pass@T and pass@(T − 1), each over its T.
    share = Fraction(T - 1, N - 1)
    mixture = (1 - share) * Q ** (T - 1) + (
      share * Q ** (T - 2) if share else 0
    )
    assert weight("pkpo", N, T) == mixture


def test_one_sided_grpo_tends_to_the_power_one_half():
  errors = [abs(weight("one_sided_grpo", N, 1) / P**-0.5 - 1) for N in (8, 64)]
  assert errors[1] < 0.02 < errors[0]


def test_clipping_lowers_the_weight_of_rare_successes_above_eight_rollouts():
  # K = 1 of 16: (1 − 1/16)/(1/8) = 7.5 and −1/2, where Algorithm 1 has 15, −1.
  rewards = np.arange(16) < 1
  expected = np.where(rewards, 7.5, -0.5)
  np.testing.assert_allclose(advantages("clipped_pnorm", rewards, 1), expected)


def test_the_page_has_what_the_benchmark_prints(capsys):
  elsewhere.main()
  page = pathlib.Path(__file__).parents[2] / "docs/theory/elsewhere.md"
  cell = r"([+-][\d.]+), ([\d.]+)"
  shown, actual = page.read_text(), capsys.readouterr().out
  np.testing.assert_allclose(
    np.array(re.findall(cell, shown), float),
    np.array(re.findall(cell, actual), float),
    atol=0.011,
  )
  assert re.sub(cell, "#", actual).strip() in re.sub(cell, "#", shown)


@pytest.mark.parametrize("name", ["maclaurin_baseline", "pkpo"])
def test_variance_by_enumeration_of_actions(name):
  formula, p, T = elsewhere.FORMULAS[name].advantages, 0.3, 3
  logits = np.log([p / 2, p / 2, (1 - p) / 2, (1 - p) / 2])
  actions, probability, scores = oracles.outcomes(logits, 3)
  A = np.array([advantages(name, group < 2, T) for group in actions])
  estimates = np.einsum("gn,gna->ga", A, scores) / 3
  mean = probability @ estimates
  expected = probability @ ((estimates - mean) ** 2).sum(-1)
  actual = elsewhere.variance(formula, 3, T, p)
  assert actual == pytest.approx(expected, rel=1e-10)
