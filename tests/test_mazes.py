"""Mazes against plain Python: what is made, what is right, what is shortest."""

import functools
from fractions import Fraction

import jax
import jax.numpy as jnp
import maze_oracles as oracles
import numpy as np
import pytest
from scipy import sparse, stats
from scipy.sparse import csgraph

from maxrl_jax.tasks import TASKS, mazes
from maxrl_jax.tasks.mazes import generation, paths

PICTURE = [
  "#####",
  "#S..#",
  "###.#",
  "#..G#",
  "#####",
]


@functools.partial(
  jax.jit, static_argnums=(1, 2), static_argnames="random_ends"
)
def _prims(keys, size, loops=0, random_ends=False):
  return jax.vmap(
    lambda key: mazes.prim(key, size, loops=loops, random_ends=random_ends)
  )(keys)


def _draw(num, *options, seed=0, **more):
  return _prims(jax.random.split(jax.random.key(seed), num), *options, **more)


def _each(many):
  """Plain grids, starts and goals."""
  for is_open, start, goal in zip(*map(np.asarray, many), strict=True):
    yield is_open, tuple(start.tolist()), tuple(goal.tolist())


def _maze(picture):
  is_open, start, goal = oracles.grid(picture)
  return mazes.Maze(*map(jnp.asarray, (is_open, start, goal)))


def _graph(is_open):
  """Places and who is next to whom."""
  number = np.cumsum(is_open).reshape(is_open.shape) - 1
  beside = is_open[:, :-1] & is_open[:, 1:]
  below = is_open[:-1] & is_open[1:]
  a = np.concatenate([number[:, :-1][beside], number[:-1][below]])
  b = np.concatenate([number[:, 1:][beside], number[1:][below]])
  size = int(is_open.sum())
  return sparse.coo_array((np.ones(a.size), (a, b)), (size, size)).tocsr()


@pytest.mark.parametrize(
  ("size", "loops"),
  [(5, 0), (7, 0), (9, 0), (13, 0), (5, 1), (7, 3), (7, 4), (9, 2), (13, 25)],
)
def test_a_maze_is_connected_and_has_the_loops_asked_for(size, loops):
  for is_open, start, goal in _each(_draw(40, size, loops)):
    assert is_open.shape == (size, size)
    assert is_open[1::2, 1::2].all() and not is_open[::2, ::2].any()
    border = np.concatenate(
      [is_open[0], is_open[-1], is_open[:, 0], is_open[:, -1]]
    )
    assert not border.any()
    graph = _graph(is_open)
    assert csgraph.connected_components(graph, directed=False)[0] == 1
    assert graph.nnz == graph.shape[0] - 1 + loops
    assert (start, goal) == ((1, 1), (size - 2, size - 2))


def test_loops_open_any_wall_that_is_left():
  """Without one of the 9 inner walls a tree of size 7 has 4 to choose from."""
  keys = jax.random.split(jax.random.key(3), 4000)
  before, after = (np.asarray(_prims(keys, 7, n).open) for n in (0, 1))
  opened = after & ~before
  assert (opened.sum((1, 2)) == 1).all() and not (before & ~after).any()
  closed = 12 - (before.sum((1, 2)) - 9)
  assert (closed == 4).all()
  inner = np.zeros((7, 7), bool)
  inner[1:-1:2, 2:-1:2] = inner[2:-1:2, 1:-1:2] = True
  expected = (inner & ~before).sum(0)[inner] / 4
  observed = opened.sum(0)[inner]
  assert stats.chisquare(observed, expected).pvalue > 1e-4


def test_the_four_mazes_of_size_5_by_hand():
  """Walls are 3 times as likely where they are far from the start."""
  chances = oracles.prim_grids(5)
  assert len(chances) == 4
  for grid, chance in chances.items():
    is_open = np.frombuffer(grid, bool).reshape(5, 5)
    near = not (is_open[1, 2] and is_open[2, 1])
    assert chance == (Fraction(1, 8) if near else Fraction(3, 8))


@pytest.mark.parametrize(("size", "trees"), [(5, 4), (7, 192)])
def test_every_tree_occurs_as_often_as_the_algorithm_says(size, trees):
  num = 60_000
  chances = oracles.prim_grids(size)
  assert len(chances) == trees and sum(chances.values()) == 1
  grids = np.asarray(_draw(num, size).open).reshape(num, -1)
  kinds, counts = np.unique(grids, axis=0, return_counts=True)
  assert len(kinds) == trees
  expected = [float(chances[kind.tobytes()]) * num for kind in kinds]
  assert min(expected) > 5
  assert stats.chisquare(counts, expected).pvalue > 1e-4


def test_random_ends_are_any_two_different_cells():
  num = 20_000
  many = _draw(num, 7, random_ends=True)
  ends = np.concatenate([many.start, many.goal], 1)
  assert (ends % 2 == 1).all() and ends.min() == 1 and ends.max() == 5
  pairs, counts = np.unique(ends, axis=0, return_counts=True)
  assert (pairs[:, :2] != pairs[:, 2:]).any(1).all()
  assert len(pairs) == 9 * 8
  assert stats.chisquare(counts).pvalue > 1e-4


