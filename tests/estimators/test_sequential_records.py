"""Waves of rollouts: every record against fractions, and precision."""

import functools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxrl_jax import estimators
from tests.support import oracles
from tests.support import rationals as exact
from tests.support import sequential as in_fractions
from tests.support.estimator_groups import assert_same
from tests.support.extent import long

sequential = estimators.sequential
BASELINES = [*estimators.SEQUENTIAL_BASELINES, 0.25]

# Every record, against fractions

ROWS, LENGTH = 1296, 4


def _batch(values, sizes):
  """Every record of these waves, padded: l, waves, mask, solved; records."""
  policy = exact.POLICY
  records = [x for _, x in in_fractions.records(policy, values, sizes)]
  l = np.full((ROWS, LENGTH), math.nan)
  waves, mask = np.zeros(l.shape, int), np.zeros(l.shape, bool)
  solved = np.zeros(ROWS, bool)
  for row, record in enumerate(records):
    flat = [(i, z) for i, wave in enumerate(record) for z, _ in wave]
    waves[row, : len(flat)] = [i for i, _ in flat]
    l[row, : len(flat)] = [values[z] for _, z in flat]
    mask[row, : len(flat)] = True
    solved[row] = in_fractions.solved(record[-1])
  return (l, waves, mask, solved), records


@jax.jit
def _every(l, waves, mask, solved):
  """With each baseline, without and with the coin: [2, baselines, R, n]."""

  def one(l, waves, mask, solved):
    return jnp.stack(
      [
        jnp.stack(
          [
            sequential(l, waves, mask=mask, solved=coin, baseline=b)
            for b in BASELINES
          ]
        )
        for coin in (None, solved)
      ]
    )

  return jax.vmap(one, out_axes=2)(l, waves, mask, solved)


def _assert_rules(actual, rules, records):
  """Coefficients of the records, times n, in every row of `actual`."""
  for b, rule in rules.items():
    rows = actual[BASELINES.index(b)]
    assert not rows[len(records) :].any()
    for row, record in zip(rows, records, strict=False):
      n = sum(map(len, record))
      expected = np.zeros(LENGTH)
      expected[:n] = [float(n * c) for wave in rule(record) for c in wave]
      assert_same(row, expected, 1e-13)


RULES = {
  "none": in_fractions.none,
  "average_score": in_fractions.average_score,
  0.25: lambda x: in_fractions.average_score(x, Fraction(1, 4)),
  "centred": in_fractions.centred,
  "leave_one_out": in_fractions.leave_one_out,
}


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (2, 2), (3, 1), (1, 2, 1)])
def test_every_record_of_binary_rewards(sizes, x64):
  (l, waves, mask, solved), records = _batch(exact.TWO_RIGHT, sizes)
  for rewards in (l, (l == 1) | np.isnan(l)):
    actual = np.asarray(_every(rewards, waves, mask, solved))
    _assert_rules(actual[0], RULES, records)
    np.testing.assert_allclose(actual[1], actual[0], atol=1e-13)


LOW = (Fraction(1, 10), Fraction(1, 5), Fraction(3, 10))


def _less(rule, baseline, values):
  """A rule of graded likelihoods less b_j/m of each wave."""

  def failing(wave):
    return math.prod(1 - values[z] for z, _ in wave)

  def b(wave, j):
    if baseline == "leave_one_out":
      return 1 - failing(exact.others(wave, j))
    if baseline == "centred":
      return 1 - failing(wave)
    return {"none": 0, "average_score": 1, 0.25: Fraction(1, 4)}[baseline]

  def less(record):
    return [
      [c - Fraction(b(wave, j)) / len(wave) for j, c in enumerate(row)]
      for wave, row in zip(record, rule(record), strict=True)
    ]

  return less


@pytest.mark.parametrize("values", [exact.GRADED, LOW])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 2), (1, 2)])
def test_every_record_of_graded_likelihoods(sizes, values, x64):
  batch, records = _batch(values, sizes)
  actual = np.asarray(_every(*batch))
  rules = in_fractions.by_wave(values), in_fractions.over_orders(values)
  for rows, rule in zip(actual, rules, strict=True):
    by_baseline = {b: _less(rule, b, values) for b in BASELINES}
    _assert_rules(rows, by_baseline, records)


# Precision


def test_many_graded_waves_in_single_precision():
  rng = np.random.default_rng(2)
  l = (0.01 * rng.random(512)).astype(np.float32)
  l[::97] = 0.9
  waves = np.sort(rng.integers(0, 20, 512))
  expected = np.zeros(512)
  for i in range(20):
    wave = waves == i
    weights, passed = oracles.extended_loo(l[wave]).maxrl(wave.sum())
    expected[wave] = (weights * l[wave] - passed) * 512 / wave.sum()
  actual = jax.jit(sequential)(l, waves)
  np.testing.assert_allclose(actual, expected, rtol=3e-5, atol=3e-5)


@pytest.mark.parametrize("m", [long(1), 8, long(64)])
def test_the_mean_over_orders_in_single_precision(m):
  rng = np.random.default_rng(3)
  l = (0.02 * rng.random(256)).astype(np.float32)
  table = oracles.extended_loo(l)
  shares = table.means[:, 256 - m :].sum(-1)[table.which] * l
  expected = np.asarray(256 * shares / shares.sum(), float)
  call = jax.jit(functools.partial(sequential, solved=True, baseline="none"))
  np.testing.assert_allclose(call(l, np.arange(256) // m), expected, rtol=3e-5)


def test_where_the_orders_underflow_the_last_wave_decides():
  """Four waves of nearly certain success, all of which failed."""
  l = np.full(40, 1 - 2.0**-20, np.float32)
  l[-4:] = [0.5, 0.5, 0, 0]
  actual = sequential(l, np.arange(40) // 4, solved=True, baseline="none")
  assert_same(actual, np.append(np.zeros(36), [20, 20, 0, 0]), 1e-4)
