"""Trains one config into a folder."""

import contextlib
import json
import pathlib
import shutil
import zlib
from collections.abc import Generator, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict

from maxrl_jax import config as configs
from maxrl_jax.devices import processes
from maxrl_jax.learning import training
from maxrl_jax.learning.training import Train
from maxrl_jax.policies import parameters
from maxrl_jax.runs import dataset, folders, loggers, progress
from maxrl_jax.runs.files import write_json
from maxrl_jax.runs.interrupts import until_stopped
from maxrl_jax.runs.loggers import OnChunk
from maxrl_jax.runs.measure import Measure, Measurer, Record
from maxrl_jax.runs.programs import RESULTS_VERSION
from maxrl_jax.runs.resume import Resumable
from maxrl_jax.tasks import Task
from maxrl_jax.tasks.regression import log_ceiling

# Files and folders of a finished run, and of one in progress.
_RESULTS = ("summary.json", "runs.nc", "summary.csv", "model", "model-*")
_PROGRESS = ("environment.json", "metrics.jsonl", "checkpoints")


def train(
  config: ConfigDict,
  workdir: str | pathlib.Path,
  *,
  task: Task | None = None,
  policy: nn.Module | None = None,
  fresh: bool = False,
  log: Sequence[str] = (),
  on_chunk: OnChunk | None = None,
) -> dict:
  """Trains a config, or resumes training; returns summary.json.

  The folder gets config.json, environment.json, metrics.jsonl, checkpoints/,
  runs.nc (the data set of the runs), summary.json, and the parameters as
  model/, which config.policy.checkpoint takes. A finished folder does not
  change, unless config.steps has grown: training then continues.

  Args:
    config: what to train; `config.runs` seeds together.
    workdir: folder for this config only; created if it is missing.
    task: your own, as in `make_train`, with splits validation and test; the
      same one when training resumes.
    policy: your own, likewise.
    fresh: delete the folder's results first.
    log: backends in `loggers.BACKENDS` that also get every logged step.
    on_chunk: called as on_chunk(step, metrics) after each chunk that this
      command trains, on the first process; metrics are arrays [runs] by name,
      such as "train/pass_rate" and, at evaluations, "validation/pass@1". If it
      raises, finished steps are saved.

  Raises:
    ValueError: an invalid config or backend, a folder of another experiment, or
      a number of steps to which the folder's run cannot be extended.
    Stopped: a signal stopped training, and finished steps are saved.
    FloatingPointError: as `training.chunks`, with the last good checkpoint.
    OSError: the disk is full, for instance.
  """
  configs.check_type(config)
  if on_chunk is not None and not callable(on_chunk):
    raise ValueError(f"on_chunk = {on_chunk!r}: must be a function")
  loggers.check(log)
  workdir = pathlib.Path(workdir)
  trainer = training.make_train(config, task, policy=policy)
  trainer.task.check_splits(("validation", "test"))
  parts = {"task": task, "policy": policy}
  own = [name for name, part in parts.items() if part is not None]
  if not processes.all_same(zlib.crc32(config.to_json().encode())):
    raise ValueError("processes were started with different configs")
  first = processes.is_first()
  with contextlib.ExitStack() as stack:
    summary = workdir / "summary.json"
    environment = folders.environment()

    def is_finished() -> bool:
      folders.make(workdir)
      stack.enter_context(folders.locked(workdir, "config.json"))
      finished = _claim(config, own, workdir, fresh) and summary.exists()
      if not finished:
        write_json(workdir / "environment.json", environment)
      return finished

    if processes.any_of(bool(processes.on_first(is_finished))):
      logged = f"; nothing was sent to {', '.join(log)}" if log else ""
      progress.info(
        f"{workdir} is finished{logged}; --fresh (fresh=True) trains it again"
      )
      return json.loads(summary.read_text()) if first else {}
    run = _restored(trainer, config, workdir, environment)
    measurer = Measurer(trainer, config, Measure())
    run.revise(measurer.revised)
    origin = {
      "config": json.loads(config.to_json()),
      "environment": environment,
      "version": RESULTS_VERSION,
    }
    chunks = run.chunks(measurer, origin=origin)
    _advance(run, chunks, config, workdir, log, on_chunk)
    assert run.states is not None
    final = measurer.final(run.states)
    result = _summary(trainer, config, run, final)
    _save_models(workdir, trainer.policy, run.states.params, config)
    if first:
      _save_dataset(workdir, config, run, measurer, final)
      write_json(summary, result)
    processes.wait("written")
  return result


