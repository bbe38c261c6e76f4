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


@functools.cache
def _compiled(size, num, options):
  def make(key):
    keys = jax.random.split(key, num)
    return jax.vmap(lambda k: mazes.prim(k, size, **dict(options)))(keys)

  return jax.jit(make)


def _draw(size, num, seed=0, **options):
  """Mazes of one key, for any of them the same program."""
  make = _compiled(size, num, tuple(sorted(options.items())))
  return make(jax.random.key(seed))


NUM = 400_000
KINDS = [(5, 1), (7, 3), (9, 0), (13, 0)]
each_kind = pytest.mark.parametrize(("size", "loops"), KINDS)


def _some(size, loops, seed=0):
  return _draw(size, 40, seed, loops=loops, random_ends=True)


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


def _check_structure(is_open, loops):
  assert is_open[1::2, 1::2].all() and not is_open[::2, ::2].any()
  border = [is_open[0], is_open[-1], is_open[:, 0], is_open[:, -1]]
  assert not np.any(border)
  graph = _graph(is_open)
  assert csgraph.connected_components(graph, directed=False)[0] == 1
  assert graph.nnz == graph.shape[0] - 1 + loops


@each_kind
def test_a_maze_is_connected_and_has_the_loops_asked_for(size, loops):
  for is_open, _, _ in _each(_some(size, loops)):
    assert is_open.shape == (size, size)
    _check_structure(is_open, loops)


def test_loops_open_any_wall_that_is_left():
  """Without one of the 9 inner walls a tree of size 7 has 4 to choose from."""
  before = np.asarray(_draw(7, NUM, 3).open)
  after = np.asarray(_draw(7, NUM, 3, loops=1).open)
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
  chances = oracles.prim_grids(size)
  assert len(chances) == trees and sum(chances.values()) == 1
  many = _draw(size, NUM)
  assert (many.start == 1).all() and (many.goal == size - 2).all()
  packed = np.packbits(np.asarray(many.open).reshape(NUM, -1), -1)
  found, counts = np.unique(
    packed.view(f"V{packed.shape[1]}"), return_counts=True
  )
  assert len(found) == trees
  expected = []
  for kind in found:
    bits = np.unpackbits(np.frombuffer(kind.tobytes(), np.uint8))
    is_open = bits[: size * size].astype(bool).reshape(size, size)
    _check_structure(is_open, loops=0)
    expected.append(float(chances[is_open.tobytes()]) * NUM)
  assert min(expected) > 5
  assert stats.chisquare(counts, expected).pvalue > 1e-4


def test_random_ends_are_any_two_different_cells():
  many = _draw(9, 120_000, random_ends=True)
  ends = np.concatenate([many.start, many.goal], 1)
  assert (ends % 2 == 1).all() and ends.min() == 1 and ends.max() == 7
  pairs, counts = np.unique(ends, axis=0, return_counts=True)
  assert (pairs[:, :2] != pairs[:, 2:]).any(1).all()
  assert len(pairs) == 16 * 15
  assert stats.chisquare(counts).pvalue > 1e-4


