"""Figures in small: their runs, their choices and their claims."""

import jax
import numpy as np
import pytest

from experiments.figures import (
  FIGURES,
  bimodal,
  digit_strings,
  gradient_norms,
)
from experiments.reports import results
from experiments.runs import digit_runs, regression_runs, sweep_runs
from maxrl_jax.learning import training
from maxrl_jax.runs import grid, programs
from tests.support.sweep_cases import data_of

_TINY = digit_runs.Preset(
  steps=8,
  tuning_steps=4,
  learning_rates=(1e-3, 1e-2),
  seeds=(1, 2),
  batch_size=4,
  hidden=(4,),
  warmup=2,
  eval_every=4,
)


@pytest.mark.long
def test_digit_figure_tunes_and_never_repeats_a_run(tmp_path, monkeypatch):
  monkeypatch.setitem(digit_runs.PRESETS, "quick", _TINY)
  methods = digit_runs.METHODS[:2]
  monkeypatch.setattr(digit_runs, "METHODS", methods)
  chosen, tuning, runs = digit_runs.all_runs(_TINY, tmp_path)
  files = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.npz")}
  assert len(files) == 2 * (2 + 2)
  for method in methods:
    best = max(tuning[method], key=tuning[method].get)
    assert chosen[method].rate == best
    assert runs[method][0]["step"].tolist() == [4, 8]
  digit_runs.all_runs(_TINY, tmp_path)
  assert files == {
    path: path.stat().st_mtime_ns for path in tmp_path.glob("*.npz")
  }


def test_a_diverging_rate_is_not_chosen(tmp_path, monkeypatch):
  monkeypatch.setattr(digit_runs, "METHODS", digit_runs.METHODS[:1])
  preset = _TINY._replace(learning_rates=(1e-3, 1e30))
  chosen, tuning, runs = digit_runs.all_runs(preset, tmp_path)
  (method,) = tuning
  assert np.isnan(tuning[method][1e30]) and chosen[method].rate == 1e-3
  table = digit_strings._tuning_table(tuning, chosen, preset)
  assert table.rows[0][2] == "diverged"
  assert table.rows[0][3] == "0.001 (edge)"
  assert len(runs[method]) == 2

  def train(*_):
    raise AssertionError("trained again")

  monkeypatch.setattr(digit_runs._Trainer, "_train", train)
  again = digit_runs.all_runs(preset, tmp_path)
  assert again[0] == chosen and np.isnan(again[1][method][1e30])


@pytest.mark.long
def test_gradient_norm_figure(tmp_path, monkeypatch):
  monkeypatch.setitem(digit_runs.PRESETS, "quick", _TINY)
  monkeypatch.setitem(gradient_norms._STEPS, "quick", 8)
  monkeypatch.setitem(gradient_norms._ROLLOUTS, "quick", 64)
  result = FIGURES["gradient_norms"]("quick", tmp_path)
  assert len(result.claims) == 4 and len(result.drawings) == 1


_METRICS = ("nll", "excess_nll", "pass_rate", "entropy", "mse", "mse_clean")
_METRICS += ("correlation", "pit_distance")


_SHAPES: dict = {None: {}}  # Of what probes measure.


def _untrained(config, seeds, folder, label, **options):
  """What `regression_runs.train` returns; of a probe the shapes are its own."""
  points, probe = options.get("points", ({},)), options.get("probe")
  rng, runs = np.random.default_rng(0), (len(points), seeds, 4)
  if probe not in _SHAPES:
    made = training.make_train(config, varying=list(points[0]))
    params = jax.eval_shape(made.init, jax.random.key(0)).params
    _SHAPES[probe] = jax.eval_shape(probe(made), params)
  found = {name: rng.uniform(0.1, 2, runs) for name in _METRICS}
  for name, one in _SHAPES[probe].items():
    found[name] = rng.uniform(0.1, 2, (*runs, *one.shape))
  rates = np.full(len(points), 1e-3)
  return found | {"step": np.arange(4), "learning_rate": rates}


def _never_swept(config, axes, seeds, folder):
  """What `sweep_runs.kept` returns, of a grid that could be trained."""
  programs.plan(config, grid.points(axes), seeds)
  rng = np.random.default_rng(0)
  data = data_of(axes, len(seeds), lambda *_: rng.uniform(), config)
  return data.assign({"test_pass@16": data["test_pass@1"]})


@pytest.mark.parametrize(
  ("name", "claims"),
  [
    ("bimodal", 3),
    ("jensen", 1),
    ("low_snr", 3),
    ("heteroscedastic", 3),
    ("factorized", 3),
    ("family", 1),
    ("budget", 1),
  ],
)
def test_figures_are_drawn_of_made_up_runs(name, claims, tmp_path, monkeypatch):
  monkeypatch.setattr(regression_runs, "train", _untrained)
  monkeypatch.setattr(sweep_runs, "kept", _never_swept)
  result = FIGURES[name]("quick", tmp_path)
  results.save(result, name, tmp_path)
  assert {path.name for path in (tmp_path / "figures").iterdir()} == {
    f"{name}.png",
    f"{name}.svg",
  }
  assert len(result.claims) == claims
  assert results.load(name, tmp_path).claims == result.claims


@pytest.mark.long
def test_a_regression_figure_in_small(tmp_path, monkeypatch):
  """Trained as it is, and once; and with the metrics that are made up above."""
  for name, value in (("_STEPS", 10), ("_SEEDS", 2)):
    monkeypatch.setitem(getattr(bimodal, name), "quick", value)
  monkeypatch.setattr(bimodal, "_ORDERS", (1, 31))
  others = ("exact ML", "GRPO on l", "RLOO on −MSE")
  monkeypatch.setattr(bimodal, "_OTHERS", others)
  FIGURES["bimodal"]("quick", tmp_path)
  files = list((tmp_path / "runs").glob("*.npz"))
  assert len(files) == 4
  for file in files:
    with np.load(file) as found:
      assert set(_METRICS) < set(found)
  monkeypatch.setattr(regression_runs, "_tuned", None)
  FIGURES["jensen"]("quick", tmp_path)  # Drawn from the same runs.


def test_scale_figure_holds(tmp_path):
  """Exact, and quick enough to be run as it is."""
  assert all(
    claim.holds for claim in FIGURES["scale"]("quick", tmp_path).claims
  )
