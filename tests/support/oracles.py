"""Independent truth for the tests: NumPy, fractions and decimals only.

Nothing here imports the package. Each level is tested against the one before:
the definition, subset by subset (`estimate_wT`); rational arithmetic
(`exact_loo`); a recursion of positive terms in extended precision
(`extended_loo`) and the binomials of the binary case (`binary_loo`), which
reach groups of thousands.
"""

import itertools
import math
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import NamedTuple

import numpy as np

# The pseudocode of the generalized estimator, line by line.


def estimate_wT(l_loo, T):
  """Σ_{k<T}, each term the mean over all k-subsets of Π (1 − l_i)."""
  w_hat = 0.0
  for k in range(T):
    subsets = list(itertools.combinations(l_loo, k))
    w_hat += sum(math.prod(1 - l for l in s) for s in subsets) / len(subsets)
  return w_hat


def maxrl_advantages(l_j, T):
  """Weights, then the constant baseline 1/N."""
  N = len(l_j)
  omega_j = []
  for j in range(N):
    l_loo = np.concatenate([l_j[:j], l_j[j + 1 :]])
    omega_j.append(estimate_wT(l_loo, T))
  return np.stack(omega_j) * l_j - 1.0 / N


def maxrl_step(logits, actions, likelihoods, T, learning_rate):
  """One SGD step of softmax policies `logits` [B, A] from N rollouts each.

  The gradient of −mean_j adv_j log m(z_j|x) is written out:
  ∇ log softmax(θ)_z = onehot(z) − softmax(θ).
  """
  gradient = np.zeros_like(logits)
  for x in range(len(logits)):
    adv_j = maxrl_advantages(likelihoods[x], T)
    for j, z in enumerate(actions[x]):
      gradient[x] -= adv_j[j] * scores(logits[x])[z] / len(actions[x])
  return logits - learning_rate * gradient / len(logits)


# Softmax policies


def softmax(logits):
  weights = np.exp(logits - np.max(logits))
  return weights / weights.sum()


def scores(logits):
  """∇ log π(z) [A, A], a row for each action z."""
  return np.eye(len(logits)) - softmax(logits)


def outcomes(logits, N):
  """Every group of N actions [A^N, N], its probability and its scores."""
  groups = np.array(list(itertools.product(range(len(logits)), repeat=N)))
  return groups, softmax(logits)[groups].prod(-1), scores(logits)[groups]


# Leave-one-out symmetric means


class Table(NamedTuple):
  """ē_k and 1 − ē_k of the others [D, N], k = 0 … N−1, for D distinct l."""

  means: np.ndarray
  passes: np.ndarray
  which: np.ndarray  # the row of each rollout [N]

  def maxrl(self, T):
    """ω = Σ_{k<T} ē_k and b = 1 − ē_T, at T = N that of N−1."""
    last = min(T, len(self.which) - 1)
    return self._floats(self.means[:, :T].sum(-1), self.passes[:, last])

  def series(self, a):
    """ω = Σ a_k ē_k and b = Σ a_k (ē_k − ē_{k+1}), without k = N−1."""
    a = np.array([Fraction(float(x)) for x in a], dtype=object)
    if self.means.dtype != object:
      a = a.astype(self.means.dtype)
    drops = np.diff(self.passes)[:, : len(a)]
    return self._floats(
      (self.means[:, : len(a)] * a).sum(-1),
      (drops * a[: drops.shape[-1]]).sum(-1),
    )

  def _floats(self, *columns):
    return [np.asarray(x, float)[self.which] for x in columns]


def exact_loo(likelihoods) -> Table:
  """Rational arithmetic on the floats as they are, O(N²) per rollout."""
  distinct, which = np.unique(likelihoods, return_inverse=True)
  q = [1 - Fraction(float(l)) for l in distinct]
  group, n = [q[i] for i in which], len(which) - 1
  # In units of the common denominator, a power of two, all are integers.
  unit = max(x.denominator for x in q)
  means = np.empty((len(q), n + 1), object)
  for row, left_out in enumerate(q):
    others = group.copy()
    others.remove(left_out)
    e = [1]
    for x in others:
      x = int(x * unit)
      e = [a + x * b for a, b in zip([*e, 0], [0, *e], strict=True)]
    for k, e_k in enumerate(e):
      means[row, k] = Fraction(e_k, math.comb(n, k) * unit**k)
  return Table(means, 1 - means, which)


