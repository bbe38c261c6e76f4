"""Figures in small: their runs, their choices and their claims."""

import importlib

import numpy as np
import pytest

from experiments.figures import FIGURES, digit_strings, gradient_norms
from experiments.reports import results
from experiments.runs import digit_runs

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


@pytest.mark.parametrize(
  ("name", "small"),
  [
    (
      "bimodal",
      {"_STEPS": 10, "_SEEDS": 2, "_ORDERS": (1, 31)}
      | {"_OTHERS": ("exact ML", "GRPO on l", "RLOO on −MSE")},
    ),
    (
      "low_snr",
      {"_STEPS": 4, "_SEEDS": 2, "_RHOS": (0.3,), "_ROLLOUTS": (4,)}
      | {"_SAMPLED": ("MaxRL", "RLOO on −MSE")},
    ),
    (
      "heteroscedastic",
      {"_STEPS": 16, "_SEEDS": 2, "_KINDS": {True: "x tells σ"}}
      | {"_METHODS": ("exact ML", "MaxRL", "RLOO on −MSE")},
    ),
    ("factorized", {"_STEPS": 4, "_SEEDS": 2, "_DIMS": (1, 2)}),
    ("family", {"_STEPS": 20, "_SEEDS": 3}),
    ("budget", {"_STEPS": 20, "_SEEDS": 3}),
  ],
)
@pytest.mark.long
def test_regression_figures_in_small(name, small, tmp_path, monkeypatch):
  """Enough to draw them; whether claims hold is for the real run."""
  module = importlib.import_module(f"experiments.figures.{name}")
  for setting, value in small.items():
    presets = getattr(module, setting)
    if isinstance(presets, dict) and "quick" in presets:
      monkeypatch.setitem(presets, "quick", value)
    else:
      monkeypatch.setattr(module, setting, value)
  result = FIGURES[name]("quick", tmp_path)
  results.save(result, name, tmp_path)
  assert (tmp_path / "figures" / f"{name}.png").stat().st_size > 5000
  assert results.load(name, tmp_path).claims == result.claims
  kept = lambda: {  # noqa: E731
    p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("*.npz")
  }
  files = kept()
  if name == "bimodal":  # Drawn from the same runs.
    assert len(FIGURES["jensen"]("quick", tmp_path).claims) == 1
  FIGURES[name]("quick", tmp_path)
  assert files == kept()


def test_scale_figure_holds(tmp_path):
  """Exact, and quick enough to be run as it is."""
  assert all(
    claim.holds for claim in FIGURES["scale"]("quick", tmp_path).claims
  )


def test_claims_of_the_digit_figure_can_fail():
  """Ends in reverse order: not one of the orderings may hold."""
  final = {
    label: [0.1 * i + 0.01 * seed for seed in range(3)]
    for i, label in enumerate(digit_strings._ORDERING)
  }
  runs = {
    method: [
      {"test/pass@1": [final.get(method.label, [0.9, 0.91, 0.92])[seed]]}
      for seed in range(3)
    ]
    for method in digit_runs.METHODS
  }
  claims = digit_strings._claims(runs, "quick")
  orderings = [c for c in claims if "interval" in c.threshold]
  assert len(orderings) == 6 and not any(c.holds for c in orderings)
