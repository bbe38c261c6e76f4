"""Arguments in the wrong order or of the wrong type say so in one line."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import maxrl_jax
from maxrl_jax import estimators, evaluation, objectives
from maxrl_jax.config import RATE, default
from maxrl_jax.learning import training
from maxrl_jax.policies.categorical import MLP
from maxrl_jax.policies.regression import Outputs
from maxrl_jax.runs import study
from maxrl_jax.runs.trained import Trained
from tests.support.configs import short_bandit

_KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def trainer():
  return training.make_train(short_bandit())


@pytest.mark.parametrize(
  ("config", "message"),
  [
    ({"steps": 5}, "config: is a dict; start from maxrl_jax.config.default"),
    ("bandit", "config: is a str; start from"),
    (short_bandit().task, "config: has no field seed; start from"),
  ],
)
def test_what_is_no_config(config, message):
  with pytest.raises(ValueError, match=message):
    training.make_train(config)


@pytest.mark.parametrize("seeds", ["a", [0.5], 3, [], [-1], [2**31]])
def test_what_are_no_seeds(trainer, seeds):
  with pytest.raises(ValueError, match="must be a list of whole numbers"):
    next(training.chunks(trainer, short_bandit(), seeds))


def test_chunks_of_arguments_in_another_order(trainer):
  with pytest.raises(ValueError, match=r"chunks takes \(train, config\)"):
    next(training.chunks(short_bandit(), trainer))


def test_values_of_other_runs_than_there_are_seeds(trainer):
  hyper = {RATE: [0.1, 0.2, 0.3]}
  with pytest.raises(ValueError, match=r"_rate'\] .* \(3,\), .* 2 seeds"):
    next(training.chunks(trainer, short_bandit(), [0, 1], hyper))


def test_a_task_that_is_misspelt():
  with pytest.raises(ValueError, match="task = 'bandits': did you mean 'ban"):
    default("bandits")


@pytest.mark.parametrize(
  "schedule", [lambda done: jnp.ones(3), lambda done: None]
)
def test_what_is_no_schedule(schedule):
  with pytest.raises(ValueError, match=r"schedule: returns .* to one number"):
    training.make_train(short_bandit(), schedule=schedule)


def test_studies_of_arguments_in_another_order(tmp_path):
  with pytest.raises(ValueError, match="config: is a str; start from"):
    study.study("estimator.order=1", short_bandit())
  with pytest.raises(ValueError, match=r"seeds = 2: .*, range\(2\)"):
    study.study(short_bandit(), None, seeds=2)
  with pytest.raises(ValueError, match="seeds: is empty"):
    study.study(short_bandit(), None, seeds=())
  with pytest.raises(ValueError, match=r"run takes \(study, folder\)"):
    study.run(tmp_path, study.study(short_bandit()))


def test_runs_of_arguments_in_another_order(tmp_path):
  with pytest.raises(ValueError, match="config: is a PosixPath; start from"):
    maxrl_jax.runs.train(tmp_path, short_bandit())
  with pytest.raises(ValueError, match="on_chunk = 'x': must be a function"):
    maxrl_jax.runs.train(short_bandit(), tmp_path, on_chunk="x")


def test_a_name_for_a_list_of_names():
  with pytest.raises(ValueError, match=r"a list, \['estimator\.order'\]"):
    training.make_train(short_bandit(), varying="estimator.order")


@pytest.mark.parametrize("ks", [5, (0,), (1.5,)])
def test_what_are_no_ks(trainer, ks):
  with pytest.raises(ValueError, match=r"ks = .*must be a list of whole"):
    evaluation.make_evaluate(trainer, ks=ks)


def test_what_are_no_states(trainer):
  evaluate = evaluation.make_evaluate(trainer, ks=(1,))
  with pytest.raises(ValueError, match="states: are a dict, must be those"):
    evaluate("validation", {})


def test_states_before_the_split(trainer):
  evaluate = evaluation.make_evaluate(trainer, ks=(1,))
  states = trainer.start(jax.random.split(_KEY, 1), {})
  with pytest.raises(ValueError, match=r"split: is a .* takes \(split, states"):
    evaluate(states, "test")


def test_what_is_no_trainer(trainer):
  loaded = Trained(short_bandit(), trainer, 0, None, {})
  message = "train: is a Trained, must be from make_train; pass run.trainer"
  with pytest.raises(ValueError, match=message):
    evaluation.make_evaluate(loaded, ks=(1,))
  with pytest.raises(ValueError, match=r"train: is a str, .* make_train$"):
    evaluation.make_evaluate("test", ks=(1,))


_L = np.array([1.0, 0.0])


@pytest.mark.parametrize(
  ("function", "arguments", "message"),
  [
    (
      evaluation.enumerated_moments,
      ("maxrl", _L, _L, 2),
      r"estimator: 'maxrl' must be a function, .*\(estimator, logits, likel",
    ),
    (
      evaluation.enumerated_moments,
      (estimators.rloo, 2, _L, _L),
      r"logits, likelihoods: shapes \(\), \(2,\), must both be \[C\]",
    ),
    (
      evaluation.enumerated_moments,
      (estimators.rloo, _L, _L, 2.0),
      r"num = 2\.0: must be a whole number, at least 1",
    ),
    (
      evaluation.exact_gradient,
      (_L, _L, objectives.rl()),
      r"objective: is a ndarray, .*\(objective, logits, likelihoods\)",
    ),
    (
      evaluation.exact_gradient,
      (objectives.rl(), "maxrl", _L),
      r"logits: is a str, must be numbers \[C\]",
    ),
    (
      evaluation.exact_gradient,
      (objectives.rl(), _L, _L[:1]),
      r"shapes \(2,\), \(1,\), must both be \[C\]",
    ),
  ],
)
def test_moments_of_wrong_arguments(function, arguments, message):
  with pytest.raises(ValueError, match=message):
    function(*arguments)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ((_KEY, 5, np.zeros(3)), "num: is a ndarray"),
    ((np.zeros(3, np.float32), _KEY, 5), "key: is of type float32"),
    ((Outputs(np.zeros(3), None), _KEY, 5), "key: is of type Outputs"),
    ((_KEY, np.zeros(3), 5.0), "num: is a float"),
  ],
)
def test_draws_of_arguments_in_another_order(arguments, message):
  policy = MLP(num_actions=3)
  params = policy.init(_KEY, jnp.ones((1, 2)))
  with pytest.raises(ValueError, match=f"{message}.*key, outputs, num"):
    policy.apply(params, *arguments, method="sample")


def test_log_probabilities_of_arguments_in_another_order():
  policy = MLP(num_actions=3)
  params = policy.init(_KEY, jnp.ones((1, 2)))
  with pytest.raises(ValueError, match=r"log_prob takes \(outputs, actions\)"):
    policy.apply(params, jnp.arange(2), jnp.zeros(3), method="log_prob")


@pytest.mark.parametrize("wrong", [-1, 3])
def test_an_action_that_there_is_not(wrong):
  policy = MLP(num_actions=3)
  params = policy.init(_KEY, jnp.ones((1, 2)))
  actions = jnp.array([0, wrong])
  with pytest.raises(
    ValueError, match=f"actions: {wrong}, must be from 0 to 2"
  ):
    policy.apply(params, jnp.zeros(3), actions, method="log_prob")


@pytest.mark.parametrize(
  ("order", "message"),
  [
    ("2", "order = '2': must be a number at least 1, not a str"),
    (None, "order = None: must be a number at least 1, not a NoneType"),
    (0, "order = 0: must be at least 1"),
  ],
)
def test_what_is_no_order(order, message):
  with pytest.raises(ValueError, match=message):
    objectives.maxrl(order)
