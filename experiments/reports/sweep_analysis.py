"""What a sweep's runs say: methods, the learning rates they chose, scores.

Learning rates are chosen on some seeds, by the validation split, and every
number that is reported comes from the other seeds and the test split.
"""

from typing import NamedTuple

import numpy as np
import xarray as xr

from experiments.runs.rates import best_rate
from maxrl_jax.learning.update import RATE
from maxrl_jax.runs.grid import Axis, points

# What fields are called in figures and tables.
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
  """A point of the grid without its learning rate, at the rate it chose.

  Attributes:
    label: the fields that tell it from others.
    fields: the same, as values.
    rate: chosen; None where rates are not swept.
    edge: whether that is the smallest or largest there was.
    by_rate: rows of the data set that are reported, by learning rate; each by
      seed.
  """

  label: str
  fields: dict
  rate: float | None
  edge: bool
  by_rate: dict[float | None, np.ndarray]

  @property
  def runs(self) -> np.ndarray:
    """The rows of the chosen rate."""
    return self.by_rate[self.rate]


class Sweep(NamedTuple):
  """What figures and tables are made from.

  Attributes:
    data: all runs.
    axes: of the grid.
    score: the metric, 'pass@1' or 'nll'.
    larger: whether more of it is better.
    chooses: whether any method has several learning rates.
    tuning: seeds that chose among them; none where there is no choice.
    methods: of the grid.
  """

  data: xr.Dataset
  axes: list[Axis]
  score: str
  larger: bool
  chooses: bool
  tuning: np.ndarray
  methods: list[Method]

  def test(self, method: Method, score: str | None = None) -> np.ndarray:
    """Final test scores of a method's reported runs."""
    return self.data[f"test_{score or self.score}"].values[method.runs]


def analyse(data: xr.Dataset, axes: list[Axis]) -> Sweep:
  """Chooses a learning rate for every method, and sorts its runs by seed."""
  regression = "test_excess_nll" in data
  score, larger = ("nll", False) if regression else ("pass@1", True)
  seeds = np.unique(data["seed"].values)
  groups: dict[str, tuple[dict, dict]] = {}
  for index, point in enumerate(points(axes)):
    fields = {k: v for k, v in point.items() if k != RATE}
    _, by_rate = groups.setdefault(repr(fields), (fields, {}))
    by_rate[point.get(RATE)] = index
  chooses = any(len(by_rate) > 1 for _, by_rate in groups.values())
  # A quarter chooses: choosing and reporting on the same seeds would flatter.
  tuning = seeds[: max(1, len(seeds) // 4)] if chooses else seeds[:0]
  if len(tuning) == len(seeds):
    tuning = seeds[:0]  # One seed can only do both; the report says so.
  sweep = Sweep(data, axes, score, larger, chooses, tuning, [])
  methods = [
    _method(sweep, name(fields) or "the config", fields, by_rate)
    for fields, by_rate in groups.values()
  ]
  return sweep._replace(methods=methods)


def name(fields: dict) -> str:
  """Fields and values in a few words; defaults are left out."""
  words = []
  for field, value in fields.items():
    symbol = SYMBOLS.get(field, field)
    if value is not None:
      words.append(f"{symbol} = {value}" if symbol else str(value))
  return ", ".join(words)


def _method(sweep: Sweep, label, fields, by_rate) -> Method:
  data, seeds = sweep.data, sweep.data["seed"].values
  rates, scores = list(by_rate), []
  judges = sweep.tuning if len(sweep.tuning) else np.unique(seeds)
  for index in by_rate.values():
    rows = (data["point"].values == index) & np.isin(seeds, judges)
    found = data[f"validation_{sweep.score}"].values[rows, -1].mean()
    scores.append(found if sweep.larger else -found)
  rate, edge = rates[0], False
  # Where all diverged its row says so; the others' are worth a report.
  if np.isfinite(scores).any():
    rate, edge = best_rate(label, rates, scores)
  fresh = ~np.isin(seeds, sweep.tuning)
  reported = {
    one: np.flatnonzero((data["point"].values == index) & fresh)
    for one, index in by_rate.items()
  }
  return Method(label, fields, rate, edge, reported)
