"""Classification as RL: an action is a class, its reward whether it is right.

Supervised learning maximizes log π(y|x), which here is the exact ML objective:
cross-entropy is the reference for every estimator.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from maxrl_jax import ranges
from maxrl_jax.tasks import base

# Sizes of the splits of scikit-learn's 1797 digits; the rest is for training.
_VALIDATION, _TEST = 200, 450


def digits(
  *, num_digits: int = 3, eval_size: int = 2000, task_seed: int = 0
) -> base.Task:
  """Strings of K real digits side by side: 10^K classes, 8 × 8K pixels.

  The 8×8 images of scikit-learn are split once (1147 train, 200 validation,
  450 test, the same for every seed); the strings of a split are drawn from its
  images. A uniform policy has pass rate 10^−K.

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
  # Imported here: scikit-learn takes seconds to import.
  from sklearn.datasets import load_digits

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
  return base.classification(10**num_digits, draw=draw, splits=splits)


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
  return base.classification(num_classes, draw=draw, splits=splits)
