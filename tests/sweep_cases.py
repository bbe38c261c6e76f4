"""A bandit to sweep over, and the programs that a grid becomes."""

from maxrl_jax.sweeps import grid, programs
from tests.bandit_configs import short_bandit


def swept_bandit():
  return short_bandit(steps=6, eval_every=4)


def plan(text, seeds=(0, 1), config=None):
  config = config or swept_bandit()
  points = grid.points(grid.parse(text, config))
  return points, programs.plan(config, points, seeds)
