"""Exact probabilities of the answers to a maze with hidden places.

Mazes are uniform spanning trees (`wilson`), so that given the prompt every tree
that fits it is equally likely. Each has one path from start to goal. The share
of trees that contain a path is a ratio of two numbers of spanning trees, which
are determinants (matrix-tree theorem, Kirchhoff 1847). On the host, in float64.

The verifier also accepts detours, and moves after the goal: these need all
passages of the simple path, so they are no more likely to be right.
"""

import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from maxrl_jax.tasks.mazes import language

_Edge = tuple[int, int]
_NAMES = {(-1, 0): language.UP, (1, 0): language.DOWN}
_NAMES |= {(0, -1): language.LEFT, (0, 1): language.RIGHT}


class Posterior(NamedTuple):
  """The answers that may be right, the most likely first, for M prompts.

  Attributes:
    answers: moves, DONE, eos and padding, [M, A, L] int32.
    probabilities: of each being right, [M, A] float64, rows sum to one; 0 where
      a prompt has fewer than A answers.
  """

  answers: np.ndarray
  probabilities: np.ndarray


class _Seen(NamedTuple):
  """A prompt: cells are numbered row by row, edges join neighbouring ones."""

  side: int
  start: int
  goal: int
  passages: frozenset[_Edge]
  unknown: frozenset[_Edge]


def posterior(prompts: npt.ArrayLike, length: int) -> Posterior:
  """The distribution of right answers given prompts, exactly.

      P(path) = trees(passages + path) / trees(passages)

  where trees(F) is the number of spanning trees that contain the edges F and
  no wall that the prompt shows.

  Args:
    prompts: tokens as `encode` writes them, [M, P], of mazes that are uniform
      spanning trees: generator 'wilson', loops = 0.
    length: L, tokens of an answer; all that are possible must fit.

  Raises:
    ValueError: a prompt that no spanning tree fits, or that is no maze.
  """
  each = [_answers(_read(np.asarray(p)), length) for p in np.asarray(prompts)]
  most = max(len(chances) for _, chances in each)
  answers = np.full((len(each), most, length), language.PAD, np.int32)
  probabilities = np.zeros((len(each), most))
  for row, (tokens, chances) in enumerate(each):
    answers[row, : len(chances)] = tokens
    probabilities[row, : len(chances)] = chances
  return Posterior(answers, probabilities)


def log_spanning_trees(
  cells: int, contained: Iterable[_Edge], allowed: Iterable[_Edge]
) -> float:
  """log of the number of spanning trees with all of `contained`.

  The other edges of a tree are from `allowed`. −∞ if there is no such tree.

  Args:
    cells: vertices, numbered from 0.
    contained: edges that are contracted; distinct.
    allowed: other edges, parallel ones too.
  """
  group = _contract(cells, contained)
  if group is None:
    return -np.inf
  size = group.max() + 1
  laplacian = np.zeros((size, size))
  for a, b in allowed:
    i, j = group[a], group[b]
    laplacian[[i, j], [i, j]] += i != j
    laplacian[[i, j], [j, i]] -= i != j
  sign, log = np.linalg.slogdet(laplacian[1:, 1:])
  # A number of trees: below one half it is zero, with rounding.
  return float(log) if sign > 0 and log > np.log(0.5) else -np.inf


def _contract(cells: int, edges: Iterable[_Edge]) -> np.ndarray | None:
  """The group of every cell, [cells], from 0 on; None if edges form a cycle."""
  group = np.arange(cells)
  for a, b in edges:
    if group[a] == group[b]:
      return None
    group[group == group[b]] = group[a]
  return np.unique(group, return_inverse=True)[1]


def _read(prompt: np.ndarray) -> _Seen:
  size = math.isqrt(max(len(prompt) - 4, 0))
  if language.prompt_length(size) != len(prompt) or size % 2 == 0:
    raise ValueError(f"prompts: {len(prompt)} tokens, which no maze has")
  grid = prompt[2:-2].reshape(size, size + 1)[:, :-1]
  side = (size - 1) // 2
  edges: dict[int, set[_Edge]] = {language.PATH: set(), language.UNKNOWN: set()}
  for row, column in np.ndindex(side, side):
    cell = row * side + column
    for down, right in ((0, 1), (1, 0)):
      place = 2 * row + 1 + down, 2 * column + 1 + right
      edges.get(int(grid[place]), set()).add((cell, cell + down * side + right))
  ends = [
    np.flatnonzero(grid[1::2, 1::2] == token)
    for token in (language.START, language.GOAL)
  ]
  if any(len(cells) != 1 for cells in ends):
    raise ValueError("prompts: must have one START and one GOAL, in cells")
  start, goal = (int(cells[0]) for cells in ends)
  passages, unknown = map(frozenset, edges.values())
  return _Seen(side, start, goal, passages, unknown)


def _answers(seen: _Seen, length: int) -> tuple[np.ndarray, np.ndarray]:
  """Answers [A, L] and probabilities [A] of one prompt."""
  cells = seen.side**2
  trees = functools.partial(log_spanning_trees, cells)
  total = trees(seen.passages, seen.unknown)
  if total == -np.inf:
    raise ValueError("prompts: no spanning tree has these passages and walls")
  weighted = []
  for path in _paths(seen, (seen.start,)):
    edges = {(min(e), max(e)) for e in itertools.pairwise(path)}
    log = trees(seen.passages | edges, seen.unknown - edges)
    if log > -np.inf:
      weighted.append((float(np.exp(log - total)), path))
  weighted.sort(key=lambda pair: (-pair[0], pair[1]))
  tokens = np.array([_tokens(path, seen.side, length) for _, path in weighted])
  return tokens, np.array([chance for chance, _ in weighted])


def _paths(seen: _Seen, path: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
  """Extensions of a path to the goal: no cell twice, through no shown wall."""
  if path[-1] == seen.goal:
    yield path
    return
  for edge in seen.passages | seen.unknown:
    if path[-1] in edge:
      (other,) = set(edge) - {path[-1]}
      if other not in path:
        yield from _paths(seen, (*path, other))


def _tokens(path: Sequence[int], side: int, length: int) -> list[int]:
  moves = []
  for before, after in itertools.pairwise(path):
    step = np.subtract(divmod(after, side), divmod(before, side))
    moves += [_NAMES[tuple(step.tolist())]] * 2  # Cells are two places apart.
  answer = [*moves, language.DONE, language.EOS]
  if len(answer) > length:
    raise ValueError(f"length = {length}: an answer has {len(answer)} tokens")
  return answer + [language.PAD] * (length - len(answer))
