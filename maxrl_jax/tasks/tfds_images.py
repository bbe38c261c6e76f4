"""Image-classification data sets prepared by tensorflow-datasets.

Reads its array_record files (CIFAR-10, ImageNet, your own) without TensorFlow.
To prepare a data set needs TensorFlow, once: errors quote the command.
"""

import contextlib
import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from PIL import Image, ImageOps
from tqdm import tqdm

Array = jax.Array

# Channels → the Pillow mode all images get: ImageNet's few grey ones too.
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_CHUNK = 256  # images a thread reads at a time


class Images(NamedTuple):
  """Labelled images, whole in memory."""

  images: np.ndarray  # uint8 [n, height, width, channels]
  labels: np.ndarray  # int32 [n], in [0, num_classes)
  num_classes: int


def load(
  name: str,
  split: str,
  data_dir: str,
  *,
  image_size: int | None = None,
  limit: int | None = None,
) -> Images:
  """Reads one split of a prepared data set into memory; never downloads.

  Args:
    name: "cifar10" (the newest version), "cifar10:3.0.2", "name/config".
    split: "train", "test", or a slice such as "train[:10%]".
    data_dir: the folder that holds the folder `name`.
    image_size: resizes the largest centred square to this side, antialiased;
      None keeps the sizes, which then must agree.
    limit: read only the first images, in the order of the files.

  Raises:
    ImportError: the extra `tfds` is not installed.
    FileNotFoundError: data set, version or file missing.
    ValueError: no such split, unreadable files, sizes that differ, no labels.
  """
  if any(n is not None and n < 1 for n in (image_size, limit)):
    raise ValueError(f"{image_size=} and {limit=} must be at least 1")
  tfds = _import_tfds()
  what = f"split {split!r} of {name!r} in {data_dir}"
  remedy = _remedy(name, data_dir)
  folder = _find_version(name, data_dir, remedy)
  with _explained(f"cannot open {what}", remedy):
    builder = tfds.builder_from_directory(folder, file_format="array_record")
    shards = builder.info.splits[split].file_instructions
  if not shards:
    raise ValueError(f"{what} is empty")
  for path in (shard.filename for shard in shards):
    if not Path(path).is_file():
      raise FileNotFoundError(f"{what} lacks {path}; {remedy}")
  image_key, label_key, mode, classes = _keys(tfds, builder.info, what)
  raw = {image_key: tfds.decode.SkipDecoding()}
  source = builder.as_data_source(split, decoders=raw)

  def read(index: int) -> tuple[np.ndarray, int]:
    with _explained(f"cannot read image {index} of {what}", remedy):
      example = source[index]
      image = _decode(example[image_key], mode, image_size)
      return image, example[label_key]

  count = min(len(source), limit or len(source))
  return Images(*_read_all(read, count, what), classes)


def random_crop_flip(key: Array, images: Array, padding: int = 4) -> Array:
  """Crops each zero-padded image at random and mirrors half of them.

  Args:
    key: the same key gives the same crops.
    images: [B, height, width, channels], any dtype; so is the result.
    padding: zeros added on each side; static under jit.
  """

  def augment(key, image):
    shift_key, flip_key = jax.random.split(key)
    padded = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    row, column = jax.random.randint(shift_key, (2,), 0, 2 * padding + 1)
    crop = lax.dynamic_slice(padded, (row, column, 0), image.shape)
    return jnp.where(jax.random.bernoulli(flip_key), crop[:, ::-1], crop)

  return jax.vmap(augment)(jax.random.split(key, images.shape[0]), images)


def _import_tfds() -> Any:
  try:
    import array_record.python.array_record_data_source  # noqa: F401
    import tensorflow_datasets as tfds
  except ImportError as error:
    raise ImportError(f"{error}: pip install 'maxrl_jax[tfds]'") from error
  return tfds


