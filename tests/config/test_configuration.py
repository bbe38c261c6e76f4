"""Optimizers as a config says, configs that are refused, and comments."""

import inspect
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import maze
from maxrl_jax import config as configuration
from maxrl_jax import options
from maxrl_jax.config import build, default, defaults, lookup
from maxrl_jax.estimators import ESTIMATORS, NON_OPTIONS
from maxrl_jax.learning import training
from maxrl_jax.optimizers import SCHEDULES
from maxrl_jax.policies import POLICIES
from maxrl_jax.policies.transformer import Transformer
from maxrl_jax.tasks import TASKS, Task
from tests.support.configs import short_bandit


def test_warm_up_and_cosine_by_hand():
  config = default()
  config.steps, config.log_every, config.eval_every = 8, 8, 8
  config.optimizer.warmup, config.optimizer.momentum = 4, 0.0
  optimizer = configuration.make_optimizer(config)
  state, scales = optimizer.init(jnp.ones(())), []
  for _ in range(8):
    scale, state = optimizer.update(jnp.ones(()), state)
    scales.append(float(scale))
  cosine = [0.5 * (1 + np.cos(np.pi * i / 4)) for i in range(4)]
  np.testing.assert_allclose(scales, [0.25, 0.5, 0.75, 1, *cosine], atol=1e-6)


@pytest.mark.parametrize(
  ("name", "b2", "reference"),
  [
    ("sgd", None, optax.sgd(0.1, 0.9)),
    ("adam", None, optax.adam(0.1)),
    ("adam", 0.9, optax.adam(0.1, b2=0.9)),
    ("adam", 0.0, optax.adam(0.1, b2=0.0)),
    ("adamw", None, optax.adamw(0.1, weight_decay=0.01)),
    ("adamw", 0.95, optax.adamw(0.1, b2=0.95, weight_decay=0.01)),
  ],
)
def test_optimizers_are_optax_ones(name, b2, reference):
  config = default()
  config.optimizer.b2 = b2
  config.optimizer.name, config.optimizer.schedule = name, "constant"
  if name == "adamw":
    config.optimizer.weight_decay = 0.01
  optimizer = configuration.make_optimizer(config)
  p = q = jnp.array([1.0, -2.0])
  ours, theirs = optimizer.init(p), reference.init(q)
  for i in range(5):
    g = jnp.array([0.3, -0.1]) * (i + 1)
    update, ours = optimizer.update(g, ours, p)
    p = p - 0.1 * update
    update, theirs = reference.update(g, theirs, q)
    q = optax.apply_updates(q, update)
  np.testing.assert_allclose(p, q, rtol=1e-5)


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("b1", 1.0, r"optimizer.b1 = 1.0: must be in \[0, 1\)"),
    ("b2", -0.1, r"optimizer.b2 = -0.1: must be in \[0, 1\)"),
    ("eps", 0.0, r"optimizer.eps = 0.0: must be above 0"),
    ("weight_decay", -0.1, r"optimizer.weight_decay = -0.1: must be at least"),
  ],
)
def test_a_wrong_option_of_an_optimizer_names_the_field(field, value, message):
  fields = {"optimizer.name": "adamw", f"optimizer.{field}": value}
  with pytest.raises(ValueError, match=message):
    training.make_train(short_bandit(**fields))


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("steps", 0, "steps = 0"),
    ("steps", 5, "log_every = 2: must divide steps = 5"),
    ("eval_every", 3, "eval_every = 3"),
    ("batch_size", -1, "batch_size = -1"),
    ("rollouts", 0, "rollouts = 0"),
    ("rollouts", 1, "N ≥ 2"),
    ("estimator.order", 7, "order = 7"),
    ("estimator.order", 0, "order = 0"),
    ("estimator.baseline", "mean", "baseline = 'mean': .*choose from"),
    ("estimator.k", 2, "estimator.k = 2: 'maxrl' takes"),
    ("estimator.name", "pass_at_k", "estimator.k is not set"),
    ("estimator.name", "ppo", "estimator.name = 'ppo': choose from"),
    ("task.name", "atari", "task.name = 'atari': choose from"),
    ("policy.stem", "cifar", "policy.stem = 'cifar': 'tabular' takes"),
    ("policy.name", "gnn", r"policy.name = 'gnn': did you mean 'cnn'\? choose"),
    ("policy.name", "mlp", r"policy.name = 'mlp': the task takes \['tabular"),
    ("estimator.name", None, "estimator.name = None: choose from"),
    ("optimizer.name", "lion", "optimizer.name = 'lion': choose from"),
    ("optimizer.schedule", "step", "optimizer.schedule = 'step': choose from"),
    ("optimizer.learning_rate", 0.0, "optimizer.learning_rate = 0.0"),
    ("optimizer.warmup", 4, "optimizer.warmup = 4"),
    ("optimizer.clip_norm", -1.0, "optimizer.clip_norm = -1.0"),
    ("optimizer.momentum", 1.5, "optimizer.momentum = 1.5"),
    ("optimizer.weight_decay", 0.1, "optimizer.weight_decay = 0.1"),
    ("optimizer.b2", 0.9, r"optimizer.b2 = 0.9: 'sgd' takes \['momentum'\]"),
    ("optimizer.learning_rate", float("inf"), "optimizer.learning_rate = inf"),
    ("seed", -1, "seed = -1"),
    ("seed", None, "seed = None"),
    ("policy.hidden", (8, 0), r"policy.hidden = \(8, 0\)"),
    ("policy.channels", (1.5,), r"policy.channels = \(1.5,\)"),
    (
      "estimator.name",
      "supervised",
      "'supervised': this task has no `demonstrations`",
    ),
    (
      "estimator.entropy_bonus",
      0.1,
      "estimator.entropy_bonus = 0.1: policy 'tabular' has no entropy",
    ),
  ],
)
def test_a_wrong_config_names_the_field(field, value, message):
  with pytest.raises(ValueError, match=message):
    training.make_train(short_bandit(**{field: value}))


