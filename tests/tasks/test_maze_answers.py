"""Answers to mazes against plain Python: what is right, what is shortest."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxrl_jax.tasks import mazes
from maxrl_jax.tasks.mazes import paths
from tests.support import maze_oracles as oracles
from tests.support.maze_draws import (
  PICTURE,
  each,
  each_kind,
  from_picture,
  some,
)


@each_kind
def test_shortest_paths_are_those_of_a_breadth_first_search(size, loops):
  length = size * size
  many = some(size, loops, 1)
  distances, needed, answers = jax.jit(
    jax.vmap(
      lambda maze: (
        paths.distances(maze),
        mazes.answer_length(maze),
        mazes.shortest_answer(maze, length),
      )
    )
  )(many)
  for i, (is_open, start, goal) in enumerate(each(many)):
    known = oracles.distances(is_open, goal)
    expected = np.full(is_open.shape, paths.FAR)
    for place, distance in known.items():
      expected[place] = distance
    np.testing.assert_array_equal(distances[i], expected)
    moves = known[start]
    assert needed[i] == moves + 2
    answer = answers[i].tolist()
    assert answer[moves:] == [7, 2] + [0] * (length - moves - 2)
    assert oracles.verify(is_open, start, goal, answer)


def test_a_tie_goes_to_the_first_direction():
  maze = from_picture(["#####", "#G..#", "#.#.#", "#..S#", "#####"])
  assert mazes.shortest_answer(maze, 6).tolist() == [13, 13, 15, 15, 7, 2]


def test_a_short_answer_is_cut_off():
  assert mazes.shortest_answer(from_picture(PICTURE), 3).tolist() == [
    16,
    16,
    14,
  ]


ROOM = ["S..", "...", "..G"]  # Without walls around it.


@pytest.mark.parametrize(
  ("what", "right", "answer", "picture"),
  [
    ("the shortest", True, [16, 16, 14, 14, 7, 2], PICTURE),
    ("no DONE", False, [16, 16, 14, 14, 2, 0], PICTURE),
    (
      "no DONE, all moves",
      False,
      [16, 16, 14, 14] + [13, 14] * 2 + [13],
      PICTURE,
    ),
    ("DONE after eos", False, [16, 16, 14, 14, 2, 7], PICTURE),
    ("anything after DONE", True, [16, 16, 14, 14, 7, 9, 31, 7, 13], PICTURE),
    ("DONE at once", False, [7, 16, 16, 14, 14, 7, 2], PICTURE),
    ("too short", False, [16, 16, 14, 7, 2, 0], PICTURE),
    ("a detour", True, [16, 15, 16, 16, 15, 16, 14, 14, 7], PICTURE),
    ("past the goal", True, [16, 16, 14, 14, 15, 15, 7], PICTURE),
    ("into a wall past the goal", True, [16, 16, 14, 14, 14, 7], PICTURE),
    ("no move past the goal", False, [16, 16, 14, 14, 8, 7], PICTURE),
    ("no move before the goal", False, [16, 0, 16, 14, 14, 7], PICTURE),
    ("a token beyond the moves", False, [16, 16, 14, 14, 17, 7], PICTURE),
    ("a token before the moves", False, [12, 16, 16, 14, 14, 7], PICTURE),
    ("through a wall", False, [14, 14, 16, 16, 7, 2], PICTURE),
    ("into a wall and back", False, [13, 14, 16, 16, 14, 14, 7], PICTURE),
    ("without walls", True, [16, 14, 16, 14, 7], ROOM),
    ("off the grid above", False, [13, 14, 16, 14, 16, 14, 7], ROOM),
    ("off the grid to the left", False, [15, 16, 16, 14, 16, 14, 7], ROOM),
    ("off the grid below", False, [14, 14, 14, 13, 16, 16, 7], ROOM),
    ("off the grid to the right", False, [16, 16, 16, 15, 14, 14, 7], ROOM),
    ("off the grid past the goal", True, [16, 14, 16, 14, 14, 7], ROOM),
  ],
)
def test_answers_by_hand(what, right, answer, picture):
  del what
  assert oracles.verify(*oracles.grid(picture), answer) == right
  answer += [0] * (9 - len(answer))
  actual = jax.jit(mazes.verify)(from_picture(picture), jnp.array([answer]))
  assert actual.dtype == bool and actual.tolist() == [right]


def _mutated(rng, answer, length):
  """An answer with up to four changes, many of them harmless."""
  answer = list(answer)
  token = lambda: int(rng.choice([7, 2, 0, *range(13, 18), *range(13, 17)]))  # noqa: E731
  for _ in range(rng.integers(5)):
    place = int(rng.integers(len(answer)))
    kind = rng.integers(6)
    if kind == 0:
      answer[place] = token()
    elif kind == 1:
      answer.insert(place, token())
    elif kind == 2 and len(answer) > 1:
      del answer[place]
    elif kind == 3:
      move = int(rng.integers(13, 17))
      back = {13: 14, 14: 13, 15: 16, 16: 15}[move]
      answer[place:place] = [move, back]
    elif kind == 4 and 7 in answer:
      answer.insert(answer.index(7), token())
    else:
      answer += [token() for _ in range(3)]
  return (answer + [0] * length)[:length]


@pytest.mark.parametrize(("size", "loops"), [(5, 1), (7, 3), (13, 0)])
def test_the_verifier_walks_as_plain_python_does(size, loops):
  length, rng = 80, np.random.default_rng(size)
  many = some(size, loops, 2)
  shortest = jax.jit(
    jax.vmap(lambda maze: mazes.shortest_answer(maze, length))
  )(many)
  answers, expected = [], []
  for maze, right in zip(each(many), shortest.tolist(), strict=True):
    mine = [_mutated(rng, right[: right.index(0)], length) for _ in range(100)]
    answers.append(mine)
    expected.append([oracles.verify(*maze, answer) for answer in mine])
  assert 0.25 < np.mean(expected) < 0.75
  answers = np.array(answers)
  actual = jax.jit(jax.vmap(mazes.verify))(many, answers)
  np.testing.assert_array_equal(actual, expected)
  if size == 5:
    eager = mazes.verify(jax.tree.map(lambda x: x[3], many), answers[3])
    np.testing.assert_array_equal(eager, expected[3])
