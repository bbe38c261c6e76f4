"""Shortest paths, by flooding the maze from its goal."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from maxrl_jax.tasks.mazes import language
from maxrl_jax.tasks.mazes.generation import Maze

Array = jax.Array
FAR = jnp.iinfo(jnp.int32).max // 2  # Where no path leads.


def distances(maze: Maze) -> Array:
  """Moves from every place to the goal, [S, S]; FAR in walls."""
  at_goal = jnp.full(maze.open.shape, FAR).at[tuple(maze.goal)].set(0)

  def relax(state: Any) -> tuple[Array, Array]:
    before, _ = state
    padded = jnp.pad(before, 1, constant_values=FAR)
    neighbours = (
      padded[:-2, 1:-1],
      padded[2:, 1:-1],
      padded[1:-1, :-2],
      padded[1:-1, 2:],
    )
    nearest = jnp.min(jnp.stack(neighbours), 0) + 1
    after = jnp.where(maze.open, jnp.minimum(before, nearest), FAR)
    return after, jnp.any(after != before)

  start = (at_goal, jnp.array(True))
  return lax.while_loop(lambda state: state[1], relax, start)[0]


def answer_length(maze: Maze) -> Array:
  """Tokens of the shortest right answer: its moves, DONE and eos."""
  return distances(maze)[tuple(maze.start)] + 2


def shortest_answer(maze: Maze, length: int) -> Array:
  """A shortest path as tokens [length]: moves, DONE, eos, then padding.

  Among equally short ones, UP goes before DOWN, LEFT and RIGHT. A path is cut
  off if `length` is below its `answer_length`.
  """
  steps = jnp.asarray(language.STEPS)
  left = jnp.pad(distances(maze), 1, constant_values=FAR)

  def walk(state: Any, _: None) -> tuple[Any, Array]:
    place, ended = state
    neighbours = place[None] + 1 + steps
    choice = jnp.argmin(left[neighbours[:, 0], neighbours[:, 1]])
    arrived = jnp.all(place == maze.goal)
    token = jnp.where(arrived, language.DONE, language.UP + choice)
    token = jnp.where(ended == 1, language.EOS, token)
    token = jnp.where(ended > 1, language.PAD, token)
    place = jnp.where(arrived, place, place + steps[choice])
    return (place, ended + arrived), token

  state = (maze.start, jnp.zeros((), jnp.int32))
  _, tokens = lax.scan(walk, state, None, length)
  return tokens.astype(jnp.int32)
