"""A bandit to sweep over, its programs, and data of sweeps that never ran."""

import numpy as np

from maxrl_jax.runs import dataset, grid, programs
from tests.support.configs import short_bandit


def swept_bandit():
  return short_bandit(steps=6, eval_every=4)


def plan(text, seeds=(0, 1), config=None):
  config = config or swept_bandit()
  points = grid.points(grid.parse(text, config))
  return points, programs.plan(config, points, seeds)


def data_of(axes, seeds, score, config, name="pass@1"):
  """Runs whose scores are score(point, seed, split)."""
  points = grid.points(axes)
  places = [(i, s) for i in range(len(points)) for s in range(seeds)]
  runs = []
  for index, seed in places:
    validation, test = (
      score(points[index], seed, split) for split in ("validation", "test")
    )
    run = {
      "diverged": False,
      "seconds": 0.5,
      "step": np.array([5, 10]),
      "eval_step": np.array([5, 10]),
      f"validation/{name}": np.array([validation / 2, validation]),
      f"test/{name}": np.array(test),
    }
    if name == "nll":
      run["test/excess_nll"] = np.array(test)
    runs.append(run)
  about = {
    "config": config.to_dict(),
    "command": "python -m experiments.sweep",
    "environment": "here",
    "revision": "0123456789ab",
  }
  return dataset.dataset(runs, places, points, about)
