"""Regression policies: samples, log-probabilities and mixtures agree."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from maxrl_jax.policies import POLICIES

NUM_DIMS = 2
CASES = {
  "grid": ("grid", {"bins": 9, "low": -1.0, "high": 3.0}),
  "normal": ("normal", {}),
  "normal fixed": ("normal", {"policy_scale": 0.3}),
  "mixture": ("mixture", {"num_components": 3}),
  "mixture of one": ("mixture", {"num_components": 1}),
  "digits binary": ("digits", {"base": 2, "length": 4}),
  "digits decimal": ("digits", {"base": 10, "length": 2, "width": 8}),
}
each = pytest.mark.parametrize("case", CASES)


@functools.partial(jax.jit, static_argnums=0)
def _outputs(policy, params, inputs):
  return policy.apply(params, inputs)


def _read(policy, inputs):
  """A policy away from its start, drawn by NumPy, and what it says of [B]."""
  policy.check()
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(policy.init, jax.random.key(0), inputs)

  def leaf(path, shape):
    spread = (path[-1].key == "kernel") / shape.shape[0] + 0.1
    return np.float32(rng.normal(scale=np.sqrt(spread), size=shape.shape))

  params = jax.tree.map_with_path(leaf, shapes)
  return params, _outputs(policy, params, inputs)


def _policy(case):
  """A policy, its parameters and what it says of one prompt."""
  name, own = CASES[case]
  policy = POLICIES[name](num_dims=NUM_DIMS, hidden=(8,), **own)
  x = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
  params, outputs = _read(policy, x)
  return policy, params, jax.tree.map(lambda a: np.asarray(a)[1], outputs)


def _call(policy, params, method, *arguments):
  return jax.jit(functools.partial(policy.apply, method=method))(
    params, *arguments
  )


@functools.partial(jax.jit, static_argnums=(0, 4))
def _rollouts(policy, params, key, outputs, num):
  """Predictions and log-probabilities of draws, and the components."""
  run = functools.partial(policy.apply, params)
  actions = run(key, outputs, num, method="sample")
  return (
    run(actions, method="decode"),
    run(outputs, actions, method="log_prob"),
    run(outputs, method="components"),
  )


@each
def test_draws_follow_the_components_and_log_probs_are_theirs(case):
  policy, params, outputs = _policy(case)
  num = 20_000
  drawn, log_probs, actual = _rollouts(
    policy, params, jax.random.key(3), outputs, num
  )
  drawn, log_probs = np.float64(drawn), np.asarray(log_probs)
  assert drawn.shape == log_probs.shape == (NUM_DIMS, num)
  for d in range(NUM_DIMS):
    weights = np.exp(np.float64(actual.log_weights[d]))
    where = np.float64(actual.locations[d])
    if actual.scales is None:
      at = np.argmin(np.abs(drawn[d][:, None] - where), -1)
      expected = np.log(weights[at])
    else:
      scales = np.float64(actual.scales[d])
      pdf = stats.norm.pdf(drawn[d][:, None], where, scales)
      expected = np.log(pdf @ weights)
    np.testing.assert_allclose(log_probs[d], expected, rtol=1e-4, atol=1e-5)
    assert weights.sum() == pytest.approx(1, abs=1e-5)
    weights /= weights.sum()
    if actual.scales is None:
      counts = [(np.abs(drawn[d] - v) < 1e-5).sum() for v in where]
      assert sum(counts) == num
      common = weights * num > 5
      rest = weights[~common].sum() * num
      observed = np.array(counts)[common]
      expected = weights[common] * num
      if rest > 0:
        observed = np.append(observed, num - observed.sum())
        expected = np.append(expected, num - expected.sum())
      assert stats.chisquare(observed, expected).pvalue > 1e-4
    else:

      def cdf(x, weights=weights, where=where, scales=scales):
        return stats.norm.cdf((x[:, None] - where) / scales) @ weights

      assert stats.kstest(drawn[d], cdf).pvalue > 1e-4


def test_digits_are_read_as_they_are_written():
  policy, params, _ = _policy("digits decimal")
  actions = np.array([[[0, 0], [9, 9], [3, 7]]] * NUM_DIMS)
  values = _call(policy, params, "decode", actions)
  np.testing.assert_allclose(
    values[0], [-4 + 8 * 0.005, -4 + 8 * 0.995, -4 + 8 * 0.375], rtol=1e-5
  )


@pytest.mark.parametrize(
  ("name", "options"),
  [
    ("grid", {"bins": 64}),
    ("digits", {"low": -4.0, "high": 4.0}),
    ("digits", {"base": 2, "length": 12, "low": -0.1, "high": 7.3}),
    ("digits", {"low": -0.5, "high": 99.5}),
  ],
)
def test_predictions_are_bit_identical_to_components(name, options):
  """Otherwise 'exact_match' would never match some targets."""
  policy = POLICIES[name](hidden=(), **options)
  params, outputs = _read(policy, np.zeros((1, 1), np.float32))
  outputs = jax.tree.map(lambda a: np.asarray(a)[0], outputs)

  @jax.jit
  def locations(params, outputs):
    actual = policy.apply(params, outputs, method="components")
    return actual.locations

  where = locations(params, outputs)[0]
  index = np.arange(where.size)
  if name == "digits":
    index = np.stack(
      np.unravel_index(index, (policy.base,) * policy.length), -1
    )
  predicted = _call(policy, params, "decode", index[None])[0]
  np.testing.assert_array_equal(predicted, where)
  np.testing.assert_array_equal(policy.values(), where)
  if policy.high == 99.5:
    np.testing.assert_array_equal(where, np.arange(100))


def test_digits_depend_on_earlier_digits():
  policy, params, outputs = _policy("digits binary")
  everything = np.array(list(itertools.product((0, 1), repeat=4)))
  log_probs = _call(
    policy, params, "log_prob", outputs, np.stack([everything] * NUM_DIMS)
  )
  p = np.exp(log_probs[0]).reshape(2, 2, 2, 2)
  assert p.sum() == pytest.approx(1, abs=1e-5)
  second = p.sum((2, 3))
  given = second[:, 1] / second.sum(1)
  assert abs(given[0] - given[1]) > 0.01


@pytest.mark.parametrize("initial", [0.7, 1000.0])
@pytest.mark.parametrize("learned", ["input", "global"])
def test_a_learned_scale_starts_at_the_initial_scale(learned, initial):
  policy = POLICIES["grid"](
    num_dims=NUM_DIMS,
    hidden=(8,),
    learned_scale=learned,
    smallest_scale=0.1,
    initial_scale=initial,
  )
  x = jnp.zeros((3, 4))
  outputs = policy.apply(policy.init(jax.random.key(0), x), x)
  assert outputs.noise_scale.shape == (3, NUM_DIMS)
  np.testing.assert_allclose(outputs.noise_scale, initial, rtol=1e-5)


@pytest.mark.parametrize(
  ("name", "options", "message"),
  [
    ("grid", {"bins": 1}, "policy.bins = 1"),
    ("grid", {"low": 2.0, "high": 2.0}, "policy.low = 2.0"),
    ("normal", {"policy_scale": 0.0}, "policy.policy_scale = 0.0"),
    ("normal", {"least_policy_scale": 0.0}, "policy.least_policy_scale = 0.0"),
    ("mixture", {"num_components": 0}, "policy.num_components = 0"),
    ("mixture", {"least_policy_scale": -1.0}, "policy.least_policy_scale = -1"),
    ("digits", {"base": 1}, "policy.base = 1"),
    ("digits", {"base": 10, "length": 4}, "= 10000, must be at most 4096"),
  ],
)
def test_error_names_an_invalid_option(name, options, message):
  with pytest.raises(ValueError, match=message):
    POLICIES[name](**options).check()