def _remedy(name: str, data_dir: str) -> str:
  """How to prepare a data set (the shell command `tfds` would want Beam)."""
  return (
    "to prepare it, with tensorflow and importlib_resources installed and a "
    'data_dir that does not hold it yet, run: python -c "import '
    f"tensorflow_datasets as tfds; tfds.builder({name!r}, data_dir="
    f"{str(data_dir)!r}, file_format='array_record').download_and_prepare()\""
  )


@contextlib.contextmanager
def _explained(failure: str, remedy: str) -> Iterator[None]:
  """Turns whatever the readers raise into one line that names the data."""
  try:
    yield
  except Exception as error:  # JSON, protobuf, Riegeli, Pillow: no common class
    cause = (str(error).splitlines() or [type(error).__name__])[0]
    raise ValueError(f"{failure}: {cause.rstrip('.')}; {remedy}") from error


def _find_version(name: str, data_dir: str, remedy: str) -> Path:
  """The folder of the newest version that `name` allows."""
  base, _, version = name.partition(":")
  root = Path(data_dir).expanduser() / base
  there = {path.parent for path in root.rglob("dataset_info.json")}
  fits = there & set(root.glob(version or "[0-9]*.[0-9]*.[0-9]*"))
  if not fits:
    there = sorted(str(path.relative_to(root)) for path in there) or "nothing"
    missing = f"no {name!r} in {data_dir}, where {base!r} holds {there}"
    raise FileNotFoundError(f"{missing}; {remedy}")
  return max(fits, key=lambda path: [int(n) for n in path.name.split(".")])


def _keys(tfds: Any, info: Any, what: str) -> tuple[str, str, str, int]:
  """(image key, label key, Pillow mode, number of classes) of a data set."""
  keys = info.supervised_keys or ("image", "label")
  image, label = (dict(info.features).get(key) for key in keys)
  if not (
    isinstance(image, tfds.features.Image)
    and isinstance(label, tfds.features.ClassLabel)
    and image.np_dtype == np.uint8
    and image.shape[-1] in _MODES
    and label.num_classes
  ):
    found = f"under {keys} are {image} and {label}"
    raise ValueError(f"{what} lacks 8-bit images with classes: {found}")
  return *keys, _MODES[image.shape[-1]], label.num_classes


def _decode(encoded: bytes, mode: str, image_size: int | None) -> np.ndarray:
  """PNG or JPEG bytes → uint8 [height, width, channels]."""
  with Image.open(io.BytesIO(encoded)) as file:
    if image_size is not None:
      # A large JPEG decodes at 1/2, 1/4 or 1/8, to twice the goal or more.
      file.draft(None, (2 * image_size, 2 * image_size))
    image = file.convert(mode)
  if image_size is not None:
    image = ImageOps.fit(image, (image_size,) * 2, Image.Resampling.BILINEAR)
  return np.asarray(image).reshape(image.height, image.width, -1)


def _read_all(
  read: Callable[[int], tuple[np.ndarray, int]], count: int, what: str
) -> tuple[np.ndarray, np.ndarray]:
  """Stacks read(0), …, read(count − 1), in threads: images and labels."""
  if count > _CHUNK:  # so that a bad data set fails at once
    _read_all(read, _CHUNK, what)
  images = np.empty((count, *read(0)[0].shape), np.uint8)
  labels = np.empty(count, np.int32)

  def fill(start: int) -> None:
    for index in range(start, min(start + _CHUNK, count)):
      image, labels[index] = read(index)
      if image.shape != images[index].shape:
        sizes = f"{image.shape} at {index}, {images[index].shape} at 0"
        raise ValueError(f"sizes differ in {what}: {sizes}; pass image_size")
      images[index] = image

  starts = range(0, count, _CHUNK)
  bar = {"unit": "image", "unit_scale": _CHUNK, "delay": 2, "disable": None}
  with ThreadPoolExecutor() as pool:
    list(tqdm(pool.map(fill, starts), what, len(starts), **bar))
  if labels.min() < 0:
    raise ValueError(f"{what} has no labels: some are {labels.min()}")
  return images, labels
