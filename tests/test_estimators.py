"""Estimators against exact expectations over every outcome of a policy."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from maxrl_jax import estimators, objectives

# A policy over three actions, and what each action is worth: something, no
# two the same; anything from 0 to 1; 0 or 1.
LOGITS = np.array([0.4, -0.6, 0.9])
VALUES = np.array([[0.15, 0.95, 0.4], [1.0, 0.0, 0.3], [0.0, 1.0, 0.0]])
BINARY_VALUES = VALUES[2:]
BASELINES = [*estimators.BASELINES, 0.7]

# One group of six.
GRADED = np.array([0.9, 0.0, 0.35, 1.0, 0.6, 0.35])
BINARY = np.array([1.0, 0.0, 0.0, 1.0, 0.0, 0.0])

# One call of each estimator, for the properties that all of them share.
_SERIES = np.array([1.0, 0.5, 2.0], np.float32)
CALLS = {
  "reinforce": estimators.reinforce,
  "rloo": estimators.rloo,
  "grpo": estimators.grpo,
  "grpo epsilon": functools.partial(estimators.grpo, epsilon=0.1),
  "dr_grpo": estimators.dr_grpo,
  "maxrl": estimators.maxrl,
  "maxrl order 2": functools.partial(estimators.maxrl, order=2),
  "maxrl loo_mean": functools.partial(
    estimators.maxrl, order=3, baseline="loo_mean"
  ),
  "maxrl_paper": estimators.maxrl_paper,
  "pass_at_k": functools.partial(estimators.pass_at_k, k=3),
  "power": functools.partial(estimators.power, alpha=0.5),
  "series": functools.partial(estimators.series, coefficients=_SERIES),
  "tail_rl": estimators.tail_rl,
  "self_normalized": estimators.self_normalized,
  "vimco": estimators.vimco,
}
CENTRED = sorted(set(CALLS) - {"reinforce", "maxrl loo_mean", "vimco"})
CLOSED_FORM = ["maxrl", "maxrl order 2", "pass_at_k", "power"]
COMPILED = {name: jax.jit(call) for name, call in CALLS.items()}
each = pytest.mark.parametrize("name", CALLS)


def expected_gradients(estimator, values, N, logits=LOGITS):
  """E[mean_j A_j S_j] over all groups of N, for values [V, A]: [V, …, A]."""
  groups, probability, scores = oracles.outcomes(logits, N)
  run = jax.jit(jax.vmap(jax.vmap(estimator, out_axes=-2)))
  advantages = run(values[:, groups])
  return np.einsum("g,...gn,gna->...a", probability, advantages, scores) / N


def exact_gradients(make, parameters, values=VALUES, logits=LOGITS):
  """∇J(p) of objectives make(parameter): [V, P, A]."""

  def at(parameter):
    def objective(logits):
      p = jnp.dot(values, jax.nn.softmax(logits), precision="highest")
      return make(parameter).value(p)

    return jax.jacrev(objective)(logits)

  return jax.jit(jax.vmap(at, out_axes=1))(np.array(parameters))


def exact_gradient(objective, values=VALUES, logits=LOGITS):
  return exact_gradients(lambda _: objective, [0], values, logits)[:, 0]


def assert_same(got, expected, atol=1e-10):
  np.testing.assert_allclose(got, expected, rtol=0, atol=atol)


# The pseudocode of the generalized estimator


def test_pseudocode_is_maxrl_with_a_constant_baseline(x64):
  N = len(GRADED)
  sweep = jax.jit(
    jax.vmap(lambda T: estimators.maxrl(GRADED, order=T, baseline=1 / N))
  )
  for T, got in enumerate(sweep(np.arange(1, N + 1)), 1):
    assert_same(got, oracles.maxrl_advantages(GRADED, T), 1e-13)


# Exact expectations


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

  found = expected_gradients(every, values.astype(dtype), N)
  exact = exact_gradients(objectives.maxrl, orders, values)
  for i in range(len(BASELINES)):
    assert_same(found[:, i], exact)


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
  exact = factor * exact_gradient(objectives.rl())
  assert_same(expected_gradients(estimator, VALUES, 4), exact)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_pass_at_k_is_unbiased(k, x64):
  def both(l):
    calls = (
      estimators.pass_at_k(l, k=k, baseline=b) for b in ("centred", "loo_mean")
    )
    return jnp.stack([*calls])

  found = expected_gradients(both, VALUES, 4)
  exact = exact_gradient(objectives.pass_at_k(k))
  for i in range(2):
    assert_same(found[:, i], exact)


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

  found = expected_gradients(both, VALUES, 4)
  exact = exact_gradient(objectives.series(a))
  for i in range(2):
    assert_same(found[:, i], exact)


@pytest.mark.parametrize("T", [None, 1, 2, 4])
def test_power_is_unbiased_for_its_series(T, x64):
  alphas = np.array([0, 0.3, 0.5, 1])

  def every(l):
    return jax.vmap(lambda a: estimators.power(l, alpha=a, order=T))(alphas)

  def series(alpha):
    return objectives.series(objectives.power(alpha).coefficients(T or 3))

  found = expected_gradients(every, VALUES, 4)
  assert_same(found, exact_gradients(series, alphas))


@pytest.mark.parametrize("N", [2, 4])
def test_algorithm_1_is_unbiased_for_one_order_less_than_N(N, x64):
  exact = exact_gradient(objectives.maxrl(N - 1), BINARY_VALUES)
  found = expected_gradients(estimators.maxrl_paper, BINARY_VALUES, N)
  assert_same(found, exact)


@pytest.mark.parametrize("N", [2, 4])
def test_tail_rl_is_unbiased_for_the_mean_over_thresholds(N, x64):
  found = expected_gradients(estimators.tail_rl, VALUES, N)
  for got, values in zip(found, VALUES, strict=True):
    # P(r ≥ τ) is constant for τ between two values: the integral is a sum.
    levels = np.unique(values[values > 0])
    above = 1.0 * (values >= levels[:, None])
    rises = np.diff(levels, prepend=0)
    assert_same(got, rises @ exact_gradient(objectives.maxrl(N - 1), above))


def test_self_normalized_is_biased_by_about_one_over_N(x64):
  values = VALUES[:1]
  exact = exact_gradient(objectives.maximum_likelihood(), values)

  def bias(N):
    found = expected_gradients(estimators.self_normalized, values, N)
    return np.linalg.norm(found - exact) / np.linalg.norm(exact)

  biases = [bias(N) for N in (2, 4, 8)]
  assert biases[0] > 0.3
  ratios = np.divide(biases[1:], biases[:-1])
  assert np.all((ratios > 0.4) & (ratios < 0.65)), biases


def test_grpo_is_biased_in_every_finite_group(x64):
  # Two actions, success and failure: all that matters is how many succeed.
  logits, values = np.array([0.0, 1.5]), np.array([[1.0, 0.0]])
  p = oracles.softmax(logits)[0]
  exact = exact_gradient(objectives.grpo(), values, logits)[0, 0]

  def bias(N):
    K = np.arange(N + 1)
    l = 1.0 * (np.arange(N) < K[:, None])
    scores = np.where(l == 1, 1 - p, -p)
    chance = [math.comb(N, k) * p**k * (1 - p) ** (N - k) for k in K]
    advantages = jax.jit(jax.vmap(estimators.grpo))(l)
    return np.dot(chance, np.mean(advantages * scores, -1)) / exact - 1

  # The same sum as over all outcomes.
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
  exact = exact_gradient(objectives.maxrl(T), VALUES[:1] / 2)[0]
  error = np.abs(estimates.mean(0) - exact)
  standard_error = estimates.std(0, ddof=1) / math.sqrt(groups)
  assert np.all(error < 4 * standard_error), (error, standard_error)
  # A bias of a few percent has nowhere to hide.
  assert np.all(standard_error < 0.01 * np.linalg.norm(exact))


# By hand


def test_rloo_and_its_relatives_by_hand():
  # l̄ = 1/2, σ² = (1/4 + 1/16 + 1/16)/3 = 1/8
  l = np.array([0, 3 / 4, 3 / 4])
  assert_same(estimators.reinforce(l), l, 1e-7)
  assert_same(estimators.dr_grpo(l), [-1 / 2, 1 / 4, 1 / 4], 1e-6)
  assert_same(estimators.rloo(l), [-3 / 4, 3 / 8, 3 / 8], 1e-6)
  root = math.sqrt(8)
  assert_same(estimators.grpo(l), [-root / 2, root / 4, root / 4], 1e-6)
  assert_same(
    estimators.grpo(l, epsilon=1 - 1 / root), [-1 / 2, 1 / 4, 1 / 4], 1e-6
  )
  assert_same(estimators.self_normalized(l), [-1, 1 / 2, 1 / 2], 1e-6)


def test_maxrl_by_hand():
  # The weights and baselines of order 2 in test_symmetric.
  l = np.array([1, 1 / 2, 0, 1 / 4])
  weighted = np.array([7 / 4, 19 / 24, 0, 3 / 8])
  subtracted = {
    "centred": np.array([11 / 24, 3 / 4, 7 / 8, 5 / 6]),
    "none": 0,
    "average_score": 1,
    0.25: 0.25,
    # ω_j times the mean of the others: 1/4, 5/12, 7/12, 1/2
    "loo_mean": np.array([7 / 16, 95 / 144, 119 / 144, 3 / 4]),
  }

  @jax.jit
  def every(l):
    return [estimators.maxrl(l, order=2, baseline=b) for b in subtracted]

  for got, b in zip(every(l), subtracted.values(), strict=True):
    assert_same(got, weighted - b, 1e-6)


def test_tail_rl_by_hand():
  # Thresholds up to 1/2: r̄ = 3/4, A = (−1, 1/3, 1/3, 1/3); from there to 1:
  # r̄ = 1/4, A = (−1, −1, −1, 3). Half of each.
  got = estimators.tail_rl(np.array([1 / 2, 1, 0, 1 / 2]))
  assert_same(got, [-1 / 3, 5 / 3, -1, -1 / 3], 1e-6)


# One family


def test_order_1_is_rloo_whatever_it_is_called(x64):
  @jax.jit
  def order_1(l):
    return (
      estimators.maxrl(l, order=1),
      estimators.maxrl(l, order=1, baseline="loo_mean"),
      estimators.pass_at_k(l, k=1),
      estimators.power(l, alpha=1),
      estimators.power(l, alpha=0.3, order=1),
    )

  for got in order_1(GRADED):
    assert_same(got, estimators.rloo(GRADED), 1e-14)


def test_order_N_minus_1_is_algorithm_1_for_binary_rewards(x64):
  @jax.jit
  def algorithm_1(r):
    return (
      estimators.maxrl(r),
      estimators.maxrl(r == 1),
      estimators.maxrl(r, order=5, method="scan"),
      estimators.maxrl_paper(r),
      estimators.self_normalized(r),
      estimators.tail_rl(r),
      estimators.power(r, alpha=0),
    )

  for got in algorithm_1(BINARY):
    assert_same(got, (BINARY - BINARY.mean()) / BINARY.mean(), 1e-13)


def test_power_0_is_maxrl(x64):
  @jax.jit
  def both(l):
    return [
      (estimators.power(l, alpha=0, order=T), estimators.maxrl(l, order=T))
      for T in (None, 2, 6)
    ]

  for power, maxrl in both(GRADED):
    assert_same(power, maxrl, 1e-13)


@pytest.mark.parametrize("name", CENTRED)
def test_centred_advantages_sum_to_zero(name):
  for l in (GRADED, BINARY):
    assert_same(np.sum(COMPILED[name](l)), 0, 3e-6)


# Degenerate groups


@each
def test_no_success_and_nothing_but_success_teach_nothing(name):
  for dtype in (float, bool) if name in CLOSED_FORM else (float,):
    assert_same(COMPILED[name](np.zeros(6, dtype)), np.zeros(6), 0)
    noise = np.full(6, 1.0 if name == "reinforce" else 0.0)
    assert_same(COMPILED[name](np.ones(6, dtype)), noise, 1e-6)


@pytest.mark.parametrize("name", CENTRED)
@pytest.mark.parametrize("level", [1e-30, 1e-6, 0.3, 0.7])
def test_equal_likelihoods_teach_nothing(name, level):
  assert_same(COMPILED[name](np.full(6, level)), np.zeros(6), 1e-6)
  for garbage in (0.5, np.nan):
    mask = np.arange(10) % 5 < 3
    got = COMPILED[name](np.where(mask, level, garbage), mask=mask)
    assert_same(got, np.zeros(10), 1e-6)


def test_tiny_likelihoods_keep_their_proportions():
  l = 1e-30 * np.array([1, 2, 3], np.float32)
  expected = [-1 / 2, 0, 1 / 2]
  assert_same(estimators.self_normalized(l), expected, 1e-6)
  root = math.sqrt(3 / 2)
  assert_same(estimators.grpo(l), [-root, 0, root], 1e-6)
  # Beside a rollout that is not there.
  got = estimators.grpo(np.append(l, 1), mask=np.arange(4) < 3)
  assert_same(got, [-root, 0, root, 0], 1e-6)


@each
def test_one_rollout_needs_company(name):
  one = np.array([0.3])
  if name == "reinforce":
    assert_same(CALLS[name](one), one, 1e-7)
    return
  calls = {
    "maxrl order 2": estimators.maxrl,
    "maxrl loo_mean": functools.partial(estimators.maxrl, baseline="loo_mean"),
    "pass_at_k": functools.partial(estimators.pass_at_k, k=1),
    "series": functools.partial(estimators.series, coefficients=_SERIES[:1]),
  }
  with pytest.raises(ValueError, match=r"N = 1 rollouts: .* needs N ≥ 2"):
    calls.get(name, CALLS[name])(one)


def test_one_rollout_without_comparison_is_reinforce():
  @jax.jit
  def alone(l):
    return [
      (
        estimators.maxrl(l, baseline=baseline),
        estimators.pass_at_k(l, k=1, baseline=baseline),
        estimators.power(l, alpha=0.5, baseline=baseline),
      )
      for baseline in ("none", 0.25)
    ]

  one = np.array([0.3])
  for found, b in zip(alone(one), (0, 0.25), strict=True):
    for got in found:
      assert_same(got, one - b, 1e-7)


# Masks and transformations


@each
@pytest.mark.parametrize("largest", [1e-37, 1e-40, 1e-45])
def test_likelihoods_about_to_underflow_are_finite(name, largest):
  l = np.float32(largest) * np.array([1, 0.5, 0, 0, 0.25, 0], np.float32)
  for call in (CALLS[name], COMPILED[name]):
    found = call(l)
    assert np.isfinite(found).all()
    # By ratios or by differences: no larger than N successes of one would be.
    assert name == "vimco" or np.abs(found).max() <= 6


@each
@pytest.mark.parametrize("garbage", [0.5, 1.0, np.nan, 1e9, -1.0])
def test_a_mask_leaves_the_smaller_group(name, garbage):
  mask = np.arange(10) % 5 < 3
  padded = np.full(10, garbage)
  padded[mask] = GRADED
  got = COMPILED[name](padded, mask=mask)
  assert_same(got[mask], COMPILED[name](GRADED), 2e-6)
  assert not np.any(got[~mask])


@pytest.mark.parametrize("name", CLOSED_FORM)
def test_a_mask_of_boolean_rewards(name):
  mask = np.arange(10) % 5 < 3
  padded = np.ones(10, bool)
  padded[mask] = BINARY == 1
  got = COMPILED[name](padded, mask=mask)
  assert_same(got[mask], COMPILED[name](BINARY), 2e-6)
  assert not np.any(got[~mask])


@each
def test_jit_and_vmap_change_nothing(name):
  batch = np.stack([GRADED, GRADED[::-1] / 2, BINARY])
  one_by_one = [COMPILED[name](x) for x in batch]
  assert_same(jax.jit(jax.vmap(CALLS[name]))(batch), one_by_one, 2e-6)
  assert_same(CALLS[name](GRADED), one_by_one[0], 2e-6)


@pytest.mark.parametrize("name", ["rloo", "maxrl", "maxrl order 2"])
def test_what_a_mask_hides_is_not_checked(name):
  padded = np.append(GRADED, np.nan)
  got = CALLS[name](padded, mask=np.isfinite(padded))
  assert_same(got, np.append(COMPILED[name](GRADED), 0), 2e-6)


def test_a_traced_order_equals_a_static_one():
  @jax.jit
  def traced(l):
    sweep = np.array([2, 5, 6])
    return jax.vmap(lambda T: estimators.maxrl(l, order=T))(sweep)

  @jax.jit
  def static(l):
    return jnp.stack([estimators.maxrl(l, order=T) for T in (2, 5, 6)])

  assert_same(traced(GRADED), static(GRADED), 2e-6)
  assert_same(traced(BINARY == 1), static(BINARY == 1), 2e-6)


@each
@pytest.mark.parametrize("dtype", [bool, int, jnp.float16, jnp.bfloat16])
def test_advantages_are_in_single_precision(name, dtype):
  l = jax.ShapeDtypeStruct((6,), dtype)
  assert jax.eval_shape(CALLS[name], l).dtype == np.float32


@pytest.mark.parametrize("name", ["grpo", "tail_rl", "maxrl order 2"])
def test_half_precision_is_computed_in_single(name):
  l = GRADED.astype(jnp.bfloat16)
  expected = COMPILED[name](l.astype(np.float32))
  assert_same(COMPILED[name](l), expected, 1e-6)


# Errors


@each
@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1.5, -0.25])
def test_what_is_no_likelihood_is_named(name, wrong):
  l = np.array([0.5, 0.1, wrong, 0.5])
  match = rf"^likelihoods\[2\] = {wrong}: must be in \[0, 1\]"
  with pytest.raises(ValueError, match=match):
    CALLS[name](l)


@each
@pytest.mark.parametrize("shape", [(), (5, 2)])
def test_likelihoods_are_one_group(name, shape):
  with pytest.raises(ValueError, match=r"^likelihoods: shape .* vmap"):
    CALLS[name](np.full(shape, 0.5))


@pytest.mark.parametrize(
  ("estimator", "arguments", "message"),
  [
    (estimators.maxrl, {"order": 0}, "order = 0: .* 1 to 3"),
    (estimators.maxrl, {"order": 4}, "order = 4: .* 1 to 3"),
    (estimators.maxrl, {"order": 1.5}, "order = 1.5: "),
    (estimators.maxrl, {"baseline": "mean"}, "baseline = 'mean': choose"),
    (estimators.maxrl, {"method": "peel"}, "method = 'peel': choose"),
    (estimators.pass_at_k, {"k": 0}, "k = 0: must be"),
    (estimators.pass_at_k, {"k": 4}, "k = 4: must be"),
    (estimators.pass_at_k, {"k": 1.5}, "k = 1.5: must be"),
    (
      estimators.pass_at_k,
      {"k": 2, "baseline": "mean"},
      "baseline = 'mean': choose",
    ),
    (estimators.power, {"alpha": -0.1}, "alpha = -0.1: must be in"),
    (estimators.power, {"alpha": 1.1}, "alpha = 1.1: must be in"),
    (estimators.power, {"alpha": 0.5, "order": 4}, "order = 4: .* 1 to 3"),
    (
      estimators.power,
      {"alpha": 0.5, "baseline": "mean"},
      "baseline = 'mean': choose",
    ),
  ],
)
def test_arguments_out_of_range_are_named(estimator, arguments, message):
  with pytest.raises(ValueError, match="^" + message):
    estimator(np.array([0.1, 0.2, 0.3]), **arguments)


def test_every_estimator_has_its_name():
  for name, estimator in estimators.ESTIMATORS.items():
    assert estimator is getattr(estimators, name)
    assert any(call.split()[0] == name for call in CALLS)


@pytest.mark.parametrize("name", ["maxrl", "rloo", "pass_at_k", "power"])
def test_a_masked_group_of_one_teaches_nothing(name):
  options = {"pass_at_k": {"k": 1}, "power": {"alpha": 0.5}}.get(name, {})
  mask = np.array([False, True, False])
  got = estimators.ESTIMATORS[name](
    np.array([0.2, 0.6, 1.0]), mask=mask, **options
  )
  assert_same(got, np.zeros(3))


@pytest.mark.parametrize("name", sorted(estimators.ESTIMATORS))
def test_a_mask_of_another_shape_is_named(name):
  options = {"pass_at_k": {"k": 2}, "power": {"alpha": 0.5}}
  options = (options | {"series": {"coefficients": _SERIES}}).get(name, {})
  with pytest.raises(ValueError, match="mask: shape"):
    estimators.ESTIMATORS[name](
      np.full(4, 0.5), mask=np.ones(3, bool), **options
    )


# Log-likelihoods and rewards


@pytest.mark.parametrize("N", [2, 4])
def test_vimco_is_unbiased_for_the_bound_of_its_group_size(N, x64):
  """∇ E[log mean l], by differentiating the sum over every outcome."""
  values = VALUES[(VALUES > 0).all(1)]
  assert len(values)

  def bound(logits):
    groups = np.indices((logits.size,) * N).reshape(N, -1).T
    chance = jnp.prod(jax.nn.softmax(logits)[groups], -1)
    terms = jnp.log(jnp.mean(jnp.asarray(values)[:, groups], -1))
    return jnp.sum(chance[None] * terms, -1)

  expected = jax.jacrev(bound)(jnp.asarray(LOGITS))
  assert_same(expected_gradients(estimators.vimco, values, N), expected)


def test_vimco_by_hand():
  l = np.array([0.5, 0.125, 0.5])
  others = [0.625 + 0.25, 1.0 + 0.5, 0.625 + 0.25]  # With geometric means.
  expected = 3 * (np.log(1.125 / 3) - np.log(np.array(others) / 3))
  assert_same(estimators.vimco(l), expected, 1e-6)


@pytest.mark.parametrize("name", sorted(estimators.LOG_ESTIMATORS))
def test_log_likelihoods_give_the_same_and_do_not_underflow(name):
  plain = estimators.ESTIMATORS[name]
  logs = estimators.LOG_ESTIMATORS[name]
  l = np.array([0.9, 0.2, 0.05, 0.6], np.float32)
  assert_same(logs(np.log(l)), plain(l), 1e-5)
  # Neither depends on the scale of l: a shift of log l changes nothing.
  assert_same(logs(np.log(l) - 1e4), plain(l), 0.005)
  mask = np.array([True, False, True, True])
  padded = logs(np.where(mask, np.log(l), np.nan), mask=mask)
  assert_same(padded[mask], plain(l[mask]), 1e-5)
  assert padded[1] == 0
  assert np.isfinite(logs(np.full(4, -np.inf))).all()
  assert np.isfinite(logs(np.array([-np.inf, -3.0, -1e4, -np.inf]))).all()


@pytest.mark.parametrize("name", estimators.ANY_REWARD)
def test_any_reward_will_do_where_it_is_said(name):
  rewards = np.array([-3.0, 2.0, 7.0], np.float32)
  expected = {
    "reinforce": rewards,
    "rloo": [-7.5, 0.0, 7.5],
    "dr_grpo": [-5.0, 0.0, 5.0],
    "grpo": np.array([-5.0, 0.0, 5.0]) / np.sqrt(50 / 3),
  }[name]
  call = estimators.ESTIMATORS[name]
  assert_same(call(rewards, bounded=False), expected, 1e-5)
  with pytest.raises(ValueError, match=r"likelihoods\[0\] = -3"):
    call(rewards)
  with pytest.raises(ValueError, match=r"rewards\[1\] = inf"):
    call(np.array([1.0, np.inf]), bounded=False)


@pytest.mark.parametrize("name", sorted(estimators.LOG_ESTIMATORS))
@pytest.mark.parametrize("bad", [np.nan, 5.0])
def test_what_is_no_log_likelihood_is_named(name, bad):
  log_l = np.array([-1.0, bad, -2.0], np.float32)
  logs = estimators.LOG_ESTIMATORS[name]
  with pytest.raises(ValueError, match=rf"log_likelihoods\[1\] = {bad}"):
    logs(log_l)
  if np.isnan(bad):  # Under jit it must not become a harmless zero.
    assert np.isnan(jax.jit(logs)(log_l)).any()


def test_vimco_keeps_its_digits_in_large_groups():
  """N (L − L_j) with each mean taken anew in float64."""
  l = np.random.default_rng(5).random(1024).astype(np.float32)
  wide = l.astype(np.float64)
  expected = []
  for j in range(0, 1024, 93):
    others = np.delete(wide, j)
    without = (others.sum() + np.exp(np.log(others).mean())) / 1024
    expected.append(1024 * np.log(wide.mean() / without))
  found = np.asarray(estimators.vimco(l))[::93]
  np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("scale", [1.0, 2.0**-124])
def test_grpo_keeps_its_digits_among_close_likelihoods(scale):
  rng = np.random.default_rng(6)
  l = (1 - 1e-5 * rng.random(64)).astype(np.float32)
  l = np.where(rng.random(64) < 0.1, l / 2, l) if scale < 1 else l
  l = (scale * l).astype(np.float32)
  wide = l.astype(np.float64)
  expected = (wide - wide.mean()) / wide.std()
  found = estimators.grpo(l)
  np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-5)
