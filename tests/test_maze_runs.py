"""Maze runs and the figures drawn of them, in a size for tests."""

import numpy as np
import pytest

from configs import maze
from experiments import maze_presets, maze_runs, maze_summaries, results
from experiments.figures import maze_pictures, maze_studies, mazes
from experiments.maze_runs import Run

TINY = maze_presets.Preset(
  config=maze.get_config,
  warmup=60,
  steps=2,
  tuning_steps=1,
  rates=(1e-3,),
  seeds=(1, 2),
  rollouts=(3, 4),
  rollout_steps=2,
  scarce=3,
  scarce_steps=2,
  mazes=16,
  evaluations=1,
  changes={
    "task.size": 7,
    "task.random_ends": True,
    "task.max_length": 8,
    "policy.num_layers": 1,
    "policy.hidden_size": 16,
    "policy.intermediate_size": 32,
    "batch_size": 8,
    "rollouts": 4,
  },
)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  return tmp_path_factory.mktemp("mazes")


@pytest.fixture
def one_core(monkeypatch):
  monkeypatch.setattr(maze_runs, "_cores", lambda: {0})
  monkeypatch.setitem(maze_presets.PRESETS, "quick", TINY)


@pytest.mark.parametrize(
  ("figure", "claims"),
  [
    (mazes.figure, 12),
    (maze_studies.rollouts, 4),
    (maze_studies.scarce, 4),
    (maze_studies.gradients, 2),
    (maze_pictures.figure, 1),
  ],
)
def test_every_figure_is_made_with_its_claims(
  one_core, workdir, figure, claims
):
  made = figure("quick", workdir)
  assert len({claim.id for claim in made.claims}) == claims
  results.save(made, "made", workdir)
  for drawing in made.drawings:
    assert (workdir / "figures" / f"{drawing.name}.png").stat().st_size > 5000
  if figure is maze_pictures.figure:
    assert made.claims[0].holds


def test_processes_with_a_core_each_train_the_same_runs(
  monkeypatch, workdir, tmp_path
):
  monkeypatch.setitem(maze_presets.PRESETS, "quick", TINY)
  runs = [Run("GRPO + entropy", 1e-3, seed, 2) for seed in (5, 6)]
  together = maze_runs.train(TINY, runs, tmp_path / "runs")
  monkeypatch.setattr(maze_runs, "_cores", lambda: {0})
  alone = maze_runs.train(TINY, runs, tmp_path / "again")
  for a, b in zip(together, alone, strict=True):
    assert a.keys() == b.keys()
    for name, values in a.items():
      np.testing.assert_array_equal(values, b[name], err_msg=name)
  assert alone[0]["correct"].shape == (2, TINY.mazes)
  assert not np.array_equal(alone[0]["pass_rate"], alone[1]["pass_rate"])


def test_the_rate_with_the_best_validation_score_is_chosen(monkeypatch):
  scores = {1e-4: 3, 1e-3: 200, 1e-2: 0}

  def train(preset, runs, folder):
    assert {run.seed for run in runs}.isdisjoint(preset.seeds)
    return [{"validation": np.full(4, scores[run.rate])} for run in runs]

  monkeypatch.setattr(maze_runs, "train", train)
  preset = TINY._replace(rates=tuple(scores))
  chosen, found = maze_runs.tuned(preset, ["MaxRL", "GRPO"], None)
  assert chosen == {"MaxRL": 1e-3, "GRPO": 1e-3}
  assert found["GRPO"] == [3 / 256, 200 / 256, 0]


def test_running_means_against_a_loop():
  values = np.random.default_rng(0).normal(size=(2, 9))
  expected = [[np.mean(row[i : i + 3]) for i in range(7)] for row in values]
  np.testing.assert_allclose(maze_summaries.running_mean(values, 3), expected)
