"""Maze studies and the figures drawn of them, in a size for tests."""

import functools

import numpy as np
import pytest
import xarray as xr

from experiments import figures
from experiments.figures import maze_runs, maze_summaries
from experiments.figures.maze_settings import KS, METHODS, Settings
from experiments.reports import results
from maxrl_jax.config import RATE
from maxrl_jax.runs import study

TINY = Settings(
  size=7,
  max_length=12,
  layers=1,
  width=16,
  batch_size=8,
  rollouts=4,
  warmup=200,
  steps=40,
  evaluations=1,
  mazes=16,
  seeds=5,
  rates=(1e-3, 1e-2),
  tuning_seeds=2,
  recorded=(1e-3,) * len(METHODS),
  rollout_numbers=(3, 4),
  rollout_steps=40,
  scarce=3,
  scarce_steps=40,
  warmups=(100, 200),
  when_steps=40,
  sequential_steps=40,
)


def _data(what, *_, validation=None, diverged=False, **__):
  """What `study.run` returns, with made-up numbers that favour MaxRL.

  Args:
    what: the study.
    validation: (rate, seed) → pass@1.
    diverged: whether all runs have.
  """
  validation = validation or (lambda rate, seed: 0.3)
  runs = [(i, seed) for i in range(len(what.points)) for seed in what.seeds]
  points = [what.points[i] for i, _ in runs]
  waves = what.config.estimator.name == "sequential"
  best = [waves or p.get("estimator.name") == "maxrl" for p in points]
  rng = np.random.default_rng(0)
  p = np.where(best, 0.2, 0.002)[:, None] * rng.uniform(0.9, 1, (len(runs), 1))
  steps = what.config.steps
  names = ("pass_rate", "solved", "length", "entropy")
  metrics = {
    f"train_{name}": (("run", "step"), p * rng.uniform(size=steps))
    for name in names
  }
  if waves:
    metrics["train_tokens"] = (
      ("run", "step"),
      rng.uniform(size=(len(runs), steps)),
    )
  ends = ("run", "eval_step")
  for k in KS:
    metrics[f"test_pass@{k}"] = ends, np.repeat(1 - (1 - p) ** k, 2, 1)
  metrics["test_solved"] = metrics["test_pass@256"]
  scores = [
    validation(p.get(RATE), s) for p, (_, s) in zip(points, runs, strict=True)
  ]
  metrics["validation_pass@1"] = "run", np.array(scores)
  coordinates = {
    "point": ("run", [i for i, _ in runs]),
    "seed": ("run", [seed for _, seed in runs]),
    "diverged": ("run", np.full(len(runs), diverged)),
    "seconds": ("run", np.full(len(runs), 60.0)),
    "eval_step": [0, steps],
  }
  return xr.Dataset(metrics, coordinates)


@pytest.fixture
def made_up(monkeypatch, tmp_path):
  """Replaces training, by `_data` with other options for each call."""
  monkeypatch.setattr(maze_runs, "warm_up", lambda *_: tmp_path / "model")

  def use(**options):
    data = functools.partial(_data, **options)
    monkeypatch.setattr(study, "run", data)

  use()
  return use


def _saved(name, settings, workdir):
  """The outcomes of the claims of a figure, made and saved."""
  result = figures.make(name, settings, workdir / "runs")
  results.save(result, name, workdir)
  for drawing in result.drawings:
    image = workdir / "figures" / f"{drawing.name}.png"
    assert image.stat().st_size > 5000
  assert len({claim.id for claim in result.claims}) == len(result.claims)
  loaded = results.load(name, workdir)
  return {claim.id: claim.holds for claim in loaded.claims}


@pytest.mark.parametrize(
  ("name", "claims"),
  [
    ("mazes", 12),
    ("maze_baselines", 8),
    ("maze_rollouts", 4),
    ("maze_rates", 1),  # No rate is better, and the first one is taken.
    ("maze_scarce", 4),
    ("maze_sequential", 6),
  ],
)
@pytest.mark.usefixtures("made_up")
@pytest.mark.long
def test_figures_are_drawn_and_claims_follow_the_numbers(
  tmp_path, name, claims
):
  holds = _saved(name, TINY, tmp_path)
  assert len(holds) == claims
  assert all(held is True for held in holds.values()), holds


@pytest.mark.usefixtures("made_up")
def test_when_is_drawn(monkeypatch, tmp_path):
  rates = {"pass_rates": np.geomspace(1e-3, 0.9, 16)}
  monkeypatch.setattr(maze_runs, "at_warm_up", lambda *_, **__: rates)
  holds = _saved("maze_when", TINY, tmp_path)
  assert len(holds) == 5 and holds["mazes.when.hard"]


@pytest.mark.usefixtures("made_up")
def test_other_methods_are_compared(tmp_path):
  settings = TINY._replace(others=("GRPO + entropy", "power ½"))
  holds = _saved("mazes", settings, tmp_path)
  assert len(holds) == 12 and "mazes.main.solved.grpo_+_entropy" in holds
  with pytest.raises(ValueError, match="others = 'PPO': choose from"):
    _saved("mazes", TINY._replace(others=("PPO",)), tmp_path)
  with pytest.raises(ValueError, match=r"recorded = .*a rate for each"):
    _saved("mazes", TINY._replace(recorded=(1e-3,)), tmp_path)


