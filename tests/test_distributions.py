import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from maxrl_jax import distributions


@pytest.mark.parametrize("size", [1, 2, 3, 31, 32, 33, 1000])
def test_draws_have_the_distribution(size):
  rng = np.random.default_rng(size)
  logits = jnp.asarray(rng.normal(scale=2, size=size), jnp.float32)
  num = 200_000
  draws = distributions.categorical(jax.random.key(1), logits, num)
  assert draws.dtype == jnp.int32
  p = np.exp(np.float64(logits))
  p /= p.sum()
  counts = np.bincount(draws, minlength=size)
  assert counts.size == size
  common = p * num >= 5
  if common.sum() > 1:
    observed = np.append(counts[common], counts[~common].sum())
    expected = np.append(p[common], p[~common].sum()) * num
    kept = expected > 0
    test = stats.chisquare(observed[kept], expected[kept])
    assert test.pvalue > 1e-4


def test_impossible_classes_are_never_drawn():
  logits = jnp.array([-jnp.inf, 0.0, -jnp.inf, -jnp.inf, 1.0, -jnp.inf])
  draws = distributions.categorical(jax.random.key(0), logits, 100_000)
  assert set(np.unique(draws)) == {1, 4}


def test_rare_classes_are_drawn_at_their_rate():
  logits = jnp.log(jnp.array([0.9999, 1e-4]))
  draws = distributions.categorical(jax.random.key(0), logits, 1_000_000)
  expected = 100
  assert abs(int(draws.sum()) - expected) < 5 * np.sqrt(expected)


def test_draws_are_independent():
  """Pairs of neighbours are as frequent as the product of their chances."""
  logits = jnp.log(jnp.array([0.5, 0.3, 0.2]))
  draws = np.asarray(
    distributions.categorical(jax.random.key(3), logits, 90_000)
  )
  pairs = np.bincount(draws[::2] * 3 + draws[1::2], minlength=9)
  p = np.array([0.5, 0.3, 0.2])
  assert stats.chisquare(pairs, np.outer(p, p).ravel() * 45_000).pvalue > 1e-4


def test_log_prob_by_hand():
  logits = jnp.log(jnp.array([1.0, 2.0, 5.0])) + 100.0
  found = distributions.categorical_log_prob(logits, jnp.array([2, 0, 2]))
  np.testing.assert_allclose(found, np.log([5 / 8, 1 / 8, 5 / 8]), rtol=1e-5)


def test_gradient_of_log_prob_is_the_score():
  logits = jnp.array([0.3, -1.0, 2.0])
  score = jax.grad(
    lambda x: distributions.categorical_log_prob(x, jnp.array([1]))[0]
  )(logits)
  expected = np.eye(3)[1] - np.exp(logits) / np.exp(logits).sum()
  np.testing.assert_allclose(score, expected, atol=1e-6)
