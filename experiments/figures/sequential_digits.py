"""Digit strings with sequential rollouts: scores by steps and by rollouts."""

from typing import NamedTuple

import numpy as np
import xarray as xr

from configs import sequential
from experiments.figures.digit_strings import (
  Trained,
  set_sizes,
  train,
  tuning_table,
)
from experiments.reports.results import (
  Claim,
  Drawing,
  Result,
  Table,
  bounded,
  larger,
)
from maxrl_jax import plotting, stats
from maxrl_jax.runs import dataset, study
from maxrl_jax.runs.measure import Measure
from maxrl_jax.runs.progress import listed

_KS = (1, 16, 128)
_SCORES = ("pass@1", "pass@128")


class Settings(NamedTuple):
  """Choices of the figure; every wave has every cap.

  Claims are made only of a fixed group of 1024 and waves of 16 up to 1024 and
  8192 together.
  """

  fixed: tuple[int, ...] = (16, 128, 1024)
  waves: tuple[int, ...] = (16,)
  caps: tuple[int, ...] = sequential.CAPS
  rates: tuple[float, ...] = (1e-3, 2e-3)
  tuning_steps: int = 300
  steps: int = 1000
  seeds: int = 3
  batch_size: int = 64
  hidden: tuple[int, ...] = (256, 256)
  warmup: int = 50
  eval_every: int = 50


PRESETS = {
  "quick": Settings(),
  "full": Settings(
    waves=(4, 16, 64),
    rates=(5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3),
    tuning_steps=3000,
    steps=8000,
    seeds=5,
    batch_size=128,
    hidden=(512, 512),
    warmup=500,
    eval_every=200,
  ),
}


class Method(NamedTuple):
  """A line of the figure: a fixed group, or waves up to a cap."""

  rollouts: int
  cap: int | None

  @property
  def label(self) -> str:
    if self.cap is None:
      return f"fixed {self.rollouts}"
    return f"waves of {self.rollouts} up to {self.cap}"


# Methods of the claims.
_FIXED, _SAME, _HIGHER = Method(1024, None), Method(16, 1024), Method(16, 8192)


def studies(settings: Settings, runs) -> dict[str, study.Study]:
  """Fixed groups, and waves; nothing has a baseline."""
  del runs
  config = sequential.get_config()
  set_sizes(config, settings)
  groups = config.copy_and_resolve_references()
  groups.estimator.name, groups.estimator.cap = "maxrl", None
  seeds = range(1, settings.seeds + 1)
  measure = Measure(splits=("validation", "test"), ks=_KS)
  waves = {"rollouts": settings.waves, "estimator.cap": settings.caps}
  return {
    "fixed": study.study(groups, {"rollouts": settings.fixed}, seeds, measure),
    "waves": study.study(config, waves, seeds, measure),
  }


def _train(settings: Settings, runs) -> dict[Method, Trained]:
  planned = studies(settings, runs)
  methods = {
    name: [Method(x["rollouts"], x.get("estimator.cap")) for x in what.points]
    for name, what in planned.items()
  }
  return train(planned, methods, settings, runs)


def _spent(method: Method, data: xr.Dataset) -> np.ndarray:
  """Rollouts per prompt of a batch, summed over steps: [runs, times]."""
  steps = np.diff(data["step"].values, prepend=0)
  if method.cap is None:
    drawn = np.full((data.sizes["run"], len(steps)), float(method.rollouts))
  else:
    drawn = data["train_rollouts_drawn"].values
  return np.cumsum(drawn * steps, 1)


def _share_unsolved(method: Method, data: xr.Dataset) -> float:
  """Share of all rollouts drawn for unsolved strings, N or T for each."""
  steps = np.diff(data["step"].values, prepend=0)
  unsolved = (1 - data["train_solved"].values) * steps
  spent = _spent(method, data)[:, -1]
  return float(np.sum(unsolved) * (method.cap or method.rollouts) / spent.sum())


def figure(settings: Settings, runs) -> Result:
  """pass@1 and pass@128 by steps, and by the rollouts drawn so far."""
  trained = _train(settings, runs)
  caption = (
    "Strings of three real digits (1000 classes, initial pass rate 0.1 %),"
    " held-out strings of held-out images. Nothing has a baseline, since only"
    " one answer is right: a fixed group of N and waves up to N then have the"
    " same gradients in distribution, up to order N − 1 or N, and differ in"
    " their price. MLP"
    f" {settings.hidden}, {settings.batch_size} strings per step, Adam with"
    f" cosine, {settings.steps} steps; the rate of each method is chosen from"
    f" {listed(settings.rates)} on another seed."
    f" {plotting.seeds_in_words(settings.seeds)}; rollouts are those drawn per"
    " string of a batch, summed over steps."
  )
  finals = {m: dataset.final(t.data, "test_pass@1") for m, t in trained.items()}
  spent = {m: _spent(m, t.data)[:, -1] for m, t in trained.items()}
  return Result(
    "Digit strings with sequential rollouts",
    [Drawing("sequential_digits", _draw(settings, trained), caption)],
    _claims(finals, spent),
    [
      _results_table(settings, trained, spent),
      tuning_table(trained, settings),
    ],
  )


