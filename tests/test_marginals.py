"""Marginals of a policy and a noise model against SciPy's integrals."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special, stats

from maxrl_jax import likelihoods, marginals
from maxrl_jax.distributions import Components
from tests.test_likelihoods import FAMILIES, each


def _integral(name, target, weights, means, scales, of):
  """∫ q(ŷ) of(y − ŷ) dŷ by SciPy."""
  pieces = []
  for w, m, s in zip(weights, means, scales, strict=True):
    edges = [target - 0.7, target, target + 0.7]
    value, _ = integrate.quad(
      lambda z, m=m, s=s: stats.norm.pdf(z, m, s) * of(target - z),
      m - 12 * s,
      m + 12 * s,
      points=[e for e in edges if abs(e - m) < 12 * s],
      limit=500,
    )
    pieces.append(w * value)
  return sum(pieces)


@each
def test_marginals_of_normal_policies_are_integrals(name):
  noise, reference = FAMILIES[name]
  weights, means, scales = [0.3, 0.7], [-1.0, 0.5], [0.4, 1.3]
  policy = Components(*map(jnp.array, (np.log(weights), means, scales)))
  targets = np.array([-2.0, 0.1, 3.0])
  values, cdfs = _marginals(name)(targets, policy)
  for target, actual, cdf in zip(targets, values, cdfs, strict=True):
    p = _integral(name, target, weights, means, scales, reference.pdf)
    assert float(actual) + noise.log_ceiling == pytest.approx(
      np.log(p), abs=1e-4
    )
    below = _integral(name, target, weights, means, scales, reference.cdf)
    assert float(cdf) == pytest.approx(below, abs=2e-3)


def _marginals(name):
  """log E[l] and P(Y ≤ y) at many targets."""
  noise, _ = FAMILIES[name]

  def both(target, policy):
    return (
      marginals.log_pass_rate(noise, target, policy),
      marginals.predictive_cdf(noise, target, policy),
    )

  return jax.jit(jax.vmap(both, (0, None)))


@each
def test_marginals_of_atoms_are_sums(name):
  noise, reference = FAMILIES[name]
  weights, values = np.array([0.2, 0.5, 0.3]), np.array([-1.0, 0.0, 2.0])
  policy = Components(jnp.array(np.log(weights)), jnp.array(values))
  targets = np.array([-0.5, 0.1])
  values_at, cdfs = _marginals(name)(targets, policy)
  for target, actual, cdf in zip(targets, values_at, cdfs, strict=True):
    p = np.sum(weights * reference.pdf(target - values))
    assert float(actual) + noise.log_ceiling == pytest.approx(
      np.log(p), abs=1e-5
    )
    expected = np.sum(weights * reference.cdf(target - values))
    assert float(cdf) == pytest.approx(expected, abs=1e-6)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _found(make, options, scale, residual, policy_scale):
  noise = make(scale, **dict(options))

  def log_density(residual, scale):
    policy = Components(jnp.zeros(1), jnp.zeros(1), scale[None])
    return marginals.log_pass_rate(noise, residual, policy) + noise.log_ceiling

  return jax.value_and_grad(log_density, (0, 1))(residual, policy_scale)


def _value_and_slopes(make, scale, residual, policy_scale=1.0, **options):
  """log density of a residual under N(0, s), and ∂/∂(residual, s).

  One program for all scales of a noise model.
  """
  numbers = map(jnp.float32, (scale, residual, policy_scale))
  actual = _found(make, tuple(options.items()), *numbers)
  value, slopes = jax.tree.map(float, actual)
  return value, slopes


def _tolerance(scale):
  return likelihoods.tolerance(width=scale)


def _student_t(scale, degrees):
  return likelihoods.student_t(scale=scale, degrees=degrees)


def _laplace(scale):
  return likelihoods.laplace(scale=scale)


@pytest.mark.parametrize("width", [1e-30, 1e-7, 1e-6, 1e-3, 2e-3, 0.01])
@pytest.mark.parametrize("target", [0.0, 0.3, 2.5, 3.5, 30.0])
def test_a_window_far_narrower_than_the_policy(width, target):
  """Sees one density, N(target; 0, 1), and its slopes −y and y² − 1."""
  value, slopes = _value_and_slopes(_tolerance, width, target)
  bent = (width * target) ** 2 / 6  # The next term of log sinh(wy)/(wy).
  assert value == pytest.approx(stats.norm.logpdf(target) + bent, 1e-5, 1e-3)
  assert slopes == pytest.approx((-target, target**2 - 1), 2e-2, 1e-3)


def _by_convolution(noise, residual, scale, policy_scale):
  """log ∫ N(ŷ; 0, s) f(residual − ŷ) dŷ by a sum on a fine uniform grid."""
  step = min(scale, policy_scale) / 16
  # Beyond 80 deviations the policy is below e^−3000 of its peak.
  high = min(max(residual, 0) + 14 * policy_scale, 80 * policy_scale)
  low = -14 * policy_scale
  z = np.arange(low, high, step)
  terms = stats.norm.logpdf(z, 0, policy_scale) + noise.logpdf(residual - z)
  return special.logsumexp(terms) + np.log(step)


@pytest.mark.parametrize("deviations", [0, 5, 40, 1000])
@pytest.mark.parametrize("degrees", [0.5, 3.0, 10.0, 200.0])
@pytest.mark.parametrize(
  ("scale", "policy_scale"), [(0.1, 0.3), (0.05, 2.0), (0.7, 0.02)]
)
def test_tails_of_student_t_stay_heavy(
  scale, policy_scale, degrees, deviations
):
  residual = deviations * scale
  value, slopes = _value_and_slopes(
    _student_t, scale, residual, policy_scale, degrees=degrees
  )
  reference = stats.t(degrees, 0, scale)

  def expected(residual, policy_scale):
    return _by_convolution(reference, residual, scale, policy_scale)

  assert value == pytest.approx(expected(residual, policy_scale), 2e-6, 2e-5)
  for of, along in ((0, (scale, 0)), (1, (0, policy_scale))):
    plus, minus = (
      expected(residual + sign * along[0], policy_scale + sign * along[1])
      for sign in (1e-3, -1e-3)
    )
    slope = (plus - minus) / (2e-3 * max(along))
    assert slopes[of] == pytest.approx(slope, 1e-3, 1e-4 / max(along))


@pytest.mark.parametrize("degrees", [1e-30, 1e4, 1e9, 1e30])
def test_student_t_of_few_and_many_degrees(degrees):
  value, slopes = _value_and_slopes(_student_t, 0.5, 3.0, degrees=degrees)
  assert np.isfinite([value, *slopes]).all()
  if degrees > 1:
    normal = stats.norm.logpdf(3, 0, np.hypot(0.5, 1))
    assert value == pytest.approx(normal, abs=20 / degrees + 1e-5)


@pytest.mark.parametrize("policy_scale", [0.01, 1.0])
@pytest.mark.parametrize("deviations", [0.0, 0.5, -2.5, 30.0])
@pytest.mark.parametrize("share", [1e-8, 1e-4, 1e-3, 0.1, 10.0])
def test_laplace_noise_of_any_width(share, deviations, policy_scale):
  """Against SciPy's integral in units of the policy's σ, over both tails."""
  value, slopes = _value_and_slopes(
    _laplace, share * policy_scale, deviations * policy_scale, policy_scale
  )

  def density(z):  # Of the residual, relative to the policy's density there.
    ratio = (deviations**2 - z**2) / 2 - abs(deviations - z) / share
    return np.exp(ratio) / (2 * share)

  near = deviations + share * np.array([-40, -1, 0, 1, 40])
  edges = np.unique(np.append(near, [-40, -5, 0, 5, 40]))
  mass = sum(
    integrate.quad(density, *ends, epsabs=1e-9, limit=200)[0]
    for ends in itertools.pairwise(edges)
  )
  expected = np.log(mass) + stats.norm.logpdf(deviations) - np.log(policy_scale)
  assert value == pytest.approx(expected, 2e-6, 1e-5)
  assert np.isfinite(slopes).all()
  if share <= 1e-3 and abs(deviations) < 5:
    u = deviations
    expected = np.array([-u, u**2 - 1]) / policy_scale
    assert slopes == pytest.approx(expected, 1e-3, 1e-3 / policy_scale)


def test_nan_of_a_policy_is_not_a_pass_rate_of_zero():
  policy = Components(jnp.array([np.nan, 0.0]), jnp.zeros(2))
  log_p = marginals.log_pass_rate(likelihoods.gaussian(scale=1.0), 0.0, policy)
  assert np.isnan(log_p)


def test_impossible_target_has_zero_gradient():
  """log E[l] = −inf, and its gradient is 0, not NaN."""
  window = likelihoods.tolerance(width=0.5)

  def log_p(logits):
    policy = Components(jax.nn.log_softmax(logits), jnp.arange(3.0))
    return marginals.log_pass_rate(window, 9.0, policy)

  value, gradient = jax.jit(jax.value_and_grad(log_p))(jnp.zeros(3))
  assert value == -np.inf
  np.testing.assert_array_equal(gradient, 0)
