"""Methods of a sweep, their chosen learning rates, and their scores.

Learning rates are chosen by validation scores of a quarter of the seeds; all
reported scores are test scores of the other seeds.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from maxrl_jax.config import RATE
from maxrl_jax.runs import dataset
from maxrl_jax.runs.choose import Choice, best_rate, mean_scores
from maxrl_jax.runs.grid import Axis, points

# Names of fields in figures and tables.
SYMBOLS = {
  RATE: "rate",
  "batch_size": "B",
  "rollouts": "N",
  "estimator.alpha": "α",
  "estimator.k": "K",
  "estimator.name": "",
  "estimator.order": "T",
  "likelihood.scale": "σ",
  "task.rho": "ρ",
}


class Method(NamedTuple):
  """A point of the grid without its learning rate, and the chosen rate.

  Attributes:
    label: its fields and values as text.
    fields: its fields and values.
    choice: its learning rate, None if the grid has none.
    by_rate: reported rows of the data set by learning rate, sorted by seed.
  """

  label: str
  fields: dict
  choice: Choice
  by_rate: dict[float | None, np.ndarray]

  @property
  def runs(self) -> np.ndarray:
    """The rows of the chosen rate."""
    return self.by_rate[self.choice.rate]


class Sweep(NamedTuple):
  """The runs of a grid, sorted by method.

  Attributes:
    data: all runs.
    axes: of the grid.
    score: the metric, 'pass@1' or 'nll'.
    larger: whether a higher score is better.
    chooses: whether any method has several learning rates.
    tuning: seeds by which they are chosen; empty if no seeds are set apart.
    methods: of the grid.
  """

  data: xr.Dataset
  axes: Sequence[Axis]
  score: str
  larger: bool
  chooses: bool
  tuning: np.ndarray
  methods: list[Method]

  def test(self, method: Method, score: str | None = None) -> np.ndarray:
    """Final test scores of a method's reported runs."""
    return dataset.final(self.data, f"test_{score or self.score}")[method.runs]


def analyse(data: xr.Dataset, axes: Sequence[Axis]) -> Sweep:
  """Chooses a learning rate for every method."""
  regression = "test_excess_nll" in data
  score, larger = ("nll", False) if regression else ("pass@1", True)
  seeds = np.unique(data["seed"].values)
  groups: dict[str, tuple[dict, dict]] = {}
  for index, point in enumerate(points(axes)):
    fields = {k: v for k, v in point.items() if k != RATE}
    _, by_rate = groups.setdefault(repr(fields), (fields, {}))
    by_rate[point.get(RATE)] = index
  chooses = any(len(by_rate) > 1 for _, by_rate in groups.values())
  # Choosing and reporting on the same seeds would overestimate scores.
  tuning = seeds[: max(1, len(seeds) // 4)] if chooses else seeds[:0]
  if len(tuning) == len(seeds):
    tuning = seeds[:0]  # A single seed serves for both; the report says so.
  sweep = Sweep(data, axes, score, larger, chooses, tuning, [])
  methods = [
    _method(sweep, name(fields) or "the config", fields, by_rate)
    for fields, by_rate in groups.values()
  ]
  return sweep._replace(methods=methods)


def name(fields: dict) -> str:
  """Fields and values as text, without those left to their defaults."""
  words = []
  for field, value in fields.items():
    symbol = SYMBOLS.get(field, field)
    if value is not None:
      words.append(f"{symbol} = {value}" if symbol else str(value))
  return ", ".join(words)


def _method(sweep: Sweep, label: str, fields: dict, by_rate: dict) -> Method:
  """The method of these fields; `by_rate`: points of the grid by rate."""
  data, seeds = sweep.data, sweep.data["seed"].values
  rates, points_of_rates = list(by_rate), list(by_rate.values())
  choosing = sweep.tuning if len(sweep.tuning) else seeds
  scores = mean_scores(
    data, points_of_rates, choosing, sweep.score, sweep.larger
  )
  choice = Choice(rates[0], False)
  # If all diverged, the table shows it, and other methods are reported.
  if np.isfinite(scores).any():
    choice = best_rate(label, rates, scores)
  reported = ~np.isin(seeds, sweep.tuning)
  rows = {
    rate: np.flatnonzero((data["point"].values == point) & reported)
    for rate, point in by_rate.items()
  }
  return Method(label, fields, choice, rows)
