"""Theoretical cost of a step on D devices: python -m benchmarks.scaling

Computes seconds and efficiency from flops, bytes and published machine figures.
Nothing is measured; docs/scale.md states the assumptions.
"""

import math
from typing import NamedTuple

from experiments.shell import console


class Machine(NamedTuple):
  """A device and its interconnect; rates per second and device."""

  name: str
  flops: float  # bfloat16, dense.
  memory: float  # Bytes.
  near: float  # Bytes to devices of the same host or slice, one direction.
  far: float  # Bytes to others.
  island: int  # Devices connected at the `near` rate.


class Work(NamedTuple):
  """One update of a policy."""

  name: str
  parameters: float
  forward: float  # Flops of the forward pass for one token or image.
  prompts: int
  prompt_tokens: int
  rollouts: int
  tokens: int  # L, of each rollout, generated sequentially.
  cache: float  # Bytes per token of the KV cache, bfloat16.


MACHINES = (
  Machine("H100 SXM", 989e12, 3.35e12, 450e9, 50e9, 8),
  Machine("TPU v5e", 197e12, 0.82e12, 100e9, 25e9, 256),
)
WORKS = (
  Work("ResNet-50, N = 1024", 25.6e6, 8.2e9, 256, 1, 1024, 0, 0),
  Work("maze 13 × 13, N = 128", 1.0e6, 2.0e6, 32, 186, 128, 50, 1024),
  Work("maze 17 × 17, N = 128", 3.9e6, 7.8e6, 32, 310, 128, 180, 2048),
  Work("1.7 B on GSM8K, N = 16", 1.7e9, 3.4e9, 256, 150, 16, 400, 114_688),
)
DEVICES = (1, 8, 64, 256, 1024)
SHARE = 0.4  # Achieved fraction of peak flops and memory bandwidth.


def seconds(work: Work, machine: Machine, devices: int, scale: float = 1.0):
  """(arithmetic, token generation, communication) of a step, not overlapped.

  `scale` multiplies the prompts: `devices` for weak scaling.
  """
  prompts = work.prompts * scale
  trained = prompts * (work.prompt_tokens + work.rollouts * work.tokens)
  # The backward pass costs twice the forward; generation is another forward.
  generated = prompts * work.rollouts * work.tokens
  flops = work.forward * (3 * trained + generated) / devices
  arithmetic = flops / (SHARE * machine.flops)
  # Each token reads all weights, once per batch, and the cache.
  weights = work.tokens * 2 * work.parameters
  cache = generated * work.tokens / 2 * work.cache / devices
  generation = (weights + cache) / (SHARE * machine.memory)
  return arithmetic, generation, _communication(work, machine, devices, prompts)


def _communication(work, machine, devices, prompts) -> float:
  """Ring all-reduce of float32 gradients and all-gather of likelihoods."""
  if devices == 1:
    return 0.0
  speed = machine.near if devices <= machine.island else machine.far
  gradients = 2 * (devices - 1) / devices * 4 * work.parameters
  return (gradients + gathered_bytes(work, devices, prompts)) / speed


def gathered_bytes(work: Work, devices: int, prompts: float) -> float:
  """Bytes of likelihoods gathered per device, if 8 devices share a group."""
  return 4 * work.rollouts * prompts * min(devices, 8) / devices


def efficiency(work: Work, machine: Machine, devices: int, weak: bool) -> float:
  """Useful work per device, relative to a single device."""
  scale = devices if weak else 1
  single = sum(seconds(work, machine, 1))
  parallel = sum(seconds(work, machine, devices, scale))
  return single * scale / (devices * parallel)


def main() -> None:
  for machine in MACHINES:
    print(f"\n| {machine.name} | step on 1 | strong, D = " + head() + " |")
    print("|---|---|" + "---|" * (len(DEVICES) - 1) * 2)
    for work in WORKS:
      print(_row(work, machine))
  print("\n| on 64 devices | likelihoods gathered | gradients summed |")
  print("|---|---|---|")
  for work in WORKS:
    gathered = gathered_bytes(work, 64, work.prompts)
    print(
      f"| {work.name} | {gathered / 2**10:.3g} KiB |"
      f" {4 * work.parameters / 2**20:,.0f} MiB |"
    )


def head() -> str:
  strong = " | ".join(str(d) for d in DEVICES[1:])
  return f"{strong} | weak, D = {strong}"


def _row(work: Work, machine: Machine) -> str:
  single = sum(seconds(work, machine, 1))
  digits = max(0, 2 - math.floor(math.log10(single)))
  cells = [
    f"{efficiency(work, machine, devices, weak):.0%}"
    for weak in (False, True)
    for devices in DEVICES[1:]
  ]
  return f"| {work.name} | {single:.{digits}f} s | " + " | ".join(cells) + " |"


if __name__ == "__main__":
  console.run(main)
