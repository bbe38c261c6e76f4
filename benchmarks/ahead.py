"""Counts of our programs, compiled for accelerators that are not there.

    python -m benchmarks.ahead --device=h100    # extra cuda12 or cuda13
    python -m benchmarks.ahead --device=v5e     # extra tpu

Compiles for a described device and prints a markdown table: kernels of one
call, megabytes of temporaries, and on a TPU the megabytes accessed by XLA's own
count. These are counts, not timings. Launching a kernel takes a GPU 2 to 4 µs,
which is most of what small programs do.
"""

import functools
import importlib.util
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

from configs import bandit, bimodal, digits
from experiments.shell import console
from maxrl_jax import estimators
from maxrl_jax.learning import training
from maxrl_jax.runs import folders

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


class Counts(NamedTuple):
  kernels: int
  temporary_mb: float
  accessed_mb: float | None


def main(argv) -> None:
  del argv
  device = find_device(_DEVICE.value)
  print(f"Compiled for {device.device_kind}; {folders.machine()}\n")
  print(
    "| program | kernels | temporaries, MB | accessed, MB |\n|---|---|---|---|"
  )
  for name, function, arguments in (*groups(), *steps()):
    counts = count(compile_for(device, function, *arguments))
    accessed = "" if counts.accessed_mb is None else f"{counts.accessed_mb:.0f}"
    print(
      f"| {name} | {counts.kernels} | {counts.temporary_mb:.1f} | {accessed} |",
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


@functools.cache
def find_device(name: str) -> jax.Device:
  """One device of this kind, described."""
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
      "TPU_ACCELERATOR_TYPE": "v5litepod-4",
      "TPU_WORKER_HOSTNAMES": "localhost",
    }
    described = topologies.get_topology_desc(
      platform="tpu", topology_name="v5e:2x2"
    )
  return described.devices[0]


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
    yield f"TailRL, N = {size}", jax.vmap(estimators.tail_rl), (graded,)
    yield f"GRPO, N = {size}", jax.vmap(estimators.grpo), (graded,)


def steps() -> Iterator[tuple[str, Callable, tuple]]:
  """(name, function, arguments) of one training step."""
  for module in (bandit, digits, bimodal):
    trainer = training.make_train(module.get_config())
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(trainer.init, key)
    name = module.__name__.split(".")[-1]
    yield f"a step of {name}", trainer.step, (state, key)


def compile_for(
  device: jax.Device, function: Callable, *arguments: Any
) -> jax.stages.Compiled:
  where = NamedSharding(Mesh(np.array([device]), ("all",)), P())
  there = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), arguments
  )
  return jax.jit(function).lower(*there).compile()


def count(compiled: Any) -> Counts:
  """Counts of a `jax.stages.Compiled`."""
  accessed = (compiled.cost_analysis() or {}).get("bytes accessed")
  return Counts(
    kernels(compiled.as_text()),
    compiled.memory_analysis().temp_size_in_bytes / 1e6,
    accessed / 1e6 if accessed else None,
  )


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
