"""Regression runs: each task, policy and way to learn; what is refused."""

from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import bimodal
from maxrl_jax import evaluation, likelihoods
from maxrl_jax.distributions import Components
from maxrl_jax.learning import exact_losses, rollouts, training
from maxrl_jax.policies import POLICIES
from maxrl_jax.tasks import Prompts, base, regression
from maxrl_jax.tasks.regression import Data, Target
from tests.support.configs import make_config
from tests.support.extent import long
from tests.support.regression_cases import short_config

_TASKS = ("teacher", "heteroscedastic", "bimodal", "bag_of_words", "in_context")
_TASKS += ("diabetes",)


@pytest.mark.parametrize("policy", ["grid", "normal", "mixture", "digits"])
@pytest.mark.parametrize("name", _TASKS)
@pytest.mark.long
def test_every_policy_trains_on_every_task(name, policy):
  fields = {"task.name": name, "policy.name": policy}
  fields["likelihood.scale"] = 2.0
  config = short_config(**fields)
  trainer = training.make_train(config)
  *_, (step, states, metrics) = training.chunks(trainer, config)
  assert step == 4 and np.isfinite(metrics["gradient_norm"]).all()
  actual = evaluation.make_evaluate(trainer, (1,))("test", states)
  assert all(np.isfinite(value).all() for value in actual.values())


_WAYS = [
  {"estimator.name": "mse", "policy.policy_scale": 0.5},
  {"estimator.name": "cross_entropy"},
  {"estimator.name": "grpo", "estimator.signal": "reward"},
  {"estimator.name": "tail", "estimator.signal": "reward", "estimator.k": 2},
  {"estimator.name": "exact_maxrl", "estimator.order": 3}
  | {"estimator.factorized": True, "task.num_dims": 3},
  {"likelihood.learned": "global", "likelihood.smallest_scale": 0.1}
  | {"estimator.name": "vimco"},
  {"likelihood.per_prompt": True, "likelihood.scale": 0.001}
  | {"policy.name": "grid"},
]
_MORE_WAYS = [
  {"estimator.name": "tail_rl"},
  {"estimator.name": "self_normalized"},
  {"likelihood.name": "student_t", "likelihood.degrees": 4.0},
  {"estimator.name": "exact_maxrl", "estimator.order": 3},
  {"estimator.name": "rloo", "estimator.signal": "reward"},
  {"estimator.name": "grpo"},
  {"estimator.name": "vimco"},
  {"estimator.factorized": True, "task.num_dims": 3},
  {"likelihood.learned": "input", "likelihood.smallest_scale": 0.1},
  {"likelihood.per_prompt": True, "likelihood.smallest_scale": 0.4},
]


@pytest.mark.parametrize(
  "fields",
  [
    *_WAYS,
    *map(long, _MORE_WAYS),
  ],
  ids=str,
)
def test_every_way_to_learn_runs(fields):
  config = short_config(
    **{"policy.name": "normal", "likelihood.scale": 0.5} | fields
  )
  trainer = training.make_train(config)
  *_, (_, _, metrics) = training.chunks(trainer, config)
  assert np.isfinite(metrics["gradient_norm"]).all()
  assert (metrics["gradient_norm"] > 0).any()


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"likelihood.scale": 0.0}, "scale = 0.0: must be above 0"),
    ({"likelihood.width": 1.0}, "likelihood.width = 1.0: 'gaussian' takes"),
    ({"likelihood.scale": None}, "likelihood.scale is not set"),
    ({"likelihood.learned": "input"}, "needs smallest_scale below scale"),
    (
      {"likelihood.per_prompt": True, "likelihood.scale": 0.9},
      "a training prompt has noise of scale 0.5",
    ),
    (
      {"policy.name": "grid", "policy.low": -0.1, "policy.high": 0.1},
      "between -0.1 and 0.1",
    ),
    ({"policy.name": "mlp"}, "policy.name = 'mlp': the task takes"),
    ({"estimator.signal": "reward"}, "'maxrl' needs likelihoods in"),
    (
      {"likelihood.smallest_scale": 0.1},
      "likelihood.smallest_scale = 0.1: has no effect without",
    ),
    (
      {"estimator.name": "mse", "likelihood.learned": "input"}
      | {"likelihood.smallest_scale": 0.1},
      "'mse' has no gradient for a noise scale",
    ),
    (
      {"estimator.name": "mse", "policy.name": "normal"},
      "no gradient for the scale of policy 'normal'",
    ),
    (
      {"estimator.name": "mse", "policy.name": "mixture"},
      "no gradient for the scale of policy 'mixture'",
    ),
    ({"task.tolerance": 0.0}, "tolerance = 0.0: must be above 0"),
    (
      {"estimator.name": "mse", "estimator.factorized": True},
      "'mse' is a sum over dimensions anyway",
    ),
    (
      {"estimator.name": "cross_entropy", "estimator.factorized": True},
      "'cross_entropy' is a sum over dimensions anyway",
    ),
    (
      {"likelihood.name": "tolerance", "likelihood.width": 0.5}
      | {"likelihood.scale": None, "likelihood.learned": "input"},
      "'tolerance' has no noise scale to learn",
    ),
    (
      {"policy.name": "grid", "policy.bins": 3, "likelihood.scale": 0.01},
      "a validation target is|a train target is|a test target is",
    ),
    (
      {"likelihood.name": "exact_match", "likelihood.scale": None}
      | {"policy.name": "grid"},
      "the nearest of the policy.s 64 values",
    ),
    (
      {"likelihood.name": "exact_match", "likelihood.scale": None}
      | {"policy.name": "normal"},
      "likelihood.name = 'exact_match': no draw of policy 'normal'",
    ),
    (
      {"likelihood.name": "exact_match", "likelihood.scale": None}
      | {"policy.name": "mixture", "estimator.name": "cross_entropy"},
      "take policy.name = 'grid' or 'digits'",
    ),
    (
      {"likelihood.per_prompt": True, "likelihood.smallest_scale": 0.4}
      | {"likelihood.scale": 100.0, "policy.name": "grid"}
      | {"policy.low": -0.1, "policy.high": 0.1},
      "its likelihood is 0 at likelihood scale 0.5",
    ),
    ({"estimator.signal": "regret"}, "estimator.signal = 'regret'"),
    (
      {"likelihood.learned": "input", "likelihood.smallest_scale": 0.1}
      | {"estimator.name": "grpo"},
      "likelihood.learned = 'input': only",
    ),
    (
      {"task.name": "digits", "estimator.factorized": True}
      | {"likelihood.scale": None},
      "estimator.factorized = True: this task",
    ),
    (
      {"task.name": "digits", "likelihood.scale": 0.5},
      "likelihood.scale = 0.5: task 'digits' has no noise model",
    ),
  ],
  ids=str,
)
def test_a_wrong_config_names_the_field(fields, message):
  config = short_config(**{"likelihood.scale": 0.2} | fields)
  with pytest.raises(ValueError, match=message):
    training.make_train(config)