def extended_loo(likelihoods) -> Table:
  """Adds one rollout at a time, in extended precision where there is one.

      ē_k ← (1 − k/m) ē_k + (k/m) q ē_{k−1}
      1 − ē_k ← (1 − k/m) (1 − ē_k) + (k/m) (l + q (1 − ē_{k−1}))

  The order does not matter: what every left-out rollout leaves is added once,
  and then, for each distinct likelihood, one copy of every other one.
  """
  distinct, which, copies = np.unique(
    np.asarray(likelihoods, np.longdouble),
    return_inverse=True,
    return_counts=True,
  )
  k = np.arange(len(which), dtype=np.longdouble)

  def add(m, l, mean, passed):
    new = k[1 : m + 1] / m
    hit = l + (1 - l) * passed[:m]
    passed[1 : m + 1] = (1 - new) * passed[1 : m + 1] + new * hit
    mean[1 : m + 1] = (1 - new) * mean[1 : m + 1] + new * (1 - l) * mean[:m]

  mean, passed = np.where(k == 0, 1, 0 * k), 0 * k
  common = np.repeat(distinct, copies - 1)
  for m, l in enumerate(common, 1):
    add(m, l, mean, passed)
  tables = [(mean.copy(), passed.copy()) for _ in distinct]
  for row, own in enumerate(tables):
    for m, l in enumerate(np.delete(distinct, row), len(common) + 1):
      add(m, l, *own)
  means, passes = map(np.array, zip(*tables, strict=True))
  return Table(means, passes, which)


def binary_loo(N, others, T):
  """ω and b of order T where `others` of the N−1 others succeeded."""
  n = N - 1
  missed = Fraction(math.comb(N - others - 1, T), math.comb(N, T))
  weight = Fraction(N, others + 1) * (1 - missed)
  drawn = min(T, n)
  missed = Fraction(math.comb(n - others, drawn), math.comb(n, drawn))
  return float(weight), float(1 - missed)


# Objectives: J(p), J'(p), J''(p) in sixty digits, p a float as it is


def _sixty_digits(objective):
  def at(p):
    with localcontext(prec=60):
      return [float(x) for x in objective(Decimal(float(p)))]

  return at


def rl():
  return _sixty_digits(lambda p: (p, 1, 0))


def maximum_likelihood():
  return _sixty_digits(lambda p: (p.ln(), 1 / p, -1 / p**2))


def maxrl(T):
  """Term by term."""

  @_sixty_digits
  def at(p):
    value = weight = slope = Decimal(0)
    failures = Decimal(1)  # (1−p)^{k−1}
    for k in range(1, T + 1):
      weight += failures
      if k < T:
        slope -= k * failures
      failures *= 1 - p
      value -= failures / k
    return value, weight, slope

  return at


def pass_at_k(K):
  def failures(p, k):
    return (1 - p) ** k if k > 0 else 1

  return _sixty_digits(
    lambda p: (
      1 - failures(p, K),
      K * failures(p, K - 1),
      -K * (K - 1) * failures(p, K - 2),
    )
  )


def power(alpha):
  alpha = Decimal(alpha)
  return _sixty_digits(
    lambda p: (
      (p**alpha - 1) / alpha,
      p ** (alpha - 1),
      (alpha - 1) * p ** (alpha - 2),
    )
  )


def series(coefficients):
  a = [Decimal(float(x)) for x in coefficients]

  @_sixty_digits
  def at(p):
    value = weight = slope = Decimal(0)
    for k, a_k in enumerate(a):
      value -= a_k * (1 - p) ** (k + 1) / (k + 1)
      weight += a_k * ((1 - p) ** k if k else 1)
      slope -= k * a_k * ((1 - p) ** (k - 1) if k > 1 else 1)
    return value, weight, slope

  return at


def grpo():
  """2 arcsin √p = 2 arctan √(p/(1−p)), halved until the series is quick."""

  @_sixty_digits
  def at(p):
    x = (p / (1 - p)).sqrt()
    for _ in range(8):
      x = x / (1 + (1 + x * x).sqrt())
    arctan = sum((-1) ** k * x ** (2 * k + 1) / (2 * k + 1) for k in range(20))
    spread = p * (1 - p)
    slope = (2 * p - 1) / (2 * spread * spread.sqrt())
    return 2**9 * arctan, 1 / spread.sqrt(), slope

  return at