def look(method: Method, settings) -> dict:
  """Blue for waves, grey for fixed groups, darker with more rollouts."""
  if method.cap is None:
    style = plotting.by_rank(method.rollouts, settings.fixed, grey=True)
    return style | {"label": method.label}
  style = plotting.by_rank(method.cap, settings.caps)
  return style | {"label": f"waves up to {method.cap}"}


def _draw(settings: Settings, trained: dict[Method, Trained]):
  """One row for each size of waves, beside the same fixed groups."""
  count = len(settings.waves)
  drawing, axes = plotting.axes(columns=4, rows=count, width=3.1, height=3.0)
  rows = np.reshape(axes, (count, 4))
  for row, wave in zip(rows, settings.waves, strict=True):
    for method, (data, *_) in trained.items():
      if method.cap is None or method.rollouts == wave:
        _curves(row, method, data, look(method, settings))
    for ax in row:
      ax.set_ylim(-0.02, 1.02)
    for ax in row[2:]:
      ax.set_xscale("log")
    row[0].set_ylabel(f"held-out score, waves of {wave}")
  for ax, score in zip(rows[0], (*_SCORES, *_SCORES), strict=True):
    ax.set_title(score)
  rollouts = "rollouts per string of a batch, so far"
  labels = ("steps", "steps", rollouts, rollouts)
  for ax, x in zip(rows[-1], labels, strict=True):
    ax.set_xlabel(x)
  plotting.legend_below(drawing, rows[0, 0])
  return drawing


def _curves(row, method: Method, data: xr.Dataset, style: dict) -> None:
  steps, spent = data["eval_step"].values, _spent(method, data)
  for ax, score, x in zip(
    row, (*_SCORES, *_SCORES), (steps, steps, spent, spent), strict=True
  ):
    plotting.seed_curves(ax, x, data[f"test_{score}"].values, **style)


def _claims(finals, spent) -> list[Claim]:
  """From pass@1 after training, and rollouts per string of a batch."""
  if not {_FIXED, _SAME, _HIGHER} <= finals.keys():
    return []
  gap = stats.difference_interval(finals[_SAME], finals[_FIXED])
  factor = np.mean(spent[_FIXED]) / np.mean(spent[_SAME])
  return [
    bounded(
      "sequential_digits.close",
      "own, theorem 13",
      "Waves of 16 up to 1024 end within .01 of a fixed group of 1024 in"
      " held-out pass@1, or above it.",
      gap,
      above=-0.01,
    ),
    Claim(
      "sequential_digits.price",
      "own, theorem 14",
      "They draw at least ten times fewer rollouts.",
      f"{np.mean(spent[_SAME]):,.0f} against {np.mean(spent[_FIXED]):,.0f} per"
      f" string of a batch, {factor:.1f} times fewer",
      "≥ 10",
      bool(factor >= 10),
    ),
    larger(
      "sequential_digits.higher",
      "own, theorem 13",
      "Waves of 16 up to 8192 end above a fixed group of 1024 in pass@1.",
      finals[_HIGHER],
      finals[_FIXED],
    ),
  ]


def _results_table(settings: Settings, trained, spent) -> Table:
  rows = []
  for method, t in trained.items():
    scores = [dataset.final(t.data, f"test_{score}") for score in _SCORES]
    each = np.diff(_spent(method, t.data), axis=1, prepend=0)
    last = each[:, -1] / np.diff(t.data["step"].values, prepend=0)[-1]
    rows.append(
      [
        method.label,
        *scores,
        f"{spent[method].mean() / settings.steps:,.0f}",
        f"{last.mean():,.0f}",
        f"{_share_unsolved(method, t.data):.0%}",
      ]
    )
  return Table(
    "Test split after training, mean ± half the 95 % interval over seeds, and"
    " rollouts drawn per string: mean over training, in the last steps, and the"
    " share that went to strings that stayed unsolved.",
    ["method", *_SCORES, "rollouts, mean", "at the end", "unsolved"],
    rows,
  )
