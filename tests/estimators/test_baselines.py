"""Variances and bounds of benchmarks.baselines, by enumeration."""

import itertools
import math
import pathlib
import re

import numpy as np
import pytest

from benchmarks import baselines
from maxrl_jax import estimators
from tests.support import oracles

P, N = 0.3, 4
# Of four actions the first two are right.
POLICY = P * np.array([0.6, 0.4, 0, 0]) + (1 - P) * np.array([0, 0, 0.7, 0.3])
SERIES = {
  "order 1": [1.0],
  "order 3": [1.0] * 3,
  "order N": [1.0] * N,
  "pass@2": [0.0, 2.0],
}


def others_means(q):
  """ē_k of a list of failures, subset by subset."""
  return [
    np.mean([math.prod(s) for s in itertools.combinations(q, k)])
    for k in range(len(q) + 1)
  ]


def enumerated(a, b):
  """tr Cov[ĝ] of A_j = ω_j l_j − b(c_j), over every group of actions."""
  actions, probability, scores = oracles.outcomes(np.log(POLICY), N)
  A = np.zeros(actions.shape)
  for row, group in enumerate(actions):
    l = 1.0 * (group < 2)
    for j in range(N):
      others = np.delete(l, j)
      means = others_means(1 - others)
      A[row, j] = np.dot(a, means[: len(a)]) * l[j] - b[int(others.sum())]
  estimates = np.einsum("gn,gna->ga", A, scores) / N
  mean = probability @ estimates
  return probability @ ((estimates - mean) ** 2).sum(-1)


@pytest.mark.parametrize("name", SERIES)
def test_variance_of_any_baseline(name):
  a, s = SERIES[name], baselines.TWO_RIGHT
  f = baselines.variance(N, a, P, s)
  for b in (np.zeros(N), np.ones(N), np.array([0.3, -1, 2, 0.5])):
    assert f.at(b) == pytest.approx(enumerated(a, b), rel=1e-10)
  best = baselines.minimizer(f)
  for step in np.random.default_rng(0).normal(size=(20, N)):
    assert f.at(best) <= f.at(best + 0.1 * step)


@pytest.mark.parametrize("order", [1, 2, 4, 5])
def test_the_default_is_that_of_the_library(order):
  size = 5
  for c in range(size):
    l = np.append(0.0, 1.0 * (np.arange(size - 1) < c))  # A failure beside c.
    advantages = estimators.maxrl(l, order=order)
    b = baselines.centred(size, [1.0] * order)[c]
    assert float(advantages[0]) == pytest.approx(-b, abs=1e-6)


@pytest.mark.parametrize("order", [1, 4, 7])
def test_no_baseline_is_within_five_percent_of_the_best(order):
  """The bound is below what every b has somewhere, and it is reached."""
  size, a = 8, [1.0] * order
  ratios = baselines.relative(size, a, baselines.TWO_RIGHT)
  best = baselines.minimax(ratios, baselines.centred(size, a))
  assert best.largest == pytest.approx(best.bound, rel=1e-5)
  assert best.bound > 1.2
  rng = np.random.default_rng(0)
  for scale in (0.01, 0.1, 1.0):
    for step in scale * rng.normal(size=(30, size)):
      assert max(f.at(best.b + step) for f in ratios) > best.bound
  # The minimizer of each is its own denominator.
  for f in ratios:
    assert f.at(baselines.minimizer(f)) == pytest.approx(1, rel=1e-9)


def test_the_page_has_what_the_benchmark_prints(capsys):
  baselines.main()
  page = pathlib.Path(__file__).parents[2] / "docs/theory/baselines.md"
  number = r"\d+\.\d+"
  shown = re.findall(r"^\|.*\|$", page.read_text(), re.M)
  actual = re.findall(r"^\|.*\|$", capsys.readouterr().out, re.M)
  assert [re.sub(number, "#", x) for x in shown] == [
    re.sub(number, "#", x) for x in actual
  ]
  for row in zip(shown, actual, strict=True):
    values = [np.array(re.findall(number, x), float) for x in row]
    np.testing.assert_allclose(*values, rtol=0.003, atol=0.011)
