"""Figures in small: their runs, their choices and their claims."""

import time
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

from experiments import figures
from experiments.figures import (
  bimodal,
  digit_strings,
  gradient_norms,
  maze_runs,
  noisy_regression,
  warm_ups,
)
from experiments.reports import results
from maxrl_jax.config import default, overlay
from maxrl_jax.learning import training
from maxrl_jax.runs import dataset, programs, study, train_to_folder
from maxrl_jax.tasks import RegressionTask

_TINY = digit_strings.Settings(
  rates=(1e-3, 1e-2),
  tuning_steps=4,
  steps=8,
  seeds=2,
  batch_size=4,
  hidden=(4,),
  warmup=2,
  eval_every=4,
)


@pytest.fixture
def two_methods(monkeypatch):
  """Cross-entropy and MaxRL with 16 rollouts."""
  sampled = digit_strings.METHODS["sampled"][2:3]
  methods = digit_strings.METHODS | {"sampled": sampled}
  monkeypatch.setattr(digit_strings, "METHODS", methods)


@pytest.mark.long
@pytest.mark.usefixtures("two_methods")
def test_digit_figure_chooses_rates_and_never_repeats_a_run(tmp_path):
  trained = digit_strings._train(_TINY, tmp_path)
  files = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.npz")}
  assert len(files) == 2 * (2 + 2)
  for method in trained.values():
    assert method.choice.rate == _TINY.rates[np.argmax(method.scores)]
    assert method.data["eval_step"].values.tolist() == [4, 8]
    assert method.data["seed"].values.tolist() == [1, 2]
  digit_strings._train(_TINY, tmp_path)
  assert files == {
    path: path.stat().st_mtime_ns for path in tmp_path.glob("*.npz")
  }


@pytest.mark.usefixtures("two_methods")
@pytest.mark.long
def test_a_diverging_rate_is_not_chosen(tmp_path, monkeypatch):
  settings = _TINY._replace(rates=(1e-3, 1e30))
  trained = digit_strings._train(settings, tmp_path)
  exact = next(iter(trained.values()))
  assert np.isnan(exact.scores[1]) and exact.choice.rate == 1e-3
  table = digit_strings.tuning_table(trained, settings)
  assert table.rows[0][2] == "diverged"
  assert table.rows[0][3] == "0.001 (edge)"
  assert exact.data.sizes["run"] == 2

  def train(*_):
    raise AssertionError("trained again")

  monkeypatch.setattr(study, "Slices", train)
  again = next(iter(digit_strings._train(settings, tmp_path).values()))
  assert again.choice == exact.choice and np.isnan(again.scores[1])


@pytest.mark.long
def test_gradient_norm_figure(tmp_path):
  settings = gradient_norms.Settings(
    rollouts=64,
    norm_rollouts=64,
    strings=50,
    steps=8,
    batch_size=4,
    hidden=(4,),
    warmup=0,
  )
  result = gradient_norms.figure(settings, tmp_path)
  assert len(result.claims) == 4 and len(result.drawings) == 1


_METRICS = ("nll", "excess_nll", "pass_rate", "entropy", "mse", "mse_clean")
_METRICS += ("correlation", "pit_distance", "digit_nll")
_SCORES = (*(f"pass@{k}" for k in digit_strings.KS), "majority", "nll")


