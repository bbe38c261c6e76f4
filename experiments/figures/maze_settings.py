"""What the figures of mazes share: settings, methods, warm-up and studies.

All runs of RL start from one supervised warm-up. On a CPU they are trained by
worker processes, one run per core at a time.
"""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from configs import maze, maze_paper
from experiments.figures import set_steps
from maxrl_jax import config as configs
from maxrl_jax import plotting
from maxrl_jax.config import RATE
from maxrl_jax.config.build import choice
from maxrl_jax.learning import training
from maxrl_jax.runs import (
  cache,
  choose,
  programs,
  study,
  train_to_folder,
  workers,
)
from maxrl_jax.runs.measure import Measure

KS = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # Of pass@k, from KS[-1] rollouts.

# Options of the estimator, by the label that figures give to a method.
METHODS: dict[str, dict[str, Any]] = {
  "MaxRL": {"name": "maxrl"},
  "GRPO": {"name": "grpo"},
  "RLOO": {"name": "rloo"},
  "GRPO + entropy": {"name": "grpo", "entropy_bonus": 0.1},
  "pass@16": {"name": "pass_at_k", "k": 16},
  "power ½": {"name": "power", "alpha": 0.5},
  "TailRL": {"name": "tail_rl"},
  "MaxRL T = 2": {"name": "maxrl", "order": 2},
  "MaxRL T = 8": {"name": "maxrl", "order": 8},
}
_OPTIONS = ("name", "entropy_bonus", "k", "alpha", "order")
COLOURS = {
  "MaxRL": plotting.COLOURS["maxrl"],
  "GRPO": plotting.COLOURS["grpo"],
  "RLOO": plotting.COLOURS["rloo"],
  "GRPO + entropy": "#666666",
  "pass@16": plotting.COLOURS["pass_at_k"],
  "power ½": plotting.COLOURS["power"],
  "TailRL": plotting.COLOURS["tail_rl"],
  "MaxRL T = 2": plotting.COLOURS["maxrl_paper"],
  "MaxRL T = 8": plotting.shade(0.75),
}


class Settings(NamedTuple):
  """Choices of the figures; all other fields are those of the config file."""

  config: str = "maze"  # File in configs/: maze or maze_paper.
  size: int = 9  # Of a maze, walls included.
  max_length: int = 18  # Tokens of an answer.
  layers: int = 2  # Of the transformer.
  width: int = 64  # Of the transformer.
  batch_size: int = 16  # Mazes per update of RL.
  rollouts: int = 32  # Per maze.
  warmup: int = 700  # Steps of supervised learning.
  warmup_batch_size: int = 64  # Mazes per update of supervised learning.
  steps: int = 180  # Of RL.
  evaluations: int = 3  # During a run, besides one at its start.
  mazes: int = 96  # Held out.
  seeds: int = 3  # Reported.
  others: tuple[str, ...] = ("GRPO", "RLOO")  # Compared with MaxRL.
  # Learning rates to choose from; whole runs with seeds that are not reported
  # choose by validation pass@1, unless the rates of METHODS are recorded.
  rates: tuple[float, ...] = (5e-5, 1e-4, 2e-4, 5e-4)
  tuning_seeds: int = 2
  recorded: tuple[float, ...] = (
    *(1e-4, 5e-5, 1e-4),
    *(1e-4, 5e-5, 1e-4),
    *(1e-4, 5e-5, 1e-4),
  )
  rollout_numbers: tuple[int, ...] = (4, 8, 16, 32)  # Of maze_rollouts.
  rollout_steps: int = 180
  scarce: int = 32  # Training mazes of maze_scarce.
  scarce_steps: int = 180

  @property
  def compared(self) -> tuple[str, ...]:
    """MaxRL and the others."""
    for method in self.others:
      choice(METHODS, "others", method)
    return ("MaxRL", *self.others)


PRESETS = {
  "quick": Settings(),
  "full": Settings(
    size=13,
    max_length=50,
    layers=4,
    width=128,
    batch_size=32,
    rollouts=128,
    warmup=3000,
    warmup_batch_size=32,
    steps=4000,
    evaluations=20,
    mazes=256,
    seeds=5,
    recorded=(),
    rollout_numbers=(4, 8, 16, 32, 64, 128),
    rollout_steps=4000,
    scarce=256,
    scarce_steps=4000,
  ),
  # Whether the outcomes of quick stay, at five times its steps.
  "long": Settings(steps=900, evaluations=15),
  "paper": Settings(
    config="maze_paper",
    size=17,
    max_length=180,
    layers=4,
    width=256,
    batch_size=32,
    rollouts=128,
    warmup=1500,
    warmup_batch_size=32,
    steps=20_000,
    evaluations=40,
    mazes=256,
    rates=(1e-4,),  # The published rate.
    recorded=(1e-4,) * len(METHODS),
    rollout_numbers=(4, 8, 16, 32, 64, 128),
    rollout_steps=9000,
    scarce=1024,
    scarce_steps=20_000,
  ),
}


