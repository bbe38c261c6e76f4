"""Configs whose policy starts from a Hugging Face checkpoint."""

import jax
import numpy as np
import pytest

from configs import bandit, maze
from maxrl_jax.learning import training
from maxrl_jax.tasks import Prompts, Task
from tests.support.qwen2_checkpoints import save_small


@pytest.fixture
def task():
  """A task with the policy options of mazes of size 7."""

  def draw(key, size):
    inputs = jax.random.randint(key, (size, 60), 0, 2)
    return Prompts(inputs, None)

  return Task(
    draw=draw,
    splits={"validation": draw(jax.random.key(0), 4)},
    likelihoods=lambda target, answers: answers[:, 0] == 15,
    policies=("transformer",),
    policy_options={"vocab_size": 32, "max_length": 12, "eos": 2},
  )


def _maze(folder, **options):
  config = maze.get_config()
  config.task.size = 7
  for name in ("num_layers", "hidden_size", "intermediate_size"):
    config.policy[name] = None
  config.policy.checkpoint = str(folder)
  config.policy.update(options)
  return config


def test_policy_sizes_come_from_the_checkpoint(tmp_path, task):
  _, params = save_small(tmp_path)
  trainer = training.make_train(_maze(tmp_path), task)
  assert (trainer.policy.hidden_size, trainer.policy.max_length) == (16, 12)
  state = trainer.init(jax.random.key(0))
  jax.tree.map(np.testing.assert_array_equal, state.params, params)


@pytest.mark.parametrize(
  ("saved", "options", "message"),
  [
    (
      {"vocab_size": 64},
      {},
      "policy.checkpoint = .*: its vocabulary has 64 tokens, the task's has 32",
    ),
    (
      {},
      {"hidden_size": 32},
      "policy.checkpoint = .*: hidden_size = 16 in the checkpoint",
    ),
    ({}, {"name": "tabular"}, "policy.name = 'tabular': the task takes"),
    ({}, {"max_positions": 40}, "policy.max_positions = 40: .* need 72"),
  ],
)
def test_error_names_the_mismatch_with_a_checkpoint(
  tmp_path, task, saved, options, message
):
  save_small(tmp_path, **saved)
  with pytest.raises(ValueError, match=message):
    training.make_train(_maze(tmp_path, **options), task)


def test_error_names_a_missing_folder(tmp_path, task):
  with pytest.raises(ValueError, match=r"policy.checkpoint = '.*none': cannot"):
    training.make_train(_maze(tmp_path / "none"), task)


def test_parameters_of_another_policy_are_named(tmp_path):
  save_small(tmp_path)
  config = bandit.get_config()
  config.policy.checkpoint = str(tmp_path)
  with pytest.raises(
    ValueError, match=r"checkpoint = .*: params have .*which this"
  ):
    training.make_train(config)
