"""Nodes and weights of the quadratures, in float64 on the host."""

import functools
import math
from typing import NamedTuple

import numpy as np


@functools.lru_cache
def legendre(count: int) -> tuple[np.ndarray, np.ndarray]:
  """Gauss–Legendre on [0, 1] by Newton's method in extended precision.

  The weights of NumPy and SciPy have errors of 1e-10 at 258 nodes near the
  ends, where the product of many likelihoods is concentrated.
  """
  index = np.arange(count, 0, -1, dtype=np.longdouble)
  x = np.cos(np.pi * (index - 0.25) / (count + 0.5))
  for _ in range(8):
    last, value = np.zeros_like(x), np.ones_like(x)
    for k in range(1, count + 1):
      last, value = value, ((2 * k - 1) * x * value - (k - 1) * last) / k
    slope = count * (x * value - last) / (x * x - 1)
    x = x - value / slope
  # The last step is below rounding: the slope holds at the final nodes.
  return (x + 1) / 2, 1 / ((1 - x * x) * slope**2)


class Contour(NamedTuple):
  """Quadrature of an order T < N−1; leading axes are those of n and T.

  `end` [...] is the end of the real segment. `nodes` [..., M] are complex; of
  sums over them, the real part is taken.
  """

  end: np.ndarray
  nodes: np.ndarray
  weights: np.ndarray
  baselines: np.ndarray


def contour(n: np.ndarray, order: np.ndarray, bits: int) -> Contour:
  """The upper half of a circle around 0 in z, with y = z/(1+z).

  With n other rollouts, of which Π(1 − l y) = Π(1 + q z)/(1+z)^n,

      1 − ē_T = ∮ c_T(z) (1 − Π(1 − l y)) dθ/2π,  c_T = (1+z)^n z^−T / C(n,T)
      Σ_{k<T} ē_k = T ∮ c_{T−1}(z) (∫_0^1 Π(1 − l y τ) dτ) dθ/2π

  The circle passes the saddle point z = T/(n−T), where c_T falls like a
  Gaussian, and ends where it has fallen below rounding. The inner integral runs
  along the real axis to the circle and from there along it.
  """
  n, order = n[..., None].astype(float), order[..., None]
  tolerance = 1e-9 if bits == 32 else 1e-18
  log_choose = _log_choose(n, order)
  radius = order / (n - order)
  # The largest modulus of Π(1 + q z) is that of (1+z)^n or 1.
  log_bound = np.log(tolerance) + order * np.log(radius) + log_choose
  whole = log_bound < 0
  # A whole circle keeps away from z = −1, where y is infinite.
  beside = np.where(radius < 1, 0.5, 2)
  radius = np.where(whole & (np.abs(np.log2(radius)) < 1), beside, radius)
  cosine = (np.exp(2 * log_bound / n) - 1 - radius**2) / (2 * radius)
  last = np.where(whole, np.pi, np.arccos(np.clip(cosine, -1, 1)))

  def density(angle: np.ndarray, power: np.ndarray) -> np.ndarray:
    log_z = np.log(radius) + 1j * angle
    return np.exp(n * np.log1p(np.exp(log_z)) - power * log_z - log_choose)

  # Multiples of eight, which a CPU computes together.
  count = (24 if whole.any() else 16) * bits // 32
  t, w = (np.float64(x) for x in legendre(count))
  angle, step = t * last, w * last
  z = radius * np.exp(1j * angle)
  weights = np.empty(z.shape, complex)
  t, w = (np.float64(x) for x in legendre(64))
  for m in range(count):  # The integral beyond each node.
    start = angle[..., m : m + 1]
    beyond = start + t * (last - start)
    inverse = 1 + np.exp(-1j * beyond) / radius
    tail = (w * (last - start)) * density(beyond, order - 1) * inverse
    weights[..., m] = np.sum(tail, -1)
  baselines = step / np.pi * density(angle, order)
  weights *= (n - order + 1) / np.pi * step * 1j * z / (1 + z) ** 2
  # Normalized to sum to one: lgamma has an error of 1e-12 at n = 1000.
  scale = 1 / np.sum(baselines.real, -1, keepdims=True)
  weights, baselines = weights * scale, baselines * scale
  end = radius / (1 + radius)
  return Contour(end[..., 0], z / (1 + z), weights, baselines)


def _log_choose(n: np.ndarray, k: np.ndarray) -> np.ndarray:
  log_factorial = np.vectorize(math.lgamma, otypes=[float])
  return log_factorial(n + 1) - log_factorial(k + 1) - log_factorial(n - k + 1)
