"""What transformers that write numbers are compared with."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from experiments.figures import noisy_probes
from maxrl_jax import likelihoods
from maxrl_jax.config import default
from maxrl_jax.learning import training
from maxrl_jax.numerals import Numerals
from maxrl_jax.tasks import TASKS, regression
from maxrl_jax.tasks.regression_data import numbers


def test_bins_of_a_normal_have_its_probabilities():
  log_p = noisy_probes.bin_log_probs(
    Numerals(2, 2, 2.0), np.array([0.3, 7.0]), np.array([0.8, 0.1])
  )
  edges = [-np.inf, -1, 0, 1, np.inf]
  expected = np.diff(stats.norm.cdf(edges, 0.3, 0.8))
  np.testing.assert_allclose(np.exp(log_p[0]), expected, rtol=1e-12)
  # Far below the mean: by the tail itself, and not as 0.
  tail = stats.norm.logcdf(-1, 7, 0.8)
  near = noisy_probes.bin_log_probs(Numerals(2, 2, 2.0), 7.0, 0.8)
  assert near[0] == pytest.approx(tail, rel=1e-6)
  np.testing.assert_allclose(np.exp(log_p).sum(1), 1)


@pytest.mark.parametrize("dim", [1, 2])
def test_references_are_ordered_and_ridge_is_the_posterior(dim):
  data = TASKS["noisy_regression"](dim=dim, noise=0.3, eval_size=400)
  task = regression.task(data, likelihoods.gaussian(scale=0.5))
  every = noisy_probes.references(task, dim)
  uniform, alone, ridge, bayes = every.values()
  assert uniform.digit_nll == pytest.approx(np.log(64))
  assert uniform.digit_nll > alone.digit_nll > ridge.digit_nll
  assert ridge.digit_nll > bayes.digit_nll
  assert alone.mse_clean > 4 * ridge.mse_clean
  # The same from the closed form of the reference, of rounded numbers.
  prompts = data.splits["test"]
  x, y = numbers.read(Numerals(8, 2, 4.0), np.asarray(prompts.inputs), dim)
  sigma = (0.3**2 + 0.125**2 / 12) ** 0.5

  def mean(x, y):
    y, none = jnp.append(y, 0.0), jnp.zeros(len(x), int)
    pairs = numbers.Pairs(x, y, y[0], y[0], none, jnp.ones(len(x)))
    return numbers.posterior(pairs, sigma)[0]

  means = jax.jit(jax.vmap(mean))(jnp.asarray(x), jnp.asarray(y))
  squares = (np.asarray(means) - np.asarray(prompts.targets.clean)[:, 0]) ** 2
  assert ridge.mse_clean == pytest.approx(squares.mean(), rel=1e-3)


def _trainer():
  config = default(task="noisy_regression")
  config.task.update(context=2, base=2, num_values=4, eval_size=8)
  config.likelihood.scale = 2.5
  config.policy.update(num_layers=1, hidden_size=8, intermediate_size=8)
  config.policy.update(num_heads=2, num_kv_heads=1)
  trainer = training.make_train(config)
  rng = np.random.default_rng(0)
  inputs = trainer.task.example
  shapes = jax.eval_shape(trainer.policy.init, jax.random.key(0), inputs)
  draw = lambda s: np.float32(0.5 * rng.normal(size=s.shape))  # noqa: E731
  return trainer, jax.tree.map(draw, shapes)


@pytest.mark.long
def test_many_rollouts_give_the_exact_gradient():
  trainer, params = _trainer()
  probe = noisy_probes.alignment(trainer, (1, 3), (2, 512), 8, 6)
  values = jax.tree.map(np.asarray, jax.jit(probe)(params))
  assert values["cosine"].shape == values["norm_ratio"].shape == (2, 2)
  assert np.isnan(values["cosine"][0, 1])  # T = 3 needs four rollouts.
  assert (values["cosine"][1] > 0.95).all()
  np.testing.assert_allclose(values["norm_ratio"][1], 1, atol=0.15)
  assert values["cosine"][0, 0] < values["cosine"][1, 0]
  assert values["norm_ratio"][0, 0] > values["norm_ratio"][1, 0]


@pytest.mark.long
def test_scores_are_those_of_policy_and_noise():
  trainer, params = _trainer()
  values = jax.jit(noisy_probes.scores(trainer, 1))(params)
  prompts = trainer.task.splits["test"]
  head = np.exp(
    np.float64(trainer.policy.apply(params, prompts.inputs).head[:, 0])
  )
  centres = np.array([-3.0, -1.0, 1.0, 3.0])
  edges = np.array([-np.inf, -2, 0, 2, np.inf])
  index = np.searchsorted(centres, np.asarray(prompts.targets.y)[:, 0])
  rows = np.arange(8)
  plain = -np.log(head[rows, index]).mean()
  assert float(values["smoothed"][1, 0]) == pytest.approx(plain, rel=1e-4)
  noise = np.diff(stats.norm.cdf((edges - centres[:, None]) / 4.0))
  smooth = -np.log((head @ noise)[rows, index]).mean()
  at = noisy_probes.SMOOTHING.index(2.0)
  assert float(values["smoothed"][1, at]) == pytest.approx(smooth, rel=1e-4)
  other = noisy_probes.mismatched(prompts, Numerals(2, 2, 4.0), 1)
  inputs = np.asarray(prompts.inputs)
  np.testing.assert_array_equal(other.inputs[3, -5:], inputs[3, -5:])
  np.testing.assert_array_equal(other.inputs[3, :-5], inputs[2, :-5])