def _claim(
  config: ConfigDict, own: list[str], workdir: pathlib.Path, fresh: bool
) -> bool:
  """Assigns the folder to this config; returns whether it already was.

  `own` are the parts that the config does not describe.
  """
  path = workdir / "config.json"
  fields = json.loads(config.to_json())
  if own:
    fields["own_parts"] = own
  if fresh and path.exists():
    _delete(workdir, *_RESULTS, *_PROGRESS, *loggers.BACKENDS)
    write_json(path, fields)
  elif path.exists():
    _extend(path, config, fields)
  return folders.claim(path, fields, ", or train it again with --fresh")


def _extend(path: pathlib.Path, config: ConfigDict, fields: dict) -> None:
  """Assigns the folder of a shorter run to this config, if only steps differ.

  Raises:
    ValueError: the results would differ from those of a run of that length.
  """
  saved = folders.read(path)
  before = saved.get("steps")
  if before == config.steps or saved | {"steps": config.steps} != fields:
    return
  problem = None
  if before > config.steps:
    problem = "only more steps can be added"
  elif config.optimizer.schedule != "constant":
    problem = (
      f"optimizer.schedule = {config.optimizer.schedule!r} depends on their"
      " number: only 'constant' can be extended"
    )
  if problem:
    raise ValueError(
      f"steps = {config.steps}: '{path.parent}' has a run of {before} steps,"
      f" and {problem}; choose another folder, or train it again with --fresh"
    )
  _delete(path.parent, *_RESULTS)
  write_json(path, fields)


def _delete(workdir: pathlib.Path, *patterns: str) -> None:
  for pattern in patterns:
    for path in workdir.glob(pattern):
      shutil.rmtree(path) if path.is_dir() else path.unlink()


def _restored(
  trainer: Train, config: ConfigDict, workdir: pathlib.Path, environment: dict
) -> Resumable:
  """The runs, restored from the folder's newest checkpoint."""
  run = Resumable(trainer, config, workdir / "checkpoints")
  of_this_command = isinstance(run.origin, dict) and (
    "environment" in run.origin
  )
  if run.step and not of_this_command:
    raise ValueError(
      f"workdir = '{workdir}': its newest checkpoint is from a loop of your"
      " own, which experiments.train cannot resume; choose another folder"
      " (--fresh trains this one again)"
    )
  _report_resume(run, environment, config.steps)
  return run


def _advance(
  run: Resumable,
  chunks: Generator,
  config: ConfigDict,
  workdir: pathlib.Path,
  log: Sequence[str],
  on_chunk: OnChunk | None,
) -> None:
  """Trains the steps left; passes metrics to the file and to all loggers."""
  lines = loggers.Lines(workdir / "metrics.jsonl", run.records, config.runs)
  estimate = progress.Estimate(config.steps - run.step)
  bar = progress.bar(
    total=config.steps,
    initial=run.step,
    unit="step",
    hidden=not processes.is_first(),
  )

  def report(step: int, record: Record) -> None:
    lines.add(record)
    write(step, loggers.metrics(record))
    estimate.add(config.log_every)
    if on_chunk is not None:
      on_chunk(step, loggers.metrics(record))

  def each(step: int) -> None:
    record = run.records[-1]
    processes.on_first(lambda: report(step, record))
    if "validation/pass@1" in record:
      score = record["validation/pass@1"].mean()
      bar.set_postfix({"pass@1": f"{score:.3f}"}, refresh=False)
    bar.update(config.log_every)

  def opened() -> OnChunk:
    write = stack.enter_context(loggers.opened(log, workdir, config))
    for record in run.records:
      write(int(record["step"]), loggers.metrics(record))
    return write

  with contextlib.ExitStack() as stack, bar:
    write = processes.on_first(opened)
    until_stopped(chunks, each)


def _report_resume(run: Resumable, now: dict, steps: int) -> None:
  """Prints where a run resumes, and which versions have changed since."""
  if not run.step or not processes.is_first():
    return
  progress.info(f"resuming from step {run.step} of {steps}")
  assert run.origin is not None
  then = run.origin["environment"]
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
  return summary | loggers.plain(final, config.runs)


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
