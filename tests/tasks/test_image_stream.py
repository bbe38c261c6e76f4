"""Images that the host reads: order, parts, mirrors, labels."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from maxrl_jax.tasks import TASKS, Prompts
from maxrl_jax.tasks.images import stream as image_stream
from maxrl_jax.tasks.images import tfds as tfds_images
from tests.support.image_sets import encode, random_images, write

# tensorflow-datasets asks this of protobuf 6, which deprecates it; 7 is quiet.
pytestmark = pytest.mark.filterwarnings(
  r"ignore:label\(\) is deprecated:DeprecationWarning"
)


@pytest.fixture(scope="module")
def numbered(tfds, tmp_path_factory):
  """40 training and 13 validation images, each with its number as a class."""
  root = tmp_path_factory.mktemp("numbered")
  label = tfds.features.ClassLabel(num_classes=40)
  images = random_images(40, (20, 24, 3))
  examples = [(encode(image), i) for i, image in enumerate(images)]
  splits = {"train": examples, "validation": examples[:13]}
  write(tfds, root, splits, label=label)
  return str(root)


def _stream(data_dir, **options):
  options = {"image_size": 8, "eval_size": 8} | options
  task = TASKS["streamed_images"]
  return task(data_name="tiny", data_dir=data_dir, **options).stream


def _read(stream, steps, batch=8, rows=None, start=0):
  reader = stream.train(batch, np.arange(batch)[rows or slice(None)], start)
  # Workers hand out memory that they share.
  actual = [jax.tree.map(np.array, x) for x in itertools.islice(reader, steps)]
  reader.close()
  return actual


def test_every_image_once_an_epoch_in_another_order(numbered):
  """40 images less 8 that are held out: four steps of eight."""
  batches = _read(_stream(numbered), 12)
  labels = np.concatenate([x.targets for x in batches]).reshape(3, 32)
  np.testing.assert_array_equal(np.sort(labels), np.tile(np.arange(32), (3, 1)))
  for a, b in itertools.combinations([*labels, np.arange(32)], 2):
    assert (a != b).sum() > 20
  assert batches[0].inputs.shape == (8, 8, 8, 3)
  assert batches[0].inputs.dtype == np.uint8
  # Another epoch has other parts of the same image.
  where = [np.argwhere(row == 5)[0, 0] for row in labels]
  first, second = (
    batches[4 * e + i // 8].inputs[i % 8] for e, i in enumerate(where[:2])
  )
  assert (first != second).any()


def _same(a: Prompts, b: Prompts) -> bool:
  return all(map(np.array_equal, a, b))


def test_a_step_is_the_same_wherever_reading_began(numbered):
  stream = _stream(numbered)
  whole = _read(stream, 6)
  for a, b in zip(whole[4:], _read(stream, 2, start=4), strict=True):
    assert _same(a, b)
  # What another process reads of the same steps.
  for a, b in zip(whole, _read(stream, 6, rows=slice(2, 5)), strict=True):
    assert _same(Prompts(*(x[2:5] for x in a)), b)
  # Twice the batch, half the steps.
  double = _read(stream, 3, batch=16)
  joined = (
    Prompts(*map(np.concatenate, zip(*some, strict=True)))
    for some in (whole, double)
  )
  assert _same(*joined)
  assert not _same(whole[0], _read(_stream(numbered, task_seed=1), 1)[0])


@pytest.mark.long
def test_workers_read_what_threads_do(numbered):
  threads = _read(_stream(numbered), 3, start=2)
  workers = _read(_stream(numbered, workers=2), 3, start=2)
  assert all(map(_same, threads, workers))


def test_fixed_splits_are_whole_and_in_order(numbered):
  stream = _stream(numbered)
  for name, labels in (("validation", range(32, 40)), ("test", range(13))):
    assert stream.sizes[name] == len(labels)
    batches = list(stream.split(name, 5, np.arange(5)))
    assert len(batches) == -(-len(labels) // 5)
    actual = np.concatenate([x.targets for x in batches])
    np.testing.assert_array_equal(actual[: len(labels)], labels)


def test_evaluation_sees_the_middle_224_of_256_pixels(tfds, tmp_path):
  square, wide = random_images(1, (64, 64, 3))[0], random_images(1, (64, 80))[0]
  wide = np.stack([wide] * 3, -1)
  examples = [(encode(image), 0) for image in (square, wide)]
  write(tfds, tmp_path, {"train": examples, "validation": examples})
  stream = _stream(str(tmp_path), image_size=56, eval_size=1)
  (batch,) = stream.split("test", 2, np.arange(2))
  np.testing.assert_array_equal(batch.inputs[0], square[4:60, 4:60])
  np.testing.assert_array_equal(batch.inputs[1], wide[4:60, 12:68])
  numbers = stream.prepare(Prompts(jnp.uint8([0, 255, 51]), 0)).inputs
  np.testing.assert_allclose(numbers, [-1, 1, -0.6], rtol=1e-6)


def test_a_part_is_cut_out_and_resized(tfds, tmp_path):
  """Of its own size it is just the pixels, of a JPEG decoded smaller too."""
  image = random_images(1, (20, 24, 3))[0]
  coarse = np.kron(random_images(1, (16, 16, 3))[0], np.ones((32, 32, 1)))
  jpeg = encode(coarse.astype(np.uint8), "jpeg")
  write(tfds, tmp_path, {"train": [(encode(image), 0), (jpeg, 0)]})
  split = tfds_images.Split("tiny", "train", str(tmp_path))
  pixels, _ = split.read(0, 8, lambda *size: (3, 2, 11, 10))
  np.testing.assert_array_equal(pixels, image[2:10, 3:11])
  # 8 × 8 blocks of 32 pixels; in the middle of each is its colour.
  pixels, _ = split.read(1, 24, lambda *size: (128, 64, 384, 320))
  np.testing.assert_allclose(
    pixels[1::3, 1::3], coarse[64 + 16 : 320 : 32, 128 + 16 : 384 : 32], atol=12
  )


def test_random_parts_have_the_areas_and_ratios_that_are_meant():
  """Up to half of a square's area no draw is refused."""
  rng, side = np.random.default_rng(0), 100_000
  boxes = np.array(
    [image_stream.random_part(rng, side, side) for _ in range(3000)]
  )
  assert (boxes >= 0).all() and (boxes <= side).all()
  wide, high = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
  area, ratio = wide * high / side**2, np.log(wide / high)
  assert area.min() >= 0.0799 and area.max() <= 1.0001
  assert np.abs(ratio).max() < np.log(4 / 3) + 1e-3
  half = area < 0.5
  least = np.log(3 / 4)
  for values, low, length in (
    (area[half], 0.08, 0.42),
    (ratio[half], least, -2 * least),
    (boxes[half, 0] / (side - wide[half]), 0, 1),
    (boxes[half, 1] / (side - high[half]), 0, 1),
  ):
    assert stats.kstest(values, "uniform", (low, length)).pvalue > 1e-4


