"""Classification as RL: an action is a class, its reward whether it is right.

Supervised learning maximizes log π(y|x), which here is the exact ML objective:
cross-entropy is the reference that every estimator is held against.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

from maxrl_jax import ranges
from maxrl_jax.tasks import base

# Of the 1797 digits of scikit-learn, shuffled once and for all.
_VALIDATION, _TEST = 200, 450


# Policies for images, the first as a default.
_OF_IMAGES = ("mlp", "cnn", "resnet")


def _classification(num_classes: int, **fields: Any) -> base.Task:
  return base.Task(
    likelihoods=base.exact_match,
    log_pass_rate=base.exact_match_log_pass_rate,
    policy_options={"num_actions": num_classes},
    **fields,
  )


def digits(
  *, num_digits: int = 3, eval_size: int = 2000, task_seed: int = 0
) -> base.Task:
  """Strings of K real digits side by side: 10^K classes, 8 × 8K pixels.

  The 8×8 images of scikit-learn are split once (1147 train, 200 validation,
  450 test, the same for every seed); strings are drawn on the fly from the
  split's own images. A uniform policy has pass rate 10^−K.

  Args:
    num_digits: K, from 1 to 5.
    eval_size: strings in each fixed split.
    task_seed: which strings the fixed splits hold.
  """
  ranges.at_least(1, num_digits=num_digits, eval_size=eval_size)
  if num_digits > 5:
    raise ValueError(
      f"num_digits = {num_digits}: 10^{num_digits} classes, must be at most 5"
    )
  data = load_digits()
  images = (data.images / 8.0 - 1.0).astype(np.float32)
  labels = data.target.astype(np.int32)
  order = np.random.default_rng(1797).permutation(len(labels))
  parts = {
    "train": order[_VALIDATION + _TEST :],
    "validation": order[:_VALIDATION],
    "test": order[_VALIDATION : _VALIDATION + _TEST],
  }
  powers = 10 ** np.arange(num_digits - 1, -1, -1, dtype=np.int32)

  def strings(xp: Any, rows: Any) -> base.Prompts:
    """Rows [B, K] → images [B, 8, 8K, 1] and the number they spell [B]."""
    pictures = xp.moveaxis(xp.asarray(images)[rows], 1, 2)
    pictures = pictures.reshape(rows.shape[0], 8, 8 * num_digits, 1)
    number = (xp.asarray(labels)[rows] * powers[None]).sum(-1)
    return base.Prompts(pictures, number.astype(np.int32))

  def draw(key: jax.Array, batch: int) -> base.Prompts:
    shape = (batch, num_digits)
    rows = jax.random.randint(key, shape, 0, len(parts["train"]))
    return strings(jnp, jnp.asarray(parts["train"])[rows])

  rng = np.random.default_rng(task_seed)
  splits = {
    name: strings(np, rng.choice(part, (eval_size, num_digits)))
    for name, part in parts.items()
  }
  return _classification(10**num_digits, draw=draw, splits=splits)


def gaussian_teacher(
  *,
  num_classes: int = 1000,
  dim: int = 32,
  temperature: float = 0.0,
  eval_size: int = 2000,
  task_seed: int = 0,
) -> base.Task:
  """Synthetic: x ~ N(0, I), y from a random linear teacher's logits W x.

  With temperature 0, y = argmax; above it, y ~ softmax(W x / temperature), so
  that the teacher itself is the best policy and has pass rate below 1.

  Args:
    num_classes: C ≥ 2.
    dim: length of x.
    temperature: label noise, in logit units (W x has variance 1).
    eval_size: prompts in each fixed split.
    task_seed: the teacher and the fixed splits.
  """
  ranges.at_least(2, num_classes=num_classes)
  ranges.at_least(1, dim=dim, eval_size=eval_size)
  ranges.at_least(0, temperature=temperature)
  teacher_key, *split_keys = jax.random.split(jax.random.key(task_seed), 4)
  teacher = jax.random.normal(teacher_key, (dim, num_classes)) / dim**0.5

  def draw(key: jax.Array, batch: int) -> base.Prompts:
    x_key, noise_key = jax.random.split(key)
    x = jax.random.normal(x_key, (batch, dim))
    logits = jnp.dot(x, teacher, precision="highest")
    if temperature:
      noise = jax.random.gumbel(noise_key, logits.shape)
      logits = logits + temperature * noise
    return base.Prompts(x, jnp.argmax(logits, -1).astype(jnp.int32))

  splits = base.drawn_splits(draw, split_keys, eval_size)
  return _classification(num_classes, draw=draw, splits=splits)


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
  of the training split is kept for validation.

  Args:
    data_name: as tensorflow-datasets knows it, e.g. 'cifar10', 'imagenet2012'.
    data_dir: where it was prepared; nothing is ever downloaded.
    test_split: 'validation' for ImageNet, whose test split has no labels.
    image_size: side to crop and resize to; None where all are alike.
    eval_size: most images in each fixed split.
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
  kept = base.Prompts(
    jnp.asarray(train.images[:-held_out]), jnp.asarray(train.labels[:-held_out])
  )

  def prompts(pixels: Any, labels: Any) -> base.Prompts:
    return base.Prompts(pixels.astype(np.float32) / 127.5 - 1.0, labels)

  def draw(key: jax.Array, batch: int) -> base.Prompts:
    rows_key, crop_key = jax.random.split(key)
    pixels, labels = base.uniform_rows(rows_key, kept, batch)
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
  return _classification(
    train.num_classes, draw=draw, splits=splits, policies=_OF_IMAGES
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

  Training images are random parts, resized and mirrored (when `augment`), in an
  order that is shuffled anew in every epoch; held-out ones are 224 of 256
  pixels in the middle. Runs of one program see the same batches.

  Args:
    data_name: as tensorflow-datasets knows it, e.g. 'imagenet2012'.
    data_dir: where it was prepared; nothing is ever downloaded.
    test_split: 'validation' for ImageNet, whose test split has no labels.
    image_size: side of what the policy sees, in pixels.
    eval_size: the last images of the training split, held out for validation;
      the test split is read whole.
    augment: random parts and flips of training images.
    task_seed: of the order and the parts.
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
  return _classification(
    num_classes, stream=stream, policies=("resnet", "cnn", "mlp")
  )
