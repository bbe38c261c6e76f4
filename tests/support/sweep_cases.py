"""A bandit to sweep over, its programs, and data of sweeps that never ran."""

import numpy as np

from maxrl_jax.runs import dataset, grid, programs
from tests.support.bandit_configs import short_bandit


def swept_bandit():
  return short_bandit(steps=6, eval_every=4)


def plan(text, seeds=(0, 1), config=None):
  config = config or swept_bandit()
  points = grid.points(grid.parse(text, config))
  return points, programs.plan(config, points, seeds)


def data_of(axes, seeds, score, config, name="pass@1"):
  """Runs whose scores are score(point, seed, split)."""
  points = grid.points(axes)
  rows = [(i, s) for i in range(len(points)) for s in range(seeds)]
  runs = {
    "point": np.array([i for i, _ in rows]),
    "seed": np.array([s for _, s in rows]),
    "diverged": np.zeros(len(rows), bool),
    "seconds": np.full(len(rows), 0.5),
    "step": np.array([5, 10]),
    "eval_step": np.array([5, 10]),
  }
  at = {
    split: np.array([score(points[i], s, split) for i, s in rows])
    for split in ("validation", "test")
  }
  runs[f"validation/{name}"] = np.stack([at["validation"] / 2] * 2, 1)
  runs[f"validation/{name}"][:, 1] = at["validation"]
  runs[f"test/{name}"] = at["test"]
  if name == "nll":
    runs["test/excess_nll"] = at["test"]
  about = {
    "config": config.to_dict(),
    "command": "python -m experiments.sweep",
    "environment": "here",
    "revision": "0123456789ab",
  }
  return dataset.dataset(runs, points, about)
