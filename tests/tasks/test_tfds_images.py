"""Image data sets, written here in the on-disk format and read back."""

import json
import sys

import numpy as np
import pytest

from maxrl_jax.config import default
from maxrl_jax.runs import train_to_folder
from maxrl_jax.tasks.images import tfds as tfds_images
from tests.support.image_sets import encode, random_images, write

# tensorflow-datasets asks this of protobuf 6, which deprecates it; 7 is quiet.
pytestmark = pytest.mark.filterwarnings(
  r"ignore:label\(\) is deprecated:DeprecationWarning"
)


@pytest.fixture
def tfds(monkeypatch):
  """The extra, if it is installed; TensorFlow must stay out of it."""
  pytest.importorskip("array_record")
  tfds = pytest.importorskip("tensorflow_datasets")
  # Forty images are then several tasks for the threads.
  monkeypatch.setattr(tfds_images, "_CHUNK", 7)
  before = "tensorflow" in sys.modules
  yield tfds
  assert ("tensorflow" in sys.modules) == before


@pytest.fixture
def tiny(tfds, tmp_path):
  """40 training images in three shards, 12 test images, 4 classes."""
  splits = {"train": random_images(40), "test": random_images(12, seed=1)}
  return write(
    tfds,
    tmp_path,
    {
      split: [(encode(image), index % 4) for index, image in enumerate(images)]
      for split, images in splits.items()
    },
  )


@pytest.mark.parametrize(
  ("split", "written", "kept"),
  [
    ("train", random_images(40), slice(None)),
    ("test", random_images(12, seed=1), slice(None)),
    ("train[:5]", random_images(40), slice(5)),
    ("train[10:20]", random_images(40), slice(10, 20)),
    ("train[75%:]", random_images(40), slice(30, 40)),
  ],
)
def test_every_pixel_and_label(tiny, tmp_path, split, written, kept):
  data = tfds_images.load("tiny", split, str(tmp_path))
  np.testing.assert_array_equal(data.images, written[kept])
  labels = (np.arange(len(written)) % 4)[kept]
  np.testing.assert_array_equal(data.labels, labels)
  assert (data.images.dtype, data.labels.dtype) == (np.uint8, np.int32)
  assert data.num_classes == 4


def test_newest_version_by_default(tfds, tmp_path):
  for version, label in (("9.0.0", 1), ("10.0.0", 2), ("9.1.0", 3)):
    examples = [(encode(random_images(1)[0]), label)]
    write(tfds, tmp_path, {"train": examples}, version=version)
  names = {"tiny": 2, "tiny:9.0.0": 1, "tiny:9.*.*": 3, "tiny:10.0.0": 2}
  for name, label in names.items():
    data = tfds_images.load(name, "train", str(tmp_path))
    assert data.labels.tolist() == [label]


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_files_get_the_declared_channels(tfds, tmp_path, channels):
  grey = random_images(3, (8, 8))
  examples = [(encode(image), 0) for image in grey]
  image = tfds.features.Image(shape=(8, 8, channels))
  write(tfds, tmp_path, {"train": examples}, image=image)
  data = tfds_images.load("tiny", "train", str(tmp_path))
  np.testing.assert_array_equal(data.images, np.stack([grey] * channels, -1))


