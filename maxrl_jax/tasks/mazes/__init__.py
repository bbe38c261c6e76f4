"""Mazes as text, and a verifier that follows the moves of an answer."""

from maxrl_jax.tasks.mazes.generation import Maze, prim, wilson
from maxrl_jax.tasks.mazes.language import VOCABULARY, encode, verify
from maxrl_jax.tasks.mazes.paths import answer_length, shortest_answer
from maxrl_jax.tasks.mazes.task import maze

__all__ = [
  "VOCABULARY",
  "Maze",
  "answer_length",
  "encode",
  "maze",
  "prim",
  "shortest_answer",
  "verify",
  "wilson",
]
