"""Training from images that the host reads: interruptions, meshes, errors."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import imagenet
from maxrl_jax import evaluation
from maxrl_jax.evaluation import streamed
from maxrl_jax.learning import training
from maxrl_jax.runs import study
from maxrl_jax.tasks import TASKS, Prompts
from tests.support import streaming_cases
from tests.support.image_sets import encode, random_images, write
from tests.support.virtual_devices import rows

# tensorflow-datasets asks this of protobuf 6, which deprecates it; 7 is quiet.
pytestmark = pytest.mark.filterwarnings(
  r"ignore:label\(\) is deprecated:DeprecationWarning"
)


@pytest.fixture(scope="module")
def pictures(tfds, tmp_path_factory):
  root = tmp_path_factory.mktemp("pictures")
  streaming_cases.write_pictures(tfds, root)
  return str(root)


def _config(data_dir, **fields):
  config = streaming_cases.config(data_dir)
  config.update_from_flattened_dict(fields)
  return config


@pytest.mark.long
def test_a_run_that_goes_on_ends_with_the_same_bits(pictures, monkeypatch):
  """And it learns, is compiled once, and is what evaluation says."""
  config = _config(pictures)
  trainer = training.make_train(config)
  saved_states, rates = {}, []
  for step, states, metrics in training.chunks(trainer, config):
    saved_states[step] = jax.tree.map(np.array, states)
    rates.append(metrics["pass_rate"].mean())
  assert list(saved_states) == [8, 16, 24]
  assert rates[-1] > 0.8 > 0.7 > rates[0]
  assert trainer.advance._cache_size() == 1
  again = training.chunks(trainer, config, states=saved_states[8])
  *_, (_, states, _) = again
  jax.tree.map(np.testing.assert_array_equal, states, saved_states[24])
  moved = saved_states[24].params["batch_stats"]["stem_norm"]["mean"]
  assert (moved != 0).all()

  # All of the split at once, in NumPy.
  (whole,) = trainer.task.stream.split("test", 20, np.arange(20))
  params = jax.tree.map(lambda x: x[0], states.params)
  inputs = whole.inputs / np.float32(127.5) - 1
  logits = np.float64(jax.jit(trainer.policy.apply)(params, inputs))
  right = logits[np.arange(20), whole.targets]
  p = np.exp(right) / np.exp(logits).sum(1)
  monkeypatch.setattr(streamed, "_PROMPTS", 8)  # Twenty are not three eights.
  actual = evaluation.make_evaluate(trainer, (1, 4))("test", states)
  expected = {
    "pass@1": p.mean(),
    "pass@4": (1 - (1 - p) ** 4).mean(),
    "majority": (logits.argmax(1) == whole.targets).mean(),
    "nll": -np.log(p).mean(),
  }
  assert list(actual) == list(expected)
  for name, value in expected.items():
    np.testing.assert_allclose(actual[name], [value], rtol=1e-4, atol=1e-6)


def test_several_runs_see_the_same_batches(pictures):
  """Each is then what it is alone."""
  fields = {"steps": 8, "policy.name": "mlp", "policy.hidden": (8,)}
  fields |= {"policy.stages": None, "policy.channels": None}
  fields |= {"policy.dtype": None}
  both = _config(pictures, runs=2, **fields)
  trainer = training.make_train(both)
  ((_, states, _),) = training.chunks(trainer, both)
  alone = _config(pictures, seed=1, **fields)
  ((_, one, _),) = training.chunks(training.make_train(alone), alone)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a[1], b[0], rtol=1e-3, atol=1e-4),
    states.params,
    one.params,
  )


@pytest.mark.long
def test_eight_devices_are_as_one(pictures):
  one, eight = rows("tests.support.streaming_cases", pictures)
  assert (one["sizes"], eight["sizes"]["data"]) == (None, 8)
  assert (one["traces"], eight["traces"]) == (1, 1)
  # Until rounding makes another draw, or an activation cross zero.
  np.testing.assert_allclose(eight["loss"][:4], one["loss"][:4], rtol=1e-4)
  for name in ("params", "loss", "pass_rate", "scores"):
    np.testing.assert_allclose(eight[name], one[name], rtol=1e-2, atol=2e-2)
  assert one["pass_rate"][-1] > one["pass_rate"][0] + 0.1


@pytest.mark.long
def test_the_published_setting_has_its_shapes(tfds, tmp_path):
  """A step is traced, not compiled: batch 256, 224 pixels, 1024 rollouts."""
  label = tfds.features.ClassLabel(num_classes=1000)
  examples = [(encode(random_images(1)[0]), 999)] * 2
  splits = {"train": examples, "validation": examples}
  write(tfds, tmp_path, splits, label=label)
  config = imagenet.get_config()
  config.task.data_name, config.task.data_dir = "tiny", str(tmp_path)
  config.task.eval_size, config.log_every = 1, 4
  trainer = training.make_train(config)
  batches = Prompts(
    jax.ShapeDtypeStruct((4, 256, 224, 224, 3), jnp.uint8),
    jax.ShapeDtypeStruct((4, 256), jnp.int32),
  )
  start_keys, keys = trainer.keys(np.zeros(1, np.uint32))
  states = jax.eval_shape(trainer.start, start_keys, {})
  after, metrics = jax.eval_shape(trainer.advance, states, keys, batches)
  assert metrics["pass_rate"].shape == (1, 4)
  assert jax.tree.all(
    jax.tree.map(lambda a, b: a.shape == b.shape, states, after)
  )
  assert config.steps == 100_000 and config.optimizer.warmup == 5_000


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"task.data_name": "imagenet2012"}, "no 'imagenet2012' in"),
    ({"task.test_split": "test"}, "'test'.*'train', 'validation'"),
    ({"task.eval_size": 96}, "eval_size = 96: must be below 96, the number"),
    ({"task.eval_size": 0}, "eval_size = 0: must be at least 1"),
    ({"task.workers": -1}, "workers = -1: must be at least 0"),
    ({"task.image_size": 4}, "sides must be at least 8; set task.image_size"),
    (
      {"policy.stages": (1, 1, 1)},
      "policy.channels = .*one entry for each of policy.st",
    ),
    ({"policy.stages": (1, 0)}, "policy.stages = .*at least 1"),
    ({"policy.stem": "vgg"}, "policy.stem = 'vgg': choose from"),
    ({"policy.dtype": "float16"}, "policy.dtype = 'float16': .*choose from"),
    ({"policy.name": "tabular"}, "takes .'resnet', 'cnn', 'mlp'."),
    ({"mesh.data": 3}, "mesh.data = 3: must divide batch_size = 16"),
  ],
)
def test_a_mistake_is_one_clear_line(pictures, fields, message):
  with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
    training.make_train(_config(pictures, **fields))
  assert "\n" not in str(caught.value)


def test_a_damaged_image_ends_the_run(pictures, tfds, tmp_path):
  good = encode(random_images(1, (16, 16, 3))[0])
  examples = [(good, 0)] * 40 + [(b"no image", 1)]
  splits = {"train": examples + [(good, 0)] * 4, "validation": [(good, 0)]}
  write(tfds, tmp_path, splits)
  config = _config(str(tmp_path), **{"task.eval_size": 4})
  trainer = training.make_train(config)
  with pytest.raises(ValueError, match="cannot read image 40 of split 'train'"):
    list(training.chunks(trainer, config))


def test_a_sweep_of_streamed_data_is_refused(pictures, tmp_path):
  what = study.study(_config(pictures), "estimator.order=1,2")
  with pytest.raises(ValueError, match="train each run with"):
    study.run(what, tmp_path)


def test_a_step_without_its_batch_says_so(pictures):
  trainer = training.make_train(_config(pictures))
  keys = jax.random.split(jax.random.key(0), 1)
  states = jax.eval_shape(trainer.start, keys, {})
  with pytest.raises(ValueError, match="this task is streamed: pass `batch`"):
    jax.eval_shape(trainer.advance, states, keys)


def test_without_the_extra(monkeypatch, pictures):
  monkeypatch.setitem(sys.modules, "grain", None)
  with pytest.raises(ImportError, match=r"; run pip install -e '\.\[tfds\]'"):
    TASKS["streamed_images"](data_name="tiny", data_dir=pictures)