def test_where_no_part_fits_it_is_the_middle():
  rng = np.random.default_rng(0)
  # Ratios from 3/4 to 4/3 of one pixel: one pixel.
  assert image_stream.random_part(rng, 1, 99) == (0, 49, 1, 50)
  # No area of 8 % of 900 × 30 is as low as 30 with such a ratio.
  assert image_stream.random_part(rng, 900, 30) == (430, 0, 470, 30)


def test_half_of_the_images_are_mirrored(tfds, tmp_path):
  ramp = np.tile(
    np.arange(0, 240, 4, dtype=np.uint8)[None, :, None], (60, 1, 3)
  )
  examples = [(encode(ramp), 0)] * 9
  write(tfds, tmp_path, {"train": examples, "validation": examples})
  stream = _stream(str(tmp_path), eval_size=1)
  pixels = np.concatenate([np.int32(x.inputs) for x in _read(stream, 50)])
  rising = (pixels[:, 4, -1, 0] > pixels[:, 4, 0, 0]).mean()
  assert abs(rising - 0.5) < 5 * 0.5 / np.sqrt(len(pixels))
  (plain,) = _read(_stream(str(tmp_path), eval_size=1, augment=False), 1)
  assert (np.diff(np.int32(plain.inputs[:, 4, :, 0])) > 0).all()


@pytest.mark.parametrize(
  ("label", "message"), [(-1, "has no label"), (7, "label is 7, and .* 4 cla")]
)
def test_labels_that_the_policy_has_no_output_for(
  tfds, tmp_path, label, message
):
  # What declares four classes cannot write the eighth.
  wide = {"label": tfds.features.ClassLabel(num_classes=8)}
  examples = [(encode(random_images(1)[0]), label)] * 9
  folder = write(
    tfds, tmp_path, {"train": examples, "validation": examples}, **wide
  )
  declared = folder / "features.json"
  text = declared.read_text()
  assert '"8"' in text
  declared.write_text(text.replace('"8"', '"4"'))
  for names in folder.glob("*.labels.txt"):
    names.unlink()
  stream = _stream(str(tmp_path), eval_size=1)
  with pytest.raises(ValueError, match=message):
    _read(stream, 1)
