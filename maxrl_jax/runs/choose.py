"""Learning rates, chosen by validation scores of separate seeds."""

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr

from maxrl_jax import ranges
from maxrl_jax.config import RATE, make_task, overlay
from maxrl_jax.runs import dataset
from maxrl_jax.runs import study as studies
from maxrl_jax.runs.grid import Axis
from maxrl_jax.runs.study import Study
from maxrl_jax.tasks import Exact


class Choice(NamedTuple):
  """A learning rate, and whether it is the smallest or largest of the grid."""

  rate: float
  edge: bool


class Tuning(NamedTuple):
  """How learning rates are chosen.

  Attributes:
    rates: candidates for every point; if empty, the config's rate is used.
    seeds: of the tuning runs, different from the reported seeds.
    score: validation metric that ranks the rates.
    larger: whether higher is better.
    steps: of the tuning runs; None: config.steps.
  """

  rates: tuple[float, ...]
  seeds: tuple[int, ...] = (1000, 1001)
  score: str = "pass@1"
  larger: bool = True
  steps: int | None = None


class Tuned(NamedTuple):
  """A study at the chosen learning rates.

  Attributes:
    data: the data set, of the study's seeds.
    choices: the rate of each point.
    scores: mean validation score [points, rates]; NaN where a run diverged.
  """

  data: xr.Dataset
  choices: list[Choice]
  scores: np.ndarray


def best_rate(
  method: str, rates: Sequence[float], scores: npt.ArrayLike
) -> Choice:
  """The rate with the highest score; of equal ones the first.

  Args:
    method: the name of the method, for errors.
    rates: to choose from.
    scores: [rates]; not finite where runs diverged.

  Raises:
    ValueError: every rate diverged; names the method.
  """
  scores = np.asarray(scores, np.float64)
  finite = np.isfinite(scores)
  if not finite.any():
    tried = ", ".join(f"{rate:g}" for rate in rates)
    raise ValueError(f"{method}: diverged at every learning rate ({tried})")
  rate = rates[int(np.argmax(np.where(finite, scores, -np.inf)))]
  return Choice(rate, len(rates) > 1 and rate in (min(rates), max(rates)))


def mean_scores(
  data: xr.Dataset, points: Sequence[int], seeds: Any, score: str, larger: bool
) -> np.ndarray:
  """Mean final validation score of each point over some seeds, [points].

  Negated where less is better; NaN where a run diverged.
  """
  name = f"validation_{score}"
  if name not in data:
    known = [str(x) for x in data if str(x).startswith("validation_")]
    scores = [x.removeprefix("validation_") for x in known]
    ranges.one_of(scores, score=score)
  values = dataset.final(data, name)
  # A diverged run can still have pass@k = 0: mask it.
  values = np.where(data["diverged"].values, np.nan, values)
  chosen = np.isin(data["seed"].values, seeds)
  means = [values[(data["point"].values == i) & chosen].mean() for i in points]
  return np.array(means) * (1 if larger else -1)


def run(
  study: Study, tuning: Tuning, folder: pathlib.Path, **options: Any
) -> Tuned:
  """Chooses a rate for every point, then trains the study at these rates.

  Args:
    study: a grid without learning rates; its points keep their order.
    tuning: rates, and how they are chosen.
    folder: as in `study.run`, as are the options.

  Raises:
    ValueError: a point diverged at every learning rate, the grid has learning
      rates, or no such score is measured.
  """
  points = study.points
  choices, scores = choose(study, tuning, folder, **options)
  fields = (*points[0], RATE)
  rows = [
    (*point.values(), choice.rate)
    for point, choice in zip(points, choices, strict=True)
  ]
  final = study._replace(axes=(Axis(fields, tuple(rows)),))
  return Tuned(studies.run(final, folder, **options), choices, scores)


def choose(
  study: Study, tuning: Tuning, folder: pathlib.Path, **options: Any
) -> tuple[list[Choice], np.ndarray]:
  """The choices of `run`, and the mean scores [points, rates] behind them."""
  points, rates = study.points, tuning.rates
  if RATE in points[0]:  # The chosen rates would replace it.
    raise ValueError(
      f"grid: {RATE} is chosen here; give the candidates as Tuning.rates"
    )
  _check(tuning, study)
  if not rates:
    rate = study.config.optimizer.learning_rate
    return [Choice(rate, False)] * len(points), np.full((len(points), 0), 0.0)
  config = study.config.copy_and_resolve_references()
  if tuning.steps is not None:
    total, config.steps = config.steps, tuning.steps
    warmup = config.optimizer.warmup
    config.optimizer.warmup = warmup * tuning.steps // total
  axis = Axis((RATE,), tuple((rate,) for rate in rates))
  trial = study._replace(
    config=config, axes=(*study.axes, axis), seeds=tuning.seeds
  )
  data = studies.run(trial, folder, **options)
  scores = mean_scores(
    data,
    range(len(points) * len(rates)),
    tuning.seeds,
    tuning.score,
    tuning.larger,
  ).reshape(len(points), len(rates))
  names = [
    ", ".join(f"{k} = {v}" for k, v in point.items()) or "the config"
    for point in points
  ]
  choices = [
    best_rate(name, rates, row) for name, row in zip(names, scores, strict=True)
  ]
  return choices, scores * (1 if tuning.larger else -1)


def _check(tuning: Tuning, study: Study) -> None:
  """Raises before anything is trained; other scores are known only after it."""
  if not isinstance(tuning.seeds, Sequence) or not tuning.seeds:
    raise ValueError(
      f"seeds = {tuning.seeds}: must be a list with at least one seed"
    )
  shared = sorted(set(tuning.seeds) & set(study.seeds))
  if tuning.rates and shared:
    raise ValueError(
      f"seeds = {tuning.seeds}: {shared[0]} is a seed of the study, too; choose"
      " others, since the chosen rates would fit the reported runs"
    )
  name, _, k = tuning.score.partition("@")
  ks = [str(k) for k in study.measure.ks]
  if name != "pass":
    return
  if k not in ks:
    raise ValueError(
      f"score = {tuning.score!r}: only pass@k with k in {study.measure.ks} is"
      " measured; add it to Measure.ks"
    )
  rollouts = study.config.eval_rollouts
  if int(k) <= rollouts:
    return
  # Built only here: some tasks take seconds.
  task = make_task(overlay(study.config, study.points[0]))
  if not isinstance(task, Exact):
    raise ValueError(
      f"score = {tuning.score!r}: needs eval_rollouts = {rollouts} to be at"
      f" least {k}"
    )


def rate_text(choice: Choice) -> str:
  """The rate as text, with "(edge)" if it is at the edge of the grid."""
  return f"{choice.rate:g}" + " (edge)" * choice.edge
