"""Mazes that the package draws, one program for each kind."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxrl_jax.tasks import mazes
from tests.support import maze_oracles as oracles

PICTURE = [
  "#####",
  "#S..#",
  "###.#",
  "#..G#",
  "#####",
]
MANY = 120_000  # Of those whose ends are compared, and fingerprints.
KINDS = [(5, 1), (7, 3), (9, 0), (13, 0)]
each_kind = pytest.mark.parametrize(("size", "loops"), KINDS)


@functools.cache
def _compiled(size, num, options):
  def make(key):
    keys = jax.random.split(key, num)
    return jax.vmap(lambda k: mazes.prim(k, size, **dict(options)))(keys)

  return jax.jit(make)


def draw(size, num, seed=0, **options):
  """Mazes of one key, for any of them the same program."""
  make = _compiled(size, num, tuple(sorted(options.items())))
  return make(jax.random.key(seed))


def some(size, loops, seed=0):
  return draw(size, 40, seed, loops=loops, random_ends=True)


def each(many):
  """Plain grids, starts and goals."""
  for is_open, start, goal in zip(*map(np.asarray, many), strict=True):
    yield is_open, tuple(start.tolist()), tuple(goal.tolist())


def from_picture(picture):
  is_open, start, goal = oracles.grid(picture)
  return mazes.Maze(*map(jnp.asarray, (is_open, start, goal)))
