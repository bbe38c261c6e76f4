"""Random mazes, generated on the device.

A maze of size S is an S × S grid with walls around it; its cells are the places
with two odd coordinates, ((S − 1)/2)² of them, and passages open the walls
between neighbouring cells.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Array = jax.Array


UNSEEN = 2  # In `Maze.open`: a place that the prompt hides.


class Maze(NamedTuple):
  """A grid, a start and a goal.

  Attributes:
    open: [S, S] boolean, False for walls; int32 if places are hidden: 0 for a
      wall, 1 for a passage, `UNSEEN`.
    start: [2] row and column.
    goal: [2] row and column.
  """

  open: Array
  start: Array
  goal: Array


def prim(
  key: Array, size: int, *, loops: int = 0, random_ends: bool = False
) -> Maze:
  """One maze by Prim's algorithm with uniform choices.

  Starting at the cell (1, 1), joins a uniformly drawn frontier cell to a
  uniformly drawn one of its carved neighbours, until all cells are joined: a
  spanning tree, in which exactly one path joins any two cells.

  Args:
    key: a typed random key.
    size: S, odd and at least 5.
    loops: further walls to open, each of which adds a cycle.
    random_ends: start and goal are two different cells drawn uniformly, rather
      than (1, 1) and (S − 2, S − 2).
  """
  return _maze(_prim_tree, key, size, loops, random_ends)


def wilson(
  key: Array, size: int, *, loops: int = 0, random_ends: bool = False
) -> Maze:
  """One maze, uniform over spanning trees, by Wilson's algorithm.

  Every cell but the first points to a uniformly drawn neighbour. While these
  arrows form cycles, the cells on cycles draw again. The order in which cycles
  are popped does not matter (here all at once): the final arrows are a uniform
  spanning tree (Propp and Wilson 1998, doi 10.1006/jagm.1997.0917).

  Args:
    key: a typed random key.
    size: as in `prim`, as are loops and random_ends.
  """
  return _maze(_uniform_tree, key, size, loops, random_ends)


def _maze(
  tree: Callable[[Array, int], tuple[Array, Array]],
  key: Array,
  size: int,
  loops: int,
  random_ends: bool,
) -> Maze:
  tree_key, loop_key, ends_key = jax.random.split(key, 3)
  east, south = tree(tree_key, (size - 1) // 2)
  if loops:
    east, south = _open_walls(loop_key, east, south, loops)
  cells = slice(1, -1, 2)
  between = slice(2, -1, 2)
  open_ = jnp.zeros((size, size), bool).at[cells, cells].set(True)
  open_ = open_.at[cells, between].set(east[:, :-1])
  open_ = open_.at[between, cells].set(south[:-1])
  start, goal = _ends(ends_key, size, random_ends)
  return Maze(open_, start, goal)


def _prim_tree(key: Array, side: int) -> tuple[Array, Array]:
  """Passages to the east and to the south of every cell, each [n, n]."""
  uniforms = jax.random.uniform(key, (side * side - 1, 2))
  carved = jnp.zeros((side, side), bool).at[0, 0].set(True)
  closed = jnp.zeros_like(carved)

  # Masks rather than indices, so that many mazes at once are vector code.
  def join(state: Any, uniform: Array) -> tuple[Any, None]:
    carved, east, south = state
    near = jnp.any(jnp.stack([_shift(carved, d) for d in range(4)]), 0)
    cell = _draw(uniform[0], near & ~carved)
    neighbours = jnp.stack([_shift(cell, d) & carved for d in range(4)])
    choice = _draw(uniform[1], jnp.any(neighbours, (1, 2)))
    up, down, left, right = choice
    south |= (neighbours[0] & up) | (cell & down)
    east |= (neighbours[2] & left) | (cell & right)
    return (carved | cell, east, south), None

  (_, east, south), _ = lax.scan(join, (carved, closed, closed), uniforms)
  return east, south


def _uniform_tree(key: Array, side: int) -> tuple[Array, Array]:
  """Passages as from `_prim_tree`, distributed as in `wilson`."""
  cells, (rows, columns) = side * side, np.divmod(np.arange(side * side), side)
  beside = [rows > 0, rows < side - 1, columns > 0, columns < side - 1]
  steps = np.array([-side, side, -1, 1])
  # [cells, 4], the neighbours of each cell first.
  order = np.argsort(~np.stack(beside, -1), axis=-1, kind="stable")
  neighbours = jnp.asarray(np.arange(cells)[:, None] + steps[order])
  degrees = jnp.asarray(np.sum(beside, 0))

  def on_cycles(to: Array) -> Array:
    for _ in range((cells - 1).bit_length()):
      to = to[to]  # After as many steps as cells: on a cycle or at the root.
    return jnp.zeros(cells, bool).at[to].set(True).at[0].set(False)

  def again(state: Any) -> Any:
    key, to, cyclic = state
    key, draw_key = jax.random.split(key)
    uniforms = jax.random.uniform(draw_key, (cells,))
    choice = jnp.minimum((uniforms * degrees).astype(jnp.int32), degrees - 1)
    drawn = jnp.take_along_axis(neighbours, choice[:, None], 1)[:, 0]
    to = jnp.where(cyclic, drawn, to)
    return key, to, on_cycles(to)

  state = key, jnp.zeros(cells, neighbours.dtype), jnp.arange(cells) > 0
  to = lax.while_loop(lambda state: jnp.any(state[2]), again, state)[1]
  cell = jnp.arange(cells)
  joined = [
    (to == cell + step) | (jnp.roll(to, -step) == cell) for step in (1, side)
  ]
  # The last cell of a row and the first of the next never point to each other.
  east, south = (passages.reshape(side, side) for passages in joined)
  return east, south


def _shift(mask: Array, direction: int) -> Array:
  """The mask moved one place up, down, left or right."""
  side = mask.shape[0]
  padded = jnp.pad(mask, 1)
  row, column = ((2, 1), (0, 1), (1, 2), (1, 0))[direction]
  return padded[row : row + side, column : column + side]


def _draw(uniform: Array, mask: Array) -> Array:
  """One of the True places, uniformly, as a mask of the same shape."""
  rank = jnp.cumsum(mask.ravel())
  count = rank[-1]
  wanted = jnp.minimum((uniform * count).astype(rank.dtype), count - 1) + 1
  return mask & (rank == wanted).reshape(mask.shape)


def _open_walls(
  key: Array, east: Array, south: Array, count: int
) -> tuple[Array, Array]:
  """Opens `count` of the walls between cells that are still closed."""
  inner = jnp.ones_like(east)
  closed = jnp.stack([~east & inner.at[:, -1].set(False), ~south])
  closed = closed.at[1, -1].set(False)
  scores = jnp.where(closed, jax.random.uniform(key, closed.shape), -1.0)
  _, best = lax.top_k(scores.ravel(), count)
  opened = jnp.zeros(closed.size, bool).at[best].set(True)
  opened = opened.reshape(closed.shape)
  return east | opened[0], south | opened[1]


def _ends(key: Array, size: int, random_ends: bool) -> tuple[Array, Array]:
  side = (size - 1) // 2
  if not random_ends:
    ends = jnp.array([0, side * side - 1])
  else:
    first_key, second_key = jax.random.split(key)
    first = jax.random.randint(first_key, (), 0, side * side)
    step = jax.random.randint(second_key, (), 1, side * side)
    ends = jnp.stack([first, (first + step) % (side * side)])
  row, column = jnp.divmod(ends, side)
  places = 2 * jnp.stack([row, column], -1).astype(jnp.int32) + 1
  return places[0], places[1]


def num_connections(size: int) -> int:
  """Number of pairs of neighbouring cells: places of a wall or a passage."""
  side = (size - 1) // 2
  return 2 * side * (side - 1)


def hide(key: Array, maze: Maze, count: int) -> Maze:
  """The maze with `count` places between cells `UNSEEN`, drawn uniformly."""
  size = maze.open.shape[0]
  scores = jax.random.uniform(key, (num_connections(size),))
  _, hidden = lax.top_k(scores, count)
  row, column = np.indices((size, size))
  odd = (row + column) % 2 == 1
  inner = (np.minimum(row, column) > 0) & (np.maximum(row, column) < size - 1)
  rows, columns = map(jnp.asarray, np.nonzero(odd & inner))
  seen = maze.open.astype(jnp.int32)
  return maze._replace(open=seen.at[rows[hidden], columns[hidden]].set(UNSEEN))


def fingerprint(maze: Maze) -> Array:
  """32 bits that depend on the whole maze: equal mazes, equal fingerprints."""
  words = jnp.concatenate([maze.open.ravel(), maze.start, maze.goal])
  factors = np.random.default_rng(1797).integers(2**32, size=words.shape)
  products = words.astype(jnp.uint32) * factors.astype(np.uint32)
  state = jnp.sum(products, dtype=jnp.uint32)
  # The finalizer of murmur3: every bit affects the low ones.
  for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
    state = (state ^ (state >> shift)) * jnp.uint32(factor)
  return state
