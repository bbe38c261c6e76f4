"""Runs programs slice by slice, each slice on disk as soon as it is done."""

import contextlib
import functools
import hashlib
import math
import pathlib
import shutil
import time
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import psutil
from ml_collections import ConfigDict

from maxrl_jax import evaluation
from maxrl_jax.learning import guards, training
from maxrl_jax.runs import finished
from maxrl_jax.runs.programs import Program
from maxrl_jax.runs.resume import Record, Resumable

KS = (1, 4, 16, 64, 128, 256, 1024)  # Of pass@k.


class Ready(NamedTuple):
  """A program compiled for slices of one size."""

  program: Program
  made: training.Train
  evaluate: Callable[[str, Any], dict[str, np.ndarray]]
  slices: list[np.ndarray]  # Rows of the program, each a slice of `size`.
  size: int
  seconds: float  # Of one slice, about.


def prepare(program: Program, rows: np.ndarray, budget: int) -> Ready:
  """Compiles a program for as many runs at a time as the budget holds.

  Args:
    program: what to train.
    rows: which of its runs.
    budget: bytes that one slice may take.

  Raises:
    ValueError: a single run takes more than the budget, or the task's prompts
      are read by the host.
  """
  # Cut as if nothing were done yet: an unfinished slice is found again.
  total = len(program.points)
  config = _over_devices(program.config, total)
  made = training.make_train(config, varying=list(program.varied))
  if made.task.stream is not None:
    raise ValueError(
      f"task.name = {config.task.name!r}: the host reads its prompts, which"
      " sweeps do not; start experiments.train for each run"
    )
  step = made.layout.size("runs")
  size = _up(total, step)
  while True:
    count = math.ceil(total / size)
    size = _up(math.ceil(total / count), step)  # All about equally large.
    compiled, need = _compile(made, program, size)
    if need <= budget:
      break
    if size == step:
      raise ValueError(
        f"memory budget: one run takes {need / 2**30:.2f} GiB and a slice may"
        f" take {budget / 2**30:.2f}; give more, or a smaller batch"
      )
    fitting = int(0.9 * size * budget / need)
    size = max(step, min(size - 1, fitting) // step * step)
  cuts = np.arange(size, total, size)
  slices = np.split(rows, np.searchsorted(rows, cuts))
  slices = [part for part in slices if len(part)]
  evaluate = evaluation.make_evaluate(made, KS, program.config.eval_rollouts)
  ready = Ready(program, compiled, evaluate, slices, size, 0.0)
  return ready._replace(seconds=_seconds(ready))


def _over_devices(config: ConfigDict, total: int) -> ConfigDict:
  """With so many runs that every device has some, if there are enough."""
  config = config.copy_and_resolve_references()
  devices = jax.device_count()
  config.runs = _up(total, devices) if total >= devices else total
  return config


def _up(number: int, step: int) -> int:
  return math.ceil(number / step) * step


def free_memory(budget_gib: float | None) -> int:
  """Bytes that a slice may take.

  On a CPU, what the budget leaves beside what the process has already, by
  default half of what is free; on an accelerator, of its own memory.
  """
  stats = jax.devices()[0].memory_stats() or {}
  if "bytes_limit" in stats:
    free = stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    return int(0.9 * free if budget_gib is None else budget_gib * 2**30)
  if budget_gib is None:
    return psutil.virtual_memory().available // 2
  used = psutil.Process().memory_info().rss
  # The rest is for what compiling takes and what is not given back.
  return int(0.6 * (budget_gib * 2**30 - used))


def run(
  ready: Ready, folder: pathlib.Path, patience: float = 0.0
) -> Generator[int, None, None]:
  """Trains every slice and keeps it; closed early, what a slice has so far.

  Args:
    ready: from `prepare`.
    folder: of the finished slices.
    patience: as in `Resumable.chunks`.

  Yields:
    how many steps of runs have been done since the last time.
  """
  for rows in ready.slices:
    unfinished = _unfinished(ready, rows, folder)
    slice_ = Resumable(
      ready.made, ready.program.config, unfinished, **_runs(ready, rows)
    )
    if slice_.step:
      yield len(rows) * slice_.step
    chunks = slice_.chunks(
      functools.partial(_measured, ready), patience=patience, check=False
    )
    with contextlib.closing(chunks):
      for _ in chunks:
        yield len(rows) * ready.program.config.log_every
    tested = ready.evaluate("test", slice_.states)
    finished.save(folder, _arrays(ready, rows, slice_, tested))
    shutil.rmtree(unfinished, ignore_errors=True)  # There may be none.


def _measured(ready: Ready, step: int, states: Any, metrics: Any) -> Record:
  record = {f"train/{name}": x.mean(0) for name, x in metrics.items()}
  config = ready.program.config
  if step % config.eval_every == 0 or step == config.steps:
    found = ready.evaluate("validation", states)
    record |= {f"validation/{name}": x for name, x in found.items()}
  return record | {"step": step, "diverged": guards.diverged(metrics)}


def _arrays(
  ready: Ready, rows: np.ndarray, slice_: Resumable, tested: Record
) -> Record:
  """What is kept of the runs of a slice, the run axis first."""
  records, count = slice_.records, len(rows)
  evaluated = [r for r in records if any("validation/" in name for name in r)]
  arrays = {
    name: np.stack([r[name] for r in records if name in r], 1)
    for name in evaluated[-1]
    if "/" in name
  }
  arrays |= {f"test/{name}": values for name, values in tested.items()}
  arrays["diverged"] = np.logical_or.reduce([r["diverged"] for r in records])
  # Without the runs that only fill the slice up.
  arrays = {name: values[:count] for name, values in arrays.items()}
  return arrays | {
    "point": ready.program.points[rows],
    "seed": ready.program.seeds[rows],
    "seconds": np.full(count, slice_.seconds / count),
    "step": [r["step"] for r in records],
    "eval_step": [r["step"] for r in evaluated],
  }


def _runs(ready: Ready, rows: np.ndarray) -> dict:
  """Seeds and varied fields of a slice."""
  # The last slice is filled up with its last run: one size, one program.
  padded = np.pad(rows, (0, ready.size - len(rows)), mode="edge")
  program = ready.program
  varied = {name: values[padded] for name, values in program.varied.items()}
  return {"seeds": program.seeds[padded], "varied": varied}


def _unfinished(
  ready: Ready, rows: np.ndarray, folder: pathlib.Path
) -> pathlib.Path:
  """Checkpoints of a slice: of just these runs, in a program of this size."""
  runs = ready.program.points[rows], ready.program.seeds[rows], ready.size
  found = hashlib.sha256(repr([np.asarray(x).tolist() for x in runs]).encode())
  return folder / f"unfinished-{found.hexdigest()[:12]}"


def _compile(
  made: training.Train, program: Program, size: int
) -> tuple[training.Train, int]:
  """The same compiled for so many runs, and the bytes that it needs."""
  start_keys, keys = made.keys(np.zeros(size, np.uint32))
  varied = {
    name: jax.ShapeDtypeStruct((size, *values.shape[1:]), jnp.float32)
    for name, values in program.varied.items()
  }
  jitted: Any = made  # `start` and `advance` are, and can be lowered.
  start = jitted.start.lower(start_keys, varied).compile()
  states = jax.tree.map(
    lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
    jax.eval_shape(made.start, start_keys, varied),
    start.output_shardings,
  )
  advance = jitted.advance.lower(states, keys).compile()
  compiled = made._replace(start=start, advance=advance)
  return compiled, max(map(_bytes, (start, advance)))


def _bytes(compiled: Any) -> int:
  """All that a program holds at once."""
  memory = compiled.memory_analysis()
  return (
    memory.argument_size_in_bytes
    + memory.output_size_in_bytes
    + memory.temp_size_in_bytes
    - memory.alias_size_in_bytes
  )


def _seconds(ready: Ready) -> float:
  """What a slice will take, from its first chunk; that is not kept."""
  program = ready.program
  chunks = training.chunks(
    ready.made, program.config, **_runs(ready, ready.slices[0]), check=False
  )
  start = time.time()
  _, states, _ = next(chunks)
  config = ready.program.config
  seconds = (time.time() - start) * config.steps / config.log_every
  for split in ("validation", "test"):  # Compiled before the clock runs.
    ready.evaluate(split, states)
  return seconds
