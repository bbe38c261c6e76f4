"""One config, trained into a folder of its own."""

import contextlib
import json
import os
import pathlib
import shutil
import zlib
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict

from maxrl_jax.devices import processes
from maxrl_jax.learning import training
from maxrl_jax.learning.training import Train
from maxrl_jax.policies import parameters
from maxrl_jax.runs import dataset, folders, progress
from maxrl_jax.runs.files import write_json, write_text
from maxrl_jax.runs.interrupts import until_stopped
from maxrl_jax.runs.measure import Measure, Measurer, Record
from maxrl_jax.runs.programs import RESULTS_VERSION
from maxrl_jax.runs.resume import Resumable
from maxrl_jax.tasks.regression import log_ceiling


def train(
  config: ConfigDict, workdir: str | pathlib.Path, *, fresh: bool = False
) -> dict:
  """Trains a config, or resumes training; returns summary.json.

  The folder gets config.json, environment.json, metrics.jsonl, checkpoints/,
  runs.nc (the data set of the runs), summary.json, and the parameters as
  model/, which config.policy.checkpoint takes. A finished folder is left as it
  is.

  Args:
    config: what to train; `config.runs` seeds together.
    workdir: of this config alone; created if it is missing.
    fresh: delete the results that the folder has.

  Raises:
    ValueError: an invalid config, or a folder of another experiment.
    Stopped: a signal stopped it, and everything is on disk.
    FloatingPointError: as `training.chunks`, with the last good checkpoint.
    OSError: the disk is full, for instance.
  """
  workdir = pathlib.Path(workdir)
  trainer = training.make_train(config)
  if not processes.all_same(zlib.crc32(config.to_json().encode())):
    raise ValueError("processes were started with different configs")
  first = processes.is_first()
  with contextlib.ExitStack() as stack:
    summary = workdir / "summary.json"
    environment = folders.environment()
    finished = False
    if first:
      folders.make(workdir)
      stack.enter_context(folders.locked(workdir))
      finished = _claim(config, workdir, fresh) and summary.exists()
      if not finished:
        write_json(workdir / "environment.json", environment)
    if processes.any_of(finished):
      progress.info(f"{workdir} is finished; --fresh trains it again")
      return json.loads(summary.read_text()) if first else {}
    run, measurer = _advance(trainer, config, workdir, environment)
    assert run.states is not None
    final = measurer.final(run.states)
    result = _summary(trainer, config, run, final)
    _save_models(workdir, trainer.policy, run.states.params, config)
    if first:
      _save_dataset(workdir, config, run, measurer, final)
      write_json(summary, result)
    processes.wait("written")
  return result


def _claim(config: ConfigDict, workdir: pathlib.Path, fresh: bool) -> bool:
  """Makes the folder this config's; whether it was already."""
  fields = json.loads(config.to_json())
  if fresh and (workdir / "config.json").exists():
    for name in ("environment.json", "summary.json", "metrics.jsonl"):
      (workdir / name).unlink(missing_ok=True)
    for pattern in ("checkpoints", "model", "model-*"):
      for path in workdir.glob(pattern):
        shutil.rmtree(path)
    write_json(workdir / "config.json", fields)
  return folders.claim(
    workdir / "config.json", fields, ", or train it again with --fresh"
  )


def _advance(
  trainer: Train, config: ConfigDict, workdir: pathlib.Path, environment: dict
) -> tuple[Resumable, Measurer]:
  """Trains what is left, with metrics.jsonl and checkpoints/."""
  origin = {
    "config": json.loads(config.to_json()),
    "environment": environment,
    "version": RESULTS_VERSION,
  }
  run = Resumable(trainer, config, workdir / "checkpoints")
  if run.step and run.origin is None:
    raise ValueError(
      f"workdir = '{workdir}': its newest checkpoint is of a loop of your own,"
      " which experiments.train cannot resume; choose another folder (--fresh"
      " trains this one again)"
    )
  _report_resume(run, origin, config.steps)
  log = _Log(workdir / "metrics.jsonl", run.records, config.runs)
  measurer = Measurer(trainer, config, Measure())
  chunks = run.chunks(measurer, origin=origin)
  estimate = progress.Estimate(config.steps - run.step)
  bar = progress.bar(
    total=config.steps,
    initial=run.step,
    unit="step",
    hidden=not processes.is_first(),
  )

  def each(_: int) -> None:
    record = run.records[-1]
    log.add(record)
    if processes.is_first():
      estimate.add(config.log_every)
    if "validation/pass@1" in record:
      score = record["validation/pass@1"].mean()
      bar.set_postfix({"pass@1": f"{score:.3f}"}, refresh=False)
    bar.update(config.log_every)

  with bar:
    until_stopped(chunks, each)
  return run, measurer


