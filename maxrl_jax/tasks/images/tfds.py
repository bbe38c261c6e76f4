"""Image-classification data sets prepared by tensorflow-datasets.

Reads its array_record files (CIFAR-10, ImageNet, your own) without TensorFlow.
Preparing a data set takes TensorFlow, once: errors quote the command.
"""

import contextlib
import functools
import io
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from PIL import Image
from tqdm import tqdm

from maxrl_jax import ranges

Array = jax.Array
Box = tuple[float, float, float, float]  # Left, top, right, bottom.

# Channels → the Pillow mode to which all images are converted, even grey ones.
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
) -> Images:
  """Reads one split of a prepared data set into memory; never downloads.

  Args:
    name: "cifar10" (the newest version), "cifar10:3.0.2", "name/config".
    split: "train", "test", or a slice such as "train[:10%]".
    data_dir: the folder that holds the folder `name`.
    image_size: resizes the largest centred square to this side, antialiased;
      None keeps the sizes, which then must agree.

  Raises:
    ImportError: the extra `tfds` is not installed.
    FileNotFoundError: data set, version or file missing.
    ValueError: no such split, unreadable files, sizes that differ, no labels.
  """
  if image_size is not None:
    ranges.whole(1, image_size=image_size)
  source = Split(name, split, data_dir)
  read = functools.partial(source.read, side=image_size)
  read_all = _read_all(read, len(source), source.description)
  return Images(*read_all, source.num_classes)


class Split:
  """The images of one split of a prepared data set as they are on disk.

  It can be pickled: another process opens the files again.

  Attributes:
    num_classes: labels are 0 … num_classes − 1.
    description: of the split, for errors.
    channels: of every image.
  """

  def __init__(self, name: str, split: str, data_dir: str) -> None:
    """Opens the files; arguments and errors as in `load`."""
    self._arguments = (name, split, data_dir)
    tfds = _import_tfds()
    self.description = what = f"split {split!r} of {name!r} in {data_dir}"
    self._remedy = remedy = _remedy(name, data_dir)
    folder = _find_version(name, data_dir, remedy)
    with _explained(f"cannot open {what}", remedy):
      builder = tfds.builder_from_directory(folder, file_format="array_record")
      shards = builder.info.splits[split].file_instructions
    if not shards:
      raise ValueError(f"{what} is empty")
    for path in (shard.filename for shard in shards):
      if not Path(path).is_file():
        raise FileNotFoundError(f"{what} lacks {path}; {remedy}")
    self._image, self._label, self._mode, self.num_classes = _keys(
      tfds, builder.info, what
    )
    self.channels = len(self._mode)
    raw = {self._image: tfds.decode.SkipDecoding()}
    self._source = builder.as_data_source(split, decoders=raw)

  def __reduce__(self) -> tuple:
    return Split, self._arguments

  def __len__(self) -> int:
    return len(self._source)

  def read(
    self,
    index: int,
    side: int | None = None,
    choose: Callable[[int, int], Box] | None = None,
  ) -> tuple[np.ndarray, int]:
    """One image and its label.

    Args:
      index: in the order of the files.
      side: of the square that the chosen part is resized to, antialiased; None
        keeps the image as it is.
      choose: (width, height) → the part (left, top, right, bottom), in pixels
        of the stored image; None takes the largest centred square.

    Returns:
      uint8 [height, width, channels], label.

    Raises:
      ValueError: the record is damaged or has no label, naming it.
    """
    failure = f"cannot read image {index} of {self.description}"
    with _explained(failure, self._remedy):
      example = self._source[index]
      with Image.open(io.BytesIO(example[self._image])) as file:
        image = _resized(file, self._mode, side, choose)
      label = int(example[self._label])
    if not label < self.num_classes:
      raise ValueError(
        f"{failure}: its label is {label}, and there are"
        f" {self.num_classes} classes"
      )
    return np.asarray(image).reshape(image.height, image.width, -1), label


def random_crop_flip(key: Array, images: Array, padding: int = 4) -> Array:
  """Crops each zero-padded image at random and mirrors half of them.

  Args:
    key: the same key gives the same crops.
    images: [B, height, width, channels], any dtype; so is the result.
    padding: zeros added on each side; static under jit.
  """

  def augment(key: Array, image: Array) -> Array:
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
    raise ImportError(f"{error}; run pip install -e '.[tfds]'") from error
  return tfds


def _remedy(name: str, data_dir: str) -> str:
  """How to prepare a data set (the shell command `tfds` requires Beam)."""
  return (
    "to prepare it, with tensorflow and importlib_resources installed and a "
    'data_dir that does not hold it yet, run: python -c "import '
    f"tensorflow_datasets as tfds; tfds.builder({name!r}, data_dir="
    f"{str(data_dir)!r}, file_format='array_record').download_and_prepare()\""
  )


@contextlib.contextmanager
def _explained(failure: str, remedy: str) -> Iterator[None]:
  """Turns errors of the readers into one line that names the data."""
  try:
    yield
  except Exception as error:  # JSON, protobuf, Riegeli, Pillow: no common class
    cause = (str(error).splitlines() or [type(error).__name__])[0]
    raise ValueError(f"{failure}: {cause.rstrip('.')}; {remedy}") from error


def _find_version(name: str, data_dir: str, remedy: str) -> Path:
  """The folder of the newest version that `name` allows."""
  base, _, version = name.partition(":")
  root = Path(data_dir).expanduser() / base
  prepared = {path.parent for path in root.rglob("dataset_info.json")}
  fitting = prepared & set(root.glob(version or "[0-9]*.[0-9]*.[0-9]*"))
  if not fitting:
    names = (
      sorted(str(path.relative_to(root)) for path in prepared) or "nothing"
    )
    missing = f"no {name!r} in {data_dir}, where {base!r} holds {names}"
    raise FileNotFoundError(f"{missing}; {remedy}")
  return max(fitting, key=lambda path: [int(n) for n in path.name.split(".")])


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
    given = f"under {keys} are {image} and {label}"
    raise ValueError(f"{what} lacks 8-bit images with classes: {given}")
  return *keys, _MODES[image.shape[-1]], label.num_classes


def centred_square(width: int, height: int, share: float = 1.0) -> Box:
  """The centred square with a given share of the shorter side as its side."""
  side = min(width, height) * share
  left, top = (width - side) / 2, (height - side) / 2
  return left, top, left + side, top + side


def _resized(
  file: Image.Image, mode: str, side: int | None, choose: Callable | None
) -> Image.Image:
  """The chosen part of an opened file, `side` × `side`; None: all of it."""
  if side is None:
    return file.convert(mode)
  full = file.size
  box = (choose or centred_square)(*full)
  # A large JPEG decodes at 1/2, 1/4 or 1/8, to twice the goal or more.
  goal = [
    full[axis] * 2 * side / (box[axis + 2] - box[axis]) for axis in (0, 1)
  ]
  file.draft(None, tuple(math.floor(n) for n in goal))
  image = file.convert(mode)
  if choose is None:  # The centre of what was decoded.
    box = centred_square(*image.size)
  else:
    box = tuple(n * image.size[i % 2] / full[i % 2] for i, n in enumerate(box))
  return image.resize((side, side), Image.Resampling.BILINEAR, box)


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
