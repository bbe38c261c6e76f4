"""Relative errors of algorithms for leave-one-out means, as markdown tables.

    python -m benchmarks.conditioning

Worst relative error over the rollouts of a group and over five kinds of group,
against rational arithmetic on the same floats. The first three algorithms are
the library's. The others subtract, and show when subtraction fails
(docs/theory/algorithms.md).
"""

import functools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

import jax
import numpy as np

from experiments.shell import console
from maxrl_jax import symmetric
from maxrl_jax.runs import folders

SIZES = (8, 32, 128)
_DTYPES = (np.float32, np.float64)
_KINDS = ("uniform", "near 0", "near 1", "one failure", "binary")


class Quantity(NamedTuple):
  """A quantity of one group, from its means [N, k] and by the library."""

  title: str
  of_means: Callable[[np.ndarray], np.ndarray]
  by_library: Callable[..., jax.Array]
  methods: tuple[str, ...] = ("tree", "scan", "binary")
  kinds: tuple[str, ...] = _KINDS


def _pass_at_k(title: str, **options) -> Quantity:
  return Quantity(
    title,
    lambda means: means[:, means.shape[1] // 2 - 1],
    lambda l, method: symmetric.series_weights(
      l, np.eye(len(l) // 2)[-1], method=method
    ),
    **options,
  )


QUANTITIES = (
  Quantity(
    "MaxRL's weight ω, T = N",
    lambda means: means.sum(1),
    lambda l, method: symmetric.loo_weights(l, len(l), method=method),
    ("quadrature", "tree", "scan", "binary"),
  ),
  Quantity(
    "MaxRL's weight ω, T = N/4",
    lambda means: means[:, : means.shape[1] // 4].sum(1),
    lambda l, method: symmetric.loo_weights(l, len(l) // 4, method=method),
    ("quadrature", "tree", "scan", "binary"),
  ),
  Quantity(
    "MaxRL's baseline b = 1 − ē_T, T = N/2",
    lambda means: 1 - means[:, means.shape[1] // 2],
    lambda l, method: (
      symmetric.leave_one_out(l, len(l) // 2, method=method).baselines
    ),
    ("quadrature", "tree", "scan", "binary"),
  ),
  _pass_at_k(
    "pass@K's weight ē_{K−1}, K = N/2, without the groups near 1",
    kinds=tuple(kind for kind in _KINDS if kind != "near 1"),
  ),
  _pass_at_k(
    "The same, near 1 only", methods=("tree", "scan"), kinds=("near 1",)
  ),
)


def main() -> None:
  print(folders.machine())
  for quantity in QUANTITIES:
    print(f"\n{quantity.title}:\n\n| | ", end="")
    print(" | ".join(f"N = {n}" for n in SIZES) + " |")
    print("|---" * (1 + len(SIZES)) + "|")
    for name in (*quantity.methods, *SUBTRACTIVE):
      cells = (
        " / ".join(_digits(_worst(quantity, name, n, t)) for t in _DTYPES)
        for n in SIZES
      )
      print(f"| {name} | " + " | ".join(cells) + " |")


def _digits(error: float) -> str:
  return f"{error:.0e}" if error < 1 else "lost"


def _worst(quantity: Quantity, name: str, size: int, dtype) -> float:
  """Largest relative error over the groups; inf if it is not finite.

  Errors of subnormal values are relative to the smallest normal number.
  """
  worst = 0.0
  for kind in quantity.kinds:
    if name == "binary" and kind != "binary":
      continue
    exact = _exact_value(quantity, kind, size)
    with jax.enable_x64(dtype == np.float64), np.errstate(all="ignore"):
      if name in SUBTRACTIVE:
        value = quantity.of_means(_subtracted(name, kind, size, dtype))
      else:
        value = _compiled(quantity, name)(groups(size)[kind].astype(dtype))
      value = np.asarray(value, np.longdouble)
    floor = np.longdouble(np.finfo(dtype).tiny)
    error = np.max(np.abs(value - exact) / np.maximum(exact, floor))
    worst = max(worst, float(error) if np.isfinite(error) else math.inf)
  return worst


@functools.cache
def _subtracted(name: str, kind: str, size: int, dtype) -> np.ndarray:
  return SUBTRACTIVE[name](groups(size)[kind].astype(dtype))


@functools.cache
def _compiled(quantity: Quantity, method: str):
  return jax.jit(functools.partial(quantity.by_library, method=method))


@functools.cache
def groups(size: int) -> dict[str, np.ndarray]:
  """Numerically hard likelihoods [N] of five kinds, at most nine distinct."""
  rng = np.random.default_rng(size)
  level = rng.choice(rng.random(8), (4, size))
  values = (
    level[0],
    1e-6 * level[1],
    1 - 1e-6 * level[2],
    np.where(np.arange(size) == 0, 0, 0.7 + 0.2 * level[3]),
    rng.random(size) < 0.2,
  )
  return {
    kind: l.astype(np.float32) for kind, l in zip(_KINDS, values, strict=True)
  }


@functools.cache
def _exact_value(quantity: Quantity, kind: str, size: int) -> np.ndarray:
  """The quantity [N] in rational arithmetic, once per distinct likelihood."""
  l = groups(size)[kind]
  _, first, which = np.unique(l, return_index=True, return_inverse=True)
  means = np.array([exact_means(l, j) for j in first])
  return quantity.of_means(means).astype(np.longdouble)[which]


@functools.cache
def _exact(others: tuple[float, ...]) -> list[Fraction]:
  q = [1 - Fraction(x) for x in others]
  unit = max(x.denominator for x in q)  # A power of two: all are integers.
  e = [1]
  for x in (int(x * unit) for x in q):
    e = [a + x * b for a, b in zip([*e, 0], [0, *e], strict=True)]
  return [
    Fraction(e_k, math.comb(len(q), k) * unit**k) for k, e_k in enumerate(e)
  ]


def exact_means(l: np.ndarray, j: int) -> list[Fraction]:
  """ē_k^j = e_k/C(n, k) of the failures without rollout j, k = 0 … n."""
  return _exact(tuple(np.delete(l, j).tolist()))


def _means(x: np.ndarray) -> np.ndarray:
  """ē_0 … ē_N of all x [N], by a recursion of positive terms."""
  k = np.arange(len(x) + 1, dtype=x.dtype)
  means = np.zeros_like(k)
  means[0] = 1
  for m, new in enumerate(x, 1):
    share = np.minimum(k / x.dtype.type(m), 1)
    means[1:] = (1 - share[1:]) * means[1:] + share[1:] * new * means[:-1]
  return means


def peeled(l: np.ndarray) -> np.ndarray:
  """Divides rollout j out of ē of all N, upwards in k.

  ē_k^j = (N ē_k − k q_j ē_{k−1}^j)/(N−k).
  """
  q, num = 1 - l, l.dtype.type(len(l))
  means, without = _means(q), [np.ones_like(l)]
  for k in map(l.dtype.type, range(1, len(l))):
    rest = num * means[int(k)] - k * q * without[-1]
    without.append(rest / (num - k))
  return np.stack(without, 1)


def peeled_from_both_ends(l: np.ndarray) -> np.ndarray:
  """The same, but downwards in k where errors would grow upwards.

  ē_{k−1}^j = (N ē_k − (N−k) ē_k^j)/(k q_j) from ē_{N−1}^j = ē_N/q_j.
  """
  q, num = 1 - l, l.dtype.type(len(l))
  means = _means(q)
  down = [means[-1] / q]
  for k in map(l.dtype.type, range(len(l) - 1, 0, -1)):
    rest = num * means[int(k)] - (num - k) * down[-1]
    down.append(rest / (k * q))
  grows = np.arange(len(l)) * (1 + q[:, None]) > len(l)
  return np.where(grows, np.stack(down[::-1], 1), peeled(l))


def newton(l: np.ndarray) -> np.ndarray:
  """Newton's identities, k e_k = Σ_{i≥1} (−1)^{i−1} e_{k−i} Σ q^i."""

  def means_of(q):
    n, dtype = len(q), q.dtype.type
    sums = [np.sum(q**i) for i in range(n + 1)]
    means = [dtype(1)]
    for k in range(1, n + 1):
      ratio, total = dtype(1), dtype(0)
      for i in range(1, k + 1):  # C(n, k−i)/C(n, k)
        ratio = ratio * dtype(k - i + 1) / dtype(n - k + i)
        total += (-1) ** (i - 1) * ratio * means[k - i] * sums[i]
      means.append(total / dtype(k))
    return np.array(means)

  return _each(means_of, 1 - l)


def inclusion_exclusion(l: np.ndarray) -> np.ndarray:
  """(1−p)^k multiplied out: ē_k(q) = Σ_i (−1)^i C(k, i) ē_i(l)."""
  signed = [
    [(-1) ** i * math.comb(k, i) for i in range(len(l))] for k in range(len(l))
  ]
  with np.errstate(over="ignore"):
    terms = np.array(signed, float).astype(l.dtype)
  return _each(lambda others: (terms * _means(others)).sum(1), l)


def _each(means_of, x: np.ndarray) -> np.ndarray:
  """means_of(the others) [N, N], once per distinct value."""
  _, first, which = np.unique(x, return_index=True, return_inverse=True)
  return np.stack([means_of(np.delete(x, j)) for j in first])[which]


SUBTRACTIVE = {
  "peeled": peeled,
  "peeled from both ends": peeled_from_both_ends,
  "Newton's identities": newton,
  "inclusion–exclusion": inclusion_exclusion,
}

if __name__ == "__main__":
  console.run(main)
