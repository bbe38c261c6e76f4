"""Worker processes, each of which trains one run of a study at a time.

On a CPU, small operations gain little from a second core: two processes with
one core each train two runs faster than one process with two cores.
"""

import itertools
import multiprocessing
import os
import pathlib
import pickle
import signal
import sys
import traceback
from collections.abc import Sequence
from multiprocessing import connection
from operator import attrgetter
from typing import Any

from maxrl_jax.runs import cache, interrupts, progress


def cores() -> set[int]:
  """The cores that this process may use."""
  if hasattr(os, "sched_getaffinity"):
    return os.sched_getaffinity(0)
  return set(range(os.cpu_count() or 1))


def per_core() -> int:
  """One worker per core of a CPU; one in all where JAX has an accelerator."""
  import jax  # A worker imports it after it has chosen its core.

  return len(cores()) if jax.default_backend() == "cpu" else 1


def train(
  study: Any, planned: Sequence[Any], folder: pathlib.Path, count: int
) -> None:
  """Trains a study's missing runs in worker processes.

  Every worker goes through all runs and skips those on disk and those that
  another one has locked.

  Args:
    study: a `study.Study`, whose probe is defined in a module.
    planned: its programs.
    folder: for finished runs.
    count: number of workers.
  """
  missing = _missing(planned, folder)
  count = min(count, missing)
  if not count:
    return
  progress.info(f"{progress.counted(missing, 'run')}, {count} at a time")
  spawn = multiprocessing.get_context("spawn")
  errors = spawn.SimpleQueue()
  # A pool would terminate all workers once one has ended, with unsaved runs.
  shared = pickle.dumps((_own(study), study)), folder, os.getpid(), errors
  assigned = itertools.cycle(sorted(cores()))
  workers: list[Any] = []
  try:
    for i, core in enumerate(itertools.islice(assigned, count)):
      # Each begins at another program, so that few are compiled twice.
      first = len(planned) * i // count
      worker = spawn.Process(target=_work, args=(core, first, *shared))
      worker.start()
      workers.append(worker)
    with progress.bar(total=missing, unit="run", desc="runs") as bar:
      running = [worker.sentinel for worker in workers]
      while running:
        connection.wait(running, timeout=2)
        running = [w.sentinel for w in workers if w.exitcode is None]
        _raise_failure(workers, errors)
        bar.update(missing - _missing(planned, folder) - bar.n)
  finally:
    for worker in workers:
      worker.terminate()
    for worker in workers:
      worker.join()  # Workers save their runs first.


def _tables() -> dict[str, dict[str, Any]]:
  """Tables of what a config names, by field."""
  from maxrl_jax.estimators import ESTIMATORS
  from maxrl_jax.optimizers import OPTIMIZERS, SCHEDULES
  from maxrl_jax.policies import POLICIES
  from maxrl_jax.tasks import TASKS

  return {
    "task.name": TASKS,
    "policy.name": POLICIES,
    "estimator.name": ESTIMATORS,
    "optimizer.name": OPTIMIZERS,
    "optimizer.schedule": SCHEDULES,
  }


def _own(study: Any) -> list[tuple[str, str, Any]]:
  """(field, name, item) of what a study names and the library does not have.

  Raises:
    ValueError: one that is not defined in a module.
  """
  own = []
  for field, table in _tables().items():
    swept = {point.get(field) for point in study.points}
    for name in {attrgetter(field)(study.config), *swept} & table.keys():
      item = table[name]
      function = getattr(item, "function", item)
      if not function.__module__.startswith("maxrl_jax."):
        own.append((field, name, item))
  try:
    pickle.dumps(own)
  except (AttributeError, pickle.PicklingError) as error:
    names = ", ".join(name for _, name, _ in own)
    raise ValueError(
      f"workers: {names} cannot be sent to other processes ({error}); define it"
      " in a module, or take workers=1"
    ) from None
  return own


def _missing(planned: Sequence[Any], folder: pathlib.Path) -> int:
  """Number of runs that are not on disk."""
  return sum(len(cache.missing(folder, p.keys)) for p in planned)


def _raise_failure(workers: Sequence[Any], errors: Any) -> None:
  """Raises the error of a worker that has failed."""
  codes = [worker.exitcode for worker in workers if worker.exitcode]
  if not errors.empty():
    raise errors.get()
  if interrupts.RESUMABLE in codes:
    raise interrupts.Stopped("stopped; run the same command again to resume")
  if codes:
    raise RuntimeError(f"a worker process died with exit code {codes[0]}")


def _portable(error: Exception) -> Exception:
  """The error with its traceback, as one that another process can unpickle."""
  error.add_note(traceback.format_exc())
  try:
    pickle.loads(pickle.dumps(error))
  except Exception:
    return RuntimeError("".join(traceback.format_exception(error)))
  return error


def _work(
  core: int,
  first: int,
  pickled: bytes,
  folder: pathlib.Path,
  parent: int,
  errors: Any,
) -> None:
  """Trains the runs that no other worker has locked, from a program on."""
  # A terminal sends Ctrl-C to the whole group; the parent passes it on.
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  interrupts.watch_parent(parent, interrupts.terminate)
  if hasattr(os, "sched_setaffinity"):  # Linux; before JAX starts threads.
    os.sched_setaffinity(0, {core})
  progress.set_quiet(True)
  from maxrl_jax.runs import study as studies

  try:
    own, study = pickle.loads(pickled)
    for table, name, item in own:
      _tables()[table].setdefault(name, item)
    planned = study.plan()
    planned = planned[first:] + planned[:first]
    studies.train(planned, study.measure, folder, slice_size=1, wait=False)
  except interrupts.Stopped:
    sys.exit(interrupts.RESUMABLE)
  except Exception as error:
    errors.put(_portable(error))
    sys.exit(1)
