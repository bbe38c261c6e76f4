"""Sweeps: many runs of a grid in as few compiled programs as there can be.

grid.parse → axes → grid.points → programs.plan → running → dataset
"""

from maxrl_jax.sweeps import dataset, grid, programs, running

__all__ = ["dataset", "grid", "programs", "running"]
