"""Estimators against exact expectations over every outcome of a policy."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxrl_jax import estimators, objectives
from tests.support import oracles
from tests.support.estimator_groups import GRADED, assert_same

# Logits of three actions, and three sets of likelihoods: distinct and positive,
# anything from 0 to 1, and binary.
LOGITS = np.array([0.4, -0.6, 0.9])
VALUES = np.array([[0.15, 0.95, 0.4], [1.0, 0.0, 0.3], [0.0, 1.0, 0.0]])
BINARY_VALUES = VALUES[2:]
BASELINES = [*estimators.BASELINES, 0.7]


def expected_gradients(estimator, values, N, logits=LOGITS):
  """E[mean_j A_j S_j] over all groups of N, for values [V, A]: [V, …, A]."""
  groups, probability, scores = oracles.outcomes(logits, N)
  run = jax.jit(jax.vmap(jax.vmap(estimator, out_axes=-2)))
  advantages = run(values[:, groups])
  return np.einsum("g,...gn,gna->...a", probability, advantages, scores) / N


def _rl(_):
  return objectives.rl()


def _maximum_likelihood(_):
  return objectives.maximum_likelihood()


def _grpo(_):
  return objectives.grpo()


@functools.partial(jax.jit, static_argnums=0)
def _slopes(make, parameter, p):
  return jax.vmap(jax.grad(make(parameter).value))(p)


def exact_gradient(make, parameter=0, values=VALUES, logits=LOGITS):
  """∇J(p) = J'(p) ∇p of the objective make(parameter): [V, A].

  J' is that of its value by differentiation, one program for every parameter,
  three pass rates at a time; ∇p of softmax(logits) is π (l − p).
  """
  policy = oracles.softmax(logits)
  p = values @ policy
  slopes = _slopes(make, 1.0 * np.asarray(parameter), np.resize(p, 3))
  slopes = np.asarray(slopes)[: len(p), None]
  return slopes * policy * (values - p[:, None])


def exact_gradients(make, parameters, values=VALUES):
  """Likewise for several parameters: [V, P, A]."""
  every = [exact_gradient(make, x, values) for x in parameters]
  return np.stack(every, 1)


def test_pseudocode_is_maxrl_with_a_constant_baseline(x64):
  N = len(GRADED)
  sweep = jax.jit(
    jax.vmap(lambda T: estimators.maxrl(GRADED, order=T, baseline=1 / N))
  )
  for T, got in enumerate(sweep(np.arange(1, N + 1)), 1):
    assert_same(got, oracles.maxrl_advantages(GRADED, T), 1e-13)


@pytest.mark.parametrize("N", [2, 3, 4, 5])
@pytest.mark.parametrize("dtype", [float, bool])
def test_maxrl_is_unbiased_at_every_order_with_every_baseline(dtype, N, x64):
  values = BINARY_VALUES if dtype is bool else VALUES
  orders = np.arange(1, N + 1)

  def every(l):
    def at(T):
      calls = (estimators.maxrl(l, order=T, baseline=b) for b in BASELINES)
      return jnp.stack([*calls], 1)

    return jax.vmap(at, out_axes=1)(orders).T  # [baselines, orders, N]

  actual = expected_gradients(every, values.astype(dtype), N)
  exact = exact_gradients(objectives.maxrl, orders, values)
  for i in range(len(BASELINES)):
    assert_same(actual[:, i], exact)


def test_maxrl_is_unbiased_by_every_method(x64):
  for method in ("quadrature", "scan", "binary"):
    values = BINARY_VALUES if method == "binary" else VALUES

    def both(l, method=method):
      calls = (estimators.maxrl(l, order=T, method=method) for T in (3, 4))
      return jnp.stack([*calls])

    exact = exact_gradients(objectives.maxrl, [3, 4], values)
    assert_same(expected_gradients(both, values, 4), exact)


@pytest.mark.parametrize(
  ("estimator", "factor"),
  [
    (estimators.reinforce, 1),
    (estimators.rloo, 1),
    (estimators.dr_grpo, 3 / 4),  # 1 − 1/N
  ],
)
def test_reward_estimators_are_unbiased(estimator, factor, x64):
  exact = factor * exact_gradient(_rl)
  assert_same(expected_gradients(estimator, VALUES, 4), exact)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_pass_at_k_is_unbiased(k, x64):
  def both(l):
    calls = (
      estimators.pass_at_k(l, k=k, baseline=b) for b in ("centred", "loo_mean")
    )
    return jnp.stack([*calls])

  actual = expected_gradients(both, VALUES, 4)
  exact = exact_gradient(objectives.pass_at_k, k)
  for i in range(2):
    assert_same(actual[:, i], exact)


@pytest.mark.parametrize("a", [[2.0], [0.0, 1.5], [1.0, 0.5, 2.0, 0.25]])
def test_series_is_unbiased_for_any_coefficients(a, x64):
  a = np.array(a)

  def both(l):
    return jnp.stack(
      [
        estimators.series(l, coefficients=a, baseline=b)
        for b in ("centred", "loo_mean")
      ]
    )

  actual = expected_gradients(both, VALUES, 4)
  terms = np.pad(a, (0, 4 - len(a)))
  exact = exact_gradient(objectives.series, terms)
  for i in range(2):
    assert_same(actual[:, i], exact)


@functools.cache
def _cut_power(T):
  def make(alpha):
    return objectives.series(objectives.power(alpha).coefficients(T))

  return make


@pytest.mark.parametrize("T", [None, 1, 2, 4])
def test_power_is_unbiased_for_its_series(T, x64):
  alphas = np.array([0, 0.3, 0.5, 1])

  def every(l):
    return jax.vmap(lambda a: estimators.power(l, alpha=a, order=T))(alphas)

  actual = expected_gradients(every, VALUES, 4)
  assert_same(actual, exact_gradients(_cut_power(T or 3), alphas))


@pytest.mark.parametrize("N", [2, 4])
def test_algorithm_1_is_unbiased_for_one_order_less_than_N(N, x64):
  exact = exact_gradient(objectives.maxrl, N - 1, BINARY_VALUES)
  actual = expected_gradients(estimators.maxrl_paper, BINARY_VALUES, N)
  assert_same(actual, exact)


@pytest.mark.parametrize("N", [2, 4])
def test_tail_rl_is_unbiased_for_the_mean_over_thresholds(N, x64):
  actual = expected_gradients(estimators.tail_rl, VALUES, N)
  for got, values in zip(actual, VALUES, strict=True):
    # P(r ≥ τ) is constant for τ between two values: the integral is a sum.
    levels = np.unique(values[values > 0])
    above = 1.0 * (values >= levels[:, None])
    rises = np.diff(levels, prepend=0)
    exact = exact_gradient(objectives.maxrl, N - 1, above)
    assert_same(got, rises @ exact)


@pytest.mark.parametrize("N", [2, 4])
def test_vimco_is_unbiased_for_the_bound_of_its_group_size(N, x64):
  """∇E[log mean l] by differentiating the sum over all outcomes."""
  values = VALUES[(VALUES > 0).all(1)]
  assert len(values)

  def bound(logits):
    groups = np.indices((logits.size,) * N).reshape(N, -1).T
    chance = jnp.prod(jax.nn.softmax(logits)[groups], -1)
    terms = jnp.log(jnp.mean(jnp.asarray(values)[:, groups], -1))
    return jnp.sum(chance[None] * terms, -1)

  expected = jax.jit(jax.jacrev(bound))(LOGITS)
  assert_same(expected_gradients(estimators.vimco, values, N), expected)


def test_self_normalized_is_biased_by_about_one_over_N(x64):
  values = VALUES[:1]
  exact = exact_gradient(_maximum_likelihood, values=values)

  def bias(N):
    actual = expected_gradients(estimators.self_normalized, values, N)
    return np.linalg.norm(actual - exact) / np.linalg.norm(exact)

  biases = [bias(N) for N in (2, 4, 8)]
  assert biases[0] > 0.3
  ratios = np.divide(biases[1:], biases[:-1])
  assert np.all((ratios > 0.4) & (ratios < 0.65)), biases


def test_grpo_is_biased_in_every_finite_group(x64):
  # With a success and a failure action, only the number of successes matters.
  logits, values = np.array([0.0, 1.5]), np.array([[1.0, 0.0]])
  p = oracles.softmax(logits)[0]
  exact = exact_gradient(_grpo, values=values, logits=logits)[0, 0]

  def bias(N):
    K = np.arange(N + 1)
    l = 1.0 * (np.arange(N) < K[:, None])
    scores = np.where(l == 1, 1 - p, -p)
    chance = [math.comb(N, k) * p**k * (1 - p) ** (N - k) for k in K]
    advantages = jax.jit(jax.vmap(estimators.grpo))(l)
    return np.dot(chance, np.mean(advantages * scores, -1)) / exact - 1

  # Check the binomial sum against the sum over all outcomes.
  enumerated = expected_gradients(estimators.grpo, values, 4, logits)[0, 0]
  assert_same(enumerated, exact * (1 + bias(4)))
  biases = np.abs([bias(N) for N in (4, 64, 256)])
  assert biases[0] > 0.1
  assert 0.2 < biases[2] / biases[1] < 0.3, biases


def test_mean_of_many_groups_of_continuous_likelihoods():
  rng = np.random.default_rng(0)
  groups, N, T = 20_000, 32, 8
  # l = value · u with u uniform: every likelihood is different.
  actions = rng.choice(3, (groups, N), p=oracles.softmax(LOGITS))
  l = (VALUES[0][actions] * rng.random((groups, N))).astype(np.float32)
  call = functools.partial(estimators.maxrl, order=T)
  run = jax.jit(functools.partial(jax.lax.map, call, batch_size=1000))
  scores = oracles.scores(LOGITS)[actions]
  estimates = np.einsum("gn,gna->ga", run(l), scores) / N
  exact = exact_gradient(objectives.maxrl, T, VALUES[:1] / 2)[0]
  error = np.abs(estimates.mean(0) - exact)
  standard_error = estimates.std(0, ddof=1) / math.sqrt(groups)
  assert np.all(error < 4 * standard_error), (error, standard_error)
  # Small enough to reveal a bias of a few percent.
  assert np.all(standard_error < 0.01 * np.linalg.norm(exact))