@pytest.mark.parametrize(
  "fields",
  [
    {"task.name": "digits", "task.tolerance": 0.5},
  ],
)
def test_a_task_has_no_options_of_others(fields):
  option = list(fields)[-1].split(".")[-1]
  with pytest.raises(KeyError, match=f"no field '{option}'"):
    make_config(fields)


@pytest.mark.long
def test_bimodal_learns_both_modes_by_likelihood_and_one_by_rl():
  """A short form of the experiment: NLL of order N − 1 against order 1."""
  nll = {}
  for order in (1, 31):
    config = bimodal.get_config()
    config.steps, config.estimator.order = 600, order
    trainer = training.make_train(config)
    *_, (_, states, _) = training.chunks(trainer, config)
    actual = evaluation.make_evaluate(trainer, (1,))("test", states)
    nll[order] = float(actual["nll"][0])
  assert nll[31] < 1.35 and nll[1] > 2.5


def test_a_likelihood_above_its_ceiling_stops_the_run_and_is_named():
  """A noise model of one's own whose peak is wrong."""
  prompts = regression.prompts(jnp.zeros((4, 1)), jnp.zeros((4, 1)))
  wrong = likelihoods.Likelihood(
    log_shape=lambda u: 0.5 - u * u / 2,
    cdf=jax.scipy.special.ndtr,
    log_peak=-0.9,
    scale=1.0,
    smallest_scale=1.0,
  )

  def draw(key, batch):
    return base.uniform_rows(key, prompts, batch)

  data = Data(draw, {"validation": prompts})
  task = regression.task(data, wrong)
  config = short_config(**{"policy.name": "normal", "batch_size": 4})
  trainer = training.make_train(config, task)
  message = r"likelihood_max = 1\.\d+, must be in \[0, 1\] \(prompt \d of"
  with pytest.raises(FloatingPointError, match=message + ".*ceiling .* -0.9"):
    list(training.chunks(trainer, config))


class _Normalized(nn.Module):
  """Batch normalization, then a mean per prompt, or an answer of one token."""

  num_dims = 1

  @nn.compact
  def __call__(self, inputs, training=False):
    x = nn.BatchNorm(use_running_average=not training)(inputs)
    return nn.Dense(1)(x)

  def components(self, outputs):
    return Components(jnp.zeros((1, 1)), outputs[:, None])

  def score(self, outputs, answers):
    log_probs = outputs * answers[..., 0]
    return SimpleNamespace(log_probs=log_probs, lengths=jnp.ones(outputs.shape))


@pytest.mark.parametrize(
  "make",
  [
    exact_losses.mean_squared_error,
    lambda policy: exact_losses.supervised(policy, lambda target: target.y),
  ],
)
def test_losses_without_rollouts_measure_the_batchs_statistics(make):
  inputs = 3 + 2 * jax.random.normal(jax.random.key(0), (50, 2))
  y = jnp.ones((50, 1))
  prompts = Prompts(inputs, Target(y, y, y, y[:, 0]))
  policy = _Normalized()
  params = policy.init(jax.random.key(1), inputs)
  _, metrics = make(policy)(params, jax.random.key(2), prompts)
  (norm,) = metrics[rollouts.STATISTICS].values()
  # Flax moves running statistics by a hundredth of the way.
  np.testing.assert_allclose(norm["mean"], inputs.mean(0) / 100, rtol=1e-4)


def test_a_learned_scale_needs_a_policy_that_has_it():
  config = short_config(
    **{"likelihood.learned": "input", "likelihood.smallest_scale": 0.1},
    **{"likelihood.scale": 0.7},
  )
  policy = POLICIES["normal"](hidden=(4,), policy_scale=0.3)
  message = "likelihood.learned = 'input': your own policy has no such scale"
  with pytest.raises(ValueError, match=message):
    training.make_train(config, policy=policy)
