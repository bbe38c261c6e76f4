"""Images per second: reading and cropping to 224 against a ResNet-50 step.

    python -m benchmarks.images [--images=512] [--workers=0,1,2] [--batch=16]

Writes JPEGs of ImageNet's typical size (500 × 375) to a temporary array_record
data set and measures reading training batches, training the network of
`configs/imagenet.py` on one batch in memory, and training on batches read at
the same time. Input keeps up if the first rate exceeds the second; the third is
then the second minus the share of the cores that reading takes.
"""

import io
import itertools
import os
import pathlib
import tempfile
import time

import jax
import numpy as np
import tensorflow_datasets as tfds
from absl import flags
from PIL import Image

from configs import imagenet
from experiments.shell import console
from maxrl_jax.devices import feeding
from maxrl_jax.learning import training
from maxrl_jax.runs import folders
from maxrl_jax.tasks import TASKS, Streamed
from tests.support.image_sets import write

_IMAGES = flags.DEFINE_integer("images", 512, "Distinct images.", 32)
_WORKERS = flags.DEFINE_list(
  "workers", ["0", "1", "2"], "Reader processes; 0 uses threads."
)
_BATCH = flags.DEFINE_integer("batch", 16, "Images per step.", 1)
_STEPS = flags.DEFINE_integer("steps", 4, "Timed steps.", 1)
_DTYPE = flags.DEFINE_string("dtype", "bfloat16", "Dtype of activations.")


def main() -> None:
  print(f"{folders.machine()}, {os.cpu_count()} cores")
  with tempfile.TemporaryDirectory() as folder:
    size = _write(pathlib.Path(folder))
    print(f"{_IMAGES.value} JPEGs of 500 × 375, {size / 1e3:.0f} kB each")
    for workers in map(int, _WORKERS.value):
      how = f"{workers} workers" if workers else "threads"
      print(
        f"reading, {how}: {_reading(folder, workers):.0f} images/s", flush=True
      )
    cached, streamed = _training(folder)
    print(f"step, batch {_BATCH.value}, {_DTYPE.value}: {cached:.2f} images/s")
    print(f"step while reading the next batch: {streamed:.2f} images/s")


def _write(root: pathlib.Path) -> float:
  """Writes smooth noise with grain; returns bytes per image."""
  rng, examples = np.random.default_rng(0), []
  for _ in range(_IMAGES.value):
    coarse = rng.integers(0, 256, (47, 63, 3), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize(
      (500, 375), Image.Resampling.BICUBIC
    )
    grain = rng.normal(0, 12, (375, 500, 3))
    pixels = np.clip(np.asarray(smooth) + grain, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "jpeg", quality=85)
    examples.append((file.getvalue(), int(rng.integers(1000))))
  label = tfds.features.ClassLabel(num_classes=1000)
  splits = {"train": examples, "validation": examples[:1]}
  write(tfds, root, splits, label=label)
  return float(np.mean([len(image) for image, _ in examples]))


def _reading(folder: str, workers: int) -> float:
  """Images per second, once all readers have started."""
  task = TASKS["streamed_images"](
    data_name="tiny", data_dir=folder, eval_size=1, workers=workers
  )
  batch, ahead, count = 32, 16, 48
  assert isinstance(task, Streamed)
  reader = task.stream.train(batch, np.arange(batch), 0)
  for _ in itertools.islice(reader, ahead):  # Read ahead.
    pass
  start = time.perf_counter()
  for _ in itertools.islice(reader, count):
    pass
  seconds = time.perf_counter() - start
  reader.close()
  return count * batch / seconds


def _training(folder: str) -> tuple[float, float]:
  """Images per second of the step on a batch in memory, and while reading."""
  config = imagenet.get_config()
  config.task.data_name, config.task.data_dir = "tiny", folder
  config.task.eval_size, config.task.workers = 1, 0
  config.policy.dtype = _DTYPE.value
  config.batch_size = _BATCH.value
  trainer = training.make_train(config)
  state, key = jax.jit(trainer.init)(jax.random.key(0)), jax.random.key(1)
  step = jax.jit(trainer.step)  # XLA is slow at convolutions in a loop on CPUs.

  def batches(count):
    assert isinstance(trainer.task, Streamed)
    sizes = config.batch_size, 1, 0, count
    for chunk in feeding.training(trainer.task.stream, trainer.layout, *sizes):
      yield jax.tree.map(lambda x: x[0], chunk)

  (batch,) = batches(1)
  times, start = [], time.perf_counter()
  for images in itertools.chain(
    [batch] * (_STEPS.value + 1), batches(_STEPS.value)
  ):
    state, metrics = step(state, key, images)
    jax.block_until_ready((state, metrics))
    times.append(time.perf_counter() - start)  # Includes waiting for input.
    start = time.perf_counter()
  # The first call compiled.
  cached, streamed = times[1 : _STEPS.value + 1], times[_STEPS.value + 1 :]
  rate = lambda x: _BATCH.value / float(np.median(x))  # noqa: E731
  return rate(cached), rate(streamed)


if __name__ == "__main__":
  console.run(main)