def test_fingerprints_collide_no_more_than_chance():
  many = _draw(9, 120_000, random_ends=True)
  found = np.asarray(jax.vmap(generation.fingerprint)(many))
  rows = [np.packbits(np.asarray(many.open).reshape(len(found), -1), -1)]
  rows = np.concatenate([*rows, many.start, many.goal], 1).astype(np.uint8)
  rows, first, inverse = np.unique(
    rows.view(f"V{rows.shape[1]}").ravel(),
    return_index=True,
    return_inverse=True,
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


@each_kind
def test_shortest_paths_are_those_of_a_breadth_first_search(size, loops):
  length = size * size
  many = _some(size, loops, 1)
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
  found = jax.jit(mazes.verify)(_maze(picture), jnp.array([answer]))
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


@pytest.mark.parametrize(("size", "loops"), [(5, 1), (7, 3), (13, 0)])
def test_the_verifier_walks_as_plain_python_does(size, loops):
  length, rng = 80, np.random.default_rng(size)
  many = _some(size, loops, 2)
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
  if size == 5:
    eager = mazes.verify(jax.tree.map(lambda x: x[3], many), answers[3])
    np.testing.assert_array_equal(eager, expected[3])


# The task


@functools.cache
def _free():
  """eval_size is what tests draw too: one program for both."""
  return TASKS["maze"](size=7, random_ends=True, eval_size=2000)


@functools.cache
def _fixed():
  return TASKS["maze"](size=7, train_size=1000, task_seed=1, eval_size=2000)


@functools.cache
def _short():
  return TASKS["maze"](size=7, max_length=12, eval_size=2000)


def _texts(prompts):
  return {row.tobytes() for row in np.asarray(prompts.inputs)}


def _drawn(task, seeds):
  found = [_texts(task.draw(jax.random.key(seed), 2000)) for seed in seeds]
  return set.union(*found)


def test_the_192_mazes_of_size_7_are_split_in_three():
  """Tasks of other seeds and lengths split them alike."""
  parts = [
    _texts(_fixed().splits[name]) | _texts(_short().splits[name])
    for name in ("train", "validation", "test")
  ]
  parts[0] |= _drawn(_short(), range(3))
  assert 170 < len(set.union(*parts)) == sum(map(len, parts)) <= 192
  assert all(4 < len(part) < 24 for part in parts[1:])


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


def test_a_training_set_is_fixed_and_has_the_size_asked_for():
  known = _fixed().splits["train"]
  assert known.inputs.shape[0] == 1000
  assert _drawn(_fixed(), range(8)) == _texts(known)


def test_fresh_mazes_never_end():
  task = _free()
  sets = [_drawn(task, [seed]) for seed in range(3)]
  assert len(set.union(*sets)) > 1.4 * len(sets[0])


def test_targets_are_the_mazes_that_are_shown():
  prompts = _free().draw(jax.random.key(5), 2000)
  letters = {9: "#", 8: ".", 11: "S", 10: "G"}
  texts = np.asarray(prompts.inputs)[:, 2:-2].reshape(-1, 7, 8)
  assert (texts[:, :, -1] == 12).all()
  for maze, text in zip(_each(prompts.targets), texts, strict=True):
    picture = ["".join(letters[x] for x in row[:-1]) for row in text]
    for shown, kept in zip(oracles.grid(picture), maze, strict=True):
      np.testing.assert_array_equal(shown, kept)


def _needed(targets):
  """Tokens of shortest answers."""
  return [
    oracles.distances(is_open, goal)[start] + 2
    for is_open, start, goal in _each(targets)
  ]


def test_mazes_drawn_have_an_answer_that_fits():
  assert set(_needed(_fixed().splits["train"].targets)) >= {10, 14}
  assert _short().policy_options["max_length"] == 12
  drawn = _short().draw(jax.random.key(1), 2000)
  for prompts in (drawn, *_short().splits.values()):
    assert set(_needed(prompts.targets)) == {10}


def test_demonstrations_are_right():
  task = _free()
  targets = task.splits["test"].targets
  answers = jax.vmap(task.demonstrations)(targets)
  assert answers.shape == (2000, task.policy_options["max_length"])
  right = jax.jit(jax.vmap(task.likelihoods))(targets, answers[:, None])
  assert right.all()
  ends = (np.asarray(answers) == 2).argmax(1) + 1
  np.testing.assert_array_equal(ends, _needed(targets))
  for maze, answer in zip(_each(targets), answers.tolist(), strict=True):
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
    ({"train_size": 0}, "train_size = 0: must be at least 1"),
    ({"eval_size": 0}, "eval_size = 0: must be at least 1"),
  ],
)
def test_impossible_options_name_the_field(options, message):
  with pytest.raises(ValueError, match=message):
    TASKS["maze"](**options)
