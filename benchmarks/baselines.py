"""How much variance a baseline could save, and whether a better one exists.

    python -m benchmarks.baselines

Binary rewards, a softmax over four actions. A baseline from the other rollouts'
rewards can be a function b(c) of how many of them succeeded: by convexity,
averaging any other function over permutations never raises the variance. The
variance of the gradient estimate is quadratic in b. For one pass rate p the
best b is a linear solve, which no estimator can use, as it needs p and the
scores. The best b for all p minimizes the largest ratio to those optima, a
convex problem: weights λ of pass rates give a lower bound, since no b can have
all ratios below the minimum of their weighted mean.
"""

from collections.abc import Sequence
from math import comb
from typing import NamedTuple

import numpy as np
from scipy import optimize

from benchmarks import elsewhere
from benchmarks.elsewhere import Scores
from experiments.shell import console


class Quadratic(NamedTuple):
  """b' Q b + 2 r' b + v."""

  Q: np.ndarray
  r: np.ndarray
  v: float

  def at(self, b) -> float:
    return b @ self.Q @ b + 2 * self.r @ b + self.v

  def scaled(self, factor: float) -> "Quadratic":
    return Quadratic(factor * self.Q, factor * self.r, factor * self.v)


def scores(right: Sequence[float], wrong: Sequence[float]) -> Scores:
  """From the probabilities of actions given success, and given failure."""
  squares = [sum(x * x for x in shares) for shares in (right, wrong)]
  return Scores(1 - squares[0], 1 - squares[1], sum(squares))


TWO_RIGHT = scores((0.6, 0.4), (0.7, 0.3))
ONE_RIGHT = scores((1.0,), (0.5, 0.3, 0.2))
_HALF = np.geomspace(1e-3, 0.5, 12)
PASS_RATES = np.concatenate([_HALF, 1 - _HALF[-2::-1]])


def weights(num: int, a: Sequence[float]) -> np.ndarray:
  """ω(c) = Σ_k a_k C(n−c, k)/C(n, k) of n = N−1 others, [N]."""
  n = num - 1
  return np.array(
    [
      sum(x * comb(n - c, k) / comb(n, k) for k, x in enumerate(a))
      for c in range(num)
    ]
  )


def centred(num: int, a: Sequence[float]) -> np.ndarray:
  """b(c) of the library's default, [N]."""
  return np.array(
    [
      sum(
        x * c * comb(num - 1 - c, k) / comb(num - 1, k) / (num - 1 - k)
        for k, x in enumerate(a[: num - 1])
      )
      for c in range(num)
    ]
  )


def variance(num: int, a: Sequence[float], p: float, s: Scores) -> Quadratic:
  """Of ĝ, A_j = ω(c_j) l_j − b(c_j), as a function of b [N]."""
  w, unit, q = weights(num, a), np.eye(num), 1 - p
  Q, r, v, mean = np.zeros((num, num)), np.zeros(num), 0.0, 0.0
  for K in range(num + 1):
    chance = comb(num, K) * p**K * q ** (num - K)
    success, level = (-unit[K - 1], w[K - 1]) if K else (np.zeros(num), 0.0)
    failure = -unit[K] if num > K else np.zeros(num)
    along = (
      (K * q * success - (num - K) * p * failure) / num,
      K * q * level / num,
    )
    terms = (
      (s.distance, *along),
      (K * s.right / num**2, success, level),
      ((num - K) * s.wrong / num**2, failure, 0.0),
    )
    for size, linear, constant in terms:
      Q += chance * size * np.outer(linear, linear)
      r += chance * size * linear * constant
      v += chance * size * constant**2
    mean += chance * along[1]
  return Quadratic(Q, r, v - s.distance * mean**2)


def minimizer(f: Quadratic) -> np.ndarray:
  return -np.linalg.lstsq(f.Q, f.r, rcond=None)[0]


class Minimax(NamedTuple):
  """b [N], its largest ratio to the optimum, and a lower bound for all b."""

  b: np.ndarray
  largest: float
  bound: float


def relative(num: int, a: Sequence[float], s: Scores) -> list[Quadratic]:
  """Variances divided by the least one, at each of `PASS_RATES`."""
  every = [variance(num, a, p, s) for p in PASS_RATES]
  return [f.scaled(1 / f.at(minimizer(f))) for f in every]