def test_a_function_of_ones_own_may_name_its_options_as_estimators_arguments():
  def parity(*, method, mask):
    return method, mask

  tasks, given = {"parity": parity}, {"method": "odd", "mask": 3}
  assert lookup.call(tasks, "task", "parity", given) == ("odd", 3)
  with pytest.raises(ValueError, match=r"task.mask is not set: 'parity' needs"):
    lookup.call(tasks, "task", "parity", {"method": "odd"})


def test_arguments_of_estimators_are_not_options():
  for name, estimator in ESTIMATORS.items():
    with pytest.raises(ValueError, match=r"estimator\.mask = 1: ") as caught:
      options.check(
        name,
        estimator.function,
        {"mask": 1},
        block="estimator.",
        exclude=NON_OPTIONS,
      )
    message = str(caught.value)
    assert not any(f"'{argument}'" in message for argument in NON_OPTIONS)


def test_all_wrong_numbers_are_told_at_once():
  config = short_bandit(steps=5, rollouts=0, **{"optimizer.warmup": 9})
  with pytest.raises(ValueError) as error:
    configuration.check(config)
  rollouts, log_every, warmup = str(error.value).split("; ")
  assert rollouts.startswith("rollouts = 0:")
  assert log_every.startswith("log_every = 2:")
  assert warmup.startswith("optimizer.warmup = 9:")


@pytest.mark.parametrize("name", TASKS)
def test_a_task_s_block_has_the_keyword_arguments_of_its_function(name):
  block = default(task=name).task.to_dict()
  assert block.pop("name") == name
  block.pop("tolerance", None)  # Of every regression task.
  parameters = inspect.signature(TASKS[name]).parameters
  assert block == {
    k: None if p.default is p.empty else p.default
    for k, p in parameters.items()
  }


def test_other_blocks_have_the_options_of_every_function():
  config = default()
  assert {"order", "baseline", "k", "alpha", "coefficients", "epsilon"} < set(
    config.estimator
  )
  assert {"scale", "smallest_scale", "degrees", "width"} < set(
    config.likelihood
  )
  assert {"hidden", "channels", "stem", "bins", "num_layers"} < set(
    config.policy
  )
  assert not {"num_actions", "eos", "parent"} & set(config.policy)


@pytest.mark.parametrize(
  ("field", "kind"),
  [
    ("estimator.order", int),
    ("estimator.alpha", float),
    ("estimator.baseline", object),
    ("estimator.coefficients", tuple),
    ("policy.hidden", tuple),
    ("policy.remat", bool),
    ("policy.stem", str),
    ("policy.policy_scale", float),
  ],
)
def test_unset_fields_have_the_type_of_their_annotation(field, kind):
  block, _, option = field.partition(".")
  assert default()[block].get_type(option) is kind


def test_numpys_numbers_are_numbers():
  """As in a loop over an array."""
  config = default()
  config.estimator.order = np.int64(3)
  config.optimizer.learning_rate = np.float32(0.5)
  assert json.loads(config.to_json())["estimator"]["order"] == 3
  assert type(config.optimizer.learning_rate) is float


