"""Noise models against SciPy's densities and numerical integrals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from maxrl_jax import likelihoods, symmetric

FAMILIES = {
  "gaussian": (likelihoods.gaussian(scale=0.7), stats.norm(0, 0.7)),
  "laplace": (likelihoods.laplace(scale=0.7), stats.laplace(0, 0.7)),
  "student_t": (
    likelihoods.student_t(scale=0.7, degrees=3.0),
    stats.t(3, 0, 0.7),
  ),
  "tolerance": (likelihoods.tolerance(width=0.7), stats.uniform(-0.7, 1.4)),
}
each = pytest.mark.parametrize("name", FAMILIES)


@each
def test_density_and_distribution_are_scipys(name, x64):
  ours, theirs = FAMILIES[name]
  x = np.array([-40.0, -3.0, -0.69, -0.1, 0.0, 0.3, 0.69, 2.0, 25.0])
  log_density = ours.log_likelihoods(jnp.asarray(x)) + ours.log_ceiling
  np.testing.assert_allclose(log_density, theirs.logpdf(x), rtol=1e-12)
  np.testing.assert_allclose(ours.cdf(x / 0.7), theirs.cdf(x), atol=1e-12)


@each
def test_likelihoods_stay_within_the_ceiling(name):
  ours, _ = FAMILIES[name]
  x = np.concatenate([[0.0, 1e-30, -1e-8], np.geomspace(1e-6, 1e6, 40)])
  log_l = np.asarray(ours.log_likelihoods(jnp.asarray(x, jnp.float32)))
  assert log_l[0] == 0 and (log_l <= 0).all() and not np.isnan(log_l).any()


def test_exact_match_is_right_or_wrong():
  found = likelihoods.exact_match().log_likelihoods(jnp.array([0.0, 1e-6]))
  np.testing.assert_array_equal(found, [0, -np.inf])


@pytest.mark.parametrize("make", [likelihoods.gaussian, likelihoods.laplace])
def test_another_scale_keeps_the_ceiling(make):
  """A quieter prompt may reach l = 1, a louder one σ_min/σ."""
  family = make(scale=1.0, smallest_scale=0.5)
  at_zero = family.log_likelihoods(jnp.zeros(3), jnp.array([0.5, 1.0, 2.0]))
  np.testing.assert_allclose(np.exp(at_zero), [1, 0.5, 0.25], rtol=1e-6)
  fixed = make(scale=2.0)
  x = jnp.array([0.3, -4.0])
  np.testing.assert_allclose(
    family.log_likelihoods(x, 2.0) + family.log_ceiling,
    fixed.log_likelihoods(x) + fixed.log_ceiling,
    rtol=1e-6,
  )


def test_very_unlikely_rollouts_have_finite_weights():
  """log l = −1e4: the likelihood is 0, and the weights those of failures."""
  family = likelihoods.gaussian(scale=0.1)
  residuals = jnp.array([0.0, 14.2, 14.1, 20.0])
  log_l = family.log_likelihoods(residuals)
  assert log_l[1] < -1e4
  weights = symmetric.loo_weights(jnp.exp(log_l), 3)
  # One success among N = 4, T = 3, in l: ω = 3 for it; for a failure, the
  # other three hold one success: (4/2)(1 − C(2,3)/C(4,3)) = 2.
  np.testing.assert_allclose(weights, [3, 2, 2, 2], rtol=1e-6)


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: likelihoods.gaussian(scale=0.0), "scale = 0.0: must be above 0"),
    (lambda: likelihoods.laplace(scale=np.nan), "scale = nan"),
    (lambda: likelihoods.student_t(scale=-1.0), "scale = -1.0"),
    (
      lambda: likelihoods.gaussian(scale=1.0, smallest_scale=2.0),
      "smallest_scale = 2.0: must be above 0 and at most scale = 1.0",
    ),
    (lambda: likelihoods.student_t(scale=1.0, degrees=0.0), "degrees = 0.0"),
    (lambda: likelihoods.tolerance(width=0.0), "width = 0.0"),
  ],
)
def test_wrong_scales_are_named(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_a_log_likelihood_of_ones_own():
  log_l = jnp.array([[0.5, -1e4], [-np.inf, 1.5]])
  found = likelihoods.from_log_likelihood(log_l, 1.5)
  np.testing.assert_allclose(found, [[np.exp(-1), 0], [0, 1]], rtol=1e-6)
  np.testing.assert_array_equal(
    jax.jit(likelihoods.from_log_likelihood)(log_l, 1.5), found
  )


@pytest.mark.parametrize("bad", [1.6, np.nan])
def test_a_ceiling_that_is_exceeded_names_prompt_value_and_ceiling(bad):
  log_l = jnp.array([[0.0, 0.0], [0.0, bad]])
  message = rf"\[1, 1\] \(prompt 1\) = {bad}, above log_ceiling = 1.5"
  with pytest.raises(ValueError, match=message):
    likelihoods.from_log_likelihood(log_l, 1.5)


# Sums over a policy


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
    arguments = (ours, target, log_weights, jnp.array(means), jnp.array(scales))
    p = _integral(name, target, weights, means, scales, theirs.pdf)
    found = likelihoods.log_marginal(*arguments) + ours.log_ceiling
    loose = 5e-3 if name == "student_t" else 1e-4
    assert float(found) == pytest.approx(np.log(p), abs=loose)
    below = _integral(name, target, weights, means, scales, theirs.cdf)
    cdf = likelihoods.predictive_cdf(*arguments)
    assert float(cdf) == pytest.approx(below, abs=2e-3)


@each
def test_marginals_of_atoms_are_sums(name):
  ours, theirs = FAMILIES[name]
  weights, values = np.array([0.2, 0.5, 0.3]), np.array([-1.0, 0.0, 2.0])
  for target in (-0.5, 0.1):
    found = likelihoods.log_marginal(
      ours, target, jnp.log(weights), jnp.asarray(values)
    )
    p = np.sum(weights * theirs.pdf(target - values))
    assert float(found) + ours.log_ceiling == pytest.approx(np.log(p), abs=1e-5)
    cdf = likelihoods.predictive_cdf(
      ours, target, jnp.log(weights), jnp.asarray(values)
    )
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
    zero, one = jnp.zeros(1), jnp.ones(1)
    found = likelihoods.log_marginal(ours, target, zero, zero, one)
    return found + ours.log_ceiling

  value, slope = jax.value_and_grad(log_density)(jnp.float32(target))
  loose = 0.2 if make is likelihoods.student_t else 0.01
  assert float(value) == pytest.approx(stats.norm.logpdf(target), abs=loose)
  assert float(slope) == pytest.approx(-target, rel=0.2)


def test_nothing_explains_the_target():
  """log E[l] = −inf, and its gradient 0 rather than NaN."""
  window = likelihoods.tolerance(width=0.5)

  def log_p(logits):
    values = jnp.arange(3.0)
    log_pi = jax.nn.log_softmax(logits)
    return likelihoods.log_marginal(window, 9.0, log_pi, values)

  value, gradient = jax.value_and_grad(log_p)(jnp.zeros(3))
  assert value == -np.inf
  np.testing.assert_array_equal(gradient, 0)
