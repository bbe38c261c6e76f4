"""Tasks and policies of one's own: what fits trains, what does not is named."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxrl_jax import evaluation, likelihoods
from maxrl_jax.config import default
from maxrl_jax.learning import training
from maxrl_jax.policies import MLP, Grid
from maxrl_jax.tasks import TASKS, Prompts, Task, base, regression
from tests.support.tasks import with_methods

_ABILITIES = ("rewards", "log_pass_rate")


def _draw(key, batch):
  digits = jax.random.randint(key, (batch, 2), 0, 4)
  return Prompts(jax.nn.one_hot(digits, 4), digits.sum(-1))


def _task(**changes) -> Task:
  abilities = {k: changes.pop(k) for k in _ABILITIES if k in changes}
  task = Task(
    draw=_draw,
    splits={"validation": _draw(jax.random.key(1), 20)},
    likelihoods=base.exact_match,
    policies=("mlp",),
    policy_options={"num_actions": 7},
  )
  return with_methods(dataclasses.replace(task, **changes), **abilities)


def _config():
  config = default()
  config.rollouts, config.batch_size = 8, 6
  config.steps = config.log_every = config.eval_every = 5
  config.policy.hidden = (9,)
  return config


class _Pairs(nn.Module):
  """Writes two digits, so that its logarithms could stay [N, 2]."""

  summed: bool = True

  @nn.compact
  def __call__(self, inputs):
    logits = nn.Dense(8)(inputs.reshape(len(inputs), -1))
    return logits.reshape(-1, 2, 4)

  def sample(self, key, logits, num):
    return jax.random.categorical(key, logits, shape=(num, 2))

  def log_prob(self, logits, digits):
    log_p = jax.nn.log_softmax(logits)
    each = jnp.stack([log_p[i][digits[:, i]] for i in range(2)], -1)
    return each.sum(-1) if self.summed else each

  def decode(self, digits):
    return digits.sum(-1)


class _OfTwoInputs(MLP):
  """Reads prompts of several arrays."""

  @nn.compact
  def __call__(self, inputs):
    joined = jnp.concatenate([inputs["shown"], inputs["more"]], -1)
    return nn.Dense(self.num_actions)(joined)


@pytest.mark.parametrize("name", ["maxrl", "sequential"])
def test_prompts_may_be_a_dictionary(name):
  task = _task()

  def of_two(prompts):
    flat = prompts.inputs.reshape(prompts.size, -1)
    inputs = {"shown": flat[:, :1], "more": flat[:, 1:]}
    return prompts._replace(inputs=inputs)

  task = dataclasses.replace(
    task,
    draw=lambda *arguments, draw=task.draw: of_two(draw(*arguments)),
    splits={k: of_two(prompts) for k, prompts in task.splits.items()},
  )
  config = _config()
  config.estimator.name = name
  if name == "sequential":
    config.estimator.cap = 16
  trainer = training.make_train(config, task, policy=_OfTwoInputs(7))
  _, states, metrics = next(training.chunks(trainer, config))
  assert np.isfinite(metrics["loss"]).all()
  evaluate = evaluation.make_evaluate(trainer, (1, 4), rollouts=4)
  assert 0 <= evaluate("validation", states)["pass@4"][0] <= 1


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"policies": "mlp"}, "policies = 'mlp': must be names of policies"),
    ({"policies": ()}, r"policies = \(\): must be names"),
    ({"draw": None}, "draw = None: must be a function"),
    ({"likelihoods": 3}, "likelihoods = 3: must be a function"),
  ],
)
def test_a_task_that_is_none_says_so(changes, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(_task(), **changes)


def test_a_function_that_returns_no_task_is_named(monkeypatch):
  monkeypatch.setitem(TASKS, "seven", lambda: 7)
  config = default(task="seven")
  with pytest.raises(ValueError, match="'seven': its function returned a int"):
    training.make_train(config)


def test_one_s_own_policy_trains_as_the_one_that_a_config_names():
  config = _config()
  named = training.make_train(config, _task())
  own = training.make_train(config, _task(), policy=MLP(7, hidden=(9,)))
  ends = [
    next(training.chunks(trainer, config))[1].params for trainer in (named, own)
  ]
  for ours, theirs in zip(*map(jax.tree.leaves, ends), strict=True):
    np.testing.assert_array_equal(ours, theirs)


def test_a_policy_over_several_actions_learns():
  config = _config()
  config.steps, config.rollouts = 200, 32
  config.optimizer.learning_rate, config.log_every = 1.0, 20
  config.eval_every = 200
  trainer = training.make_train(config, _task(), policy=_Pairs())
  rates = [m["pass_rate"].mean() for *_, m in training.chunks(trainer, config)]
  assert rates[0] < 0.5 and rates[-1] > 0.8


def _trained(task, **options):
  """Parameters after training on what `options` of the estimator say."""
  config = _config()
  config.optimizer.learning_rate = options.pop("rate")
  config.estimator.update(options)
  trainer = training.make_train(config, task)
  return next(training.chunks(trainer, config))[1].params


def test_rewards_of_any_size_train_what_takes_them():
  """At half the rate 2 l − 1 is l: a shift goes, a factor does not."""
  task = _task(rewards=lambda y, z: 2.0 * (z == y) - 1)
  scored = _trained(task, name="rloo", signal="reward", rate=0.25)
  plain = _trained(task, name="rloo", rate=0.5)
  started = _trained(task, name="rloo", rate=1e-9)
  close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
  jax.tree.map(close, scored, plain)
  with pytest.raises(AssertionError):
    jax.tree.map(close, scored, started)


def test_likelihoods_alone_are_no_rewards():
  with pytest.raises(ValueError, match="signal = 'reward': this task has"):
    _trained(_task(), name="rloo", signal="reward", rate=1.0)


def test_a_policy_over_numbers_may_be_one_s_own_too():
  data = TASKS["bimodal"]()
  task = regression.task(data, likelihoods.gaussian(scale=0.4))
  trainer = training.make_train(_config(), task, policy=Grid(bins=32))
  assert trainer.policy.bins == 32


class _Mute(nn.Module):
  @nn.compact
  def __call__(self, inputs):
    return nn.Dense(7)(inputs.reshape(len(inputs), -1))


class _Numbers(_Mute):
  def sample(self, key, outputs, num):
    raise NotImplementedError

  log_prob = decode = components = sample


_OTHER = Prompts(jnp.zeros((3, 5)), jnp.zeros(3, jnp.int32))
_EXACT = {"log_pass_rate": base.exact_match_log_pass_rate}


@pytest.mark.parametrize(
  ("changes", "policy", "message"),
  [
    ({}, _Mute(), "policy _Mute has no method 'sample'; this task needs"),
    ({}, _Pairs(summed=False), r"log_prob has shape \(8, 2\) .* = \(8,\)"),
    (_EXACT, _Pairs(), "policy _Pairs has no method 'components'"),
    (
      {"likelihoods": lambda y, z: (z == y)[:, None]},
      None,
      r"task: likelihoods has shape \(8, 1\) .*must be \[N\] = \(8,\)",
    ),
    (
      {"likelihoods": lambda y, z: jnp.mean(z == y)},
      None,
      r"task: likelihoods has shape \(\) ",
    ),
    (
      {"rewards": lambda y, z: jnp.mean(z - y)},
      None,
      r"task: rewards has shape \(\) .*must be \[N\] = \(8,\)",
    ),
    (
      {"splits": {"validation": _OTHER}},
      None,
      r"inputs have shapes \[\(6, 2, 4\)\], must be \[\(6, 5\)\]",
    ),
    (
      {"draw": lambda key, batch: _draw(key, 3)},
      None,
      r"inputs have shapes \[\(3, 2, 4\)\], must be \[\(6, 2, 4\)\]: .* B = 6",
    ),
  ],
)
def test_what_does_not_fit_is_named(changes, policy, message):
  with pytest.raises(ValueError, match=message):
    training.make_train(_config(), _task(**changes), policy=policy)


def test_a_policy_over_numbers_says_whether_its_scale_is_free():
  task = regression.task(TASKS["bimodal"](), likelihoods.gaussian(scale=1))
  config = _config()
  config.estimator.name = "mse"
  with pytest.raises(ValueError, match="no method 'has_free_scale'"):
    training.make_train(config, task, policy=_Numbers())


def _pythonic(target, answers):
  return np.array([int(a) == int(target) for a in answers])


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (
      {"draw": lambda key, batch: tuple(_draw(key, batch))},
      "task.draw: is a tup",
    ),
    ({"likelihoods": lambda y, z: None}, "task: likelihoods returns NoneType"),
    ({"likelihoods": _pythonic}, "through jax.pure_callback"),
    ({"splits": {"validation": (1, 2)}}, r"splits\['validation'\]: is a tuple"),
  ],
)
def test_what_a_task_gives_is_named(changes, message):
  with pytest.raises(ValueError, match=message):
    training.make_train(_config(), _task(**changes))


@pytest.mark.parametrize(
  ("task", "policy", "message"),
  [
    ({}, None, "task: is a dict, must be a tasks.Task"),
    (None, _Pairs, r"policy: is the class _Pairs, must be a module: _Pairs\("),
    (None, _draw, "policy: is a function, must be a Flax Linen module"),
  ],
)
def test_what_is_no_task_or_policy_is_named(task, policy, message):
  task = _task() if task is None else task
  with pytest.raises(ValueError, match=message):
    training.make_train(_config(), task, policy=policy)


def test_a_draw_that_is_always_the_same_is_reported():
  fixed = _draw(jax.random.key(0), 6)
  with pytest.warns(UserWarning, match="ignores its key"):
    training.make_train(_config(), _task(draw=lambda key, batch: fixed))


def test_a_task_without_a_validation_split_is_refused():
  with pytest.raises(ValueError, match="'validation' is needed"):
    _task(splits={"test": _OTHER})
