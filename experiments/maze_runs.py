"""Maze runs: one warm-up, then RL from it by every method, kept when done.

On a CPU runs are trained two at a time, each by a process with a core of its
own: small operations gain little from a second core.
"""

import contextlib
import functools
import itertools
import multiprocessing
import os
import pathlib
import shutil
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import config_dict
from tqdm import tqdm

from configs import maze, maze_paper
from experiments import store
from maxrl_jax import configuration, evaluation, plotting, training
from maxrl_jax.integrations import qwen2

KS = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # Of pass@k, from KS[-1] rollouts.
# Ways to learn, by the label that figures give them.
METHODS = {
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
COLOURS = {
  "MaxRL": plotting.COLOURS["maxrl"],
  "GRPO": plotting.COLOURS["grpo"],
  "RLOO": plotting.COLOURS["rloo"],
  "GRPO + entropy": "#DDAA33",
  "pass@16": plotting.COLOURS["pass_at_k"],
  "power ½": plotting.COLOURS["power"],
  "TailRL": plotting.COLOURS["tail_rl"],
  "MaxRL T = 2": plotting.shade("maxrl", 0.15),
  "MaxRL T = 8": plotting.shade("maxrl", 0.55),
}
_TUNING_SEED = 1000  # Never a seed of the reported runs.


class Preset(NamedTuple):
  """A size of everything; fields are set in configs/maze.py or maze_paper.py.

  Attributes:
    config: stage ('warmup' or 'rl') → config.
    warmup: steps of supervised learning.
    steps: of RL, but for scarce data and the study of rollouts.
    tuning_steps: of the runs that choose a learning rate.
    rates: to choose from.
    seeds: reported.
    rollouts: N of the study of rollouts.
    rollout_steps: of that study.
    scarce: mazes of the fixed training set.
    scarce_steps: of RL on them.
    mazes: held-out, to evaluate on.
    evaluations: while a run lasts.
    changes: config fields by dotted name, for all runs.
  """

  config: Callable
  warmup: int
  steps: int
  tuning_steps: int
  rates: tuple[float, ...]
  seeds: tuple[int, ...]
  rollouts: tuple[int, ...]
  rollout_steps: int
  scarce: int
  scarce_steps: int
  mazes: int
  evaluations: int
  changes: dict


PRESETS = {
  "quick": Preset(
    config=maze.get_config,
    warmup=700,
    steps=240,
    tuning_steps=120,
    rates=(2e-4, 5e-4),
    seeds=(1, 2, 3),
    rollouts=(4, 8, 16, 32),
    rollout_steps=240,
    scarce=32,
    scarce_steps=240,
    mazes=128,
    evaluations=4,
    changes={},
  ),
  "full": Preset(
    config=maze.get_config,
    warmup=3000,
    steps=4000,
    tuning_steps=1000,
    rates=(5e-5, 1e-4, 2e-4, 5e-4),
    seeds=(1, 2, 3, 4, 5),
    rollouts=(4, 8, 16, 32, 64, 128),
    rollout_steps=4000,
    scarce=256,
    scarce_steps=4000,
    mazes=256,
    evaluations=20,
    changes={
      "task.size": 13,
      "task.max_length": 50,
      "policy.num_layers": 4,
      "policy.hidden_size": 128,
      "policy.intermediate_size": 512,
      "batch_size": 32,
      "rollouts": 128,
    },
  ),
  "paper": Preset(
    config=maze_paper.get_config,
    warmup=1500,
    steps=20_000,
    tuning_steps=0,
    rates=(1e-4,),
    seeds=(1, 2, 3),
    rollouts=(4, 8, 16, 32, 64, 128),
    rollout_steps=9000,
    scarce=1024,
    scarce_steps=20_000,
    mazes=256,
    evaluations=40,
    changes={},
  ),
}


class Run(NamedTuple):
  """One run of RL: of which method, how fast, for how long, and what else."""

  label: str
  rate: float
  seed: int
  steps: int
  changes: tuple[tuple[str, object], ...] = ()  # Config fields by dotted name.


def config_of(preset: Preset, stage: str, **changes) -> config_dict.ConfigDict:
  """The config of a stage; `changes` go by dotted name, after the preset's."""
  config = preset.config(stage)
  config.task.eval_size = preset.mazes
  config.update_from_flattened_dict(preset.changes | changes)
  return config


def warm_up(preset: Preset, folder: pathlib.Path) -> pathlib.Path:
  """The checkpoint that all runs start from, trained unless it is there."""
  config = config_of(preset, "warmup", steps=preset.warmup)
  place = folder / f"maze-warm-up-{store.digest(config)}"
  if not place.exists():
    made = training.make_train(config)
    *_, states = _counted(made, config)
    params = jax.tree.map(lambda x: x[0], states.params)
    unfinished = place.with_suffix(f".{os.getpid()}.part")
    qwen2.save(unfinished, made.policy, params)
    with contextlib.suppress(OSError):  # Another process was there first.
      unfinished.rename(place)
    shutil.rmtree(unfinished, ignore_errors=True)
  return place


def _counted(made, config):
  """States after each chunk, with a bar."""
  with tqdm(total=config.steps, unit="step", desc="warm-up") as bar:
    for _, states, _ in training.chunks(made, config):
      yield states
      bar.update(config.log_every)


def train(
  preset_name: str, runs: Sequence[Run], folder: pathlib.Path
) -> list[dict[str, np.ndarray]]:
  """Trains runs, as many at a time as there are cores; in the order given.

  Returns:
    Of each run `step` [E] and `correct` [E, M], right answers of `KS[-1]` to
    each of M test mazes, at every evaluation, before the first step too; the
    same of validation mazes at the end, `validation` [M]; and `pass_rate`,
    `solved`, `length`, `entropy`, `gradient_norm` of every step's batch.
  """
  warm = warm_up(PRESETS[preset_name], folder)
  bar = tqdm(total=len(runs), unit="run", desc="mazes")
  if jax.default_backend() != "cpu":
    found = []
    for run in runs:
      found.append(_stored(preset_name, run, folder, warm))
      bar.update()
    return found
  spawn = multiprocessing.get_context("spawn")
  cores = spawn.Queue()
  available = sorted(os.sched_getaffinity(0))
  for core in available:
    cores.put(core)
  with futures.ProcessPoolExecutor(
    len(available), mp_context=spawn, initializer=_pin, initargs=(cores,)
  ) as pool:
    waiting = [
      pool.submit(_stored, preset_name, run, folder, warm) for run in runs
    ]
    try:
      for one in futures.as_completed(waiting):
        one.result()  # A failure ends it all, without waiting for the rest.
        bar.update()
    except BaseException:
      pool.shutdown(wait=False, cancel_futures=True)
      raise
  return [one.result() for one in waiting]


def tuned(
  preset_name: str, labels: Sequence[str], folder: pathlib.Path, **changes
) -> tuple[dict[str, float], dict[str, list[float]]]:
  """A learning rate for each method: the best validation pass@1 of a seed.

  Returns:
    {label: rate}, {label: score at each rate, 0 where it diverged}.
  """
  preset = PRESETS[preset_name]
  if len(preset.rates) == 1:
    return dict.fromkeys(labels, preset.rates[0]), {}
  more = tuple(sorted(changes.items()))
  runs = [
    Run(label, rate, _TUNING_SEED, preset.tuning_steps, more)
    for label, rate in itertools.product(labels, preset.rates)
  ]
  found = train(preset_name, runs, folder)
  scores = [float(run["validation"].mean() / KS[-1]) for run in found]
  scores = np.reshape(scores, (len(labels), -1))
  chosen = np.argmax(scores, 1)
  rates = {
    label: preset.rates[best]
    for label, best in zip(labels, chosen, strict=True)
  }
  return rates, dict(zip(labels, scores.tolist(), strict=True))


def pass_at_k(correct: np.ndarray, k: int) -> np.ndarray:
  """Mean unbiased pass@k over mazes: correct [..., M] → [...]."""
  return np.asarray(evaluation.pass_at_k(correct, KS[-1], k)).mean(-1)


def stacked(found: Sequence[dict], name: str) -> np.ndarray:
  """One array of several runs, the run axis first."""
  return np.stack([run[name] for run in found])


def _pin(cores) -> None:
  """Gives a worker process a core of its own, before JAX starts threads."""
  os.sched_setaffinity(0, {cores.get()})


def _stored(preset_name, run: Run, folder, warm) -> dict[str, np.ndarray]:
  preset = PRESETS[preset_name]
  changes = dict(run.changes)
  changes |= {f"estimator.{k}": v for k, v in METHODS[run.label].items()}
  every = max(run.steps // preset.evaluations, 1)
  config = config_of(preset, "rl", steps=run.steps, log_every=every, **changes)
  config.eval_every = every
  config.optimizer.learning_rate = run.rate
  label = f"maze {run.label} lr{run.rate:g} seed{run.seed}".replace("/", "-")
  return store.stored(
    folder,
    label,
    config,
    lambda: _train(config, run.seed, warm),
    seed=run.seed,
    warm_up=warm.name,
  )


def _train(config, seed: int, warm: pathlib.Path) -> dict[str, np.ndarray]:
  config.policy.checkpoint = str(warm)
  made = training.make_train(config)

  @functools.partial(jax.jit, static_argnums=0)
  def count(split, params):
    return evaluation.success_counts(
      made.policy,
      params,
      made.task.splits[split],
      made.task,
      jax.random.key(1),
      KS[-1],
    )

  params = configuration.initial_params(config, made.policy)
  steps, correct, curves = [0], [np.asarray(count("test", params))], []
  for step, states, metrics in training.chunks(made, config, [seed]):
    params = jax.tree.map(lambda x: x[0], states.params)
    correct.append(np.asarray(count("test", params)))
    steps.append(step)
    curves.append({name: values[:, 0] for name, values in metrics.items()})
  return {
    "step": np.array(steps),
    "correct": np.stack(correct),
    "validation": np.asarray(count("validation", params)),
  } | {name: np.concatenate([c[name] for c in curves]) for name in curves[0]}
