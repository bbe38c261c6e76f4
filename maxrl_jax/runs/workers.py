"""Worker processes that train the runs of a study, one each at a time.

On a CPU, small operations gain little from a second core: two processes with a
core each train two runs sooner than one process with both.
"""

import multiprocessing
import os
import pathlib
import signal
from collections.abc import Sequence
from concurrent import futures
from typing import Any

from maxrl_jax.runs import interrupts, progress


def cores() -> set[int]:
  """The cores that this process may use."""
  if hasattr(os, "sched_getaffinity"):
    return os.sched_getaffinity(0)
  return set(range(os.cpu_count() or 1))


def train(
  what: Any, planned: Sequence[Any], folder: pathlib.Path, count: int
) -> None:
  """Trains a study's missing runs in worker processes.

  Every worker goes through all runs and skips those on disk and those that
  another one has locked.

  Args:
    what: a `study.Study`, whose probe is a function of a module.
    planned: its programs.
    folder: of finished runs.
    count: number of workers.
  """
  from maxrl_jax.runs import cache

  missing = sum(len(cache.missing(folder, p.keys)) for p in planned)
  count = min(count, missing)
  if not count:
    return
  progress.info(f"{progress.counted(missing, 'run')}, {count} at a time")
  spawn = multiprocessing.get_context("spawn")
  queue = spawn.Queue()
  for core in sorted(cores()):
    queue.put(core)
  with futures.ProcessPoolExecutor(
    count, mp_context=spawn, initializer=_prepare, initargs=(queue, os.getpid())
  ) as pool:
    try:
      tasks = [pool.submit(_work, what, folder) for _ in range(count)]
      with progress.bar(total=missing, unit="run", desc="runs") as bar:
        _wait(tasks, planned, folder, bar, missing)
    except BaseException:
      pool.shutdown(wait=False, cancel_futures=True)
      workers = multiprocessing.active_children()
      for worker in workers:
        worker.terminate()
      for worker in workers:
        worker.join()  # They save their runs.
      raise


def _wait(
  tasks: Sequence[futures.Future],
  planned: Sequence[Any],
  folder: pathlib.Path,
  bar: Any,
  missing: int,
) -> None:
  """Shows progress until all workers are done, or one has failed."""
  from maxrl_jax.runs import cache

  waiting = set(tasks)
  while waiting:
    done, waiting = futures.wait(
      waiting, timeout=2, return_when=futures.FIRST_EXCEPTION
    )
    for task in done:
      task.result()
    left = sum(len(cache.missing(folder, p.keys)) for p in planned)
    bar.update(missing - left - bar.n)


def _prepare(queue: Any, parent: int) -> None:
  """Pins a worker to a core, before JAX starts threads."""
  # A terminal sends Ctrl-C to the whole group; the parent's SIGTERM would be a
  # second signal, and end workers before they have saved.
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  interrupts.watch_parent(parent, interrupts.terminate)
  core = queue.get()
  if hasattr(os, "sched_setaffinity"):  # Linux.
    os.sched_setaffinity(0, {core})
  progress.set_quiet(True)


def _work(what: Any, folder: pathlib.Path) -> None:
  """Trains the runs of a study that no other worker has."""
  from maxrl_jax.runs import study

  try:
    study.train(what.plan(), what.measure, folder, slice_size=1, wait=False)
  except interrupts.Stopped:
    # The pool would hand this process its next task.
    os._exit(interrupts.RESUMABLE)
