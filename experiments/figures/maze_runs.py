"""Runs that the figures of mazes share: warm-ups, studies, learning rates.

All runs of RL start from one supervised warm-up. On a CPU they are trained by
worker processes, one run per core at a time.
"""

import pathlib
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments.figures import set_steps, warm_ups
from experiments.figures.maze_settings import (
  KS,
  METHODS,
  OPTIONS,
  Settings,
  config_of,
  recorded,
)
from maxrl_jax import config as configs
from maxrl_jax import evaluation
from maxrl_jax.config import RATE
from maxrl_jax.learning import training
from maxrl_jax.learning.training import Train
from maxrl_jax.runs import cache, choose, dataset, programs, study, workers
from maxrl_jax.runs.measure import Measure

MEASURE = Measure(splits=("test",), ks=KS, at_start=True, every_step=True)


def warm_up(settings: Settings, runs: pathlib.Path) -> pathlib.Path:
  """The checkpoint that all runs start from, trained if it is missing."""
  config = config_of(settings, "warmup")
  return warm_ups.trained(config, settings.warmup, runs, "maze")


def rl_config(settings: Settings, runs: pathlib.Path) -> ConfigDict:
  """The config of RL from the warm-up, without its steps."""
  config = config_of(settings, "rl")
  config.policy.checkpoint = str(warm_up(settings, runs))
  return config


def at_warm_up(
  settings: Settings, runs: pathlib.Path, measure: Callable, **options: Any
) -> dict[str, np.ndarray]:
  """Calls measure(config, trainer, params, **options) after the warm-up.

  Its arrays are cached.
  """
  config = rl_config(settings, runs)

  def compute(_: pathlib.Path) -> dict[str, np.ndarray]:
    trainer = training.make_train(config)
    params = configs.initial_params(config, trainer.policy, trainer.task)
    return measure(config, trainer, params, **options)

  name = measure.__name__
  key = programs.digest(config, measured=[name, options])
  return cache.cached(runs, f"maze-{name}-{key}", compute)


def pass_rates(
  config: ConfigDict, trainer: Train, params: Any
) -> dict[str, np.ndarray]:
  """The pass rate of every validation maze, from KS[-1] rollouts."""
  del config
  prompts = trainer.task.splits["validation"]
  correct = jax.jit(
    lambda params: evaluation.success_counts(
      trainer.policy, params, prompts, trainer.task, jax.random.key(3), KS[-1]
    )
  )(params)
  return {"pass_rates": np.asarray(correct / np.float32(KS[-1]))}


def study_of(
  settings: Settings,
  runs: pathlib.Path,
  methods: Sequence[str],
  steps: int,
  rates: Sequence[float] | None = None,
  fields: Mapping[str, Sequence] | None = None,
) -> study.Study:
  """RL from the warm-up; `methods` are the axis that changes fastest.

  Args:
    settings: of the figure.
    runs: folder of cached runs.
    methods: of METHODS.
    steps: of RL.
    rates: of each method; None leaves them to be chosen.
    fields: axes of the grid before the methods.
  """
  config = rl_config(settings, runs)
  set_steps(config, steps, min(settings.evaluations, steps))
  # All options for any methods, so that equal runs share a program.
  names = [f"estimator.{option}" for option in OPTIONS]
  rows = [[METHODS[m].get(option) for option in OPTIONS] for m in methods]
  if rates is not None:
    names.append(RATE)
    rows = [[*row, rate] for row, rate in zip(rows, rates, strict=True)]
  seeds = range(1, settings.seeds + 1)
  grid: dict[Any, Sequence] = dict(fields or {}) | {tuple(names): rows}
  return study.study(config, grid, seeds, MEASURE)


def tuning(settings: Settings) -> choose.Tuning:
  """By validation pass@1 after whole runs.

  The best rate early in a run can be too high for its end.
  """
  seeds = tuple(range(1001, 1001 + settings.tuning_seeds))
  return choose.Tuning(settings.rates, seeds)


def chosen(
  what: study.Study, settings: Settings, runs: pathlib.Path
) -> tuple[list[float], np.ndarray]:
  """The best rate of each point of a study, and scores [points, rates]."""
  choices, scores = choose.choose(
    what, tuning(settings), runs, workers=workers.per_core()
  )
  return [choice.rate for choice in choices], scores


def at_best_rates(
  settings: Settings,
  runs: pathlib.Path,
  steps: int,
  fields: Mapping[str, Sequence] | None = None,
  methods: Sequence[str] | None = None,
) -> study.Study:
  """`study_of`, at recorded rates; if there are none, chooses them first.

  Without `methods`, of those that the settings compare.
  """
  methods = methods or settings.compared
  rates = rates_of(settings, runs, methods)
  return study_of(settings, runs, methods, steps, rates, fields)


def rates_of(
  settings: Settings, runs: pathlib.Path, methods: Sequence[str]
) -> list[float]:
  """The recorded rate of each method; if there are none, the chosen one."""
  known = recorded(settings)
  if known:
    return [known[method] for method in methods]
  what = study_of(settings, runs, methods, settings.steps)
  return chosen(what, settings, runs)[0]


def train(
  what: study.Study, runs: pathlib.Path, labels: Iterable[Hashable]
) -> dict[Any, dict[str, np.ndarray]]:
  """Metrics [seeds, …], `seconds` and `eval_step`, by each point's label."""
  data = study.run(what, runs, workers=workers.per_core())
  shared = {"eval_step": data["eval_step"].values}
  return {
    label: {str(name): x.values for name, x in of_point.items()}
    | {"seconds": of_point["seconds"].values}
    | shared
    for label, of_point in dataset.by_point(data, labels).items()
  }
