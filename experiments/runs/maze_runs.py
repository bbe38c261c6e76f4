"""Maze runs: one warm-up, then RL from it by every method, kept when done.

On a CPU runs are trained two at a time, each by a process with a core of its
own: small operations gain little from a second core.
"""

import functools
import itertools
import multiprocessing
import os
import pathlib
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import config_dict

from experiments.runs import resumable, store
from experiments.runs.maze_presets import METHODS, Preset, config_of
from experiments.runs.rates import best_rate
from experiments.shell import output
from experiments.shell.interruptions import RESUMABLE, Stopped
from maxrl_jax import config as configuration
from maxrl_jax import evaluation
from maxrl_jax.learning import training
from maxrl_jax.learning.update import RATE
from maxrl_jax.policies import Transformer, qwen2

KS = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # Of pass@k, from KS[-1] rollouts.
_AT_WORK = threading.Lock()  # Held while a run is trained.


class Run(NamedTuple):
  """One run of RL: of which method, how fast, for how long, and what else."""

  label: str
  rate: float
  seed: int
  steps: int
  changes: tuple[tuple[str, object], ...] = ()  # Config fields by dotted name.


def warm_up(preset: Preset, folder: pathlib.Path) -> pathlib.Path:
  """The checkpoint that all runs start from, trained unless it is there."""
  config = config_of(preset, "warmup", steps=preset.warmup)
  place = folder / f"maze-warm-up-{store.digest(config)}"
  if not place.exists():
    with store.alone(folder / f"unfinished-{place.name}") as unfinished:
      if not place.exists():  # Nor has another process made it since.
        _warm_up(config, unfinished, place)
  return place


def _warm_up(config, unfinished: pathlib.Path, place: pathlib.Path) -> None:
  made = training.make_train(config)
  with output.bar(total=config.steps, unit="step", desc="warm-up") as bar:
    _, states = resumable.measured(
      made,
      config,
      lambda *_: {},
      unfinished,
      lambda step: bar.update(step - bar.n),
    )
  params = jax.tree.map(lambda x: x[0], states.params)
  assert isinstance(made.policy, Transformer)
  qwen2.save(unfinished / "model", made.policy, params)
  (unfinished / "model").rename(place)


def measured(
  preset: Preset, folder: pathlib.Path, label: str, measure: Callable
) -> dict[str, np.ndarray]:
  """What `measure` finds of the warm-up: (config, made, params) → arrays."""
  warm = warm_up(preset, folder)
  config = config_of(preset, "rl")

  def compute(unfinished):
    del unfinished
    config.policy.checkpoint = str(warm)
    made = training.make_train(config)
    return measure(
      config, made, configuration.initial_params(config, made.policy)
    )

  return store.stored(folder, label, config, compute, warm_up=warm.name)


def train(
  preset: Preset, runs: Sequence[Run], folder: pathlib.Path
) -> list[dict[str, np.ndarray]]:
  """Trains runs, as many at a time as there are cores; in the order given.

  Returns:
    Of each run `step` [E] and `correct` [E, M], right answers of `KS[-1]` to
    each of M test mazes, at every evaluation, before the first step too; the
    same of validation mazes at the end, `validation` [M]; and `pass_rate`,
    `solved`, `length`, `entropy`, `gradient_norm` of every step's batch.
  """
  warm = warm_up(preset, folder)
  one = functools.partial(_stored, preset, folder, warm)
  with output.bar(total=len(runs), unit="run", desc="mazes") as bar:
    if jax.default_backend() == "cpu" and len(_cores()) > 1:
      return _side_by_side(one, runs, bar)
    found = []
    for run in runs:
      found.append(one(run))
      bar.update()
    return found


def _side_by_side(one: Callable, runs: Sequence[Run], bar) -> list:
  """[one(run) for each run], by as many processes as there are cores."""
  spawn = multiprocessing.get_context("spawn")
  cores = spawn.Queue()
  for core in _cores():
    cores.put(core)
  with futures.ProcessPoolExecutor(
    len(_cores()), mp_context=spawn, initializer=_prepare, initargs=(cores,)
  ) as pool:
    try:
      waiting = [pool.submit(_until_stopped, one, run) for run in runs]
      for done in futures.as_completed(waiting):
        done.result()  # A failure ends it all, without waiting for the rest.
        bar.update()
    except BaseException:
      pool.shutdown(wait=False, cancel_futures=True)
      workers = multiprocessing.active_children()
      for worker in workers:
        worker.terminate()
      for worker in workers:
        worker.join()  # They save what they are at, if we are still there.
      raise
  return [done.result() for done in waiting]


def _until_stopped(one: Callable, run):
  """one(run), in a worker; the pool has handed it its next run already."""
  try:
    return one(run)
  except Stopped:
    os._exit(RESUMABLE)


