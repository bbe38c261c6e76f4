"""Sweeps: many runs of a grid in as few compiled programs as there can be.

grid.parse → axes → grid.points → programs.plan → running → finished → dataset
"""

from maxrl_jax.sweeps import dataset, finished, grid, programs, running

__all__ = ["dataset", "finished", "grid", "programs", "running"]