class _Log:
  """metrics.jsonl: every logged step once, and no partial line."""

  def __init__(
    self, path: pathlib.Path, records: list[Record], runs: int
  ) -> None:
    self._path, self._runs = path, runs
    # Lines of steps that will be repeated are dropped.
    text = "".join(map(self._line, records))
    if processes.is_first():
      write_text(path, text)
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
    line = {
      name.removeprefix("train/"): values
      for name, values in record.items()
      if name not in ("step", "diverged")
    }
    step = {"step": int(record["step"])}
    return json.dumps(step | _plain(line, self._runs)) + "\n"


def _report_resume(run: Resumable, origin: dict, steps: int) -> None:
  """Says where a run resumes, and what has changed since it stopped."""
  if not run.step or not processes.is_first():
    return
  progress.info(f"resuming from step {run.step} of {steps}")
  assert run.origin is not None
  then, now = run.origin["environment"], origin["environment"]
  changed = [
    f"{name} was {then['versions'].get(name)} and is {version}"
    for name, version in now["versions"].items()
    if name in ("jax", "jaxlib", "flax", "optax", "numpy")
    and then["versions"].get(name) != version
  ]
  changed += [
    f"{name} was {then[name]} and is {now[name]}"
    for name in ("device", "devices", "revision")
    if then[name] != now[name]
  ]
  if changed:
    progress.warn(
      f"{'; '.join(changed)}: results may differ from those of an uninterrupted"
      " run"
    )


def _summary(
  trainer: Train, config: ConfigDict, run: Resumable, final: Record
) -> dict:
  summary = {"steps": config.steps, "seconds": round(run.seconds, 1)}
  ceiling = log_ceiling(trainer.task)
  if ceiling is not None:  # Adding it to log l gives a log-density.
    summary["log_ceiling"] = ceiling
  return summary | _plain(final, config.runs)


def _save_dataset(
  workdir: pathlib.Path,
  config: ConfigDict,
  run: Resumable,
  measurer: Measurer,
  final: Record,
) -> None:
  """runs.nc and summary.csv: a study with one point."""
  seconds = {"seconds": np.array(run.seconds / config.runs)}
  runs = [arrays | seconds for arrays in measurer.of_runs(run.records, final)]
  places = [(0, config.seed + i) for i in range(config.runs)]
  about = {"config": config.to_dict()}
  dataset.write(dataset.dataset(runs, places, [{}], about), workdir)


def _plain(line: dict, runs: int) -> dict:
  """Arrays over runs → lists, or numbers if there is one run.

  JSON has no NaN: values that are not finite become null.
  """

  def one(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None

  def convert(values: np.ndarray) -> list | float | None:
    converted = [one(x) for x in values]
    return converted if runs > 1 else converted[0]

  return {name: convert(values) for name, values in line.items()}


def _save_models(
  workdir: pathlib.Path,
  policy: nn.Module,
  params: Any,
  config: ConfigDict,
) -> None:
  """Writes model/ or, with several runs, model-SEED/ for each."""
  params = processes.whole(params)
  if not processes.is_first():
    return
  for run in range(config.runs):
    name = "model" if config.runs == 1 else f"model-{config.seed + run}"
    of_run = jax.tree.map(lambda leaf, run=run: leaf[run], params)
    parameters.save(workdir / name, policy, of_run)
