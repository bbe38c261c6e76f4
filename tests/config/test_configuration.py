"""Optimizers as a config says, configs that are refused, and comments."""

import fnmatch
import inspect
import re

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from maxrl_jax import config as configuration
from maxrl_jax.config import default, fields
from maxrl_jax.estimators import ESTIMATORS, GIVEN
from maxrl_jax.learning import training
from maxrl_jax.policies import POLICIES
from maxrl_jax.tasks import REGRESSION, TASKS
from tests.support.bandit_configs import short_bandit


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
  ("name", "reference"),
  [
    ("sgd", optax.sgd(0.1, 0.9)),
    ("adam", optax.adam(0.1)),
    ("adamw", optax.adamw(0.1, weight_decay=0.01)),
  ],
)
def test_optimizers_are_optax_ones(name, reference):
  config = default()
  config.optimizer.name, config.optimizer.schedule = name, "constant"
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
    ("steps", 0, "steps = 0"),
    ("steps", 5, "log_every = 2: must divide steps = 5"),
    ("eval_every", 3, "eval_every = 3"),
    ("batch_size", -1, "batch_size = -1"),
    ("rollouts", 0, "rollouts = 0"),
    ("rollouts", 1, "N ≥ 2"),
    ("estimator.order", 7, "order = 7"),
    ("estimator.order", 0, "order = 0"),
    ("estimator.baseline", "mean", "baseline = 'mean': choose from"),
    ("estimator.k", 2, "estimator.k = 2: 'maxrl' takes"),
    ("estimator.name", "pass_at_k", "estimator.k is not set"),
    ("estimator.name", "ppo", "estimator.name = 'ppo': choose from"),
    ("task.name", "atari", "task.name = 'atari': choose from"),
    ("task.num_digits", 2, "task.num_digits = 2: 'bandit' takes"),
    ("policy.name", "gnn", r"policy.name = 'gnn': did you mean 'cnn'\? choose"),
    ("policy.name", "mlp", "policy.name = 'mlp': task 'bandit' takes"),
    ("optimizer.name", "lion", "optimizer.name = 'lion': choose from"),
    ("optimizer.schedule", "step", "optimizer.schedule = 'step': choose from"),
    ("optimizer.learning_rate", 0.0, "optimizer.learning_rate = 0.0"),
    ("optimizer.warmup", 4, "optimizer.warmup = 4"),
    ("optimizer.clip_norm", -1.0, "optimizer.clip_norm = -1.0"),
    ("optimizer.momentum", 1.5, "optimizer.momentum = 1.5"),
    ("optimizer.weight_decay", 0.1, "optimizer.weight_decay = 0.1"),
    ("optimizer.learning_rate", float("inf"), "optimizer.learning_rate = inf"),
    ("seed", -1, "seed = -1"),
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
  assert fields.build(tasks, "task", "parity", given) == ("odd", 3)
  with pytest.raises(ValueError, match=r"task.mask is not set: 'parity' needs"):
    fields.build(tasks, "task", "parity", {"method": "odd"})


def test_what_estimators_are_given_is_no_option():
  for name, estimator in ESTIMATORS.items():
    with pytest.raises(ValueError, match=r"estimator\.mask = 1: ") as caught:
      fields.check_options("estimator", name, estimator, {"mask": 1}, GIVEN)
    assert not any(f"'{argument}'" in str(caught.value) for argument in GIVEN)


def test_all_wrong_numbers_are_told_at_once():
  config = short_bandit(steps=5, rollouts=0, **{"optimizer.warmup": 9})
  with pytest.raises(ValueError) as error:
    configuration.check(config)
  rollouts, log_every, warmup = str(error.value).split("; ")
  assert rollouts.startswith("rollouts = 0:")
  assert log_every.startswith("log_every = 2:")
  assert warmup.startswith("optimizer.warmup = 9:")


@pytest.mark.parametrize(
  ("block", "functions", "apart"),
  [
    ("task", TASKS | REGRESSION, {"task_seed", "eval_size", "tolerance"}),
    ("policy", POLICIES, {"name", "hidden", "checkpoint"}),
  ],
)
def test_comments_name_all_that_take_a_field(block, functions, apart):
  """As 'name, name: meaning', behind a field or above it.

  Apart are those that most take, and those that the function never sees.
  """
  field = (
    rf"(?: # (.*)\n)? *config\.{block}\.(\w+) = optional.*?\)(?:  # (.*))?\n"
  )
  found = re.findall(field, inspect.getsource(default))
  assert {name for _, name, _ in found} | {"name"} == set(default()[block])
  for above, name, behind in found:
    if name in apart:
      continue
    names = (behind or above).split(": ")[0].split(", ")
    said = {f for f in functions for n in names if fnmatch.fnmatch(f, n)}
    taken = {
      f for f in functions if name in inspect.signature(functions[f]).parameters
    }
    assert said == taken, (name, names)


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