def _made_up(what, folder, **_):
  """Data of the runs of a study that could be trained, with random metrics."""
  # Nothing has trained the warm-up.
  config = overlay(what.config, {"policy.checkpoint": None})
  what = what._replace(config=config)
  what.plan()
  rng = np.random.default_rng(0)
  trainer = training.make_train(overlay(what.config, what.points[0]))
  regression = isinstance(trainer.task, RegressionTask)
  count = (config.steps // config.eval_every) + what.measure.at_start
  shapes = {}
  if what.measure.probe:
    probe = what.measure.probe(trainer, **dict(what.measure.options))
    params = jax.eval_shape(trainer.init, jax.random.key(0)).params
    shapes = jax.eval_shape(probe, params)

  def run():
    arrays = {
      f"{split}/{name}": rng.uniform(0.1, 0.9, count)
      for split in ("validation", "test")
      for name in (_METRICS if regression else _SCORES)
    }
    arrays["train/rollouts_drawn"] = rng.uniform(16, 64, count)
    arrays["train/solved"] = rng.uniform(0.1, 0.9, count)
    for name, probed in shapes.items():
      arrays[f"probe/{name}"] = rng.uniform(0.1, 2, (count, *probed.shape))
    steps = config.eval_every * np.arange(1, count + 1)
    record = {"step": steps, "eval_step": steps}
    return arrays | record | {"diverged": False, "seconds": 1.0}

  places = [(i, seed) for i in range(len(what.points)) for seed in what.seeds]
  about = {"config": what.config.to_dict()}
  return dataset.dataset([run() for _ in places], places, what.points, about)


@pytest.mark.parametrize(
  ("name", "claims"),
  [
    ("bandit", 2),
    ("digits", 7),
    ("gradient_norms", 4),
    ("bimodal", 4),
    ("low_snr", 3),
    ("heteroscedastic", 3),
    ("factorized", 3),
    ("family", 1),
    ("budget", 1),
    ("noisy_regression", 4),
    ("noisy_noise", 8),
    ("noisy_scale", 2),
    ("noisy_pool", 1),
    ("sequential_digits", 3),
    ("off_policy", 7),
  ],
)
@pytest.mark.long
def test_figures_are_drawn_of_made_up_runs(name, claims, tmp_path, monkeypatch):
  result = _of_made_up_runs(name, [], tmp_path, monkeypatch)
  results.save(result, name, tmp_path)
  assert {path.name for path in (tmp_path / "figures").iterdir()} == {
    f"{drawing.name}.{ending}"
    for drawing in result.drawings
    for ending in ("png", "svg", "csv")
  }
  for drawing in result.drawings:
    assert _most_lines(drawing.figure) <= 6
  assert len(result.claims) == claims
  assert results.load(name, tmp_path).claims == result.claims


def _of_made_up_runs(name, changes, tmp_path, monkeypatch):
  monkeypatch.setattr(study, "run", _made_up)
  monkeypatch.setattr(warm_ups, "trained", lambda *_: tmp_path)
  settings = figures.settings(name, "quick", changes)
  return figures.make(name, settings, tmp_path)


@pytest.mark.parametrize(
  ("name", "change", "claims"),
  [
    ("bandit", "orders=4", 0),
    ("budget", "rollouts=64", 0),
    ("budget", "methods=grpo", 0),
    ("noisy_regression", "others=IWAE", 4),
    ("noisy_pool", "others=IWAE", 1),
    ("noisy_noise", "noises=0.3", 7),
    ("off_policy", "updates=1,2,4", 5),
    ("off_policy", "staleness=0,1", 5),
    ("sequential_digits", "fixed=16,128", 0),
  ],
)
@pytest.mark.long
def test_claims_are_about_what_is_there(
  name, change, claims, tmp_path, monkeypatch
):
  result = _of_made_up_runs(name, [change], tmp_path, monkeypatch)
  names = [claim.id for claim in result.claims]
  assert len(set(names)) == len(names) == claims


def test_bounds_in_any_order_and_with_few_rollouts(tmp_path):
  changes = ["orders=4,1", "rollouts=8"]
  settings = figures.settings("bounds", "quick", changes)
  tighten = figures.make("bounds", settings, tmp_path).claims[0]
  assert tighten.holds


@pytest.mark.parametrize(
  ("name", "change", "message"),
  [
    ("family", "orders=31", "must have 1, which is RL, and another one"),
    ("half_seen", "orders=1", "and have another one"),
    ("budget", "rollouts=48", "each must divide budget = 2048"),
    ("noisy_noise", "others=IWAE", "must have 'RLOO on −MSE'"),
  ],
)
def test_settings_that_cannot_be_compared_are_refused(
  name, change, message, tmp_path
):
  settings = figures.settings(name, "quick", [change])
  with pytest.raises(ValueError, match=message):
    figures.studies(name, settings, tmp_path)


def test_an_empty_setting_can_be_changed():
  settings = figures.settings("off_policy", "full", ["reused=reweighted"])
  assert settings.reused == ("reweighted",)


def _most_lines(figure) -> int:
  """Lines in the fullest panel, without the thin ones of seeds."""
  return max(
    sum(
      line.get_linestyle() != "None" and line.get_linewidth() > 0.5
      for line in ax.lines
    )
    for ax in figure.axes
  )


@pytest.mark.parametrize("name", ["weights", "bounds", "scale"])
def test_no_panel_has_more_than_six_lines(name, tmp_path):
  """Of figures without runs; with groups that are too few for the claims."""
  few = ["groups=16"] if name == "weights" else []
  result = figures.make(name, figures.settings(name, "quick", few), tmp_path)
  assert 1 < _most_lines(result.drawings[0].figure) <= 6


@pytest.mark.long
def test_a_regression_figure_in_small(tmp_path):
  """Trained, once; with the metrics that are made up above."""
  settings = bimodal.Settings(orders=(1, 31), others=(), steps=10, seeds=2)
  bimodal.figure(settings, tmp_path)
  files = list(tmp_path.glob("*.npz"))
  assert len(files) == 5 * 2
  for file in files:
    with np.load(file) as arrays:
      names = {f"test/{name}" for name in _METRICS} - {"test/digit_nll"}
      assert names < set(arrays)


def test_figures_that_share_a_warm_up_train_it_once(tmp_path, monkeypatch):
  """The second one waits for the first."""
  calls = []

  def train(_, folder):
    calls.append(folder)
    time.sleep(0.3)
    folder.mkdir()
    (folder / "summary.json").touch()

  monkeypatch.setattr(train_to_folder, "train", train)
  arguments = 10, tmp_path, "bandit"
  with ThreadPoolExecutor() as pool:
    figure = lambda _: warm_ups.trained(default(), *arguments)  # noqa: E731
    first, second = pool.map(figure, range(2))
  assert calls == [first.parent] and first == second


def test_numbers_start_from_one_warm_up_whatever_follows(monkeypatch):
  """And from one more stage on the task, if that is another one."""
  warming = []

  def trained(config, steps, *_):
    warming.append((programs.digest(config), steps))
    return "model"

  monkeypatch.setattr(warm_ups, "trained", trained)
  settings = figures.settings("noisy_pool", "quick")
  fields = {"task.noise": 2.0, "likelihood.scale": 2.0}
  for changed in (settings, settings._replace(steps=6, rollouts=8, rate=1.0)):
    noisy_regression.warmed_up(changed, None)
    noisy_regression.warmed_up(changed, None, {"task.noise": 0.3})
    noisy_regression.warmed_up(changed, None, fields)
  first = warming[:3]
  assert warming == [*first * 3, warming[9], *first * 3, warming[9]]
  assert warming[9] not in first


def test_steps_that_cannot_be_evaluated_evenly_are_refused(tmp_path):
  settings = figures.settings("bandit", "quick", ["steps=50"])
  with pytest.raises(ValueError, match="steps = 50: must be a multiple of 40"):
    figures.studies("bandit", settings, tmp_path)


@pytest.mark.parametrize(
  ("name", "preset"),
  [
    (name, p)
    for name, figure in figures.FIGURES.items()
    for p in figure.presets
  ],
)
def test_every_preset_can_be_planned(name, preset, tmp_path, monkeypatch):
  """Without warm-ups and without choosing rates, which train."""
  chosen = lambda what, *_: ([1e-4] * len(what.points), None)  # noqa: E731
  monkeypatch.setattr(warm_ups, "trained", lambda *_, **__: tmp_path)
  monkeypatch.setattr(maze_runs, "chosen", chosen)
  settings = figures.settings(name, preset)
  try:
    planned = figures.studies(name, settings, tmp_path)
  except ValueError as error:
    assert "has no study" in str(error)
  else:
    for what in planned.values():
      assert what.config.steps % what.config.eval_every == 0


def test_scale_figure_holds(tmp_path):
  """Exact, and quick enough to be run as it is."""
  settings = figures.settings("scale", "quick")
  result = figures.make("scale", settings, tmp_path)
  assert all(claim.holds for claim in result.claims)


def test_a_table_saves_values_of_runs_as_their_mean_and_half_interval(tmp_path):
  rows = [["a", np.array([1.0, 3.0]), 2]]
  table = results.Table("caption", ["method", "score", "N"], rows)
  results.save(results.Result("title", [], [], [table]), "name", tmp_path)
  (loaded,) = results.load("name", tmp_path).tables
  # t of one degree of freedom times the standard error, 1.
  assert loaded.rows == [["a", "2.000 ± 12.706", 2]]
  text = (tmp_path / loaded.file).read_text()
  assert text == "method,score,N\na,2.000 ± 12.706,2\n"
