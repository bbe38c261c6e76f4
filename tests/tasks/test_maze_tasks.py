"""The task of mazes: what is held out, trained on, shown and refused."""

import functools

import jax
import numpy as np
import pytest

from maxrl_jax.tasks import TASKS
from tests.support import maze_oracles as oracles
from tests.support.extent import long
from tests.support.maze_draws import each

_FEW = 400


@functools.cache
def _free():
  """eval_size is what tests draw too: one program for both."""
  return TASKS["maze"](size=7, random_ends=True, eval_size=2000)


@functools.cache
def _fixed():
  return TASKS["maze"](size=7, train_size=1000, task_seed=1, eval_size=2000)


@functools.cache
def _short():
  """Few: most mazes drawn are of another side, or their answers do not fit."""
  return TASKS["maze"](size=7, max_length=12, eval_size=_FEW)


def _texts(prompts):
  return {row.tobytes() for row in np.asarray(prompts.inputs)}


def _drawn(task, seeds, count=2000):
  actual = [_texts(task.draw(jax.random.key(seed), count)) for seed in seeds]
  return set.union(*actual)


@pytest.mark.long
def test_the_192_mazes_of_size_7_are_split_in_three():
  """Tasks of other seeds and lengths split them alike."""
  parts = [
    _texts(_fixed().splits[name]) | _texts(_short().splits[name])
    for name in ("train", "validation", "test")
  ]
  parts[0] |= _drawn(_short(), range(15), _FEW)
  assert 170 < len(set.union(*parts)) == sum(map(len, parts)) <= 192
  assert all(4 < len(part) < 24 for part in parts[1:])


@pytest.mark.long
def test_no_held_out_maze_is_trained_on():
  task = _free()
  train, validation, test = (
    _texts(task.splits[name]) for name in ("train", "validation", "test")
  )
  train |= _drawn(task, range(10))
  assert len(train) > 6000 and min(len(validation), len(test)) > 300
  assert not train & validation
  assert not train & test
  assert not validation & test


@pytest.mark.long
def test_a_training_set_is_fixed_and_has_the_size_asked_for():
  known = _fixed().splits["train"]
  assert known.inputs.shape[0] == 1000
  assert _drawn(_fixed(), range(8)) == _texts(known)


@pytest.mark.long
def test_fresh_mazes_never_end():
  task = _free()
  sets = [_drawn(task, [seed]) for seed in range(3)]
  assert len(set.union(*sets)) > 1.4 * len(sets[0])


@pytest.mark.parametrize("count", [300, long(2000)])
def test_targets_are_the_mazes_that_are_shown(count):
  prompts = TASKS["maze"](size=7, random_ends=True, eval_size=count).draw(
    jax.random.key(5), count
  )
  letters = {9: "#", 8: ".", 11: "S", 10: "G"}
  texts = np.asarray(prompts.inputs)[:, 2:-2].reshape(-1, 7, 8)
  assert (texts[:, :, -1] == 12).all()
  for maze, text in zip(each(prompts.targets), texts, strict=True):
    picture = ["".join(letters[x] for x in row[:-1]) for row in text]
    for shown, kept in zip(oracles.grid(picture), maze, strict=True):
      np.testing.assert_array_equal(shown, kept)


def _needed(targets):
  """Tokens of shortest answers."""
  return [
    oracles.distances(is_open, goal)[start] + 2
    for is_open, start, goal in each(targets)
  ]


@pytest.mark.long
def test_mazes_drawn_have_an_answer_that_fits():
  assert set(_needed(_fixed().splits["train"].targets)) >= {10, 14}
  assert _short().policy_options["max_length"] == 12
  drawn = _short().draw(jax.random.key(1), _FEW)
  for prompts in (drawn, *_short().splits.values()):
    assert set(_needed(prompts.targets)) == {10}


def test_demonstrations_are_right():
  task = _free()
  targets = task.splits["test"].targets
  answers = jax.jit(jax.vmap(task.demonstrations))(targets)
  assert answers.shape == (2000, task.policy_options["max_length"])
  right = jax.jit(jax.vmap(task.likelihoods))(targets, answers[:, None])
  assert right.all()
  ends = (np.asarray(answers) == 2).argmax(1) + 1
  np.testing.assert_array_equal(ends, _needed(targets))
  for maze, answer in zip(each(targets), answers.tolist(), strict=True):
    assert oracles.verify(*maze, answer)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"size": 6}, r"size = 6: must be odd.* take 5 or 7"),
    ({"size": 3}, "size = 3: must be at least 5"),
    ({"size": 5}, "size = 5: too few different mazes"),
    ({"loops": -1}, "loops = -1: must be at least 0"),
    ({"size": 7, "loops": 5}, "loops = 5: a maze of size 7 has 4 walls"),
    (
      {"size": 7, "max_length": 9},
      r"max_length = 9: shortest answers of mazes of size 7 have 10 to 1\d tok",
    ),
    ({"generator": "kruskal"}, "generator = 'kruskal': choose from"),
    ({"unknown": -0.1}, "unknown = -0.1: must be from 0 to 1"),
    ({"unknown": 1.01}, "unknown = 1.01: must be from 0 to 1"),
    ({"unknown": float("nan")}, "unknown = nan: must be from 0 to 1"),
    ({"train_size": 0}, "train_size = 0: must be at least 1"),
    ({"eval_size": 0}, "eval_size = 0: must be at least 1"),
  ],
)
def test_impossible_options_name_the_field(options, message):
  with pytest.raises(ValueError, match=message):
    TASKS["maze"](**options)
