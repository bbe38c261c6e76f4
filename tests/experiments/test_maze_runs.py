"""Maze runs and the figures drawn of them, in a size for tests."""

import numpy as np
import pytest

from configs import maze
from experiments.figures import (
  maze_pictures,
  maze_rates,
  maze_studies,
  maze_summaries,
  mazes,
)
from experiments.reports import results
from experiments.runs import maze_presets, maze_runs
from experiments.runs.maze_runs import KS, Run

TINY = maze_presets.Preset(
  config=maze.get_config,
  warmup=200,
  steps=2,
  rates=(1e-3, 1e-2),
  chosen=dict.fromkeys(maze_presets.METHODS, 1e-3),
  tuning_seeds=(11, 12),
  seeds=(1, 2),
  rollouts=(3, 4),
  rollout_steps=2,
  scarce=3,
  scarce_steps=2,
  mazes=16,
  evaluations=1,
  changes={
    "task.size": 5,
    "task.random_ends": True,
    "task.max_length": 8,
    "policy.num_layers": 1,
    "policy.hidden_size": 16,
    "policy.intermediate_size": 32,
    "batch_size": 8,
    "rollouts": 4,
  },
)


def _made_up(preset, runs, folder):
  """What `maze_runs.train` returns, with better numbers for MaxRL."""
  found = []
  for run in runs:
    rng = np.random.default_rng(run.seed)
    rate = 0.2 if run.label == "MaxRL" else 0.002
    names = ("pass_rate", "solved", "length", "entropy", "gradient_norm")
    found.append(
      {
        "step": np.array([0, run.steps]),
        "correct": rng.binomial(KS[-1], rate, (2, preset.mazes)),
        "validation": rng.binomial(KS[-1], rate, preset.mazes),
      }
      | {name: rate * rng.uniform(size=run.steps) for name in names}
    )
  return found


def _saved(made, workdir):
  results.save(made, "made", workdir)
  for drawing in made.drawings:
    assert (workdir / "figures" / f"{drawing.name}.png").stat().st_size > 5000
  assert len({claim.id for claim in made.claims}) == len(made.claims)
  for claim in results.load("made", workdir).claims:
    assert isinstance(claim.holds, bool), claim
  return {claim.id: claim.holds for claim in made.claims}


@pytest.mark.parametrize(
  ("figure", "claims", "refuted"),
  [
    (mazes.figure, 12, set()),
    (mazes.baselines, 8, set()),
    # With 3 rollouts as with 4: the numbers made up are the same.
    (maze_studies.rollouts, 4, set()),
    # The rates are all the same to these numbers, and the first one is taken.
    (maze_rates.figure, 1, set()),
    (
      maze_studies.scarce,
      4,
      {"mazes.scarce.falls.grpo", "mazes.scarce.falls.rloo"},
    ),
  ],
)
def test_figures_are_drawn_and_claims_follow_the_numbers(
  monkeypatch, tmp_path, figure, claims, refuted
):
  preset = TINY._replace(steps=40, seeds=(1, 2, 3, 4, 5), mazes=64)
  monkeypatch.setitem(maze_presets.PRESETS, "quick", preset)
  monkeypatch.setattr(maze_runs, "train", _made_up)
  holds = _saved(figure("quick", tmp_path), tmp_path)
  assert len(holds) == claims
  assert {name for name, held in holds.items() if not held} == refuted


@pytest.mark.long
def test_figures_of_the_warm_up(monkeypatch, tmp_path):
  monkeypatch.setitem(maze_presets.PRESETS, "quick", TINY)
  holds = _saved(maze_pictures.figure("quick", tmp_path), tmp_path)
  assert holds == {"mazes.answers.verified": True}
  holds = _saved(maze_studies.gradients("quick", tmp_path), tmp_path)
  assert len(holds) == 2


def test_pictures_need_right_and_wrong_answers(monkeypatch, tmp_path):
  monkeypatch.setitem(maze_presets.PRESETS, "quick", TINY)
  monkeypatch.setattr(maze_runs, "warm_up", lambda *_: tmp_path)
  found = {"right": np.zeros((16, 64), bool)}
  monkeypatch.setattr(maze_runs.store, "stored", lambda *_, **__: found)
  with pytest.raises(ValueError, match="right and wrong answers"):
    maze_pictures.figure("quick", tmp_path)


@pytest.mark.long
def test_processes_with_a_core_each_train_the_same_runs(monkeypatch, tmp_path):
  runs = [Run("GRPO + entropy", 1e-3, seed, 2) for seed in (5, 6)]
  together = maze_runs.train(TINY, runs, tmp_path / "runs")
  monkeypatch.setattr(maze_runs, "_cores", lambda: {0})
  alone = maze_runs.train(TINY, runs, tmp_path / "again")
  for a, b in zip(together, alone, strict=True):
    assert a.keys() == b.keys()
    for name, values in a.items():
      np.testing.assert_array_equal(values, b[name], err_msg=name)
  assert alone[0]["correct"].shape == (2, TINY.mazes)
  assert not np.array_equal(alone[0]["entropy"], alone[1]["entropy"])


def test_the_rate_with_the_best_mean_score_is_chosen(monkeypatch, tmp_path):
  # The best seed of all has the rate 1e-2, whose mean is lower than 1e-3's.
  scores = {(1e-3, 11): 200, (1e-3, 12): 180, (1e-2, 11): 256, (1e-2, 12): 0}

  def train(preset, runs, folder):
    assert {run.seed for run in runs}.isdisjoint(preset.seeds)
    assert {run.steps for run in runs} == {preset.steps}
    found = []
    for run in runs:
      made = _made_up(preset, [run], folder)[0]
      right = scores[run.rate, run.seed]
      found.append(made | {"validation": np.full(4, right)})
    return found

  monkeypatch.setattr(maze_runs, "train", train)
  preset = TINY._replace(chosen={})
  chosen, found = maze_runs.tuned(preset, ["MaxRL", "GRPO"], None)
  assert chosen == {"MaxRL": 1e-3, "GRPO": 1e-3}
  assert found["GRPO"] == [190 / 256, 128 / 256]
  assert maze_runs.rates_of(preset, ["GRPO"], None) == {"GRPO": 1e-3}
  # A preset that records other rates says so in a claim.
  recorded = dict.fromkeys(maze_presets.METHODS, 1e-3) | {"RLOO": 1e-2}
  preset = TINY._replace(chosen=recorded)
  assert maze_runs.rates_of(preset, ["RLOO"], None) == {"RLOO": 1e-2}
  monkeypatch.setitem(maze_presets.PRESETS, "quick", preset)
  (claim,) = maze_rates.figure("quick", tmp_path).claims
  assert not claim.holds
  assert claim.measured == "RLOO: 0.01 used, 0.001 best"


def test_a_method_that_solves_nothing_has_no_rate(monkeypatch):
  found = [{"validation": np.zeros(4, int)} for _ in range(4)]
  monkeypatch.setattr(maze_runs, "train", lambda *_: found)
  with pytest.raises(
    ValueError, match=r"mazes, GRPO: diverged .*0\.001, 0\.01"
  ):
    maze_runs.tuned(TINY, ["GRPO"], None)


def test_running_means_against_a_loop():
  values = np.random.default_rng(0).normal(size=(2, 9))
  expected = [[np.mean(row[i : i + 3]) for i in range(7)] for row in values]
  np.testing.assert_allclose(maze_summaries.running_mean(values, 3), expected)
