"""Kernels and memory of our programs on accelerators, without the devices.

    python -m benchmarks.ahead --device=h100    # extra cuda12 or cuda13
    python -m benchmarks.ahead --device=v5e     # extra tpu

Compiles for a described device and prints a markdown table: kernels of one
call, megabytes of temporaries, and on a TPU the megabytes accessed; XLA counts
the body of a loop once. Programs for 4 and 16 TPU chips follow, with the bytes
of their collectives. These are counts, not timings. Launching a kernel takes a
GPU 2 to 4 µs, most of the time of small programs.
"""

import functools
import importlib.util
import math
import os
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from configs import (
  bandit,
  bimodal,
  digits,
  imagenet,
  maze,
  maze_paper,
  noisy_regression,
)
from experiments.shell import console
from maxrl_jax import estimators
from maxrl_jax.learning import training
from maxrl_jax.runs import folders
from maxrl_jax.tasks import base

_DEVICE = flags.DEFINE_enum("device", "h100", ["h100", "v5e"], "Compiled for.")

# The plugin of each device.
PLUGINS = {"h100": ("jax_plugins", "xla_cuda1"), "v5e": ("libtpu", "")}

_H100 = """
gpu_device_info {
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: 84942979072
  shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 8 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
# Instructions that are a kernel each.
_KERNEL = re.compile(
  r"= .*? (fusion|custom-call|gather|scatter|reduce|dot|convolution|sort|copy"
  r"|transpose|concatenate|dynamic-slice|dynamic-update-slice|reduce-window"
  r"|iota|broadcast)\("
)


# A result of a collective: its type, or a tuple of them.
_COLLECTIVE = re.compile(
  r"= (.*?) (all-reduce|all-gather|reduce-scatter|collective-permute"
  r"|all-to-all)(-start)?\("
)
_ARRAY = re.compile(r"\b(pred|[a-z]+(\d+))\[([\d,]*)\]")


BANDIT_VARYING = ("estimator.order",)


class Counts(NamedTuple):
  kernels: int
  temporary_mb: float
  accessed_mb: float | None


def main() -> None:
  device = find_device(_DEVICE.value)
  print(f"Compiled for {device.device_kind}; {folders.machine()}\n")
  print(
    "| program | kernels | temporaries, MB | accessed, MB |\n|---|---|---|---|"
  )
  for name, function, arguments in (*groups(), *steps(), *chunks()):
    print(f"| {name} | {_cells(device, function, arguments)} |", flush=True)
  if _DEVICE.value == "v5e":
    _print_meshes()


def _cells(device: jax.Device, function: Callable, arguments: tuple) -> str:
  try:
    counts = count(compile_for(device, function, *arguments))
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    (needed,) = re.findall(r"HLO temporaries \((.*?)\)", str(error))
    return f" | {needed}: more than there is | "
  accessed = "" if counts.accessed_mb is None else f"{counts.accessed_mb:.0f}"
  return f"{counts.kernels} | {counts.temporary_mb:.1f} | {accessed}"


def _print_meshes() -> None:
  print(
    "\n| program | chips | temporaries, MB | collectives |\n|---|---|---|---|"
  )
  for topology in ("2x2", "4x4"):
    devices = find_devices("v5e", topology)
    for name, program in meshes().items():
      function, arguments = chunk(**program, devices=devices)
      compiled = compile_for(devices[0], function, *arguments)
      largest = collectives(compiled).items()
      print(
        f"| {name} | {len(devices)} | {count(compiled).temporary_mb:.1f} |",
        ", ".join(f"{kind} {size:.3g} MB" for kind, size in largest) + " |",
        flush=True,
      )


def missing(device: str) -> bool:
  """Whether the plugin that compiles for the device is not installed."""
  package, prefix = PLUGINS[device]
  spec = importlib.util.find_spec(package)
  if spec is None:
    return True
  paths = spec.submodule_search_locations or []
  names = [name for path in paths for name in os.listdir(path)]
  return not any(name.startswith(prefix) for name in names)


def find_device(name: str) -> jax.Device:
  """One device of this kind, described."""
  return find_devices(name)[0]


@functools.cache
def find_devices(name: str, topology: str = "2x2") -> list[jax.Device]:
  """Devices of this kind, described: one H100, or TPU chips of a topology."""
  jax.devices()  # Finds the plugins.
  if name == "h100":
    described = topologies.get_topology_desc(
      platform="cuda",
      topology_name="H100",
      target_config=_H100,
      topology="1x1x1",
    )
  else:
    os.environ |= {
      "TPU_SKIP_MDS_QUERY": "1",
      "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # By several processes.
      "TPU_ACCELERATOR_TYPE": "v5litepod-4",
      "TPU_WORKER_HOSTNAMES": "localhost",
    }
    described = topologies.get_topology_desc(
      platform="tpu", topology_name=f"v5e:{topology}"
    )
  return described.devices


def groups() -> Iterator[tuple[str, Callable, tuple]]:
  """(name, function, arguments) of advantages of 256 prompts."""
  for size in (32, 1024):
    graded = jax.ShapeDtypeStruct((256, size), jnp.float32)
    binary = jax.ShapeDtypeStruct((256, size), jnp.bool)
    any_order = jax.ShapeDtypeStruct((), jnp.int32)
    for name, l, order in (
      ("order N − 1", graded, None),
      ("order 8", graded, 8),
      ("order N/4", graded, size // 4),
      ("boolean", binary, None),
    ):
      function = functools.partial(estimators.maxrl, order=order)
      yield f"MaxRL, {name}, N = {size}", jax.vmap(function), (l,)
    yield (
      f"MaxRL, traced order, N = {size}",
      jax.vmap(lambda l, order: estimators.maxrl(l, order=order), (0, None)),
      (graded, any_order),
    )
    yield (
      f"MaxRL, traced order, masked, N = {size}",
      jax.vmap(
        lambda l, mask, order: estimators.maxrl(l, order=order, mask=mask),
        (0, 0, None),
      ),
      (graded, binary, any_order),
    )
    yield (
      f"series of N terms, N = {size}",
      jax.vmap(lambda l, a: estimators.series(l, coefficients=a), (0, None)),
      (graded, jax.ShapeDtypeStruct((size,), jnp.float32)),
    )
    pass_at_k = functools.partial(estimators.pass_at_k, k=size // 4)
    yield f"pass@K, K = N/4, N = {size}", jax.vmap(pass_at_k), (graded,)
    yield f"TailRL, N = {size}", jax.vmap(estimators.tail_rl), (graded,)
    yield f"GRPO, N = {size}", jax.vmap(estimators.grpo), (graded,)


def steps() -> Iterator[tuple[str, Callable, tuple]]:
  """(name, function, arguments) of one training step."""
  configs = {
    module.__name__.split(".")[-1]: module.get_config()
    for module in (bandit, digits, bimodal)
  }
  # The body of its loop over waves counts once.
  waves = digits.get_config()
  waves.estimator.name, waves.estimator.cap = "sequential", 1024
  waves.rollouts = 16
  for name, config in (configs | {"digits, sequential": waves}).items():
    trainer = training.make_train(config)
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(trainer.init, key)
    yield f"a step of {name}", trainer.step, (state, key)


def chunks() -> Iterator[tuple[str, Callable, tuple]]:
  """(name, function, arguments) of the compiled chunks of whole configs."""
  for module in (bandit, digits, bimodal, maze, maze_paper):
    name = module.__name__.split(".")[-1]
    yield f"a chunk of {name}", *chunk(module.get_config())
  published = noisy_regression.get_config("published")
  yield "a chunk of noisy_regression, published", *chunk(published)
  config = imagenet.get_config()
  name = "a chunk of imagenet, random images"
  yield name, *chunk(config, task=random_images(224))
  yield "a chunk of 1024 bandit runs", *chunk(bandit_runs(), BANDIT_VARYING)


def chunk(
  config: ConfigDict,
  varying: tuple[str, ...] = (),
  task: base.Task | None = None,
  devices: list[jax.Device] | None = None,
) -> tuple[Callable, tuple]:
  """The compiled chunk of a config, on one device or sharded over several."""
  trainer = training.make_train(config, task, varying, devices=devices)
  seeds = jax.ShapeDtypeStruct((config.runs,), jnp.int32)
  hyper = {
    name: jax.ShapeDtypeStruct((config.runs,), jnp.float32) for name in varying
  }
  start, keys = jax.eval_shape(trainer.keys, seeds)
  arguments = jax.eval_shape(trainer.start, start, hyper), keys
  if devices is not None:
    shardings = trainer.layout.of_states(arguments)
    arguments = jax.tree.map(_placed, arguments, shardings)
  return trainer.advance, arguments


def meshes() -> dict[str, dict[str, Any]]:
  """The layouts that docs/scale.md recommends, as arguments of `chunk`."""
  rollouts = digits.get_config()
  rollouts.batch_size, rollouts.rollouts, rollouts.mesh.rollouts = 2, 1024, 4
  weights = maze.get_config()
  weights.mesh.model = 2
  images = {"config": imagenet.get_config(), "task": random_images(224)}
  return {
    "digits": {"config": digits.get_config()},
    "digits, 2 prompts, rollouts over 4": {"config": rollouts},
    "1024 bandit runs": {"config": bandit_runs(), "varying": BANDIT_VARYING},
    "maze, weights over 2": {"config": weights},
    "imagenet, random images": images,
    "maze_paper": {"config": maze_paper.get_config()},
  }


def bandit_runs() -> ConfigDict:
  config = bandit.get_config()
  config.runs = 1024
  return config


def random_images(side: int) -> base.Task:
  """Images of noise in 1000 classes, in place of the data set."""

  def draw(key: jax.Array, batch: int) -> base.Prompts:
    pixels_key, labels_key = jax.random.split(key)
    pixels = jax.random.uniform(pixels_key, (batch, side, side, 3), minval=-1)
    return base.Prompts(
      pixels, jax.random.randint(labels_key, (batch,), 0, 1000)
    )

  few = draw(jax.random.key(0), 2)
  splits = dict.fromkeys(("train", "validation", "test"), few)
  return base.classification(
    1000, draw=draw, splits=splits, policies=("resnet",)
  )


def compile_for(
  device: jax.Device, function: Callable, *arguments: Any
) -> jax.stages.Compiled:
  """Compiles for one device, or for the shardings that arguments have."""
  where = NamedSharding(Mesh(np.array([device]), ("all",)), P())
  there = jax.tree.map(lambda x: _placed(x, x.sharding or where), arguments)
  return jax.jit(function).lower(*there).compile()


def _placed(x: Any, where: NamedSharding) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)


def count(compiled: Any) -> Counts:
  """Counts of a `jax.stages.Compiled`."""
  accessed = (compiled.cost_analysis() or {}).get("bytes accessed")
  return Counts(
    kernels(compiled.as_text()),
    compiled.memory_analysis().temp_size_in_bytes / 1e6,
    accessed / 1e6 if accessed else None,
  )


def collectives(compiled: Any) -> dict[str, float]:
  """Largest megabytes that one collective of each kind returns."""
  largest: dict[str, float] = {}
  for line in compiled.as_text().splitlines():
    if match := _COLLECTIVE.search(line):
      result, kind = match[1], match[2]
      megabytes = sum(map(_megabytes, _ARRAY.finditer(result)))
      largest[kind] = max(megabytes, largest.get(kind, 0))
  return largest


def _megabytes(array: re.Match) -> float:
  bits = 8 if array[1] == "pred" else int(array[2])
  sizes = [int(size) for size in array[3].split(",") if size]
  return math.prod(sizes) * bits / 8e6


def kernels(text: str) -> int:
  """Kernels that one call launches, from compiled HLO.

  A loop counts as often as it runs, or once if that is not known.
  """
  bodies: dict[str, list[str]] = {}
  entry, current = "", ""
  for line in text.splitlines():
    header = re.match(r"^(ENTRY )?%?([\w.\-]+) .*\{$", line)
    if header:
      current = header[2]
      bodies[current] = []
      entry = current if header[1] else entry
    elif line.startswith(" "):
      bodies[current].append(line)

  def of_body(name: str) -> int:
    total = 0
    for line in bodies.get(name, []):
      loop = re.search(r" while\(.*body=%?([\w.\-]+)", line)
      if loop:
        trips = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
        total += (int(trips[1]) if trips else 1) * of_body(loop[1])
      elif _KERNEL.search(line):
        total += 1
    return total

  return of_body(entry)


if __name__ == "__main__":
  console.run(main)
