"""Batches that the host reads, prefetched to the devices.

While the devices train on one chunk of steps, a thread reads the next one and
copies it to them: two chunks are in memory at a time.
"""

import contextlib
import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np

from maxrl_jax.devices.mesh import Layout
from maxrl_jax.tasks.base import Batches, Prompts, Stream


def training(
  stream: Stream, layout: Layout, batch: int, length: int, done: int, steps: int
) -> Batches:
  """Chunks of training batches, arrays [length, batch, …] on the devices.

  Args:
    stream: of the task.
    layout: which devices have which prompts.
    batch: B.
    length: steps of a chunk.
    done: steps already trained.
    steps: of the whole run.
  """
  read = stream.train(batch, layout.rows(batch), done)
  with contextlib.closing(read):
    left = itertools.islice(read, steps - done)
    yield from _ahead(left, layout, batch, length)


def split(stream: Stream, layout: Layout, name: str, batch: int) -> Batches:
  """Batches of a fixed split in order, arrays [1, batch, …] on the devices."""
  read = stream.split(name, batch, layout.rows(batch))
  with contextlib.closing(read):
    yield from _ahead(read, layout, batch, 1)


def _ahead(
  read: Iterator[Prompts], layout: Layout, batch: int, length: int
) -> Batches:
  """Chunks of batches, each read while the one before is in use."""
  stopped = threading.Event()

  def chunk() -> Prompts | None:
    batches = list(
      itertools.takewhile(
        lambda _: not stopped.is_set(), itertools.islice(read, length)
      )
    )
    if not batches:
      return None
    stacked = jax.tree.map(lambda *x: np.stack(x), *batches)
    return layout.feed(stacked, batch)

  with ThreadPoolExecutor(1, "feeding") as pool:
    try:
      ahead = pool.submit(chunk)
      while (ready := ahead.result()) is not None:
        ahead = pool.submit(chunk)
        yield ready
    finally:
      stopped.set()
