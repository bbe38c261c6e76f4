"""Time of advantages for PyTorch trainers, against GRPO in NumPy, in ms.

    python -m benchmarks.groups

1024 prompts with 16 and 128 rollouts; float32 rewards and uuid group ids, as in
trainers. Interleaved calls; medians without compilation. With rollout ids, each
row is one rollout, numbered within its group or with a uuid; the last lines
compare these calls with the same call without rollout ids.
"""

import functools
import uuid

import numpy as np

from benchmarks import timing
from experiments.shell import console
from maxrl_jax.integrations.groups import advantages
from maxrl_jax.runs import folders

_GROUPS = 1024
_REPEATS = 21
_WITHOUT = "maxrl, binary, uuids"
_NUMBERS = "maxrl, binary, uuids, rollout numbers"
_UUIDS = "maxrl, binary, uuids, rollout uuids"


def main() -> None:
  print(folders.machine())
  print("| call | 1024 × 16 | 1024 × 128 |\n|---|---|---|")
  columns = [timing.medians(_calls(num), _REPEATS) for num in (16, 128)]
  for name in columns[0]:
    print(f"| {name} | " + " | ".join(f"{c[name]:.2f}" for c in columns) + " |")
  for name in (_NUMBERS, _UUIDS):
    ratios = [c[name] / c[_WITHOUT] for c in columns]
    print(f"{name}: {ratios[0]:.2f} and {ratios[1]:.2f} times {_WITHOUT}")


def _calls(num: int) -> dict:
  rng = np.random.default_rng(0)
  graded = rng.random(_GROUPS * num, dtype=np.float32)
  binary = (graded < 0.3).astype(np.float32)
  ids = np.array([str(uuid.uuid4()) for _ in range(_GROUPS)], object)
  ids = np.repeat(ids, num)
  numbers = np.tile(np.arange(num), _GROUPS)
  order = rng.permutation(len(ids))
  ids, numbers = ids[order], numbers[order]
  uuids = np.array([str(uuid.uuid4()) for _ in ids], object)
  call = functools.partial(functools.partial, advantages)
  return {
    "maxrl, binary, num=N": call(binary, num=num),
    _WITHOUT: call(binary, ids),
    _NUMBERS: call(binary, ids, rollouts=numbers),
    _UUIDS: call(binary, ids, rollouts=uuids),
    "maxrl, binary, order=8, uuids": call(binary, ids, order=8),
    "maxrl, graded, uuids": call(graded, ids),
    "maxrl, graded, order=8, uuids": call(graded, ids, order=8),
    "tail_rl, graded, uuids": call(graded, ids, estimator="tail_rl"),
    "grpo, graded, uuids": call(graded, ids, estimator="grpo"),
    "NumPy GRPO, rows of N": functools.partial(_grpo, graded, num),
    "NumPy GRPO, loop over uuids": functools.partial(_grpo_by_id, graded, ids),
  }


def _grpo(rewards, num: int):
  r = rewards.reshape(-1, num)
  centred = r - r.mean(1, keepdims=True)
  return (centred / (r.std(1, keepdims=True) + 1e-6)).ravel()


def _grpo_by_id(rewards, ids):
  rows: dict[str, list[int]] = {}
  for row, i in enumerate(ids.tolist()):
    rows.setdefault(i, []).append(row)
  advantages = np.empty_like(rewards)
  for group in rows.values():
    r = rewards[group]
    advantages[group] = (r - r.mean()) / (r.std() + 1e-6)
  return advantages


if __name__ == "__main__":
  console.run(main)
