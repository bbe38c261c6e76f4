"""Regression tasks: what an answer is worth, and which data are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from maxrl_jax import likelihoods
from maxrl_jax.learning import exact_losses
from maxrl_jax.tasks import Prompts, regression
from maxrl_jax.tasks.regression import Data, Target
from tests.support.regression_cases import small


def test_each_prompt_is_judged_by_its_own_noise():
  y = jnp.array([[0.3], [0.3]])
  prompts = regression.prompts(
    jnp.zeros((2, 1)), y, noise_scale=jnp.array([[0.5], [2.0]])
  )
  data = Data(lambda key, batch: prompts, {"validation": prompts})
  likelihood = likelihoods.gaussian(scale=0.5)
  task = regression.task(data, likelihood, per_prompt=True)
  for row, sigma in enumerate((0.5, 2.0)):
    target = jax.tree.map(lambda a, row=row: a[row], prompts.targets)
    log_l = task.log_likelihoods(target, jnp.array([[1.0, -2.0]]))
    expected = stats.norm.logpdf([0.7, -2.3], 0, sigma)
    np.testing.assert_allclose(
      log_l[0] + likelihood.log_ceiling, expected, rtol=1e-5
    )


def test_rewards_and_squared_error_by_hand():
  policy, params, task, prompts = small(None, num_dims=2, bins=5)
  target = jax.tree.map(lambda a: a[0], prompts.targets)
  at = target.y[:, None] + jnp.array([[2.0, 0.0], [-1.0, 0.5]])
  rewards = task.rewards(target, at)
  np.testing.assert_allclose(rewards, [[-2, 0], [-0.5, -0.125]], atol=1e-6)
  loss = exact_losses.mean_squared_error(policy)
  head = jax.jit(policy.apply)(params, prompts.inputs).head
  mean = np.float64(jax.nn.softmax(head)) @ np.linspace(-1, 1, 5)
  expected = ((np.float64(prompts.targets.y) - mean) ** 2).sum(1).mean() / 2
  actual, _ = jax.jit(loss)(params, None, prompts)
  assert float(actual) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"y": np.zeros((4, 3))}, r"y has shape \(4, 3\), must be"),
    ({"y": np.zeros(4)}, r"y has shape \(4,\), must be"),
    ({"y": np.zeros((0, 1))}, "validation targets: y is empty"),
    ({"clean": np.zeros(4)}, "clean has shape"),
    ({"log_reference": np.zeros((4, 1))}, "log_reference has shape"),
    ({"noise_scale": np.full((4, 1), np.nan)}, "noise of scale nan"),
  ],
)
def test_data_of_the_wrong_shape_are_named(change, message):
  good = regression.prompts(jnp.zeros((4, 2)), jnp.zeros((4, 1)))
  bad = good._replace(targets=good.targets._replace(**change))
  data = Data(lambda key, batch: good, {"validation": bad})
  with pytest.raises(ValueError, match=message):
    regression.task(data, likelihoods.gaussian(scale=1.0), per_prompt=True)


def test_data_need_a_validation_split():
  good = regression.prompts(jnp.zeros((4, 2)), jnp.zeros((4, 1)))
  with pytest.raises(ValueError, match="'validation' is needed"):
    regression.task(
      Data(lambda key, batch: good, {}), likelihoods.gaussian(scale=1.0)
    )


def test_targets_that_are_not_finite_are_named():
  y = jnp.array([[0.0], [np.nan]])
  bad = Prompts(jnp.zeros((2, 1)), Target(y, y, jnp.ones_like(y), y[:, 0]))
  data = Data(lambda key, batch: bad, {"validation": bad})
  with pytest.raises(ValueError, match=r"target 1 = \[nan\]: targets must be"):
    regression.task(data, likelihoods.gaussian(scale=1.0))
