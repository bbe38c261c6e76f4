"""Image classification from prepared tensorflow-datasets (extra `tfds`).

`images` holds a data set in memory; `streamed_images` reads one that does not
fit, while the devices train.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from maxrl_jax import ranges
from maxrl_jax.tasks import base


def images(
  *,
  data_name: str = "cifar10",
  data_dir: str,
  test_split: str = "test",
  image_size: int | None = None,
  eval_size: int = 2000,
  augment: bool = True,
) -> base.Task:
  """A prepared tensorflow-datasets image set (extra `tfds`), such as CIFAR-10.

  Training prompts are random crops and flips (when `augment`); the last tenth
  of the training split is held out for validation.

  Args:
    data_name: its name in tensorflow-datasets, e.g. 'cifar10', 'imagenet2012'.
    data_dir: where it was prepared; nothing is ever downloaded.
    test_split: 'validation' for ImageNet, whose test split has no labels.
    image_size: side to crop and resize to; None if all sizes are equal.
    eval_size: largest number of images in each fixed split.
    augment: random crop and flip of training images.
  """
  from maxrl_jax.tasks.images import tfds as tfds_images

  ranges.at_least(1, eval_size=eval_size)
  train = tfds_images.load(data_name, "train", data_dir, image_size=image_size)
  test = tfds_images.load(
    data_name, test_split, data_dir, image_size=image_size
  )
  held_out = max(len(train.labels) // 10, 1)

  # On the device once, not as a constant of every compiled program.
  pool = base.Prompts(
    jnp.asarray(train.images[:-held_out]), jnp.asarray(train.labels[:-held_out])
  )

  def prompts(pixels: Any, labels: Any) -> base.Prompts:
    return base.Prompts(pixels.astype(np.float32) / 127.5 - 1.0, labels)

  def draw(key: jax.Array, batch: int) -> base.Prompts:
    rows_key, crop_key = jax.random.split(key)
    pixels, labels = base.uniform_rows(rows_key, pool, batch)
    if augment:
      pixels = tfds_images.random_crop_flip(crop_key, pixels)
    return prompts(pixels, labels)

  splits = {
    "train": prompts(
      train.images[:-held_out][:eval_size],
      train.labels[:-held_out][:eval_size],
    ),
    "validation": prompts(
      train.images[-held_out:][:eval_size], train.labels[-held_out:][:eval_size]
    ),
    "test": prompts(test.images[:eval_size], test.labels[:eval_size]),
  }
  return base.classification(
    train.num_classes,
    draw=draw,
    splits=splits,
    policies=("mlp", "cnn", "resnet"),
  )


def streamed_images(
  *,
  data_name: str = "imagenet2012",
  data_dir: str,
  test_split: str = "validation",
  image_size: int = 224,
  eval_size: int = 10_000,
  augment: bool = True,
  task_seed: int = 0,
  workers: int = 0,
) -> base.Task:
  """A prepared image set that does not fit into memory, such as ImageNet.

  Training images are random crops, resized and mirrored (when `augment`), in an
  order that is shuffled in every epoch; other images are cropped to the central
  224/256 of their shorter side. Runs of one program see the same batches.

  Args:
    data_name: its name in tensorflow-datasets, e.g. 'imagenet2012'.
    data_dir: where it was prepared; nothing is ever downloaded.
    test_split: 'validation' for ImageNet, whose test split has no labels.
    image_size: side of what the policy sees, in pixels.
    eval_size: the last images of the training split, held out for validation;
      the test split is read whole.
    augment: random crops and flips of training images.
    task_seed: of the order and the crops.
    workers: processes that decode; 0: a thread for each core.
  """
  from maxrl_jax.tasks.images import stream as image_stream

  stream, num_classes = image_stream.stream(
    data_name=data_name,
    data_dir=data_dir,
    test_split=test_split,
    image_size=image_size,
    eval_size=eval_size,
    augment=augment,
    task_seed=task_seed,
    workers=workers,
  )
  return base.Streamed(
    likelihoods=base.exact_match,
    log_pass_rate=base.exact_match_log_pass_rate,
    policies=("resnet", "cnn", "mlp"),
    policy_options={"num_actions": num_classes},
    stream=stream,
  )
