"""Mazes in plain Python: trees of Prim's algorithm, walks, shortest paths.

Nothing here imports the package. A grid is a Boolean array; a place is a pair.
"""

import collections
from fractions import Fraction

import numpy as np

DONE, EOS = 7, 2
STEPS = {13: (-1, 0), 14: (1, 0), 15: (0, -1), 16: (0, 1)}


def grid(picture):
  """Rows of '#' walls, '.' paths, S and G → open places, start and goal."""
  letters = np.array([list(row) for row in picture])
  (start,), (goal,) = (np.argwhere(letters == x) for x in "SG")
  return letters != "#", tuple(start), tuple(goal)


def verify(is_open, start, goal, answer):
  """Walks an answer's moves one by one."""
  if DONE not in answer:
    return False
  moves = answer[: answer.index(DONE)]
  if any(token not in STEPS for token in moves):
    return False
  place = start
  for token in moves:
    place = tuple(np.add(place, STEPS[token]))
    if not _free(is_open, place):
      return False
    if place == goal:
      return True
  return False


def distances(is_open, goal):
  """Moves to the goal from every place that a path leads from."""
  steps, waiting = {goal: 0}, collections.deque([goal])
  while waiting:
    place = waiting.popleft()
    for step in STEPS.values():
      there = (place[0] + step[0], place[1] + step[1])
      if _free(is_open, there) and there not in steps:
        steps[there] = steps[place] + 1
        waiting.append(there)
  return steps


def only_answer(is_open, start, goal):
  """The way through a maze without loops: moves, DONE and eos."""
  left, place, answer = distances(is_open, goal), start, []
  while place != goal:
    for token, step in STEPS.items():
      there = (place[0] + step[0], place[1] + step[1])
      if left.get(there) == left[place] - 1:
        place = there
        answer.append(token)
        break
  return [*answer, DONE, EOS]


def _free(is_open, place):
  inside = all(
    0 <= x < size for x, size in zip(place, is_open.shape, strict=True)
  )
  return inside and bool(is_open[place])


def prim_grids(size):
  """What the algorithm may build, as bytes of the grid, and its probability.

  All that can happen, from the cell at (1, 1) on: any frontier cell with the
  same chance, then any of its carved neighbours with the same chance.
  """
  cells = set(np.ndindex(size // 2, size // 2))
  states = {(frozenset({(0, 0)}), frozenset()): Fraction(1)}
  for _ in range(len(cells) - 1):
    later = collections.defaultdict(Fraction)
    for (carved, tree), chance in states.items():
      joins = {cell: _neighbours(cell) & carved for cell in cells - carved}
      joins = {cell: others for cell, others in joins.items() if others}
      for cell, others in joins.items():
        for other in others:
          wall = (cell[0] + other[0] + 1, cell[1] + other[1] + 1)
          state = (carved | {cell}, tree | {wall})
          later[state] += chance / len(joins) / len(others)
    states = later
  steps = {}
  for (carved, tree), chance in states.items():
    is_open = np.zeros((size, size), bool)
    for place in [(2 * i + 1, 2 * j + 1) for i, j in carved] + list(tree):
      is_open[place] = True
    steps[is_open.tobytes()] = chance
  return steps


def _neighbours(cell):
  return {(cell[0] + i, cell[1] + j) for i, j in STEPS.values()}
