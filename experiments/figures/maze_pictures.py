"""Mazes as pictures, with answers that reach the goal and answers that fail."""

import numpy as np

from experiments.reports.results import Claim, Drawing, Result
from experiments.runs import maze_runs
from experiments.runs.maze_measures import ANSWERS, answers
from experiments.runs.maze_presets import PRESETS
from maxrl_jax import plotting
from maxrl_jax.tasks import mazes

_MAZES = 4


def figure(preset: str, workdir) -> Result:
  """Held-out mazes with a right and a wrong answer of the warm-up to each."""
  settings = PRESETS[preset]
  found = maze_runs.measured(
    settings, workdir / "runs", "maze answers", answers
  )
  drawing, axes = plotting.axes(columns=_MAZES, rows=2, width=2.2, height=2.4)
  for column, row in enumerate(_shown(found["right"], settings.warmup)):
    right = found["right"][row]
    for ax, kind, word in zip(
      axes[:, column], (True, False), ("right", "wrong"), strict=True
    ):
      answer = found["answers"][row][np.argmax(right == kind)]
      plotting.maze(
        ax,
        found["open"][row],
        found["start"][row],
        found["goal"][row],
        found["places"][row][np.argmax(right == kind)][: _moves(answer)],
        colour=plotting.COLOURS["maxrl" if kind else "grpo"],
      )
      ax.set_title(f"{word}: {right.mean() if kind else 1 - right.mean():.0%}")
  caption = (
    "Held-out mazes, start (circle) and goal (star), with a right answer above"
    " and a wrong one below, as the policy wrote them after its warm-up; a"
    " wrong one is drawn through the walls that it ran into. Percentages are of"
    f" {ANSWERS} answers."
  )
  return Result(
    "Mazes: answers (paper, figure 10)",
    [Drawing("maze_answers", drawing, caption)],
    _claims(found),
    [],
  )


def _shown(right: np.ndarray, warmup: int) -> np.ndarray:
  """Mazes with answers of both kinds, from the easiest to the hardest.

  Args:
    right: [mazes, answers].
    warmup: steps of the warm-up, which an error names.
  """
  both = np.flatnonzero(right.any(1) & ~right.all(1))
  if not len(both):
    raise ValueError(
      f"figure maze_answers: no maze has right and wrong answers among"
      f" {ANSWERS}; change the warm-up's {warmup} steps"
    )
  order = both[np.argsort(-right[both].mean(1))]
  return order[np.linspace(0, len(order) - 1, _MAZES).astype(int)]


def _moves(answer: np.ndarray) -> int:
  """Moves before the first token that is none."""
  language = mazes.language
  is_move = (answer >= language.UP) & (answer <= language.RIGHT)
  return int(np.argmin(np.append(is_move, False)))


def _claims(found) -> list[Claim]:
  """The verifier agrees with a walk, step by step, in plain Python."""
  wrong = sum(
    _walk(found, row, answer) != right
    for row in range(len(found["open"]))
    for answer, right in zip(
      found["answers"][row], found["right"][row], strict=True
    )
  )
  total = found["right"].size
  return [
    Claim(
      "mazes.answers.verified",
      "figure 10",
      "The verifier on the device and a walk in plain Python agree about every"
      " answer.",
      f"{total - wrong} of {total} answers",
      "all",
      bool(wrong == 0),
    )
  ]


def _walk(found, row: int, answer) -> bool:
  language = mazes.language
  place, goal = tuple(found["start"][row]), tuple(found["goal"][row])
  tokens = [int(token) for token in answer]
  if language.DONE not in tokens:
    return False
  moves = tokens[: tokens.index(language.DONE)]
  if any(not language.UP <= token <= language.RIGHT for token in moves):
    return False
  for token in moves:
    step = language.STEPS[token - language.UP]
    place = (int(place[0] + step[0]), int(place[1] + step[1]))
    if not found["open"][row][place]:  # The border is a wall.
      return False
    if place == goal:
      return True
  return False
