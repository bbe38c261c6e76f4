"""Advantages for PyTorch trainers beside GRPO in NumPy, in milliseconds.

    python -m benchmarks.groups

1024 prompts with 16 and with 128 rollouts, rewards and group ids as a trainer
has them: float32, uuid strings. Calls take turns; medians, after compilation.
"""

import functools
import uuid

import numpy as np

from benchmarks import timing
from experiments.shell import console, workdirs
from maxrl_jax.integrations.groups import advantages

_GROUPS = 1024
_REPEATS = 21


def main(argv) -> None:
  console.no_arguments(argv)
  print(workdirs.machine())
  print("| call | 1024 × 16 | 1024 × 128 |\n|---|---|---|")
  columns = [timing.medians(_calls(num), _REPEATS) for num in (16, 128)]
  for name in columns[0]:
    print(f"| {name} | " + " | ".join(f"{c[name]:.2f}" for c in columns) + " |")


def _calls(num: int) -> dict:
  rng = np.random.default_rng(0)
  graded = rng.random(_GROUPS * num, dtype=np.float32)
  binary = (graded < 0.3).astype(np.float32)
  ids = np.array([str(uuid.uuid4()) for _ in range(_GROUPS)], object)
  ids = rng.permutation(np.repeat(ids, num))
  ours = functools.partial(functools.partial, advantages)
  return {
    "maxrl, right or wrong, num=N": ours(binary, num=num),
    "maxrl, right or wrong, uuids": ours(binary, ids),
    "maxrl, right or wrong, order=8, uuids": ours(binary, ids, order=8),
    "maxrl, graded, uuids": ours(graded, ids),
    "maxrl, graded, order=8, uuids": ours(graded, ids, order=8),
    "tail_rl, graded, uuids": ours(graded, ids, estimator="tail_rl"),
    "grpo, graded, uuids": ours(graded, ids, estimator="grpo"),
    "NumPy GRPO, rows of N": functools.partial(_grpo, graded, num),
    "NumPy GRPO, loop over uuids": functools.partial(_grpo_by_id, graded, ids),
  }


def _grpo(rewards, num: int):
  r = rewards.reshape(-1, num)
  centred = r - r.mean(1, keepdims=True)
  return (centred / (r.std(1, keepdims=True) + 1e-6)).ravel()


def _grpo_by_id(rewards, ids):
  rows: dict[int, list[int]] = {}
  for row, i in enumerate(ids.tolist()):
    rows.setdefault(i, []).append(row)
  found = np.empty_like(rewards)
  for group in rows.values():
    r = rewards[group]
    found[group] = (r - r.mean()) / (r.std() + 1e-6)
  return found


if __name__ == "__main__":
  console.run(main)
