"""Regression data sets: noise, references, splits."""

import jax
import numpy as np
import pytest
from scipy import stats

from maxrl_jax.tasks import TASKS


def _drawn(name, count=20_000, **options):
  # As many as the splits have: their program and this one are the same.
  data = TASKS[name](eval_size=count, **options)
  draw = jax.jit(data.draw, static_argnums=1)
  return jax.tree.map(np.float64, draw(jax.random.key(7), count))


@pytest.mark.parametrize("kind", ["linear", "mlp"])
@pytest.mark.parametrize("snr", [0.25, 4.0])
def test_teachers_have_the_signal_to_noise_ratio(kind, snr):
  x, target = _drawn("teacher", kind=kind, snr=snr, num_dims=2)
  np.testing.assert_allclose(target.clean.var(0), 1, rtol=0.05)
  noise = target.y - target.clean
  np.testing.assert_allclose(noise.var(0), 1 / snr, rtol=0.05)
  expected = stats.norm.logpdf(noise, 0, snr**-0.5).sum(1)
  np.testing.assert_allclose(target.log_reference, expected, rtol=1e-3)
  if kind == "linear":  # A least-squares fit finds it.
    fit, *_ = np.linalg.lstsq(x, target.clean, rcond=None)
    np.testing.assert_allclose(x @ fit, target.clean, atol=1e-4)


def test_noise_that_x_tells_and_noise_that_it_does_not():
  for learnable in (True, False):
    x, target = _drawn("heteroscedastic", learnable=learnable, dim=3)
    sigma, noise = target.noise_scale[:, 0], (target.y - target.clean)[:, 0]
    assert 0.1 <= sigma.min() < 0.15 and 1.5 < sigma.max() <= 2.0
    assert stats.kstest(noise / sigma, "norm").pvalue > 1e-4
    # log σ is uniform; linear in Φ of one direction of x, if x tells it.
    fit, *_ = np.linalg.lstsq(
      np.column_stack([x, np.ones(len(x))]), np.log(sigma), rcond=None
    )
    explained = np.var(x @ fit[:-1]) / np.var(np.log(sigma))
    assert explained > 0.9 if learnable else explained < 0.01
    if learnable:
      expected = stats.norm.logpdf(noise, 0, sigma)
    else:
      levels = np.exp(np.linspace(np.log(0.1), np.log(2.0), 4001))
      expected = np.log(stats.norm.pdf(noise[:500, None], 0, levels).mean(1))
    np.testing.assert_allclose(
      target.log_reference[:500], expected[:500], atol=0.02
    )


def test_bimodal_targets_have_two_modes():
  _, target = _drawn("bimodal", positive_probability=0.7, noise=0.4)
  f = target.clean / 0.4
  assert f.min() >= 1.5 and f.max() <= 2.5
  plus = np.abs(target.y - f) < np.abs(target.y + f)
  assert abs(plus.mean() - 0.7) < 5 * (0.21 / len(f)) ** 0.5
  density = 0.7 * stats.norm.pdf(target.y, f, 0.4)
  density += 0.3 * stats.norm.pdf(target.y, -f, 0.4)
  np.testing.assert_allclose(
    target.log_reference, np.log(density[:, 0]), atol=1e-4
  )


@pytest.mark.parametrize("rho", [0.1, 0.6])
def test_bag_of_words_has_the_correlation(rho):
  x, target = _drawn("bag_of_words", rho=rho, length=5, vocabulary=20)
  assert (x.sum(1) == 5).all()
  y, clean = target.y[:, 0], target.clean[:, 0]
  assert abs(np.corrcoef(y, clean)[0, 1] - rho) < 0.03
  assert y.var() == pytest.approx(1, rel=0.05)
  # The signal is a sum of token values.
  fit, *_ = np.linalg.lstsq(x, clean, rcond=None)
  np.testing.assert_allclose(x @ fit, clean, atol=1e-4)


def test_in_context_reference_is_the_posterior_on_a_grid():
  """Against the posterior summed numerically over a grid of w."""
  x, target = _drawn("in_context", count=5, dim=2, context=3, noise=0.5)
  side = np.linspace(-4, 4, 401)
  w = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
  prior = stats.norm.pdf(w, 0, 2**-0.5).prod(1)
  for row, y, reference in zip(x, target.y, target.log_reference, strict=True):
    contexts, values, query = row[:6].reshape(3, 2), row[6:9], row[9:]
    seen = stats.norm.pdf(values, w @ contexts.T, 0.5).prod(1)
    posterior = prior * seen
    posterior /= posterior.sum()
    density = posterior @ stats.norm.pdf(y, w @ query, 0.5)
    assert reference == pytest.approx(np.log(density), abs=1e-3)


def test_diabetes_is_real_and_split_once():
  data = TASKS["diabetes"]()
  sizes = {name: len(s.inputs) for name, s in data.splits.items()}
  assert sizes == {"train": 242, "validation": 80, "test": 120}
  train = data.splits["train"]
  np.testing.assert_allclose(train.inputs.mean(0), 0, atol=1e-5)
  np.testing.assert_allclose(train.targets.y.std(), 1, rtol=1e-5)
  rows = np.concatenate([np.asarray(s.inputs) for s in data.splits.values()])
  assert len(np.unique(rows, axis=0)) == 442
  # Better than knowing nothing: N(0, 1) in place of the reference.
  test = data.splits["test"].targets
  nothing = stats.norm.logpdf(test.y).mean()
  assert float(np.mean(test.log_reference)) > nothing + 0.1


@pytest.mark.parametrize(
  ("name", "options", "message"),
  [
    ("teacher", {"snr": 0.0}, "snr = 0.0"),
    ("teacher", {"kind": "cubic"}, "kind = 'cubic': choose from"),
    ("teacher", {"dim": 0}, "dim = 0"),
    ("heteroscedastic", {"min_sigma": 3.0}, "min_sigma = 3.0"),
    ("bimodal", {"positive_probability": 1.0}, "positive_probability = 1.0"),
    ("bimodal", {"noise": -1.0}, "noise = -1.0"),
    ("bag_of_words", {"rho": 0.0}, "rho = 0.0"),
    ("in_context", {"context": 0}, "context = 0"),
  ],
)
def test_wrong_options_are_named(name, options, message):
  with pytest.raises(ValueError, match=message):
    TASKS[name](**options)