def test_functions_of_your_own_have_blocks_and_names(monkeypatch):
  monkeypatch.setattr(defaults, "TASKS", dict(TASKS))
  monkeypatch.setattr(defaults, "ESTIMATORS", dict(ESTIMATORS))

  def parity(*, num_bits: int = 8, path: str) -> Task:
    raise NotImplementedError

  def squared(likelihoods, *, mask=None, gain: float | jax.Array = 2.0):
    return gain * likelihoods**2

  config = default(task=parity, estimator=squared)
  assert config.task.to_dict() == {
    "name": "parity",
    "num_bits": 8,
    "path": None,
  }
  assert config.estimator.name == "squared"
  assert config.estimator.get_type("gain") is float
  assert defaults.ESTIMATORS["squared"].function is squared
  assert options.may_vary(squared) == {"gain"}


def rloo(likelihoods, *, mask=None):
  return likelihoods


@pytest.mark.parametrize(
  ("given", "message"),
  [
    ({"estimator": rloo}, "estimator: 'rloo' is a name of the library"),
    ({"optimizer": optax.adam}, "optimizer: 'adam' is a name of the library"),
    ({"task": TASKS["bandit"]()}, "task: is a .*Task.*, must be a name"),
    ({"policy": "mlb"}, "policy = 'mlb': did you mean 'mlp'"),
    ({"optimizer": "nope"}, "optimizer = 'nope': choose from"),
  ],
)
def test_a_default_that_cannot_be_changes_nothing(given, message):
  with pytest.raises(ValueError, match=message):
    default(**given)
  assert default().estimator.name == "maxrl"
  assert ESTIMATORS["rloo"].function is not rloo


def test_a_schedule_itself_is_refused(monkeypatch):
  monkeypatch.setattr(defaults, "SCHEDULES", dict(SCHEDULES))
  monkeypatch.setattr(build, "SCHEDULES", defaults.SCHEDULES)
  config = default(task="bandit", schedule=optax.linear_schedule(1.0, 0.0, 9))
  with pytest.raises(ValueError, match="must be a function of the number of"):
    training.make_train(config)


def test_an_option_of_your_own_may_be_called_tolerance(monkeypatch):
  monkeypatch.setattr(defaults, "TASKS", dict(TASKS))
  given = []

  def near(*, tolerance: float = 0.1) -> Task:
    given.append(tolerance)
    return TASKS["bandit"]()

  config = default(task=near)
  config.task.tolerance = 0.9
  monkeypatch.setattr(build, "TASKS", defaults.TASKS)
  configuration.make_task(config)
  assert given == [0.9]


def test_an_option_of_your_own_policy_has_its_own_type(monkeypatch):
  """Even if another policy has an option of that name."""
  monkeypatch.setattr(defaults, "POLICIES", dict(POLICIES))

  class Small(nn.Module):
    hidden: int = 8

  config = default(task="bandit", policy=Small)
  config.policy.hidden = 64
  assert config.policy.get_type("hidden") is int


def test_annotations_may_be_text(monkeypatch):
  """As in a module with `from __future__ import annotations`."""
  monkeypatch.setattr(defaults, "TASKS", dict(TASKS))

  def mine(*, size: "int | None" = None, gain: "float | jax.Array" = 1.0):
    raise NotImplementedError

  mine.__annotations__["return"] = "Task"
  block = default(task=mine).task
  assert block.get_type("size") is int and block.gain == 1.0
  assert options.may_vary(mine) == {"gain"} and options.returns(mine) is Task


@pytest.mark.parametrize(
  ("policy", "message"),
  [
    (Transformer(8, 4, 7, num_heads=3), "policy.num_heads = 3: must be"),
    (Transformer(8, 4, 7, rope_theta=-1.0), "policy.rope_theta = -1"),
  ],
)
def test_a_policy_that_is_given_is_checked_too(policy, message):
  with pytest.raises(ValueError, match=message):
    training.make_train(maze.get_config(), policy=policy)


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    (
      "likelihood.name",
      "gausian",
      "likelihood.name = 'gausian': task 'bandit'",
    ),
    ("estimator.name", "GRPO", "did you mean 'grpo'"),
    ("task.hardest", 0.0, "^task.hardest = 0"),
  ],
)
def test_the_field_and_what_was_meant_are_named(field, value, message):
  with pytest.raises(ValueError, match=message):
    training.make_train(short_bandit(**{field: value}))


@pytest.mark.parametrize(
  ("path", "words"),
  [
    ("stepz", "no field 'stepz': did you mean 'steps'? choose from"),
    ("optimizer.learning_rat", "did you mean 'learning_rate'? choose from"),
    ("task.size", "no field 'size': choose from ['continuous', 'easiest',"),
  ],
)
def test_an_unknown_field_is_one_line(path, words):
  config = configuration.default(task="bandit")
  *blocks, last = path.split(".")
  for name in blocks:
    config = config[name]
  for assign in (config.__setattr__, config.__setitem__):
    with pytest.raises((AttributeError, KeyError)) as caught:
      assign(last, 1)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