def tuned(
  preset: Preset, labels: Sequence[str], folder: pathlib.Path
) -> tuple[dict[str, float], dict[str, list[float]]]:
  """A learning rate for each method: the best mean validation pass@1.

  Runs are as long as those reported: a rate too high for the end of a run can
  be the best at its beginning.

  Returns:
    {label: rate}, {label: mean score over seeds at each rate, 0 where a run
    diverged}.

  Raises:
    ValueError: at no rate a method solves anything.
  """
  runs = [
    Run(label, rate, seed, preset.steps)
    for label, rate, seed in itertools.product(
      labels, preset.rates, preset.tuning_seeds
    )
  ]
  found = stacked(train(preset, runs, folder), "validation")
  shape = (len(labels), len(preset.rates), len(preset.tuning_seeds))
  scores = pass_at_k(found, 1).reshape(shape).mean(-1)
  # The warm-up solves some: nothing is what a policy without numbers solves.
  known = np.where(scores > 0, scores, np.nan)
  best = {
    label: best_rate(f"mazes, {label}", preset.rates, row).rate
    for label, row in zip(labels, known, strict=True)
  }
  return best, dict(zip(labels, scores.tolist(), strict=True))


def rates_of(
  preset: Preset, labels: Sequence[str], folder: pathlib.Path
) -> dict[str, float]:
  """The learning rate of each method: the preset's, or else `tuned`."""
  if preset.chosen:
    return {label: preset.chosen[label] for label in labels}
  return tuned(preset, labels, folder)[0]


def pass_at_k(correct: np.ndarray, k: int) -> np.ndarray:
  """Mean unbiased pass@k over mazes: correct [..., M] → [...]."""
  return np.asarray(evaluation.pass_at_k(correct, KS[-1], k)).mean(-1)


def stacked(found: Sequence[dict], name: str) -> np.ndarray:
  """One array of several runs, the run axis first."""
  return np.stack([run[name] for run in found])


def _cores() -> set[int]:
  if hasattr(os, "sched_getaffinity"):
    return os.sched_getaffinity(0)
  return set(range(os.cpu_count() or 1))


def _prepare(cores) -> None:
  """Gives a worker process a core of its own, before JAX starts threads."""
  # A terminal tells Ctrl-C to all of a group: it is the parent's, whose SIGTERM
  # would be a second signal else, and end workers before they have saved.
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  threading.Thread(target=_end_with_parent, daemon=True).start()
  core = cores.get()
  if hasattr(os, "sched_setaffinity"):  # Linux.
    os.sched_setaffinity(0, {core})


def _end_with_parent() -> None:
  """A worker whose parent was killed saves what it is at, and ends."""
  parent = multiprocessing.parent_process()
  if parent is not None:
    parent.join()
  os.kill(os.getpid(), signal.SIGTERM)
  with _AT_WORK:  # By itself it would wait for more work for ever.
    os._exit(RESUMABLE)


def _stored(preset, folder, warm, run: Run) -> dict[str, np.ndarray]:
  changes = dict(run.changes)
  changes |= {f"estimator.{k}": v for k, v in METHODS[run.label].items()}
  every = max(run.steps // preset.evaluations, 1)
  config = config_of(preset, "rl", steps=run.steps, log_every=every, **changes)
  config.eval_every = every
  with _AT_WORK:
    return store.stored(
      folder,
      f"maze {run.label} lr{run.rate:g} seed{run.seed}",
      config,
      lambda unfinished: _train(config, run, str(warm), unfinished),
      rate=run.rate,
      seed=run.seed,
      warm_up=warm.name,
    )


def _train(config, run: Run, warm: str, unfinished) -> dict[str, np.ndarray]:
  config.policy.checkpoint = warm
  made, count, params = _program(config_dict.FrozenConfigDict(config))
  test, validation = (made.task.splits[n] for n in ("test", "validation"))

  def measure(step, states, metrics):
    params = jax.tree.map(lambda x: x[0], states.params)
    curves = {name: values[:, 0] for name, values in metrics.items()}
    correct = np.asarray(count(params, test))
    return curves | {"step": np.array(step), "correct": correct}

  # A run that diverges is shown as it is: it solves nothing.
  records, states = resumable.measured(
    made,
    config,
    measure,
    unfinished,
    seeds=[run.seed],
    varied={RATE: [run.rate]},
    check=False,
  )
  last = jax.tree.map(lambda x: x[0], states.params)
  before = np.asarray(count(params, test))
  found = {"validation": np.asarray(count(last, validation))}
  for name in records[0]:
    values = [record[name] for record in records]
    if name == "step":
      found[name] = np.array([0, *values])
    elif name == "correct":
      found[name] = np.stack([before, *values])
    else:
      found[name] = np.concatenate(values)
  return found


@functools.lru_cache(maxsize=2)
def _program(config: config_dict.FrozenConfigDict):
  """What runs that differ in seed and rate share, compiled once a process."""
  made = training.make_train(config)

  @jax.jit
  def count(params, prompts):
    key = jax.random.key(1)
    return evaluation.success_counts(
      made.policy, params, prompts, made.task, key, KS[-1]
    )

  return made, count, configuration.initial_params(config, made.policy)
