"""ResNet: parameter counts, dtypes, and outputs against NumPy."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxrl_jax.config import default
from maxrl_jax.learning import rollouts, training
from maxrl_jax.learning.build_loss import make_loss
from maxrl_jax.policies import POLICIES, ResNet
from maxrl_jax.tasks import ExactTask, Prompts, base


def _small(**fields):
  policy = ResNet(5, **{"stages": (2, 1), "channels": (4, 8)} | fields)
  policy.check()
  return policy


def _count(tree) -> int:
  return sum(np.prod(x.shape, dtype=int) for x in jax.tree.leaves(tree))


def test_resnet50_has_25_557_032_parameters():
  actual = jax.eval_shape(
    POLICIES["resnet"](1000).init,
    jax.random.key(0),
    jnp.zeros((1, 224, 224, 3)),
  )
  assert _count(actual["params"]) == 25_557_032
  # A mean and a variance for each of 26 560 channels.
  assert _count(actual["batch_stats"]) == 2 * 26_560


def _images():
  draws = np.random.default_rng(0).normal(size=(3, 16, 16, 3))
  return draws.astype(np.float32)


def _away_from_the_start(shapes):
  """Parameters of these shapes; drawn here, as `init` compiles for seconds."""
  rng = np.random.default_rng(1)

  def leaf(path, shape):
    size, name = shape.shape, path[-1].key
    if name == "kernel":
      start = rng.normal(size=size) / np.sqrt(np.prod(size[:-1]))
    else:
      start = float(name in ("scale", "var"))
    return np.float32(start + 0.1 * rng.uniform(size=size))

  return jax.tree.map_with_path(leaf, shapes)


@functools.partial(jax.jit, static_argnums=0)
def _read(policy, params, images):
  return rollouts.forward(policy, params, images)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_parameters_statistics_and_logits_are_float32(dtype):
  policy = _small(dtype=dtype)
  shapes = jax.eval_shape(policy.init, jax.random.key(1), _images())
  assert {x.dtype for x in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
  outputs, after = _read(policy, _away_from_the_start(shapes), _images())
  assert outputs.dtype == jnp.float32
  assert {x.dtype for x in jax.tree.leaves(after)} == {jnp.dtype("float32")}


def _convolved(x, kernel, stride, padding):
  """[B, H, W, C] by loops over kernel positions, in float64."""
  size = kernel.shape[0]
  margin = (padding, padding)
  padded = np.pad(np.float64(x), [(0, 0), margin, margin, (0, 0)])
  side = (x.shape[1] + 2 * padding - size) // stride + 1
  total = 0.0
  for i in range(size):
    for j in range(size):
      rows = slice(i, i + stride * (side - 1) + 1, stride)
      columns = slice(j, j + stride * (side - 1) + 1, stride)
      total = total + padded[:, rows, columns] @ np.float64(kernel[i, j])
  return total


class _Oracle:
  """The network of `_small` in NumPy, with batch or running statistics."""

  def __init__(self, variables, training):
    self.weights, self.given = variables["params"], variables["batch_stats"]
    self.training, self.seen = training, {}

  def norm(self, x, *path):
    weights, given = self.weights, self.given
    for name in path:
      weights, given = weights[name], given[name]
    mean, var = np.float64(given["mean"]), np.float64(given["var"])
    if self.training:
      mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
      self.seen[path] = mean, var
    y = (x - mean) / np.sqrt(var + 1e-5)
    return y * np.float64(weights["scale"]) + np.float64(weights["bias"])

  def block(self, x, name, stride):
    weights = self.weights[name]

    def part(x, layer, stride=1, padding=0):
      y = _convolved(x, weights[layer]["kernel"], stride, padding)
      return self.norm(y, name, f"{layer}_norm")

    y = np.maximum(part(x, "reduce"), 0)
    y = np.maximum(part(y, "middle", stride, 1), 0)
    y = part(y, "expand")
    if "shortcut" in weights:
      x = part(x, "shortcut", stride)
    return np.maximum(x + y, 0)

  def __call__(self, x, stem):
    stride, padding = (2, 3) if stem == "imagenet" else (1, 1)
    kernel = self.weights["stem"]["kernel"]
    x = self.norm(_convolved(x, kernel, stride, padding), "stem_norm")
    x = np.maximum(x, 0)
    if stem == "imagenet":
      side = x.shape[1] // 2
      padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
      x = np.max(
        [
          padded[:, i : i + 2 * side : 2, j : j + 2 * side : 2]
          for i in range(3)
          for j in range(3)
        ],
        0,
      )
    for name, stride in (
      ("stage0_block0", 1),
      ("stage0_block1", 1),
      ("stage1_block0", 2),
    ):
      x = self.block(x, name, stride)
    head = self.weights["head"]
    return x.mean((1, 2)) @ np.float64(head["kernel"]) + head["bias"]


@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
def test_outputs_equal_numpys(stem):
  """In training and evaluation; running statistics move by 10 %."""
  policy = _small(stem=stem)
  images = _images()
  shapes = jax.eval_shape(policy.init, jax.random.key(1), images)
  params = variables = _away_from_the_start(shapes)
  outputs, after = _read(policy, params, images)
  oracle = _Oracle(variables, training=True)
  expected = oracle(images, stem)
  np.testing.assert_allclose(outputs, expected, rtol=1e-3, atol=1e-4)
  assert len(oracle.seen) == len(jax.tree.leaves(after)) / 2
  for path, (mean, var) in oracle.seen.items():
    actual, given = after["batch_stats"], variables["batch_stats"]
    for name in path:
      actual, given = actual[name], given[name]
    for name, value in (("mean", mean), ("var", var)):
      moved = 0.9 * np.float64(given[name]) + 0.1 * value
      np.testing.assert_allclose(actual[name], moved, rtol=1e-3, atol=1e-4)
  outputs = jax.jit(policy.apply)(params, images)
  expected = _Oracle(variables, training=False)(images, stem)
  np.testing.assert_allclose(outputs, expected, rtol=1e-3, atol=1e-4)


def _task() -> ExactTask:
  def draw(key, batch):
    labels = jnp.arange(batch) % 5
    images = (
      jax.random.normal(key, (batch, 8, 8, 1)) + labels[:, None, None, None]
    )
    return Prompts(images, labels)

  return ExactTask(
    draw=draw,
    splits={
      "validation": Prompts(np.zeros((4, 8, 8, 1), np.float32), np.arange(4))
    },
    likelihoods=base.exact_match,
    log_pass_rate=base.exact_match_log_pass_rate,
    policies=("resnet",),
    policy_options={"num_actions": 5},
  )


@pytest.mark.parametrize("name", ["maxrl", "cross_entropy"])
def test_a_step_updates_statistics_from_the_batch_only(name):
  """Not by gradient or weight decay; norms in metrics exclude them."""
  config = default()
  config.policy.stages, config.policy.channels = (1,), (4,)
  config.policy.stem, config.estimator.name = "cifar", name
  config.batch_size, config.rollouts = 10, 8
  config.optimizer.name, config.optimizer.weight_decay = "adamw", 0.1
  trainer = training.make_train(config, _task())
  shapes = jax.eval_shape(trainer.init, jax.random.key(0))
  state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
  params = _away_from_the_start(shapes.params)
  state = dataclasses.replace(state, params=params)
  key = jax.random.key(1)
  after, metrics = jax.jit(trainer.step)(state, key)
  loss = make_loss(config, trainer.task, trainer.policy)

  @jax.jit
  def recompute(params):
    draw_key, rollout_key = jax.random.split(jax.random.fold_in(key, 0))
    prompts = trainer.task.draw(draw_key, 10)
    _, statistics = rollouts.forward(trainer.policy, params, prompts.inputs)
    gradient = jax.grad(lambda p: loss(p, rollout_key, prompts)[0])(params)
    return statistics, gradient

  expected, gradient = recompute(state.params)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
    after.params["batch_stats"],
    expected["batch_stats"],
  )
  assert "batch_stats" not in metrics
  weights = jax.tree.leaves(after.params["params"])
  norm = np.sqrt(sum(np.sum(np.float64(x) ** 2) for x in weights))
  np.testing.assert_allclose(metrics["parameter_norm"], norm, rtol=1e-5)
  assert all(not x.any() for x in jax.tree.leaves(gradient["batch_stats"]))
  assert all(x.any() for x in jax.tree.leaves(gradient["params"]))


@pytest.mark.parametrize(
  ("shape", "fields", "message"),
  [
    ((1, 8), {}, "must be images"),
    ((1, 31, 64, 3), {"stages": (1,) * 4}, "31 × 64 pixels are too small.* 32"),
    ((1, 7, 7, 3), {"stages": (1,) * 4, "stem": "cifar"}, "at least 8"),
  ],
)
def test_unsupported_images_raise(shape, fields, message):
  policy = _small(channels=(4,) * 4, **fields) if fields else _small()
  with pytest.raises(ValueError, match=message):
    policy.init(jax.random.key(0), jnp.zeros(shape))
