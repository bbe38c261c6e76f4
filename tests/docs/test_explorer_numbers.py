"""docs/explorer computes what the library and rational arithmetic do."""

import functools
import itertools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxrl_jax import estimators, evaluation, objectives

BASELINES = ["centred", "none", "loo_mean", "average_score", "1/N"]
OWN_BASELINE = ["maxrl_paper", "rloo", "reinforce", "dr_grpo", "grpo"]


def case(estimator, N, T=1, baseline="centred", p=0.5, K=1):
  return dict(estimator=estimator, N=N, T=T, baseline=baseline, p=p, K=K)


def of_each(explorer, function: str, settings):
  """Many calls in one go: what `function` makes of each of the settings."""
  return explorer.evaluate(f"settings => settings.map({function})", settings)


# Rational truth, from the definitions


def symmetric_mean(k, right, n):
  """ē_k of n rollouts of which `right` are right."""
  return Fraction(math.comb(n - right, k), math.comb(n, k))


def coefficients(s):
  T = s["T"]
  return [1] * T if s["estimator"] == "maxrl" else [0] * (T - 1) + [T]


def exact_advantage(s, K, is_right):
  """A of a right or wrong rollout of N, K of which are right."""
  N, r = s["N"], Fraction(int(is_right))
  others = Fraction(K - is_right, N - 1)
  match s["estimator"]:
    case "reinforce":
      return r
    case "rloo":
      return r - others
    case "dr_grpo":
      return r - Fraction(K, N)
    case "maxrl_paper":
      return r / Fraction(K, N) - 1 if K else Fraction(0)
  a = coefficients(s)
  mean = [symmetric_mean(k, K - is_right, N - 1) for k in range(N)]
  weight = sum(a_k * e for a_k, e in zip(a, mean, strict=False))
  drops = [x - y for x, y in itertools.pairwise(mean)]
  baseline = {
    "centred": sum(a_k * d for a_k, d in zip(a, drops, strict=False)),
    "none": 0,
    "loo_mean": weight * others,
    "average_score": 1,
    "1/N": Fraction(1, N),
  }
  return weight * r - baseline[s["baseline"]]


def exact_moments(s):
  """Mean and variance of mean_j A_j (r_j − p) / (p (1−p)), over K."""
  p, N = Fraction(s["p"]), s["N"]
  mean = square = 0
  for K in range(N + 1):
    total = Fraction(0)
    if K:
      total += K * exact_advantage(s, K, True) * (1 - p)
    if K < N:
      total -= (N - K) * exact_advantage(s, K, False) * p
    estimate = total / (N * p * (1 - p))
    chance = math.comb(N, K) * p**K * (1 - p) ** (N - K)
    mean += chance * estimate
    square += chance * estimate**2
  return mean, square - mean**2


def exact_weight(s):
  """What the mean should be, or None where the estimator is biased."""
  p, N = Fraction(s["p"]), s["N"]
  order = {"maxrl": s["T"], "maxrl_paper": N - 1}.get(s["estimator"], 1)
  if s["estimator"] == "pass_at_k":
    return s["T"] * (1 - p) ** (s["T"] - 1)
  if s["estimator"] == "dr_grpo":
    return 1 - Fraction(1, N)
  return sum((1 - p) ** k for k in range(order))


def grid():
  """Settings over p, N, T and baseline, with T = N and N = 2 among them."""
  for N in (2, 3, 24):
    for p in (1e-4, 0.02, 0.99):
      for T in sorted({1, 2, N - 1, N}):
        for estimator in ("maxrl", "pass_at_k"):
          yield from (case(estimator, N, T, b, p) for b in BASELINES)
      for estimator in set(OWN_BASELINE) - {"grpo"}:
        yield case(estimator, N, p=p)


def test_means_and_variances_are_exact(explorer):
  settings = list(grid())
  actual = of_each(explorer, "maths.moments", settings)
  for s, m in zip(settings, actual, strict=True):
    mean, variance = exact_moments(s)
    assert mean == exact_weight(s)
    # Rounding is relative to ŵ itself, of which mean or variance can be small.
    rounding = 1e-14 * (abs(float(mean)) + math.sqrt(variance))
    assert m["mean"] == pytest.approx(float(mean), 1e-9, rounding), s
    assert m["variance"] == pytest.approx(float(variance), 1e-9, rounding**2)
    assert m["deviation"] == math.sqrt(m["variance"])
    expected = -1 / s["N"] if s["estimator"] == "dr_grpo" else 0
    assert m["bias"] == pytest.approx(expected, 1e-9, 10 * rounding), s