@pytest.mark.long
def test_a_warm_up_is_trained_once_and_all_runs_start_from_it(tmp_path):
  holds = _saved("maze_answers", TINY, tmp_path)
  assert holds == {"mazes.answers.verified": True}
  (checkpoint,) = tmp_path.glob("runs/*/model/model.safetensors")
  stamp = checkpoint.stat().st_mtime_ns
  assert len(_saved("maze_gradients", TINY, tmp_path)) == 2
  assert checkpoint.stat().st_mtime_ns == stamp
  settings = TINY._replace(steps=2, seeds=2, others=("GRPO + entropy",))
  what = figures.studies("mazes", settings, tmp_path / "runs")["methods"]
  data = study.run(what, tmp_path / "runs")
  assert data["seed"].values.tolist() == [1, 2] * 2
  assert data["test_pass@256"].shape == (4, 2)  # At the start, and at the end.
  before = data["test_pass@1"].values[:, 0]
  np.testing.assert_allclose(before, before[0], rtol=1e-6)
  assert 0 < before[0] < 1
  entropy = data["train_entropy"].values
  assert entropy.shape == (4, 2)
  assert not np.array_equal(entropy[2], entropy[3])


def test_pictures_need_right_and_wrong_answers(monkeypatch, tmp_path):
  right = {"right": np.zeros((16, 64), bool)}
  monkeypatch.setattr(maze_runs, "at_warm_up", lambda *_, **__: right)
  with pytest.raises(ValueError, match="right and wrong answers"):
    figures.make("maze_answers", TINY, tmp_path)


def test_the_rate_with_the_best_mean_score_is_chosen(made_up, tmp_path):
  # The best seed of all has the rate 1e-2, whose mean is lower than 1e-3's.
  scores = {
    (1e-3, 1001): 0.8,
    (1e-3, 1002): 0.7,
    (1e-2, 1001): 1.0,
    (1e-2, 1002): 0.0,
  }
  made_up(validation=lambda *run: scores[run])
  what = maze_runs.study_of(TINY, tmp_path, ["MaxRL", "GRPO"], TINY.steps)
  rates, means = maze_runs.chosen(what, TINY, tmp_path)
  assert rates == [1e-3, 1e-3]
  np.testing.assert_allclose(means, [[0.75, 0.5]] * 2)
  free = TINY._replace(recorded=())
  what = figures.studies("mazes", free, tmp_path)["methods"]
  assert {point[RATE] for point in what.points} == {1e-3}
  assert set(what.seeds).isdisjoint({1001, 1002})
  # Recorded rates that differ fail a claim.
  table = dict.fromkeys(METHODS, 1e-3) | {"RLOO": 1e-2}
  other = TINY._replace(recorded=tuple(table.values()))
  what = figures.studies("mazes", other, tmp_path)["methods"]
  assert [point[RATE] for point in what.points] == [1e-3, 1e-3, 1e-2]
  (claim,) = figures.make("maze_rates", other, tmp_path).claims
  assert not claim.holds
  assert claim.measured == "RLOO: 0.01 used, 0.001 best"


def test_groups_and_waves_have_rates_of_their_own(made_up, tmp_path):
  made_up(validation=lambda rate, seed: rate)
  unknown = TINY._replace(sequential_recorded=())
  what = figures.studies("maze_sequential", unknown, tmp_path)
  points = [point for of in what.values() for point in of.points]
  assert [p[RATE] for p in points] == [1e-2] * 4  # The candidate that is best.
  assert what["waves"].points[1] == {"estimator.cap": 512, RATE: 1e-2}
  rates = (1e-3, 2e-3, 3e-3, 4e-3)
  known = TINY._replace(sequential_recorded=rates)
  what = figures.studies("maze_sequential", known, tmp_path)
  points = [point for of in what.values() for point in of.points]
  assert [p[RATE] for p in points] == list(rates)
  short = TINY._replace(sequential_recorded=rates[:3])
  with pytest.raises(ValueError, match=r"sequential_recorded = .* rate for ea"):
    figures.studies("maze_sequential", short, tmp_path)


@pytest.mark.usefixtures("made_up")
def test_rates_are_chosen_by_whole_runs_of_other_seeds(tmp_path):
  what = figures.studies("maze_rates", TINY, tmp_path)["rates"]
  assert len(what.points) == len(METHODS) * 2
  assert what.config.steps == TINY.steps and what.seeds == (1001, 1002)


def test_a_method_that_always_diverges_has_no_rate(made_up, tmp_path):
  made_up(diverged=True)
  what = maze_runs.study_of(TINY, tmp_path, ["GRPO"], TINY.steps)
  with pytest.raises(ValueError, match=r"grpo.* diverged .*0\.001, 0\.01"):
    maze_runs.chosen(what, TINY, tmp_path)


def test_running_means_against_a_loop():
  values = np.random.default_rng(0).normal(size=(2, 9))
  expected = [[np.mean(row[i : i + 3]) for i in range(7)] for row in values]
  np.testing.assert_allclose(maze_summaries.running_mean(values, 3), expected)
