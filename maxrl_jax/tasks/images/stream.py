"""Image sets too large for memory: read, decoded and cropped when needed.

The image in row r of step s is number s·B + r of one endless shuffled order,
and its crop depends on that number and the seed alone. So a run resumed at step
s sees the same images, whatever the number of processes, threads and workers.
"""

import functools
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from absl import flags

from maxrl_jax import ranges
from maxrl_jax.tasks import base
from maxrl_jax.tasks.base import Prompts
from maxrl_jax.tasks.images import tfds as tfds_images
from maxrl_jax.tasks.images.tfds import Box

# Of the shorter side, what evaluation sees: 224 pixels of 256.
_CENTRE = 224 / 256


def stream(
  *,
  data_name: str,
  data_dir: str,
  test_split: str,
  image_size: int,
  eval_size: int,
  augment: bool,
  task_seed: int,
  workers: int,
) -> tuple[base.Stream, int]:
  """The stream and the number of classes; see `images.streamed_images`.

  Raises:
    ImportError: the extra `tfds` is not installed.
    FileNotFoundError: data set, version or file missing.
    ValueError: no such split, a field out of range.
  """
  ranges.at_least(1, image_size=image_size, eval_size=eval_size)
  ranges.at_least(0, workers=workers)
  _import_grain()
  whole = tfds_images.Split(data_name, "train", data_dir)
  test = tfds_images.Split(data_name, test_split, data_dir)
  num_train = _num_train(whole, eval_size)
  parts = {"validation": (whole, num_train), "test": (test, 0)}
  sizes = {"validation": eval_size, "test": len(test)}

  def train(batch: int, rows: np.ndarray, step: int) -> base.Batches:
    import grain

    order = grain.MapDataset.range(num_train).seed(task_seed).shuffle().repeat()
    if augment:
      crop = functools.partial(_read_augmented, whole, image_size)
      images = order.random_map(crop)
    else:
      images = order.map(functools.partial(_read, whole, image_size))
    return _batches(images, batch, rows, itertools.count(step), workers)

  def split(name: str, batch: int, rows: np.ndarray) -> base.Batches:
    import grain

    source, first = parts[name]
    last = first + sizes[name]
    # The last batch is filled with the first images of the split.
    order = grain.MapDataset.range(first, last).repeat()
    images = order.map(functools.partial(_read, source, image_size))
    steps = range(-(-sizes[name] // batch))
    # Threads, since worker processes take seconds to start.
    return _batches(images, batch, rows, steps, 0)

  shape = (1, image_size, image_size, whole.channels)
  example = Prompts(np.zeros(shape, np.uint8), np.zeros(1, np.int32))
  images = base.Stream(train, split, sizes, _prepare, example)
  return images, whole.num_classes


def _import_grain() -> None:
  try:
    import grain  # noqa: F401
  except ImportError as error:
    raise ImportError(f"{error}; run pip install -e '.[tfds]'") from error


def _num_train(whole: tfds_images.Split, eval_size: int) -> int:
  """Number of images to train on, the first ones of the split."""
  if eval_size >= len(whole):
    raise ValueError(
      f"eval_size = {eval_size}: must be below {len(whole)}, the number of"
      f" images in {whole.description}"
    )
  return len(whole) - eval_size


def _prepare(batch: Prompts) -> Prompts:
  """Bytes → numbers from −1 to 1, on the device: a quarter of the traffic."""
  return Prompts(batch.inputs.astype(jnp.float32) / 127.5 - 1.0, batch.targets)


def _batches(
  images: Any, batch: int, rows: np.ndarray, steps: Any, workers: int
) -> base.Batches:
  """The rows that this process needs of the batches of some steps, in order.

  Args:
    images: grain.MapDataset of (pixels, label), endless.
    batch: B.
    rows: of a batch.
    steps: a range, or an `itertools.count` from the first.
    workers: processes that decode; 0: threads of this process.
  """
  import grain

  first, count = next(iter(steps)), None
  if isinstance(steps, range):
    count = len(steps)
  wanted = grain.MapDataset.range(count or 2**31)
  wanted = wanted.map(functools.partial(_batch, images, batch, rows, first))
  # Each makes whole batches; more than 16 would wait for the interpreter lock.
  threads = 1 if workers else min(os.cpu_count() or 1, 16)
  read = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
  dataset = wanted.to_iter_dataset(read)
  if workers:
    if not flags.FLAGS.is_parsed():  # Grain reads flags of its own.
      flags.FLAGS.mark_as_parsed()
    dataset = dataset.mp_prefetch(
      grain.MultiprocessingOptions(workers, per_worker_buffer_size=1),
      _in_worker,
    )
  reader = iter(dataset)
  try:
    for pixels, labels in reader:
      yield Prompts(pixels, labels)
  finally:
    reader.close()


def _in_worker(index: int, count: int) -> None:
  """Ignores Ctrl-C, which the parent handles; ends when the parent ends."""
  del index, count
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
  parent = multiprocessing.parent_process()
  if parent is not None:
    parent.join()
  os._exit(1)


def _batch(
  images: Any, batch: int, rows: np.ndarray, first: int, index: int
) -> tuple[np.ndarray, np.ndarray]:
  pixels, labels = zip(
    *(images[(first + index) * batch + int(row)] for row in rows), strict=True
  )
  return np.stack(pixels), np.array(labels, np.int32)


def _read(
  source: tfds_images.Split, side: int, index: int
) -> tuple[np.ndarray, int]:
  """For evaluation: the central 224/256 of the image."""
  centre = functools.partial(tfds_images.centred_square, share=_CENTRE)
  return _labelled(source, side, index, centre)


def _read_augmented(
  source: tfds_images.Split, side: int, index: int, rng: np.random.Generator
) -> tuple[np.ndarray, int]:
  """For training: a random part, mirrored with probability ½."""
  pixels, label = _labelled(
    source, side, index, functools.partial(random_part, rng)
  )
  return (pixels[:, ::-1] if rng.random() < 0.5 else pixels), label


def _labelled(
  source: tfds_images.Split, side: int, index: Any, choose: Callable
) -> tuple[np.ndarray, int]:
  pixels, label = source.read(index, side, choose)
  if label < 0:
    raise ValueError(f"image {index} of {source.description} has no label")
  return pixels, label


def random_part(rng: np.random.Generator, width: int, height: int) -> Box:
  """A part of 8 to 100 % of an image's area, its sides 3:4 to 4:3.

  Area and the logarithm of the ratio are uniform (arXiv 1409.4842); after ten
  draws that do not fit, the largest centred part with a ratio in that range.

  Args:
    rng: random generator, which the call advances.
    width: of the image, in pixels.
    height: likewise.

  Returns:
    (left, top, right, bottom), whole pixels.
  """
  least, most = 3 / 4, 4 / 3
  for _ in range(10):
    area = width * height * rng.uniform(0.08, 1.0)
    ratio = np.exp(rng.uniform(np.log(least), np.log(most)))
    wide, high = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
    if 0 < wide <= width and 0 < high <= height:
      left = int(rng.integers(0, width - wide + 1))
      top = int(rng.integers(0, height - high + 1))
      return left, top, left + wide, top + high
  wide = max(min(width, round(height * most)), 1)
  high = max(min(height, round(width / least)), 1)
  left, top = (width - wide) // 2, (height - high) // 2
  return left, top, left + wide, top + high
