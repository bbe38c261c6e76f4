"""Hostile groups of likelihoods through every estimator.

    python -m tests.faults.groups --count=100000

N from 1 to 4096; uniform, right or wrong, subnormal, exact zeros and ones, all
equal, next to 1, of all magnitudes. Every advantage must be finite, and within
TOLERANCE of what the same formula gives in float64, relative to the largest
advantage of its group or to 1.
"""

import argparse
import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from maxrl_jax.estimators import ESTIMATORS

TOLERANCE = 1e-5
SIZES = (1, 2, 3, 4, 5, 7, 8, 16, 31, 64, 128, 1024, 4096)
OPTIONS = {
  "pass_at_k": {"k": 2},
  "power": {"alpha": 0.5},
  "series": {"coefficients": (1.0, 0.5)},
}
_TINY = np.finfo(np.float32).tiny  # Below it, processors may see zero.


def _zeros_and_ones(rng, shape):
  return np.choose(rng.integers(3, size=shape), [0.0, 1.0, rng.random(shape)])


KINDS = {
  "uniform": lambda rng, shape: rng.random(shape),
  "right or wrong": lambda rng, shape: (
    rng.random(shape) < rng.random((shape[0], 1)) ** 3
  ),
  "subnormal": lambda rng, shape: 1e-38 * rng.random(shape) ** 6,
  "zeros, ones, uniform": _zeros_and_ones,
  "all equal": lambda rng, shape: np.broadcast_to(
    rng.random((shape[0], 1)) ** 8, shape
  ),
  "next to 1": lambda rng, shape: 1 - 1e-6 * rng.random(shape) ** 4,
  "all magnitudes": lambda rng, shape: 10 ** rng.uniform(-44, 0, shape),
}


@functools.cache
def _compiled(name: str, x64: bool):
  """[B, N] → [B, N]; one for each precision, whose programs differ."""
  del x64
  return jax.jit(
    jax.vmap(lambda l: ESTIMATORS[name](l, **OPTIONS.get(name, {})))
  )


def errors(name: str, kind: str, l: np.ndarray) -> float:
  """The largest error over groups l [B, N], ∞ at what must not be."""
  try:
    actual = np.asarray(_compiled(name, False)(jnp.asarray(l)))
  except ValueError:  # Estimators that compare need company.
    return 0.0 if l.shape[1] < 3 else np.inf
  # What this precision sees of l: zeros where it flushes, which VIMCO, that
  # takes logarithms, counts as the smallest number.
  seen = np.where(l < _TINY, _TINY if name == "vimco" else 0, l)
  with jax.enable_x64(True):
    truth = _compiled(name, True)(jnp.asarray(seen, jnp.float64))
    truth = np.asarray(truth)
  if not np.isfinite(actual).all():
    return np.inf
  if kind == "all equal" and name in ("grpo", "vimco") and np.any(actual):
    return np.inf  # They divide, or take N times logarithms: no rounding.
  each = np.abs(actual - truth) / np.maximum(np.abs(truth).max(1), 1)[:, None]
  if name == "grpo":  # It says what it takes for equal.
    apart = np.abs(seen - seen.mean(1, keepdims=True)).max(1)
    equal = apart <= 8 * np.finfo(np.float32).eps * seen.max(1)
    each = each[~equal]
  return float(each.max(initial=0))


def trial(count: int, seed: int, sizes=SIZES) -> dict[tuple[str, str], float]:
  """The largest error of every estimator and kind over `count` groups."""
  rng, worst = np.random.default_rng(seed), {}
  # As many numbers of each size, at least 4 groups, and `count` groups in all.
  share = np.array([1 / size for size in sizes])
  counts = np.ceil(share / share.sum() * count / len(KINDS)).astype(int)
  counts = np.maximum(counts, 4)
  work = [
    (size, int(groups), kind)
    for size, groups in zip(sizes, counts, strict=True)
    for kind in KINDS
  ]
  for size, groups, kind in tqdm(work, file=sys.stderr, unit="batch"):
    l = np.asarray(KINDS[kind](rng, (groups, size)), np.float32)
    for name in ESTIMATORS:
      key = name, kind
      worst[key] = max(worst.get(key, 0), errors(name, kind, l))
  return worst


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--count", type=int, default=100_000, help="groups")
  parser.add_argument("--seed", type=int, default=0, help="of them")
  flags = parser.parse_args()
  worst = trial(flags.count, flags.seed)
  for name in ESTIMATORS:
    largest = max((e, kind) for (n, kind), e in worst.items() if n == name)
    print(f"{name}: at most {largest[0]:.1e} off ({largest[1]})")
  wrong = [key for key, error in worst.items() if not error <= TOLERANCE]
  print(f"{flags.count} groups, out of tolerance: {wrong or 'none'}")
  sys.exit(bool(wrong))


if __name__ == "__main__":
  main()
