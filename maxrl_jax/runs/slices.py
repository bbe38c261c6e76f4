"""Slices: the runs of one program, as many at a time as fit into memory.

Runs on disk are not repeated; an interrupted slice resumes, bit-identical.
"""

import contextlib
import json
import math
import pathlib
from collections.abc import Generator, Mapping
from typing import Any, NamedTuple

import filelock
import jax
import jax.numpy as jnp
import numpy as np
import psutil
from ml_collections import ConfigDict

from maxrl_jax.learning import training
from maxrl_jax.runs import cache, files, progress
from maxrl_jax.runs.measure import Measure, Measurer
from maxrl_jax.runs.programs import Program
from maxrl_jax.runs.resume import Resumable
from maxrl_jax.tasks import Streamed

_CHECKPOINT_SECONDS = 30.0  # Between checkpoints of a slice, at least.


class Slice(NamedTuple):
  """Rows of a program that are trained together, padded to `size` runs."""

  rows: np.ndarray
  size: int


class Slices:
  """The runs of one program, slice by slice."""

  def __init__(
    self,
    program: Program,
    measure: Measure,
    folder: pathlib.Path,
    memory_gib: float | None,
    slice_size: int | None,
    wait: bool,
  ) -> None:
    config = _over_devices(program.config, len(program.keys))
    self.program = program._replace(config=config)
    self.trainer = training.make_train(config, varying=list(program.hyper))
    if isinstance(self.trainer.task, Streamed):
      raise ValueError(
        f"task.name = {config.task.name!r}: a study cannot train a streamed"
        " task; train each run with experiments.train"
      )
    self._folder, self._memory, self._wait = folder, memory_gib, wait
    self._slice_size = slice_size
    self._programs: dict[int, tuple[training.Train, int]] = {}
    self._measurer = Measurer(self.trainer, config, measure)

  def train(self, missing: set[str]) -> Generator[int, None, None]:
    """Trains runs by their keys; yields finished steps, summed over runs."""
    for part in self.cut(missing):
      keys = self.program.keys[part.rows].tolist()
      name = f"unfinished-{files.digest([keys, part.size])}"
      with (
        contextlib.suppress(filelock.Timeout),
        cache.exclusive(self._folder / name, wait=self._wait) as unfinished,
      ):
        if cache.missing(self._folder, keys):
          yield from self._train(part, unfinished)

  def _train(
    self, part: Slice, unfinished: pathlib.Path
  ) -> Generator[int, None, None]:
    config, keys = self.program.config, self.program.keys[part.rows]
    record = {"keys": keys.tolist(), "size": part.size}
    files.write_json(unfinished / "runs.json", record)
    resumed = Resumable(
      self._compiled(part.size)[0],
      config,
      unfinished / "checkpoints",
      **self._runs(part),
    )
    if resumed.step:
      yield len(part.rows) * resumed.step
    chunks = resumed.chunks(
      self._measurer,
      patience=_CHECKPOINT_SECONDS,
      check=False,
      at_start=self._measurer.at_start,
    )
    with contextlib.closing(chunks):
      for _ in chunks:
        yield len(part.rows) * config.log_every
    assert resumed.states is not None
    final = self._measurer.final(resumed.states)
    runs = self._measurer.of_runs(resumed.records, final)
    seconds = np.array(resumed.seconds / len(part.rows))
    # `zip` drops the padding.
    for key, arrays in zip(keys, runs, strict=False):
      path = cache.path_of(self._folder, key)
      files.write_arrays(path, arrays | {"seconds": seconds})

  def cut(self, missing: set[str]) -> list[Slice]:
    """Slices that other processes left unfinished, then the rest in equal ones.

    Args:
      missing: keys of runs to train.
    """
    keys = self.program.keys.tolist()
    left, slices = set(missing), []
    for path in sorted(self._folder.glob("unfinished-*/runs.json")):
      try:
        record = json.loads(path.read_text(encoding="utf-8"))
      except FileNotFoundError:  # Another process has just finished it.
        continue
      unfinished = set(record["keys"])
      if unfinished & left and unfinished <= set(keys):
        rows = np.array([keys.index(key) for key in record["keys"]])
        slices.append(Slice(rows, record["size"]))
        left -= unfinished
    rows = np.array([row for row, key in enumerate(keys) if key in left], int)
    if len(rows):
      size = self._slice_size or self._largest(len(rows))
      parts = np.split(rows, np.arange(size, len(rows), size))
      slices += [Slice(part, size) for part in parts]
    return slices

  def _largest(self, total: int) -> int:
    """The largest slice size that fits, for slices of about equal size."""
    step = self.trainer.layout.size("runs")
    budget = free_memory(self._memory)
    size = _round_up(total, step)
    while True:
      count = math.ceil(total / size)
      size = _round_up(math.ceil(total / count), step)
      need = self._compiled(size)[1]
      if need <= budget:
        return size
      if size == step:
        raise ValueError(
          f"memory_gib = {self._memory}:"
          f" {progress.counted(step, 'run')} of a slice need"
          f" {need / 2**30:.2f} GiB, and {max(budget, 0) / 2**30:.2f} are free;"
          " raise memory_gib or lower batch_size"
        )
      fitting = int(0.9 * size * budget / need)
      size = max(step, min(size - 1, fitting) // step * step)

  def _compiled(self, size: int) -> tuple[training.Train, int]:
    """`compile_for` this many runs, cached."""
    if size not in self._programs:
      hyper = self.program.hyper
      self._programs[size] = compile_for(self.trainer, hyper, size)
    return self._programs[size]

  def _runs(self, part: Slice) -> dict[str, Any]:
    """Seeds and hyperparameters of a slice, with its padding."""
    padded = np.pad(part.rows, (0, part.size - len(part.rows)), mode="edge")
    hyper = {name: x[padded] for name, x in self.program.hyper.items()}
    return {"seeds": self.program.seeds[padded], "hyper": hyper}


def _over_devices(config: ConfigDict, total: int) -> ConfigDict:
  """The config for this many runs, rounded up to a multiple of the devices.

  Fewer runs than devices are not rounded.
  """
  config = config.copy_and_resolve_references()
  devices = jax.device_count()
  config.runs = _round_up(total, devices) if total >= devices else total
  return config


def _round_up(number: int, step: int) -> int:
  return math.ceil(number / step) * step


def free_memory(memory_gib: float | None) -> int:
  """Bytes that a slice may take; `memory_gib` as in `study.run`."""
  stats = jax.devices()[0].memory_stats() or {}
  if "bytes_limit" in stats:
    free = stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    return int(0.9 * free if memory_gib is None else memory_gib * 2**30)
  if memory_gib is None:
    return psutil.virtual_memory().available // 2
  used = psutil.Process().memory_info().rss
  # The rest is for compilation and for memory that is not released.
  return int(0.6 * (memory_gib * 2**30 - used))


def compile_for(
  trainer: training.Train, hyper: Mapping[str, np.ndarray], size: int
) -> tuple[training.Train, int]:
  """The trainer compiled for this many runs, and the bytes that it needs."""
  start_keys, keys = trainer.keys(np.zeros(size, np.uint32))
  shapes = {
    name: jax.ShapeDtypeStruct((size, *values.shape[1:]), jnp.float32)
    for name, values in hyper.items()
  }
  jitted: Any = trainer  # Its functions have `lower`.
  start = jitted.start.lower(start_keys, shapes).compile()
  states = jax.tree.map(
    lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
    jax.eval_shape(trainer.start, start_keys, shapes),
    start.output_shardings,
  )
  advance = jitted.advance.lower(states, keys).compile()
  compiled = trainer._replace(start=start, advance=advance)
  return compiled, max(map(memory_of, (start, advance)))


def memory_of(compiled: Any) -> int:
  """Peak memory of a program in bytes."""
  memory = compiled.memory_analysis()
  return (
    memory.argument_size_in_bytes
    + memory.output_size_in_bytes
    + memory.temp_size_in_bytes
    - memory.alias_size_in_bytes
  )
