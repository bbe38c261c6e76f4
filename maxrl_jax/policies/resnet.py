"""A residual network with bottleneck blocks (arXiv 1512.03385, version 1.5)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from maxrl_jax import ranges
from maxrl_jax.policies.categorical import Categorical

Array = jax.Array

# Padding is set explicitly, because "SAME" depends on the image size and is
# asymmetric, unlike the padding of published networks.
_Conv = partial(
  nn.Conv,
  use_bias=False,
  kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
)
_STEMS = ("imagenet", "cifar")


class ResNet(Categorical):
  """Residual network: images [B, H, W, channels] → logits [B, num_actions].

  The defaults are ResNet-50. Batch normalization is over the global batch, on
  all devices; running means and variances are the collection `batch_stats`.

  Attributes:
    num_actions: C.
    stages: blocks of each stage; all but the first halve both sides.
    channels: of the 3×3 convolutions per stage; blocks output 4 times as many.
    stem: 'imagenet' is 7×7 with stride 2, then 3×3 max pooling with stride 2;
      'cifar' is 3×3 only.
    dtype: of activations, 'float32' or 'bfloat16'; parameters, statistics and
      logits are float32.
  """

  num_actions: int
  stages: Sequence[int] = (3, 4, 6, 3)
  channels: Sequence[int] = (64, 128, 256, 512)
  stem: str = "imagenet"
  dtype: str = "float32"

  def check(self) -> None:
    """Raises ValueError at the first invalid field."""
    if not self.stages:
      raise ValueError("policy.stages = (): must have at least one stage")
    if len(self.channels) != len(self.stages):
      raise ValueError(
        f"policy.channels = {self.channels}: must have one entry for each of"
        f" policy.stages = {self.stages}"
      )
    ranges.one_of(_STEMS, of="policy.", stem=self.stem)
    ranges.one_of(("float32", "bfloat16"), of="policy.", dtype=self.dtype)

  @nn.compact
  def __call__(self, inputs: Array, training: bool = False) -> Array:
    """Logits; with `training`, normalizes by statistics of the batch."""
    self._check_inputs(inputs)
    dtype = jnp.dtype(self.dtype)
    norm = partial(
      nn.BatchNorm,
      use_running_average=not training,
      momentum=0.9,
      epsilon=1e-5,
      dtype=dtype,
    )
    conv = partial(_Conv, dtype=dtype)
    x = inputs.astype(dtype)
    if self.stem == "imagenet":
      x = conv(self.channels[0], (7, 7), 2, padding=3, name="stem")(x)
    else:
      x = conv(self.channels[0], (3, 3), padding=1, name="stem")(x)
    x = nn.relu(norm(name="stem_norm")(x))
    if self.stem == "imagenet":
      x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
    for stage, (blocks, width) in enumerate(
      zip(self.stages, self.channels, strict=True)
    ):
      for block in range(blocks):
        stride = 2 if stage and not block else 1
        name = f"stage{stage}_block{block}"
        x = Bottleneck(width, stride, conv, norm, name=name)(x)
    x = jnp.mean(x, (1, 2), dtype=jnp.float32)
    uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
    return nn.Dense(self.num_actions, kernel_init=uniform, name="head")(x)

  def _check_inputs(self, inputs: Array) -> None:
    if inputs.ndim != 4:
      raise ValueError(
        f"policy.name = 'resnet': inputs have shape {inputs.shape}, must be"
        " images [B, H, W, channels]"
      )
    side = 2 ** (len(self.stages) - 1) * (4 if self.stem == "imagenet" else 1)
    if min(inputs.shape[1:3]) < side:
      raise ValueError(
        f"policy.stem = {self.stem!r} with {len(self.stages)} stages: images of"
        f" {inputs.shape[1]} × {inputs.shape[2]} pixels are too small, sides"
        f" must be at least {side}; set task.image_size, stem 'cifar' or"
        " fewer stages"
      )


class Bottleneck(nn.Module):
  """x + f(x), where f is a 1×1, a strided 3×3 and a 1×1 convolution."""

  width: int
  stride: int
  conv: Callable[..., Any]
  norm: Callable[..., Any]

  @nn.compact
  def __call__(self, x: Array) -> Array:
    out = 4 * self.width
    y = self.conv(self.width, (1, 1), name="reduce")(x)
    y = nn.relu(self.norm(name="reduce_norm")(y))
    y = self.conv(self.width, (3, 3), self.stride, padding=1, name="middle")(y)
    y = nn.relu(self.norm(name="middle_norm")(y))
    y = self.conv(out, (1, 1), name="expand")(y)
    y = self.norm(name="expand_norm")(y)
    if x.shape[-1] != out or self.stride != 1:
      x = self.conv(out, (1, 1), self.stride, padding=0, name="shortcut")(x)
      x = self.norm(name="shortcut_norm")(x)
    return nn.relu(x + y)