def test_fingerprints_collide_no_more_than_chance():
  many = _draw(120_000, 9, random_ends=True)
  found = np.asarray(jax.vmap(generation.fingerprint)(many))
  rows = np.concatenate(
    [many.open.reshape(len(found), -1), many.start, many.goal], 1
  )
  rows, first, inverse = np.unique(
    rows, axis=0, return_index=True, return_inverse=True
  )
  num = len(rows)
  assert 1e5 < num < len(found)  # Some occur twice.
  np.testing.assert_array_equal(found, found[first][inverse])
  collisions = num - len(np.unique(found[first]))
  assert collisions <= stats.poisson.ppf(1 - 1e-6, num**2 / 2 / 2**32)
  low = np.bincount(found[first] % 16, minlength=16)
  assert stats.chisquare(low).pvalue > 1e-4


def test_fingerprints_see_start_and_goal():
  one = _maze(PICTURE)
  others = [
    one,
    one._replace(start=one.goal, goal=one.start),
    one._replace(goal=jnp.array([1, 3])),
    one._replace(start=jnp.array([3, 1])),
    one._replace(open=one.open.at[2, 1].set(True)),
  ]
  assert len({int(generation.fingerprint(maze)) for maze in others}) == 5


@pytest.mark.parametrize(
  ("size", "loops"), [(5, 0), (7, 0), (7, 3), (9, 5), (13, 0), (13, 9)]
)
def test_shortest_paths_are_those_of_a_breadth_first_search(size, loops):
  length = size * size
  many = _draw(30, size, loops, random_ends=True)
  distances, needed, answers = jax.jit(
    jax.vmap(
      lambda maze: (
        paths.distances(maze),
        mazes.answer_length(maze),
        mazes.shortest_answer(maze, length),
      )
    )
  )(many)
  for i, (is_open, start, goal) in enumerate(_each(many)):
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
  maze = _maze(["#####", "#G..#", "#.#.#", "#..S#", "#####"])
  assert mazes.shortest_answer(maze, 6).tolist() == [13, 13, 15, 15, 7, 2]


def test_a_short_answer_is_cut_off():
  assert mazes.shortest_answer(_maze(PICTURE), 3).tolist() == [16, 16, 14]


def test_the_text_of_a_maze_by_hand():
  # fmt: off
  assert mazes.encode(_maze(PICTURE)).tolist() == [
    1, 4,
    9, 9, 9, 9, 9, 12,
    9, 11, 8, 8, 9, 12,
    9, 9, 9, 8, 9, 12,
    9, 8, 8, 10, 9, 12,
    9, 9, 9, 9, 9, 12,
    5, 6,
  ]
  picture = [
    "#######",
    "#.#...#",
    "#.#.#.#",
    "#G#.#S#",
    "#.#.#.#",
    "#...#.#",
    "#######",
  ]
  assert mazes.encode(_maze(picture)).tolist() == [
    1, 4,
    9, 9, 9, 9, 9, 9, 9, 12,
    9, 8, 9, 8, 8, 8, 9, 12,
    9, 8, 9, 8, 9, 8, 9, 12,
    9, 10, 9, 8, 9, 11, 9, 12,
    9, 8, 9, 8, 9, 8, 9, 12,
    9, 8, 8, 8, 9, 8, 9, 12,
    9, 9, 9, 9, 9, 9, 9, 12,
    5, 6,
  ]
  # fmt: on


def test_the_vocabulary_is_that_of_the_paper():
  known = {
    **{"<pad>": 0, "<bos>": 1, "<eos>": 2, "GRID_START": 4, "GRID_END": 5},
    **{"PATH_START": 6, "DONE": 7, "PATH": 8, "WALL": 9, "GOAL": 10},
    **{"START": 11, "NEWLINE": 12, "UP": 13, "DOWN": 14, "LEFT": 15},
    **{"RIGHT": 16},
  }
  for name, number in known.items():
    assert mazes.VOCABULARY[number] == name
  assert len(mazes.VOCABULARY) == len(set(mazes.VOCABULARY)) == 32


ROOM = ["S..", "...", "..G"]  # Without walls around it.