def minimax(ratios: Sequence[Quadratic], start: np.ndarray) -> Minimax:
  """min_b max_i f_i(b), and a lower bound from the active gradients there.

  For any λ ≥ 0 with sum 1, max_i f_i(b) ≥ Σ λ_i f_i(b) ≥ min_b Σ λ_i f_i(b).
  """
  last = np.append(np.zeros(len(start)), 1.0)

  def slack(x):
    return np.array([x[-1] - f.at(x[:-1]) for f in ratios])

  def slope(x):
    return np.array([np.append(-2 * (f.Q @ x[:-1] + f.r), 1) for f in ratios])

  solution = optimize.minimize(
    lambda x: x[-1],
    np.append(start, max(f.at(start) for f in ratios)),
    jac=lambda x: last,
    constraints=[{"type": "ineq", "fun": slack, "jac": slope}],
    method="SLSQP",
    options={"maxiter": 1000, "ftol": 1e-12},
  )
  b = solution.x[:-1]
  largest = max(f.at(b) for f in ratios)
  active = [f for f in ratios if f.at(b) > (1 - 1e-4) * largest]
  gradients = np.array([2 * (f.Q @ b + f.r) for f in active]).T
  rows = np.vstack([gradients, 1e3 * np.ones(len(active))])
  share, _ = optimize.nnls(rows, 1e3 * last)
  share /= share.sum()
  columns = zip(*active, strict=True)
  mean = Quadratic(
    *(sum(x * y for x, y in zip(share, c, strict=True)) for c in columns)
  )
  return Minimax(b, largest, mean.at(minimizer(mean)))


def main() -> None:
  _over_default(8, (0.02, 0.1, 0.3, 0.5, 0.97))
  _pass_at_k(8, (0.1, 0.3, 0.5, 0.7))
  _no_best()


def _over_default(num: int, rates: Sequence[float]) -> None:
  print(f"Variance over the default's, N = {num}, two of four right\n")
  _header(["T", "baseline", *(f"p = {p}" for p in rates)])
  for order in (1, 2, 4, 6, 7):
    a, cells = [1.0] * order, {}
    quadratics = [variance(num, a, p, TWO_RIGHT) for p in rates]
    default = np.array([f.at(centred(num, a)) for f in quadratics])
    cells["none"] = [f.v for f in quadratics]
    cells["average_score"] = [f.at(np.ones(num)) for f in quadratics]
    fitted = elsewhere.cross_fitted_maclaurin
    cells["cross-fitted"] = [
      elsewhere.variance(fitted, num, order, p, TWO_RIGHT) for p in rates
    ]
    cells["best at each p"] = [f.at(minimizer(f)) for f in quadratics]
    for name, values in cells.items():
      _row([order, name, *(f"{x:.2f}" for x in values / default)])


def _pass_at_k(num: int, rates: Sequence[float]) -> None:
  print(f"\npass@k, N = {num}: centred over no baseline\n")
  _header(["right", "k", *(f"p = {p}" for p in rates)])
  for name, s in (("two", TWO_RIGHT), ("one", ONE_RIGHT)):
    for k in (2, 4, 7):
      a = [0.0] * (k - 1) + [float(k)]
      quadratics = [variance(num, a, p, s) for p in rates]
      ratios = [f.at(centred(num, a)) / f.v for f in quadratics]
      _row([name, k, *(f"{x:.2f}" for x in ratios)])


def _no_best() -> None:
  print("\nLargest variance over the best at each p, p from .001 to .999\n")
  _header(["N", "T", "default", "average_score", "best b for all p", "bound"])
  for num in (4, 8, 16):
    for order in sorted({1, 2, num // 2, num - 1}):
      a = [1.0] * order
      ratios = relative(num, a, TWO_RIGHT)
      default = centred(num, a)
      best = minimax(ratios, default)
      worst = [max(f.at(b) for f in ratios) for b in (default, np.ones(num))]
      values = (*worst, best.largest, best.bound)
      _row([num, order, *(f"{x:.3f}" for x in values)])


def _header(cells: list[str]) -> None:
  _row(cells)
  print("|---" * len(cells) + "|")


def _row(cells: list) -> None:
  print("| " + " | ".join(map(str, cells)) + " |")


if __name__ == "__main__":
  console.run(main)
