"""Sums over a policy and a noise model against SciPy's integrals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats
from test_likelihoods import FAMILIES, each

from maxrl_jax import likelihoods, marginals
from maxrl_jax.distributions import Components


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
  ours, theirs = FAMILIES[name]
  weights, means, scales = [0.3, 0.7], [-1.0, 0.5], [0.4, 1.3]
  log_weights = jnp.log(jnp.array(weights))
  for target in (-2.0, 0.1, 3.0):
    policy = Components(log_weights, jnp.array(means), jnp.array(scales))
    p = _integral(name, target, weights, means, scales, theirs.pdf)
    found = marginals.log_pass_rate(ours, target, policy) + ours.log_ceiling
    loose = 5e-3 if name == "student_t" else 1e-4
    assert float(found) == pytest.approx(np.log(p), abs=loose)
    below = _integral(name, target, weights, means, scales, theirs.cdf)
    cdf = marginals.predictive_cdf(ours, target, policy)
    assert float(cdf) == pytest.approx(below, abs=2e-3)


@each
def test_marginals_of_atoms_are_sums(name):
  ours, theirs = FAMILIES[name]
  weights, values = np.array([0.2, 0.5, 0.3]), np.array([-1.0, 0.0, 2.0])
  policy = Components(jnp.log(weights), jnp.asarray(values))
  for target in (-0.5, 0.1):
    found = marginals.log_pass_rate(ours, target, policy)
    p = np.sum(weights * theirs.pdf(target - values))
    assert float(found) + ours.log_ceiling == pytest.approx(np.log(p), abs=1e-5)
    cdf = marginals.predictive_cdf(ours, target, policy)
    expected = np.sum(weights * theirs.cdf(target - values))
    assert float(cdf) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
  ("make", "width"),
  [
    (likelihoods.tolerance, 0.05),
    (likelihoods.laplace, 0.01),
    (likelihoods.student_t, 0.01),
    (likelihoods.gaussian, 0.01),
  ],
)
@pytest.mark.parametrize("target", [0.3, 2.5, 3.5])
def test_noise_far_narrower_than_the_policy(make, width, target):
  """Then the marginal is all but the policy's own density, N(0, 1)."""
  key = "width" if make is likelihoods.tolerance else "scale"
  ours = make(**{key: width})

  def log_density(target):
    policy = Components(jnp.zeros(1), jnp.zeros(1), jnp.ones(1))
    found = marginals.log_pass_rate(ours, target, policy)
    return found + ours.log_ceiling

  value, slope = jax.value_and_grad(log_density)(jnp.float32(target))
  loose = 0.2 if make is likelihoods.student_t else 0.01
  assert float(value) == pytest.approx(stats.norm.logpdf(target), abs=loose)
  assert float(slope) == pytest.approx(-target, rel=0.2)


def test_nothing_explains_the_target():
  """log E[l] = −inf, and its gradient 0 rather than NaN."""
  window = likelihoods.tolerance(width=0.5)

  def log_p(logits):
    policy = Components(jax.nn.log_softmax(logits), jnp.arange(3.0))
    return marginals.log_pass_rate(window, 9.0, policy)

  value, gradient = jax.value_and_grad(log_p)(jnp.zeros(3))
  assert value == -np.inf
  np.testing.assert_array_equal(gradient, 0)
