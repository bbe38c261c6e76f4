"""Mazes as pictures, with answers that reach the goal and answers that fail."""

import jax
import numpy as np

from experiments.figures import maze_runs, maze_settings
from experiments.figures.maze_settings import Settings
from experiments.reports.results import Claim, Drawing, Result
from maxrl_jax import plotting
from maxrl_jax.learning import rollouts
from maxrl_jax.tasks import mazes

PRESETS = maze_settings.PRESETS
_MAZES, _ANSWERS = 4, 64  # Mazes shown, and answers to each held-out maze.


def figure(settings: Settings, runs) -> Result:
  """Held-out mazes, each with a right and a wrong answer after the warm-up."""
  drawn = maze_runs.at_warm_up(settings, runs, answers, count=_ANSWERS)
  drawing, axes = plotting.axes(columns=_MAZES, rows=2, width=2.2, height=2.4)
  for column, row in enumerate(_shown(drawn["right"], settings.warmup)):
    right = drawn["right"][row]
    for ax, kind, word in zip(
      axes[:, column], (True, False), ("right", "wrong"), strict=True
    ):
      shown = np.argmax(right == kind)
      plotting.maze(
        ax,
        drawn["open"][row],
        drawn["start"][row],
        drawn["goal"][row],
        drawn["places"][row][shown][: _moves(drawn["answers"][row][shown])],
        colour=plotting.COLOURS["maxrl" if kind else "grpo"],
      )
      ax.set_title(f"{word}: {right.mean() if kind else 1 - right.mean():.0%}")
  caption = (
    "Held-out mazes, start (circle) and goal (star), with a right answer above"
    " and a wrong one below, as the policy wrote them after its warm-up. Moves"
    " after the goal do not count; a wrong answer is drawn through the walls"
    f" that it ran into. Percentages are of {_ANSWERS} answers."
  )
  return Result(
    "Mazes: answers (paper, figure 10)",
    [Drawing("maze_answers", drawing, caption)],
    _claims(drawn),
    [],
  )


def answers(config, trainer, params, count: int) -> dict[str, np.ndarray]:
  """Answers to held-out mazes, whether they are right, and cells visited."""
  del config
  prompts = trainer.task.splits["test"]

  @jax.jit
  def draw(params):
    drawn = rollouts.sample_batch(
      jax.random.key(4), trainer.policy, params, prompts, trainer.task, count
    )
    places, _ = jax.vmap(mazes.language.visited)(prompts.targets, drawn.actions)
    return drawn.actions, drawn.likelihoods, places

  names = ("answers", "right", "places")
  arrays = dict(zip(names, draw(params), strict=True))
  arrays |= prompts.targets._asdict()
  return {name: np.asarray(values) for name, values in arrays.items()}


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
      f" {_ANSWERS}; change the warm-up's {warmup} steps"
    )
  order = both[np.argsort(-right[both].mean(1))]
  return order[np.linspace(0, len(order) - 1, _MAZES).astype(int)]


def _moves(answer: np.ndarray) -> int:
  """The number of moves before the first other token."""
  language = mazes.language
  is_move = (answer >= language.UP) & (answer <= language.RIGHT)
  return int(np.argmin(np.append(is_move, False)))


def _claims(drawn) -> list[Claim]:
  """The verifier agrees with a walk, step by step, in plain Python."""
  wrong = sum(
    _walk(drawn, row, answer) != right
    for row in range(len(drawn["open"]))
    for answer, right in zip(
      drawn["answers"][row], drawn["right"][row], strict=True
    )
  )
  total = drawn["right"].size
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


def _walk(drawn, row: int, answer) -> bool:
  language = mazes.language
  place, goal = tuple(drawn["start"][row]), tuple(drawn["goal"][row])
  tokens = [int(token) for token in answer]
  if language.DONE not in tokens:
    return False
  moves = tokens[: tokens.index(language.DONE)]
  if any(not language.UP <= token <= language.RIGHT for token in moves):
    return False
  for token in moves:
    step = language.STEPS[token - language.UP]
    place = (int(place[0] + step[0]), int(place[1] + step[1]))
    if not drawn["open"][row][place]:  # The border is a wall.
      return False
    if place == goal:
      return True
  return False
