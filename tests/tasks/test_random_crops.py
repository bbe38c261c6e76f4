"""Random crops and flips: each, and each as often as the others."""

import jax
import numpy as np
import pytest

from maxrl_jax.tasks.images import tfds as tfds_images
from tests.support.image_sets import random_images

# 6 × 7 × 3 different values, none of them the padding's zero: no two crops of
# it are alike.
PICTURE = np.arange(1, 127, dtype=np.uint8).reshape(6, 7, 3)


@pytest.mark.parametrize("padding", [0, 1, 4])
def test_crops_and_flips(padding):
  """Every crop, mirrored or not, and each as often as the others."""
  count = 16384
  augment = jax.jit(tfds_images.random_crop_flip, static_argnames="padding")
  batch = np.broadcast_to(PICTURE, (count, *PICTURE.shape))
  crops = augment(jax.random.key(0), batch, padding=padding)
  assert crops.dtype == np.uint8
  assert crops.shape == batch.shape

  margin = (padding, padding)
  padded = np.pad(PICTURE, [margin, margin, (0, 0)])
  shifts = range(2 * padding + 1)
  expected = {
    padded[i : i + 6, j : j + 7][:, ::step].tobytes(): (i, j, int(step < 0))
    for i in shifts
    for j in shifts
    for step in (1, -1)
  }
  seen = np.zeros((len(shifts), len(shifts), 2))
  for crop in np.asarray(crops):
    seen[expected[crop.tobytes()]] += 1
  for counts in (seen, seen.sum((0, 1))):
    mean = count / counts.size
    assert np.abs(counts - mean).max() < 5 * np.sqrt(mean)


def test_crops_repeat_with_their_key():
  augment = jax.jit(tfds_images.random_crop_flip)
  images = random_images(8)
  first, again, other = (
    np.asarray(augment(jax.random.key(seed), images)) for seed in (1, 1, 2)
  )
  np.testing.assert_array_equal(first, again)
  assert (first != other).any()
