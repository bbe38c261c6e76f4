"""Mazes against plain Python: what is made, how often, and its text."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse, stats
from scipy.sparse import csgraph

from maxrl_jax.tasks import mazes
from maxrl_jax.tasks.mazes import generation
from tests.support import maze_oracles as oracles
from tests.support.extent import long
from tests.support.maze_draws import (
  MANY,
  PICTURE,
  draw,
  each,
  each_kind,
  from_picture,
  some,
)

NUM = 400_000


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
  for is_open, _, _ in each(some(size, loops)):
    assert is_open.shape == (size, size)
    _check_structure(is_open, loops)


@pytest.mark.long
def test_loops_open_any_wall_that_is_left():
  """Without one of the 9 inner walls a tree of size 7 has 4 to choose from."""
  before = np.asarray(draw(7, NUM, 3).open)
  after = np.asarray(draw(7, NUM, 3, loops=1).open)
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


@pytest.mark.parametrize(
  ("size", "trees"),
  [(5, 4), long(7, 192)],
)
def test_every_tree_occurs_as_often_as_the_algorithm_says(size, trees):
  chances = oracles.prim_grids(size)
  assert len(chances) == trees and sum(chances.values()) == 1
  many = draw(size, NUM)
  assert (many.start == 1).all() and (many.goal == size - 2).all()
  packed = np.packbits(np.asarray(many.open).reshape(NUM, -1), -1)
  kinds, counts = np.unique(
    packed.view(f"V{packed.shape[1]}"), return_counts=True
  )
  assert len(kinds) == trees
  expected = []
  for kind in kinds:
    bits = np.unpackbits(np.frombuffer(kind.tobytes(), np.uint8))
    is_open = bits[: size * size].astype(bool).reshape(size, size)
    _check_structure(is_open, loops=0)
    expected.append(float(chances[is_open.tobytes()]) * NUM)
  assert min(expected) > 5
  assert stats.chisquare(counts, expected).pvalue > 1e-4


@pytest.mark.long
def test_random_ends_are_any_two_different_cells():
  many = draw(9, MANY, random_ends=True)
  ends = np.concatenate([many.start, many.goal], 1)
  assert (ends % 2 == 1).all() and ends.min() == 1 and ends.max() == 7
  pairs, counts = np.unique(ends, axis=0, return_counts=True)
  assert (pairs[:, :2] != pairs[:, 2:]).any(1).all()
  assert len(pairs) == 16 * 15
  assert stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.long
def test_fingerprints_collide_no_more_than_chance():
  many = draw(9, MANY, random_ends=True)
  kinds = np.asarray(jax.vmap(generation.fingerprint)(many))
  rows = [np.packbits(np.asarray(many.open).reshape(len(kinds), -1), -1)]
  rows = np.concatenate([*rows, many.start, many.goal], 1).astype(np.uint8)
  rows, first, inverse = np.unique(
    rows.view(f"V{rows.shape[1]}").ravel(),
    return_index=True,
    return_inverse=True,
  )
  num = len(rows)
  assert 1e5 < num < len(kinds)  # Some occur twice.
  np.testing.assert_array_equal(kinds, kinds[first][inverse])
  collisions = num - len(np.unique(kinds[first]))
  assert collisions <= stats.poisson.ppf(1 - 1e-6, num**2 / 2 / 2**32)
  low = np.bincount(kinds[first] % 16, minlength=16)
  assert stats.chisquare(low).pvalue > 1e-4


def test_fingerprints_see_start_and_goal():
  one = from_picture(PICTURE)
  others = [
    one,
    one._replace(start=one.goal, goal=one.start),
    one._replace(goal=jnp.array([1, 3])),
    one._replace(start=jnp.array([3, 1])),
    one._replace(open=one.open.at[2, 1].set(True)),
  ]
  assert len({int(generation.fingerprint(maze)) for maze in others}) == 5


def test_the_text_of_a_maze_by_hand():
  # fmt: off
  assert mazes.encode(from_picture(PICTURE)).tolist() == [
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
  assert mazes.encode(from_picture(picture)).tolist() == [
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
