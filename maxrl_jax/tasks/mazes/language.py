"""Mazes and answers as tokens, and the verifier that reads an answer.

Ids and rules are those of the MaxRL paper's published code, so that its
checkpoints fit (arXiv 2602.02710, maze experiments); UNKNOWN is one of its
reserved ids.
"""

import jax
import jax.numpy as jnp
import numpy as np

from maxrl_jax.tasks.mazes.generation import Maze

Array = jax.Array

VOCABULARY = (
  *("<pad>", "<bos>", "<eos>", "<unk>"),
  *("GRID_START", "GRID_END", "PATH_START", "DONE"),
  *("PATH", "WALL", "GOAL", "START", "NEWLINE"),
  *("UP", "DOWN", "LEFT", "RIGHT", "\n"),
  "UNKNOWN",
  *(f"<reserved_{i}>" for i in range(19, 32)),
)
PAD, BOS, EOS = 0, 1, 2
GRID_START, GRID_END, PATH_START, DONE = 4, 5, 6, 7
PATH, WALL, GOAL, START, NEWLINE = 8, 9, 10, 11, 12
UP, DOWN, LEFT, RIGHT = 13, 14, 15, 16
UNKNOWN = 18
STEPS = np.array([[-1, 0], [1, 0], [0, -1], [0, 1]], np.int32)  # From UP on.


def prompt_length(size: int) -> int:
  """Tokens of `encode`."""
  return size * (size + 1) + 4


def encode(maze: Maze) -> Array:
  """The prompt of a maze: bos, the grid row by row, PATH_START; int32.

  Hidden places (`generation.hide`) are UNKNOWN.
  """
  size = maze.open.shape[0]
  grid = jnp.array([WALL, PATH, UNKNOWN])[maze.open.astype(jnp.int32)]
  grid = grid.at[tuple(maze.start)].set(START).at[tuple(maze.goal)].set(GOAL)
  rows = jnp.pad(grid, ((0, 0), (0, 1)), constant_values=NEWLINE).ravel()
  assert rows.shape[0] + 4 == prompt_length(size)
  before, after = (
    jnp.array([BOS, GRID_START]),
    jnp.array([GRID_END, PATH_START]),
  )
  return jnp.concatenate([before, rows, after]).astype(jnp.int32)


def visited(maze: Maze, answers: Array) -> tuple[Array, Array]:
  """The place after each token [N, L, 2], and whether the token counts [N, L].

  Moves before the first DONE count. Walls do not stop a walk.
  """
  moves = (answers >= UP) & (answers <= RIGHT)
  before_done = jnp.cumsum(answers == DONE, -1) == 0
  steps = jnp.asarray(STEPS)[jnp.clip(answers - UP, 0, 3)]
  counts = moves & before_done
  steps = jnp.where(counts[..., None], steps, 0)
  return maze.start[None, None] + jnp.cumsum(steps, -2), counts


def verify(maze: Maze, answers: Array) -> Array:
  """Whether each answer is right, boolean [N].

  No DONE, or anything but moves before the first DONE: wrong. The moves are
  walked one by one: off the grid or into a wall is wrong at once, reaching the
  goal is right at once, whatever moves follow.

  Args:
    maze: one maze.
    answers: tokens [N, L].
  """
  size = maze.open.shape[0]
  places, counts = visited(maze, answers)
  legal = counts | (jnp.cumsum(answers == DONE, -1) > 0)
  finished = jnp.all(legal, -1) & jnp.any(answers == DONE, -1)
  inside = jnp.all((places >= 0) & (places < size), -1)
  row, column = jnp.moveaxis(jnp.clip(places, 0, size - 1), -1, 0)
  blocked = ~(inside & maze.open[row, column])
  unblocked = jnp.cumsum(blocked, -1) == 0
  at_goal = jnp.all(places == maze.goal[None, None], -1)
  arrived = at_goal & counts & unblocked
  return finished & jnp.any(arrived, -1)
