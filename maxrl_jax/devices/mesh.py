"""Shardings of arrays over several devices.

A mesh has four axes: `runs` of a program, `data` (prompts of a batch),
`rollouts` of a group and `model` (a transformer's weights). The program is
written for one device; JAX's SPMD partitioner splits it along the shardings of
a few arrays and adds the communication: gradients are summed over `data` and
`rollouts`, and an estimator gets the N likelihoods of its entire group.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from maxrl_jax.policies import Sharded

AXES = ("runs", "data", "rollouts", "model")


class Layout:
  """A mesh and the shardings over it; on one device nothing is sharded.

  Attributes:
    mesh: None with one device.
  """

  def __init__(
    self, mesh: Mesh | None, split: dict[str, int] | None = None
  ) -> None:
    """Sets the mesh, and how layers are split over it.

    Args:
      mesh: with `AXES`; None with one device.
      split: layer's name → axis of its weights that is sharded over `model`.
    """
    self.mesh, self._split = mesh, split or {}

  def adapt_policy(self, policy: nn.Module) -> nn.Module:
    """The same policy, in the form that is fastest on this mesh."""
    if self.size("rollouts") > 1 and isinstance(policy, Sharded):
      return policy.clone(prompts_apart=True)
    return policy

  def shard(self, tree: Any, *axes: str | None) -> Any:
    """The same arrays, their first axes sharded over these axes of the mesh."""
    if self.mesh is None:
      return tree
    where = NamedSharding(self.mesh, P(*axes))
    return jax.lax.with_sharding_constraint(tree, where)

  def rows(self, count: int) -> np.ndarray:
    """The prompts of a batch that devices of this process need."""
    every = np.arange(count)
    if self.mesh is None:
      return every
    where = NamedSharding(self.mesh, P("data"))
    parts = where.addressable_devices_indices_map((count,)).values()
    return np.unique(np.concatenate([every[index] for index in parts]))

  def feed(self, tree: Any, count: int) -> Any:
    """Arrays over all devices, from the rows that this process has read.

    Args:
      tree: of NumPy arrays [steps, len(rows(count)), …].
      count: prompts of a whole batch.

    Returns:
      Arrays [steps, count, …], the batch sharded over `data`.
    """
    if self.mesh is None:
      return jax.device_put(tree)
    where, rows = NamedSharding(self.mesh, P(None, "data")), self.rows(count)

    def part(x: np.ndarray, index: Any) -> np.ndarray:
      wanted = np.arange(count)[index[1]]
      first = np.searchsorted(rows, wanted[0])
      return x[index[0], first : first + len(wanted)]

    return jax.tree.map(
      lambda x: jax.make_array_from_callback(
        (len(x), count, *x.shape[2:]), where, functools.partial(part, x)
      ),
      tree,
    )

  def size(self, axis: str) -> int:
    """Number of devices along an axis."""
    return 1 if self.mesh is None else self.mesh.shape[axis]

  def runs_axis(self, count: int) -> str | None:
    """The axis over which this many runs are sharded, if it divides them."""
    if self.mesh is None or count % self.size("runs"):
      return None
    return "runs"

  def of_states(self, states: Any) -> Any:
    """Shardings of arrays of several runs, the run axis first."""
    return jax.tree.map_with_path(self._of_leaf, states)

  def _of_leaf(self, path: Any, leaf: Any) -> NamedSharding:
    assert self.mesh is not None
    runs, *sizes = leaf.shape
    axes: list[str | None] = [None] * len(sizes)
    for step in path:
      axis = self._split.get(getattr(step, "key", ""))
      # An axis that the devices do not divide is replicated.
      if axis is not None and sizes and not sizes[axis] % self.size("model"):
        axes[axis] = "model"
    return NamedSharding(self.mesh, P(self.runs_axis(runs), *axes))

  def constrain_states(self, states: Any) -> Any:
    """Constrains the shardings of states inside a program."""
    if self.mesh is None:
      return states
    return jax.lax.with_sharding_constraint(states, self.of_states(states))

  def replicated(self) -> NamedSharding | None:
    """The sharding with a copy on every device; None with one device."""
    return None if self.mesh is None else NamedSharding(self.mesh, P())

  def place(self, states: Any) -> Any:
    """Puts states from a checkpoint on their devices."""
    if self.mesh is None:
      return states
    return jax.device_put(states, self.of_states(states))


ONE_DEVICE = Layout(None)


def layout(
  config: ConfigDict,
  policy: nn.Module,
  devices: Sequence[jax.Device] | None = None,
) -> Layout:
  """The layout of `config.mesh` on these devices; None: on all devices.

  Raises:
    ValueError: a field that does not fit the devices or sizes.
  """
  devices = jax.devices() if devices is None else devices
  sizes = _sizes(config, policy, len(devices))
  devices = devices[: math.prod(sizes)]
  busy = len({device.process_index for device in devices})
  if busy < jax.process_count():
    raise ValueError(
      f"{_words(dict(zip(AXES, sizes, strict=True)))}: has work for only {busy}"
      f" of {jax.process_count()} processes; start fewer, or choose batch_size"
      " or runs divisible by the number of devices"
    )
  if len(devices) == 1:
    return ONE_DEVICE
  mesh = jax.make_mesh(
    sizes, AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices
  )
  return Layout(mesh, policy.split if isinstance(policy, Sharded) else None)


def _sizes(
  config: ConfigDict, policy: nn.Module, devices: int
) -> tuple[int, ...]:
  """How many devices there are along each of `AXES`."""
  divided = {
    "runs": ("runs", config.runs),
    "data": ("batch_size", config.batch_size),
    "rollouts": ("rollouts", config.rollouts),
    "model": (
      "policy.num_kv_heads",
      policy.num_kv_heads if isinstance(policy, Sharded) else 1,
    ),
  }
  sizes = {axis: config.mesh[axis] for axis in AXES}
  for axis, size in sizes.items():
    field, number = divided[axis]
    if size is not None and (size < 1 or number % size):
      reason = f"must divide {field} = {number}"
      if axis == "model" and not isinstance(policy, Sharded):
        reason = "only the weights of 'transformer' are split"
      raise ValueError(f"mesh.{axis} = {size}: {reason}")
  for axis in ("rollouts", "model"):  # Split only on request.
    sizes[axis] = sizes[axis] or 1
  for axis in ("runs", "data"):
    if sizes[axis] is None:
      left = devices // math.prod(size or 1 for size in sizes.values())
      sizes[axis] = _largest_divisor(divided[axis][1], left)
  needed = math.prod(sizes.values())
  if needed > devices:
    raise ValueError(
      f"{_words(sizes)}: {needed} devices are needed, and there"
      f" {'is' if devices == 1 else 'are'} {devices}"
    )
  return tuple(sizes[axis] for axis in AXES)


def _words(sizes: dict[str, int]) -> str:
  """Sizes of axes for an error message."""
  return ", ".join(f"mesh.{axis} = {size}" for axis, size in sizes.items())


def _largest_divisor(number: int, most: int) -> int:
  return max(d for d in range(1, max(most, 1) + 1) if number % d == 0)
