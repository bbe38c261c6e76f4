"""Tasks: where prompts come from and what a rollout is worth."""

from collections.abc import Callable

from maxrl_jax.tasks import regression
from maxrl_jax.tasks.bandit import bandit
from maxrl_jax.tasks.base import Prompts, Task
from maxrl_jax.tasks.classification import (
  digits,
  gaussian_teacher,
  images,
  streamed_images,
)
from maxrl_jax.tasks.mazes import maze
from maxrl_jax.tasks.regression_data import REGRESSION

TASKS: dict[str, Callable[..., Task]] = {
  "bandit": bandit,
  "digits": digits,
  "gaussian_teacher": gaussian_teacher,
  "images": images,
  "maze": maze,
  "streamed_images": streamed_images,
}

__all__ = ["REGRESSION", "TASKS", "Prompts", "Task", "regression"]
