"""Noise models against SciPy's densities and numerical integrals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

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
def test_density_and_cdf_equal_scipys(name, x64):
  noise, reference = FAMILIES[name]
  x = np.array([-40.0, -3.0, -0.69, -0.1, 0.0, 0.3, 0.69, 2.0, 25.0])
  log_density = noise.log_likelihoods(jnp.asarray(x)) + noise.log_ceiling
  np.testing.assert_allclose(log_density, reference.logpdf(x), rtol=1e-12)
  np.testing.assert_allclose(noise.cdf(x / 0.7), reference.cdf(x), atol=1e-12)


@pytest.mark.parametrize("degrees", [1.0, 4.0, 30.0])
def test_student_t_has_its_digits_near_zero(degrees):
  u = np.logspace(-7, 1, 50).astype(np.float32)
  u = np.concatenate([-u, u])
  actual = likelihoods.student_t(scale=1.0, degrees=degrees).cdf(u)
  expected = stats.t.cdf(np.float64(u), degrees)
  np.testing.assert_allclose(actual, expected, atol=1.5e-6)


@pytest.mark.parametrize("degrees", [101, 1e3, 1e5, 1e9, 1e15])
def test_student_t_of_many_degrees(degrees):
  noise, x = likelihoods.student_t(scale=1.0, degrees=degrees), np.arange(-3, 4)
  log_density = noise.log_likelihoods(jnp.float32(x)) + noise.log_ceiling
  reference = stats.t(degrees) if degrees < 1e9 else stats.norm
  np.testing.assert_allclose(log_density, reference.logpdf(x), rtol=2e-6)
  np.testing.assert_allclose(
    noise.cdf(jnp.float32(x)), reference.cdf(x), atol=2e-6
  )


@each
def test_likelihoods_are_at_most_one(name):
  noise, _ = FAMILIES[name]
  x = np.concatenate([[0.0, 1e-30, -1e-8], np.geomspace(1e-6, 1e6, 40)])
  log_l = np.asarray(noise.log_likelihoods(jnp.asarray(x, jnp.float32)))
  assert log_l[0] == 0 and (log_l <= 0).all() and not np.isnan(log_l).any()


def test_exact_match_is_binary():
  actual = likelihoods.exact_match().log_likelihoods(jnp.array([0.0, 1e-6]))
  np.testing.assert_array_equal(actual, [0, -np.inf])


@pytest.mark.parametrize("make", [likelihoods.gaussian, likelihoods.laplace])
def test_ceiling_does_not_depend_on_the_scale(make):
  """At residual 0, l is σ_min/σ: 1 for the least noisy prompt."""
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
  """At log l = −1e4 the likelihood is 0 and weights are those of failures."""
  family = likelihoods.gaussian(scale=0.1)
  residuals = jnp.array([0.0, 14.2, 14.1, 20.0])
  log_l = family.log_likelihoods(residuals)
  assert log_l[1] < -1e4
  weights = symmetric.loo_weights(jnp.exp(log_l), 3)
  # N = 4, T = 3, one success: its ω is 3; a failure has one success among the
  # other three: (4/2)(1 − C(2,3)/C(4,3)) = 2.
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
def test_error_names_an_invalid_scale(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_custom_log_likelihoods():
  log_l = jnp.array([[0.5, -1e4], [-np.inf, 1.5]])
  actual = likelihoods.from_log_likelihood(log_l, 1.5)
  np.testing.assert_allclose(actual, [[np.exp(-1), 0], [0, 1]], rtol=1e-6)
  np.testing.assert_array_equal(
    jax.jit(likelihoods.from_log_likelihood)(log_l, 1.5), actual
  )


@pytest.mark.parametrize("bad", [1.6, np.nan])
def test_error_names_prompt_value_and_exceeded_ceiling(bad):
  log_l = jnp.array([[0.0, 0.0], [0.0, bad]])
  message = rf"\[1, 1\] \(prompt 1\) = {bad}: must be at most log_ceiling = 1.5"
  with pytest.raises(ValueError, match=message):
    likelihoods.from_log_likelihood(log_l, 1.5)


def test_arrays_that_a_compiled_function_closes_over():
  log_l, scale = jnp.array([-1.0, -2.0]), jnp.float32(0.5)
  from_logs = jax.jit(lambda: likelihoods.from_log_likelihood(log_l, scale))
  np.testing.assert_allclose(from_logs(), np.exp(log_l - 0.5), rtol=1e-6)
  noise = jax.jit(
    lambda: likelihoods.gaussian(
      scale=scale, smallest_scale=0.25
    ).log_likelihoods(log_l)
  )
  expected = likelihoods.gaussian(scale=0.5, smallest_scale=0.25)
  np.testing.assert_allclose(
    noise(), expected.log_likelihoods(log_l), rtol=1e-6
  )