@pytest.mark.parametrize(
  ("what", "right", "answer", "picture"),
  [
    ("the shortest", True, [16, 16, 14, 14, 7, 2], PICTURE),
    ("no DONE", False, [16, 16, 14, 14, 2, 0], PICTURE),
    ("no DONE, all moves", False, [16, 16, 14, 14, 14, 14], PICTURE),
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
  found = mazes.verify(_maze(picture), jnp.array([answer]))
  assert found.dtype == bool and found.tolist() == [right]


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


@pytest.mark.parametrize(("size", "loops"), [(5, 0), (7, 2), (9, 0)])
def test_the_verifier_walks_as_plain_python_does(size, loops):
  length, rng = 40, np.random.default_rng(size)
  many = _draw(25, size, loops, random_ends=True, seed=size)
  shortest = jax.vmap(lambda maze: mazes.shortest_answer(maze, length))(many)
  answers, expected = [], []
  for maze, right in zip(_each(many), shortest.tolist(), strict=True):
    mine = [_mutated(rng, right[: right.index(0)], length) for _ in range(100)]
    answers.append(mine)
    expected.append([oracles.verify(*maze, answer) for answer in mine])
  assert 0.25 < np.mean(expected) < 0.75
  answers = jnp.array(answers)
  found = jax.jit(jax.vmap(mazes.verify))(many, answers)
  np.testing.assert_array_equal(found, expected)
  eager = mazes.verify(jax.tree.map(lambda x: x[3], many), answers[3])
  np.testing.assert_array_equal(eager, expected[3])


# The task


@functools.cache
def _task(**options):
  return TASKS["maze"](**options)


def _texts(prompts):
  return {row.tobytes() for row in np.asarray(prompts.inputs)}


def _drawn(task, num, seeds=(0,)):
  found = [_texts(task.draw(jax.random.key(seed), num)) for seed in seeds]
  return set.union(*found)


def test_the_192_mazes_of_size_7_are_split_in_three():
  parts = {"train": set(), "validation": set(), "test": set()}
  for seed in (0, 1):
    task = _task(size=7, task_seed=seed, eval_size=2000)
    parts["train"] |= _drawn(task, 2000, range(10))
    for name, prompts in task.splits.items():
      parts[name] |= _texts(prompts)
  assert len(set.union(*parts.values())) == 192
  assert sum(map(len, parts.values())) == 192
  assert 2 <= len(parts["validation"]) <= 30 and 2 <= len(parts["test"]) <= 30


def test_no_held_out_maze_is_trained_on():
  several = [
    _task(size=7, random_ends=True, eval_size=2000, task_seed=seed, **more)
    for seed, more in ((0, {}), (1, {}), (2, {"train_size": 1000}))
  ]
  train, validation, test = (
    set.union(*(_texts(task.splits[name]) for task in several))
    for name in ("train", "validation", "test")
  )
  for seed, task in enumerate(several):
    train |= _drawn(task, 2000, range(10 * seed, 10 * seed + 6))
  assert len(train) > 8000 and min(len(validation), len(test)) > 500
  assert not train & validation
  assert not train & test
  assert not validation & test


def test_targets_are_the_mazes_that_are_shown():
  task = _task(size=7, random_ends=True, eval_size=2000, task_seed=0)
  prompts = task.draw(jax.random.key(5), 2000)
  letters = {9: "#", 8: ".", 11: "S", 10: "G"}
  places = zip(_each(prompts.targets), prompts.inputs[:, 2:-2], strict=True)
  for maze, text in list(places)[:50]:
    rows = np.asarray(text).reshape(7, 8)
    assert (rows[:, -1] == 12).all()
    picture = ["".join(letters[x] for x in row[:-1].tolist()) for row in rows]
    for shown, kept in zip(oracles.grid(picture), maze, strict=True):
      np.testing.assert_array_equal(shown, kept)


def test_a_training_set_is_fixed_and_has_the_size_asked_for():
  options = {"size": 9, "random_ends": True, "eval_size": 16}
  task = _task(train_size=5, **options)
  known = _texts(task.splits["train"])
  assert len(known) == 5
  assert _drawn(task, 64, range(3)) == known
  other = _task(train_size=5, task_seed=1, **options)
  assert _drawn(other, 64) == _texts(other.splits["train"]) != known


def test_mazes_drawn_have_an_answer_that_fits():
  task = _task(size=7, max_length=12, eval_size=40)
  batches = [task.draw(jax.random.key(1), 40), *task.splits.values()]
  lengths = [
    oracles.distances(is_open, goal)[start] + 2
    for prompts in batches
    for is_open, start, goal in _each(prompts.targets)
  ]
  assert set(lengths) == {10}  # The next would be 14.
  assert task.policy_options["max_length"] == 12
  free = _task(size=7, task_seed=0, eval_size=2000).draw(
    jax.random.key(0), 2000
  )
  needed = {
    oracles.distances(is_open, goal)[start] + 2
    for is_open, start, goal in _each(free.targets)
  }
  assert needed == {10, 14, 18}


def test_demonstrations_are_right():
  task = _task(size=7, random_ends=True, eval_size=2000, task_seed=0)
  targets = task.splits["test"].targets
  answers = jax.vmap(task.demonstrations)(targets)
  assert answers.shape == (2000, task.policy_options["max_length"])
  right = jax.vmap(task.likelihoods)(targets, answers[:, None])
  assert right.all()
  for maze, answer in list(zip(_each(targets), answers.tolist()))[:50]:
    assert oracles.verify(*maze, answer)
    is_open, start, goal = maze
    assert answer.index(2) == oracles.distances(is_open, goal)[start] + 1


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
      "max_length = 9: shortest answers of mazes of size 7 have 10 to 18 tok",
    ),
    ({"train_size": 0}, "train_size = 0: must be at least 1"),
    ({"eval_size": 0}, "eval_size = 0: must be at least 1"),
  ],
)
def test_impossible_options_name_the_field(options, message):
  with pytest.raises(ValueError, match=message):
    TASKS["maze"](**options)
