"""Training that goes on where it was interrupted, to the same numbers."""

import json
import os
import pathlib
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from experiments import store
from experiments.interruptions import Interruptions, Stopped
from experiments.results import write_whole
from maxrl_jax import checkpoints, training
from maxrl_jax.checkpoints import Checkpoint, Checkpoints


def advance(
  made: training.Train,
  config,
  evaluate,
  workdir: pathlib.Path,
  environment: dict,
) -> tuple[training.TrainState, float]:
  """Trains what is left, keeping metrics.jsonl and checkpoints/.

  Args:
    made: from `make_train(config)`.
    config: of the run.
    evaluate: from `evaluation.make_evaluate`.
    workdir: of this run alone.
    environment: from `workdirs.environment`.

  Returns:
    Final states, and seconds of training in all.

  Raises:
    Stopped: a signal asked for it, and everything is on disk.
    FloatingPointError: as `training.chunks`, with the last good checkpoint.
    OSError: the disk is full, or the like.
    ValueError: no checkpoint is whole.
  """
  folder, block = workdir / "checkpoints", config.checkpoint
  origin = {
    "config": json.loads(config.to_json()),
    "environment": environment,
    "code": store.code(),
  }
  found = _restored(made, config, folder)
  if found:
    _tell(found, origin, config.steps)
  progress = _Progress(workdir / "metrics.jsonl", found, origin)
  with (
    Interruptions() as interruptions,
    Checkpoints(folder, block.keep_last, block.keep_best) as kept,
  ):
    try:
      start = states = found.states if found else None
      for states in _chunks(made, config, evaluate, start, progress, kept):
        if interruptions.asked_to_stop and progress.step < config.steps:
          if progress.saved < progress.step:
            kept.save(states, progress.about(), progress.score)
          kept.wait()
          raise Stopped(
            f"stopped at step {progress.step}; the same command goes on"
          )
    except FloatingPointError as error:
      where = f"step {progress.saved} in {folder}" if progress.saved else "none"
      raise FloatingPointError(
        f"{error}; last good checkpoint: {where}"
      ) from None
  return states, progress.seconds()


def _chunks(made, config, evaluate, start, progress, kept):
  """Trains chunk by chunk, logs, saves where it is due; yields the states."""
  every = config.checkpoint.every or config.eval_every
  with tqdm(
    total=config.steps, initial=progress.step, unit="step", file=sys.stderr
  ) as bar:
    for step, states, metrics in training.chunks(
      made, config, states=start, check=config.on_nonfinite == "stop"
    ):
      line, score = _measured(config, evaluate, step, states, metrics)
      progress.add(line, score, config.runs)
      if score is not None:
        bar.set_postfix({"pass@1": f"{score:.3f}"})
      bar.update(config.log_every)
      if step % every == 0 or step == config.steps:
        kept.save(states, progress.about(), progress.score)
        progress.saved = step
      yield states


class _Progress:
  """What a run has to show so far, all of which is in its checkpoints."""

  def __init__(
    self, path: pathlib.Path, found: Checkpoint | None, origin: dict
  ):
    """Begins, or goes on from what was found; `origin` is saved besides."""
    self._origin = origin
    self.step = self.saved = found.step if found else 0
    about = found.about if found else {"log": "", "seconds": 0.0}
    self._path, self._log = path, about["log"]
    self._begun = time.time() - about["seconds"]
    # Lines of steps that will be done again are dropped, and torn ones.
    write_whole(path, self._log)

  def add(self, line: dict, score: float | None, runs: int) -> None:
    """Appends a line to metrics.jsonl, or nothing at all."""
    text = json.dumps(plain(line, runs)) + "\n"
    try:
      with open(self._path, "a", encoding="utf-8") as file:
        file.write(text)
    except OSError:
      os.truncate(self._path, len(self._log.encode()))
      raise
    self._log += text
    self.step = line["step"]
    # Below all scores, where the policy was not evaluated.
    self.score = -1.0 if score is None else score

  def about(self) -> dict:
    return self._origin | {"log": self._log, "seconds": self.seconds()}

  def seconds(self) -> float:
    return time.time() - self._begun


def _restored(made, config, folder: pathlib.Path) -> Checkpoint | None:
  """The newest whole checkpoint, with a word on those that are not."""
  seeds = jnp.zeros(config.runs, jnp.uint32)
  like = jax.eval_shape(
    lambda seeds: made.start(jax.vmap(jax.random.key)(seeds), {}), seeds
  )
  found, damage = checkpoints.restore(folder, like)
  for message in damage:
    print(message, file=sys.stderr)
  return found


def _tell(found: Checkpoint, origin: dict, steps: int) -> None:
  """Where a run goes on, and what is not as it was when it stopped there."""
  print(f"going on from step {found.step} of {steps}", file=sys.stderr)
  then, now = found.about["environment"], origin["environment"]
  changed = [
    f"{name} was {then['versions'].get(name)} and is {version}"
    for name, version in now["versions"].items()
    if name in ("jax", "jaxlib", "flax", "optax", "numpy")
    and then["versions"].get(name) != version
  ]
  changed += [
    f"{name} was {then[name]} and is {now[name]}"
    for name in ("device", "devices")
    if then[name] != now[name]
  ]
  if found.about["code"] != origin["code"]:
    changed.append("maxrl_jax has other sources")
  if changed:
    print(
      f"{'; '.join(changed)}: numbers may not be those of a run that never"
      " stopped",
      file=sys.stderr,
    )


def _measured(config, evaluate, step, states, metrics):
  """One line of metrics.jsonl, and validation pass@1 where it was due."""
  line = {"step": step} | {k: _mean(k, v) for k, v in metrics.items()}
  if step % config.eval_every and step != config.steps:
    return line, None
  validated = evaluate("validation", states)
  line |= {f"validation/{name}": v for name, v in validated.items()}
  score = float(validated["pass@1"].mean())
  return line, score if np.isfinite(score) else None


def _mean(name: str, values: np.ndarray) -> np.ndarray:
  """Over the steps of a chunk; skipped updates are counted."""
  return values.sum(0) if name == "skipped" else values.mean(0)


def plain(line: dict, runs: int) -> dict:
  """Arrays over runs → lists, or numbers when there is one run.

  JSON has no NaN: what is not finite is null.
  """

  def one(value):
    return float(value) if np.isfinite(value) else None

  def of(value):
    if isinstance(value, np.ndarray):
      values = [one(x) for x in value]
      return values if runs > 1 else values[0]
    return value

  return {name: of(value) for name, value in line.items()}