def config_of(settings: Settings, stage: str) -> ConfigDict:
  """The config of a stage, 'warmup' or 'rl', without its steps."""
  files = {"maze": maze, "maze_paper": maze_paper}
  config = choice(files, "config", settings.config).get_config(stage)
  config.task.size = settings.size
  config.task.max_length = settings.max_length
  config.task.eval_size = settings.mazes
  config.policy.num_layers = settings.layers
  config.policy.hidden_size = settings.width
  config.policy.intermediate_size = 4 * settings.width
  config.eval_rollouts = KS[-1]
  config.batch_size = settings.warmup_batch_size
  if stage == "rl":
    config.batch_size = settings.batch_size
    config.rollouts = settings.rollouts
  return config


def warm_up(settings: Settings, runs: pathlib.Path) -> pathlib.Path:
  """The checkpoint that all runs start from, trained unless it is there."""
  config = config_of(settings, "warmup")
  config.steps = settings.warmup
  rise = config.optimizer.warmup  # Of the learning rate.
  config.optimizer.warmup = min(rise, config.steps // 2)
  config.checkpoint.every, config.eval_every = config.eval_every, config.steps
  folder = runs / f"maze-warm-up-{programs.digest(config)}"
  if not (folder / "summary.json").exists():
    train_to_folder.train(config, folder)
  return folder / "model"


def at_warm_up(
  settings: Settings, runs: pathlib.Path, measure: Callable, **options: Any
) -> dict[str, np.ndarray]:
  """(config, trainer, params, **options) → arrays, of the warm-up; cached."""
  config = config_of(settings, "rl")
  config.policy.checkpoint = str(warm_up(settings, runs))

  def compute(_: pathlib.Path) -> dict[str, np.ndarray]:
    trainer = training.make_train(config)
    params = configs.initial_params(config, trainer.policy)
    return measure(config, trainer, params, **options)

  name = measure.__name__
  key = programs.digest(config, measured=[name, options])
  return cache.cached(runs, f"maze-{name}-{key}", compute)


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
  config = config_of(settings, "rl")
  config.policy.checkpoint = str(warm_up(settings, runs))
  set_steps(config, steps, min(settings.evaluations, steps))
  # All options for any methods: the same run is then the same program.
  names = [f"estimator.{option}" for option in _OPTIONS]
  rows = [[METHODS[m].get(option) for option in _OPTIONS] for m in methods]
  if rates is not None:
    names.append(RATE)
    rows = [[*row, rate] for row, rate in zip(rows, rates, strict=True)]
  measure = Measure(splits=("test",), ks=KS, at_start=True, every_step=True)
  seeds = range(1, settings.seeds + 1)
  grid: dict[Any, Sequence] = dict(fields or {}) | {tuple(names): rows}
  return study.study(config, grid, seeds, measure)


def tuning(settings: Settings) -> choose.Tuning:
  """By validation pass@1 after whole runs.

  A rate too high for the end of a run can be the best at its beginning.
  """
  seeds = tuple(range(1001, 1001 + settings.tuning_seeds))
  return choose.Tuning(settings.rates, seeds)


def chosen(
  settings: Settings, runs: pathlib.Path, methods: Sequence[str]
) -> tuple[list[float], np.ndarray]:
  """The best rate of each method, and scores [methods, rates]."""
  what = study_of(settings, runs, methods, settings.steps)
  choices, scores = choose.choose(
    what, tuning(settings), runs, workers=_workers()
  )
  return [choice.rate for choice in choices], scores


def recorded(settings: Settings) -> dict[str, float]:
  """The recorded rate of each method; {} if there are none."""
  if len(settings.recorded) not in (0, len(METHODS)):
    raise ValueError(
      f"recorded = {settings.recorded}: must be empty, or a rate for each of"
      f" {', '.join(METHODS)}"
    )
  return dict(zip(METHODS, settings.recorded, strict=False))


def at_best_rates(
  settings: Settings,
  runs: pathlib.Path,
  methods: Sequence[str],
  steps: int,
  fields: Mapping[str, Sequence] | None = None,
) -> study.Study:
  """`study_of`, at recorded rates; if there are none, chooses them first."""
  known = recorded(settings)
  rates = (
    [known[method] for method in methods]
    if known
    else chosen(settings, runs, methods)[0]
  )
  return study_of(settings, runs, methods, steps, rates, fields)


def train(what: study.Study, runs: pathlib.Path) -> list[dict[str, np.ndarray]]:
  """Metrics of each point, [seeds, …], with the `eval_step` that they share."""
  data = study.run(what, runs, workers=_workers())
  shared = {"eval_step": data["eval_step"].values}

  def of_point(point: int) -> dict[str, np.ndarray]:
    rows = data["point"].values == point
    return {str(name): x.values[rows] for name, x in data.items()} | shared

  return [of_point(point) for point in range(len(what.points))]


def _workers() -> int:
  """Worker processes: one per core of a CPU."""
  return len(workers.cores()) if jax.default_backend() == "cpu" else 1
