"""Figures of sequential rollouts: exact curves, and what is counted."""

import numpy as np
import pytest
import xarray as xr

from experiments import figures
from experiments.figures import (
  sequential,
  sequential_budget,
  sequential_digits,
)
from experiments.figures.sequential_digits import Method


@pytest.mark.parametrize(("wave", "cap"), [(1, 12), (4, 12), (12, 12)])
def test_the_cost_is_the_sum_over_waves(wave, cap):
  """m times the chance that wave i is drawn, one after another."""
  p = np.array([1e-4, 0.1, 0.9])
  waves = range(0, cap, wave)
  expected = [sum(wave * (1 - x) ** before for before in waves) for x in p]
  np.testing.assert_allclose(sequential._cost(p, wave, cap), expected)


@pytest.mark.parametrize(
  ("wave", "p", "expected"),
  [(16, 0.01, 1.04), (16, 0.1, 1.28), (1024, 0.001, 1.22), (1024, 0.003, 1.37)],
)
def test_variance_at_equal_cost_is_the_table_of_the_theory(wave, p, expected):
  """docs/theory/sequential.md, whose numbers come from its own formulas."""
  pass_rates, ratio = sequential._product(wave, 1024)
  assert abs(np.interp(p, pass_rates, ratio) - expected) < 0.006


def test_the_cost_figure_in_small():
  settings = sequential.Settings(
    waves=(1, 8), cap=32, pass_rates=4, batches=2**11
  )
  p, costs, weights = sequential._measure(settings)
  np.testing.assert_allclose(p[[0, -1]], [1e-4, 0.9])
  assert costs[1].shape == weights[8].shape == (3, 4)
  result = sequential.figure(settings, None)
  held = {claim.id: claim.holds for claim in result.claims}
  assert held["sequential.cost"] and held["sequential.variance"]
  # Solved by 0.3 % of the batches only: no precision, so no claim.
  assert not held["sequential.weight"]


def test_rollouts_are_summed_over_steps():
  """2 steps with 10 rollouts each, then 3 steps with 20 each."""
  drawn = (("run", "step"), [[10.0, 20.0]])
  solved = (("run", "step"), [[0.75, 1.0]])
  data = {"train_rollouts_drawn": drawn, "train_solved": solved}
  data = xr.Dataset(data, {"step": [2, 5]})
  waves = sequential_digits._spent(Method(4, 32), data)
  np.testing.assert_array_equal(waves, [[20, 80]])
  fixed = sequential_digits._spent(Method(16, None), data)
  np.testing.assert_array_equal(fixed, [[32, 80]])
  # A quarter of the strings took 32 in vain, in 2 of the steps.
  share = sequential_digits._share_unsolved(Method(4, 32), data)
  assert share == 2 * 0.25 * 32 / 80


def test_every_wave_has_every_cap_and_no_baseline(tmp_path):
  settings = figures.settings("sequential_digits", "full")
  every = sequential_digits.studies(settings, tmp_path)
  assert [p["rollouts"] for p in every["fixed"].points] == [16, 128, 1024]
  pairs = [(p["rollouts"], p["estimator.cap"]) for p in every["waves"].points]
  assert pairs == [(m, t) for m in (4, 16, 64) for t in (128, 1024, 8192)]
  for what in every.values():
    assert what.config.estimator.baseline == "none"
    assert len(what.seeds) == 5
    what.plan()  # Raises if one cannot be trained.


@pytest.mark.long
def test_the_budget_figure_in_small(tmp_path):
  """Every method ends at the budget, and runs are not repeated."""
  settings = sequential_budget.Settings(
    total=400,
    per_step=64,
    fixed=(8,),
    prompts=4,
    wave=4,
    cap=16,
    most_batches=2,
    rates=(1e-3,),
    seeds=2,
    chunk=2,
    warmup=1,
  )
  result = sequential_budget.figure(settings, tmp_path)
  assert len(result.claims) == 5 and len(result.tables[0].rows) == 6
  files = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.npz")}
  assert len(files) == 6 * 3
  for path in files:
    with np.load(path) as run:
      drawn = run["drawn"]
      assert drawn[-2] < 400 <= drawn[-1] and run["test"].shape[1] == 2
  fixed = sequential_budget._run(settings, "fixed 8", 1e-3, 0, tmp_path)
  np.testing.assert_array_equal(fixed["drawn"], [0, 128, 256, 384, 512])
  sequential_budget.figure(settings, tmp_path)
  assert files == {p: p.stat().st_mtime_ns for p in tmp_path.glob("*.npz")}
