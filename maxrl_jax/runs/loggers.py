"""Metrics of a folder: metrics.jsonl, TensorBoard, W&B.

The last two need the extra `log`; their packages are imported only when used.
"""

import contextlib
import importlib.util
import json
import operator
import os
import pathlib
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from ml_collections import ConfigDict

from maxrl_jax.config.lookup import choice
from maxrl_jax.devices import processes
from maxrl_jax.runs.files import write_text
from maxrl_jax.runs.measure import Record

# (step, metrics [runs] by name).
OnChunk = Callable[[int, Record], object]


class Lines:
  """metrics.jsonl: every logged step once, and no partial line."""

  def __init__(
    self, path: pathlib.Path, records: list[Record], runs: int
  ) -> None:
    self._path, self._runs = path, runs
    # Drops lines after the checkpoint: training repeats their steps.
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
      for name, values in metrics(record).items()
    }
    step = {"step": int(record["step"])}
    return json.dumps(step | plain(line, self._runs)) + "\n"


def metrics(record: Record) -> Record:
  """The metrics in a record, each [runs]."""
  return {k: x for k, x in record.items() if k not in ("step", "diverged")}


def plain(line: dict, runs: int) -> dict:
  """Arrays over runs → lists, or numbers if there is one run.

  JSON has no NaN: values that are not finite become null.
  """

  def one(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None

  def convert(values: np.ndarray) -> list | float | None:
    converted = [one(x) for x in values]
    return converted if runs > 1 else converted[0]

  return {name: convert(values) for name, values in line.items()}


def check(names: Sequence[str]) -> None:
  """Raises ValueError if a backend is unknown or not installed."""
  for name in names:
    choice(BACKENDS, "log", name)
  packages = ["tensorboardX" if n == "tensorboard" else n for n in names]
  missing = [p for p in packages if importlib.util.find_spec(p) is None]
  if missing:
    raise ValueError(
      f"log = {','.join(names)!r}: not installed: {', '.join(missing)}; run pip"
      " install -e '.[log]'"
    )


@contextlib.contextmanager
def opened(
  names: Sequence[str], workdir: pathlib.Path, config: ConfigDict
) -> Iterator[OnChunk]:
  """Writes metrics to all of these backends, from the first step on.

  Args:
    names: of `BACKENDS`.
    workdir: folder of the runs.
    config: of the runs.

  Yields:
    a function (step, metrics) → None, to be called with every chunk, beginning
    with those before an interruption.
  """
  with contextlib.ExitStack() as stack:
    writers = [BACKENDS[name](stack, workdir, config) for name in names]

    def write(step: int, metrics: Record) -> None:
      for writer in writers:
        writer(step, metrics)

    yield write


def _tensorboard(
  stack: contextlib.ExitStack, workdir: pathlib.Path, config: ConfigDict
) -> OnChunk:
  """tensorboard/seed-SEED/ and, of several runs, tensorboard/mean/."""
  from tensorboardX import SummaryWriter

  folder = workdir / "tensorboard"
  columns: dict[str, Callable] = dict(_seeds(config))
  if config.runs > 1:
    columns["mean"] = np.mean
  # All steps are written again: TensorBoard drops those of earlier commands.
  writers = {
    name: SummaryWriter(str(folder / name), purge_step=0, flush_secs=10)
    for name in columns
  }
  for writer in writers.values():
    stack.callback(writer.close)

  def write(step: int, metrics: Record) -> None:
    for series, column in columns.items():
      for name, values in metrics.items():
        writers[series].add_scalar(name, float(column(values)), step)

  return write


def _wandb(
  stack: contextlib.ExitStack, workdir: pathlib.Path, config: ConfigDict
) -> OnChunk:
  """A W&B run per seed, in one group, that later commands continue."""
  import wandb

  folder = workdir / "wandb"
  folder.mkdir(exist_ok=True)
  for earlier in folder.glob("offline-run-*"):  # All steps are written again.
    shutil.rmtree(earlier)
  if not (folder / "id").exists():
    write_text(folder / "id", uuid.uuid4().hex[:8])
  identity = (folder / "id").read_text(encoding="utf-8")
  group = workdir.absolute().name
  runs = []
  for name, column in _seeds(config):
    try:
      run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", "maxrl_jax"),
        group=group,
        name=f"{group}-{name}",
        id=f"{identity}-{name}",
        resume="allow",
        reinit="create_new",
        dir=workdir,
        config=config.to_dict(),
        allow_val_change=True,  # config.steps may grow.
        settings=wandb.Settings(console="off"),
      )
    except wandb.errors.UsageError as error:
      raise ValueError(
        f"log = 'wandb': {str(error).rstrip('.')}, or set WANDB_MODE=offline"
      ) from None
    stack.push(lambda kind, *_, run=run: run.finish(int(kind is not None)))
    runs.append((run, column))

  def write(step: int, metrics: Record) -> None:
    for run, column in runs:
      if step >= run.starting_step:  # The server has earlier steps.
        of_run = {name: float(column(x)) for name, x in metrics.items()}
        run.log(of_run, step=step)

  return write


def _seeds(config: ConfigDict) -> list[tuple[str, Callable]]:
  """(name, values [runs] → the value of its run) of every seed."""
  return [
    (f"seed-{config.seed + run}", operator.itemgetter(run))
    for run in range(config.runs)
  ]


BACKENDS: dict[str, Callable[..., OnChunk]] = {
  "tensorboard": _tensorboard,
  "wandb": _wandb,
}