def halved(image):
  """Half of both sides: along each axis, triangles four pixels wide."""
  for _ in range(2):
    pixels = np.arange(len(image))[None] + 0.5
    centres = 2 * np.arange(len(image) // 2)[:, None] + 1
    weights = np.maximum(0, 2 - np.abs(pixels - centres))
    weights /= weights.sum(1, keepdims=True)
    image = np.tensordot(weights, image, 1).swapaxes(0, 1)
  return image


def test_image_size_takes_the_centred_square(tfds, tmp_path):
  square, wide, high = (
    random_images(1, shape)[0] for shape in ((8, 8, 3), (8, 12, 3), (16, 8, 3))
  )
  examples = [(encode(image), 1) for image in (square, wide, high)]
  write(tfds, tmp_path, {"train": examples})
  whole = tfds_images.load("tiny", "train", str(tmp_path), image_size=8)
  expected = np.stack([square, wide[:, 2:10], high[4:12]])
  np.testing.assert_array_equal(whole.images, expected)
  half = tfds_images.load("tiny", "train", str(tmp_path), image_size=4)
  square, wide, high = (halved(image) for image in (square, wide, high))
  expected = np.stack([square, wide[:, 1:5], high[2:6]])
  np.testing.assert_allclose(half.images, expected, atol=1)  # grey levels


def test_large_jpeg_keeps_its_detail(tfds, tmp_path):
  """Bands of 8 rows become one row each: ¾ their own, ¼ their neighbours'."""
  bands = np.repeat(np.arange(10) % 2, 8).astype(np.uint8) * 255
  bands = np.tile(bands[:, None, None], (1, 128, 3))
  write(tfds, tmp_path, {"train": [(encode(bands, "jpeg"), 2)]})
  data = tfds_images.load("tiny", "train", str(tmp_path), image_size=10)
  rows = np.where(np.arange(1, 9) % 2, 0.75, 0.25) * 255  # but for the ends
  expected = np.broadcast_to(rows[:, None, None], (8, 10, 3))
  np.testing.assert_allclose(data.images[0, 1:-1], expected, atol=3)


@pytest.mark.parametrize("odd_one", [1, 39])
def test_ragged_sizes_ask_for_image_size(tfds, tmp_path, odd_one):
  examples = [(encode(image), 0) for image in random_images(40)]
  examples[odd_one] = (encode(random_images(1, (9, 8, 3))[0]), 0)
  write(tfds, tmp_path, {"train": examples})
  with pytest.raises(ValueError, match=f"at {odd_one}, .* pass image_size"):
    tfds_images.load("tiny", "train", str(tmp_path))
  data = tfds_images.load("tiny", "train", str(tmp_path), image_size=8)
  assert data.images.shape == (40, 8, 8, 3)


def fails(kind, what, name, split, root):
  """`load` must fail in one line with `what`, the place and the remedy."""
  with pytest.raises(kind) as caught:
    tfds_images.load(name, split, str(root))
  message = str(caught.value)
  assert "\n" not in message
  for part in (what, name, str(root), "download_and_prepare()"):
    assert part in message


@pytest.mark.parametrize(
  ("kind", "what", "name", "split"),
  [
    (FileNotFoundError, "holds nothing", "cifar10", "train"),
    (FileNotFoundError, "holds ['1.0.0']", "tiny:2.0.0", "train"),
    (ValueError, "'train', 'test'", "tiny", "validation"),
  ],
)
def test_missing_data(tiny, tmp_path, kind, what, name, split):
  fails(kind, what, name, split, tmp_path)
  fails(FileNotFoundError, "no 'tiny'", "tiny", "train", tmp_path / "nowhere")


def test_missing_shard(tiny, tmp_path):
  shard = tiny / "tiny-train.array_record-00001"
  shard.unlink()
  fails(FileNotFoundError, str(shard), "tiny", "train", tmp_path)
  assert len(tfds_images.load("tiny", "test", str(tmp_path)).labels) == 12


@pytest.mark.parametrize(
  "damage",
  [
    lambda good: b"",
    lambda good: good[:1000],
    lambda good: bytes(len(good)),
    lambda good: good[:1000] + b"\xff" + good[1001:],
  ],
  ids=["empty", "truncated", "zeros", "one byte"],
)
def test_damaged_shard(tiny, tmp_path, damage):
  shard = tiny / "tiny-train.array_record-00001"
  good = shard.read_bytes()
  assert good[1000] != 255
  shard.write_bytes(damage(good))
  fails(ValueError, "cannot read image", "tiny", "train", tmp_path)


@pytest.mark.parametrize(
  ("file", "text", "what"),
  [
    ("dataset_info.json", "{", "cannot open"),
    ("features.json", "{", "cannot open"),
    ("dataset_info.json", '{"fileFormat": "tfrecord"}', "tfrecord"),
  ],
)
def test_unreadable_metadata(tiny, tmp_path, file, text, what):
  if "tfrecord" in text:
    text = json.loads((tiny / file).read_text()) | json.loads(text)
    text = json.dumps(text)
  (tiny / file).write_text(text)
  fails(ValueError, what, "tiny", "train", tmp_path)


def test_bytes_that_are_no_image(tfds, tmp_path):
  good = encode(random_images(1)[0])
  for name, bad in (("text", b"no image"), ("cut", good[: len(good) // 2])):
    write(tfds, tmp_path / name, {"train": [(good, 0), (bad, 1)]})
    fails(ValueError, "image 1 of", "tiny", "train", tmp_path / name)


def test_not_classification(tfds, tmp_path):
  good = encode(random_images(1)[0])
  write(tfds, tmp_path / "unlabelled", {"test": [(good, -1)]})
  with pytest.raises(ValueError, match="has no labels"):
    tfds_images.load("tiny", "test", str(tmp_path / "unlabelled"))
  text = {"label": tfds.features.Text()}
  write(tfds, tmp_path / "text", {"train": [(good, "cat")]}, **text)
  deep = {"image": tfds.features.Image(dtype=np.uint16, encoding_format="png")}
  write(tfds, tmp_path / "deep", {"train": [(good, 0)]}, **deep)
  for name in ("text", "deep"):
    with pytest.raises(ValueError, match="8-bit images with classes"):
      tfds_images.load("tiny", "train", str(tmp_path / name))
  with pytest.raises(ValueError, match="is empty"):
    tfds_images.load("tiny", "test[:0]", str(tmp_path / "unlabelled"))


@pytest.mark.parametrize("size", [0, 1.5])
def test_sizes_that_are_no_size(tmp_path, size):
  with pytest.raises(ValueError, match=f"image_size = {size}: must be a whole"):
    tfds_images.load("tiny", "train", str(tmp_path), image_size=size)


@pytest.mark.parametrize(
  "module",
  ["array_record.python.array_record_data_source", "tensorflow_datasets"],
)
def test_missing_extra(monkeypatch, tmp_path, module):
  monkeypatch.setitem(sys.modules, module, None)
  with pytest.raises(ImportError, match=r"; run pip install -e '\.\[tfds\]'"):
    tfds_images.load("tiny", "train", str(tmp_path))


@pytest.mark.long
def test_a_training_run_from_disk_to_summary(tfds, tmp_path):
  """Four kinds of picture that a small network tells apart within seconds."""
  rng = np.random.default_rng(0)
  tint = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]])

  def picture(label):
    noise = rng.integers(-40, 40, (8, 8, 3))
    return encode(np.clip(tint[label] + noise, 0, 255).astype(np.uint8))

  splits = {
    split: [(picture(i % 4), i % 4) for i in range(count)]
    for split, count in (("train", 80), ("test", 20))
  }
  write(tfds, tmp_path / "data", splits)
  config = default(task="images")
  config.task.data_name = "tiny"
  config.task.data_dir = str(tmp_path / "data")
  config.policy.name, config.policy.channels = "cnn", (4,)
  config.policy.hidden, config.batch_size, config.rollouts = (16,), 16, 8
  config.steps, config.log_every, config.eval_every = 60, 20, 20
  config.optimizer.name, config.optimizer.learning_rate = "adam", 0.01
  summary = train_to_folder.train(config, tmp_path / "run")
  assert summary["test/majority"] > 0.9
  assert summary["test/nll"] < 0.7  # log 4 = 1.39 for a guess