def test_chances_are_binomial(explorer):
  settings = [case("rloo", N, p=p) for N in (2, 1024) for p in (1e-4, 0.3, 1)]
  actual = of_each(explorer, "({N, p}) => maths.binomial(N, p)", settings)
  for s, chances in zip(settings, actual, strict=True):
    p, N = Fraction(s["p"]), s["N"]
    for K in {0, 1, 2, N // 3, N - 1, N}:
      exact = math.comb(N, K) * p**K * (1 - p) ** (N - K)
      assert chances[K] == pytest.approx(float(exact), rel=1e-9, abs=1e-300)


@pytest.mark.parametrize("N", [2, 16])
def test_advantages_are_those_of_the_library(explorer, x64, N):
  orders = np.arange(1, N + 1)
  groups = np.arange(N) < np.arange(N + 1)[:, None]  # K = 0 … N right

  @jax.jit
  def library():
    def at(T, l):
      options = [b if b != "1/N" else 1 / N for b in BASELINES]
      return [estimators.maxrl(l, order=T, baseline=b) for b in options]

    every_group = jax.vmap(at, (None, 0))
    own = [jax.vmap(estimators.ESTIMATORS[x])(groups) for x in OWN_BASELINE]
    passes = [
      jax.vmap(functools.partial(estimators.pass_at_k, k=k))(groups)
      for k in (1, N)
    ]
    return jax.vmap(every_group, (0, None))(orders, groups), own, passes

  series, own, passes = library()
  settings, expected = [], []
  for baseline, advantages in zip(BASELINES, series, strict=True):
    settings += [case("maxrl", N, int(T), baseline) for T in orders]
    expected += list(advantages)
  settings += [case(name, N) for name in OWN_BASELINE]
  settings += [case("pass_at_k", N, k) for k in (1, N)]
  expected += [*own, *passes]
  actual = of_each(explorer, "maths.advantages", settings)
  for got, wanted in zip(actual, expected, strict=True):
    for K, l in enumerate(groups):
      each = np.where(l, got["right"][K], got["wrong"][K])
      np.testing.assert_allclose(each, wanted[K], rtol=1e-12, atol=1e-14)


def test_likelihoods_between_have_the_advantages_of_the_library(explorer, x64):
  l = np.array([0.9, 0.6, 0.35, 0.1, 1e-3, 0.0, 1.0, 0.35])
  orders = (1, 4, 7, 8)

  @jax.jit
  def library(l):
    def at(T):
      options = [b if b != "1/N" else 1 / 8 for b in BASELINES]
      return [estimators.maxrl(l, order=T, baseline=b) for b in options]

    series = jax.vmap(at)(np.array(orders))
    passes = [estimators.pass_at_k(l, k=k) for k in (1, 7, 8)]
    own = [estimators.ESTIMATORS[name](l) for name in OWN_BASELINE]
    return jnp.concatenate([*series, jnp.stack([*passes, *own])])

  settings = [case("maxrl", 8, T, b) for b in BASELINES for T in orders]
  settings += [case("pass_at_k", 8, k) for k in (1, 7, 8)]
  settings += [case(name, 8) for name in OWN_BASELINE]
  expected = library(l)
  function = f"s => graded.advantages({l.tolist()}, s)"
  actual = of_each(explorer, function, settings)
  np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-12)
  nothing = of_each(
    explorer, "s => graded.advantages([0, 0], s)", settings[-2:]
  )
  assert nothing == [[0, 0], [0, 0]]


def test_objectives_are_those_of_the_library(explorer, x64):
  p = np.array([1e-4, 1e-3, 0.02, 0.3, 0.9, 1.0])
  pairs = {
    "maths.rl": (objectives.rl(), 1),
    "maths.maximumLikelihood": (objectives.maximum_likelihood(), 0),
    "maths.grpo": (objectives.grpo(), math.pi),
    "maths.maxrl(1)": (objectives.maxrl(1), 0),
    "maths.maxrl(15)": (objectives.maxrl(15), 0),
    "maths.maxrl(1024)": (objectives.maxrl(1024), 0),
    "maths.passAtK(8)": (objectives.pass_at_k(8), 1),
  }
  for name, (objective, shift) in pairs.items():
    both = f"p => [{name}.value(p), {name}.weight(p)]"
    value, weight = np.transpose(of_each(explorer, both, p.tolist()))
    wanted = objective.value(p) - shift
    np.testing.assert_allclose(value, wanted, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(weight, objective.weight(p), rtol=1e-9)


@pytest.mark.parametrize("name", ["maxrl", "grpo"])
def test_spread_is_that_of_a_policy(explorer, x64, name):
  """tr Cov ĝ of a softmax over four arms, two of them right, enumerated."""
  policy = np.array([0.1, 0.2, 0.3, 0.4])
  right = np.array([True, True, False, False])
  p, N = 0.3, 4
  scores = np.eye(4) - policy

  def within(group):
    chance = policy[group] / policy[group].sum()
    centre = chance @ scores[group]
    return chance @ ((scores[group] - centre) ** 2).sum(1)

  grad = policy @ (scores * right[:, None])
  s = case(name, N, 3, p=p)
  [m] = of_each(explorer, "maths.moments", [s])
  enumerate_all = jax.jit(evaluation.enumerated_moments, static_argnums=(0, 3))
  estimator = estimators.ESTIMATORS[name]
  exact = enumerate_all(estimator, np.log(policy), right, N)
  np.testing.assert_allclose(m["mean"] * grad, exact.mean, atol=1e-12)
  noise = m["squareRight"] * within(right) + m["squareWrong"] * within(~right)
  trace = m["variance"] * grad @ grad + noise / N
  assert trace == pytest.approx(float(exact.variance), rel=1e-9)
