"""One run in a folder of its own: metrics.jsonl, checkpoints/, signals."""

import json
import os
import pathlib
import time

import jax
import numpy as np
import psutil

from experiments.runs import store
from experiments.shell import output
from experiments.shell.interruptions import until_stopped
from maxrl_jax.devices import processes
from maxrl_jax.learning import training
from maxrl_jax.runs.files import write_whole
from maxrl_jax.runs.resume import Record, Resumable

# Seconds between checkpoints of runs that are small as a rule.
PATIENCE = 30.0


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
    ValueError: no checkpoint is whole, or the newest has no origin.
  """
  origin = {
    "config": json.loads(config.to_json()),
    "environment": environment,
    "code": store.code(),
  }
  run = _opened(made, config, workdir)
  _tell(run, origin, config.steps)
  log = _Log(workdir / "metrics.jsonl", run.records, config.runs)
  chunks = run.chunks(_measure(config, evaluate), origin=origin)
  bar = output.bar(
    total=config.steps,
    initial=run.step,
    unit="step",
    hidden=not processes.is_first(),
  )
  outlook = _Outlook(config)

  def tell(step):
    record = run.records[-1]
    log.add(record)
    outlook.tell(step)
    if "validation/pass@1" in record:
      score = record["validation/pass@1"].mean()
      bar.set_postfix({"pass@1": f"{score:.3f}"}, refresh=False)
    bar.update(config.log_every)

  with bar:
    until_stopped(chunks, tell)
  assert run.states is not None
  return run.states, run.seconds


def measured(
  made: training.Train,
  config,
  measure,
  folder: pathlib.Path,
  tick=lambda step: None,
  **options,
) -> tuple[list[Record], training.TrainState]:
  """Trains in a folder for what is unfinished.

  Args:
    made: from `make_train(config)`.
    config: the same.
    measure: as in `Resumable.chunks`.
    folder: from `store.stored`.
    tick: is told the steps that are done.
    **options: `check` as in `Resumable.chunks`; seeds and varied as in
      `training.chunks`.

  Returns:
    What was measured of each chunk, and the final states.

  Raises:
    as `advance`.
  """
  check = options.pop("check", None)
  run = Resumable(made, config, folder / "checkpoints", **options)
  tick(run.step)
  chunks = run.chunks(measure, patience=PATIENCE, check=check)
  until_stopped(chunks, tick)
  assert run.states is not None
  return run.records, run.states


def _opened(made: training.Train, config, workdir: pathlib.Path) -> Resumable:
  """Where the folder's checkpoints left off, if `advance` wrote them."""
  run = Resumable(made, config, workdir / "checkpoints")
  if run.step and run.about is None:
    raise ValueError(
      f"workdir = '{workdir}': its newest checkpoint is of a loop of your own,"
      " which experiments.train cannot go on with; choose another folder"
      " (--fresh trains this one anew)"
    )
  return run


def _measure(config, evaluate):
  """(step, states, metrics of a chunk) → its line of metrics.jsonl."""

  def measure(step, states, metrics) -> Record:
    record = {name: _over_steps(name, x) for name, x in metrics.items()}
    if step % config.eval_every == 0 or step == config.steps:
      found = evaluate("validation", states)
      record |= {f"validation/{name}": x for name, x in found.items()}
    return {"step": np.array(step)} | record

  return measure


class _Log:
  """metrics.jsonl: every step once, and no line that is torn."""

  def __init__(self, path: pathlib.Path, records: list[Record], runs: int):
    self._path, self._runs = path, runs
    # Lines of steps that will be done again are dropped.
    text = "".join(map(self._line, records))
    if processes.is_first():
      write_whole(path, text)
    self._bytes = len(text.encode())

  def add(self, record: Record) -> None:
    """Appends a line, or nothing at all."""
    if not processes.is_first():
      return
    text = self._line(record)
    try:
      with open(self._path, "a", encoding="utf-8") as file:
        file.write(text)
    except OSError:
      os.truncate(self._path, self._bytes)
      raise
    self._bytes += len(text.encode())

  def _line(self, record: Record) -> str:
    line = record | {"step": int(record["step"])}
    return json.dumps(plain(line, self._runs)) + "\n"


class _Outlook:
  """Says once how long the rest takes, and how much memory it took so far.

  After the second chunk: most of a first one is compilation. How much the
  compiled program takes is not asked for: that would compile it once more.
  """

  def __init__(self, config):
    self._config, self._times = config, []

  def tell(self, step: int) -> None:
    self._times.append(time.time())
    left = (self._config.steps - step) / self._config.log_every
    if len(self._times) != 2 or not left or not processes.is_first():
      return
    first, second = self._times
    output.say(
      f"step {step} of {self._config.steps}: about"
      f" {output.duration((second - first) * left)} left;"
      f" {_peak() / 2**30:.1f} GiB of memory so far"
    )


def _peak() -> int:
  """Bytes that the device held at once; on a CPU, that the process holds."""
  stats = jax.local_devices()[0].memory_stats() or {}
  if "peak_bytes_in_use" in stats:
    return stats["peak_bytes_in_use"]
  return psutil.Process().memory_info().rss


def _tell(run: Resumable, origin: dict, steps: int) -> None:
  """Where a run goes on, and what is not as it was when it stopped there."""
  if not run.step or not processes.is_first():
    return
  output.say(f"going on from step {run.step} of {steps}")
  assert run.about is not None
  then, now = run.about["environment"], origin["environment"]
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
  if run.about["code"] != origin["code"]:
    changed.append("maxrl_jax has other sources")
  if changed:
    output.tell(
      f"{'; '.join(changed)}: numbers may not be those of a run that never"
      " stopped"
    )


def _over_steps(name: str, values: np.ndarray) -> np.ndarray:
  """[steps, runs] → [runs]: means, but skipped updates are counted."""
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
