"""Tasks: distributions of prompts, and the likelihoods of rollouts."""

from collections.abc import Callable
from typing import Any

from maxrl_jax.tasks import regression
from maxrl_jax.tasks.bandit import bandit
from maxrl_jax.tasks.base import (
  Demonstrated,
  Exact,
  ExactTask,
  Prompts,
  Rewarded,
  Streamed,
  Task,
  Varying,
)
from maxrl_jax.tasks.classification import digits, gaussian_teacher
from maxrl_jax.tasks.images import images, streamed_images
from maxrl_jax.tasks.mazes import maze
from maxrl_jax.tasks.regression import RegressionTask
from maxrl_jax.tasks.regression_data import (
  bag_of_words,
  bimodal,
  diabetes,
  heteroscedastic,
  in_context,
  noisy_regression,
  teacher,
)

# Functions of options → Task, or → Data, to which the config's noise model is
# added.
TASKS: dict[str, Callable[..., Any]] = {
  "bandit": bandit,
  "digits": digits,
  "gaussian_teacher": gaussian_teacher,
  "images": images,
  "streamed_images": streamed_images,
  "maze": maze,
  "teacher": teacher,
  "heteroscedastic": heteroscedastic,
  "bimodal": bimodal,
  "bag_of_words": bag_of_words,
  "in_context": in_context,
  "noisy_regression": noisy_regression,
  "diabetes": diabetes,
}

__all__ = [
  "TASKS",
  "Demonstrated",
  "Exact",
  "ExactTask",
  "Prompts",
  "RegressionTask",
  "Rewarded",
  "Streamed",
  "Task",
  "Varying",
  "regression",
]
