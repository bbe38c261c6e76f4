"""Estimators from log-likelihoods or unbounded rewards."""

import functools
from fractions import Fraction

import jax
import numpy as np
import pytest

from maxrl_jax import estimators
from tests.support import rationals as exact
from tests.support.estimator_groups import assert_same

_LOGS = {
  name: entry.log_function
  for name, entry in estimators.ESTIMATORS.items()
  if entry.log_function
}


@pytest.mark.parametrize("name", sorted(_LOGS))
def test_log_likelihoods_give_equal_advantages_without_underflow(name):
  plain = jax.jit(estimators.ESTIMATORS[name].function)
  logs = jax.jit(_LOGS[name])
  l = np.array([0.9, 0.2, 0.05, 0.6], np.float32)
  assert_same(logs(np.log(l)), plain(l), 1e-5)
  # Neither depends on the scale of l: a shift of log l changes nothing.
  assert_same(logs(np.log(l) - 1e4), plain(l), 0.005)
  mask = np.array([True, False, True, True])
  padded = logs(np.where(mask, np.log(l), np.nan), mask=mask)
  assert_same(padded[mask], plain(l[mask]), 1e-5)
  assert padded[1] == 0
  assert np.isfinite(logs(np.full(4, -np.inf))).all()
  assert np.isfinite(logs(np.array([-np.inf, -3.0, -1e4, -np.inf]))).all()


@pytest.mark.parametrize(
  "name", [k for k, e in estimators.ESTIMATORS.items() if e.any_reward]
)
def test_unbounded_rewards(name):
  rewards = np.array([-3.0, 2.0, 7.0], np.float32)
  expected = {
    "reinforce": rewards,
    "rloo": [-7.5, 0.0, 7.5],
    "dr_grpo": [-5.0, 0.0, 5.0],
    "grpo": np.array([-5.0, 0.0, 5.0]) / np.sqrt(50 / 3),
    # Gaps of 5, which two and one of three reach.
    "tail": [-10.0, -2.5, 12.5],
    "tail_rl": [-10.0, -2.5, 12.5],
  }[name]
  call = estimators.ESTIMATORS[name]
  if name.startswith("tail"):
    assert_same(call(rewards), expected, 1e-5)
    return
  assert_same(call(rewards, bounded=False), expected, 1e-5)
  with pytest.raises(ValueError, match=r"likelihoods\[0\] = -3"):
    call(rewards)
  with pytest.raises(ValueError, match=r"rewards\[1\] = inf"):
    call(np.array([1.0, np.inf]), bounded=False)


@pytest.mark.parametrize("name", ["reinforce", "rloo", "tail"])
def test_rewards_do_not_wrap_or_overflow(name):
  call = estimators.ESTIMATORS[name]
  if name != "tail":
    call = functools.partial(call, bounded=False)
  whole = np.array([3_000_000_000, 0, 0])
  np.testing.assert_array_equal(call(whole), call(whole.astype(np.float32)))
  assert call(whole)[0] > 1e9
  with pytest.raises(ValueError, match=r"rewards\[0\] = 1e\+39: must be"):
    call(np.array([1e39, 0, 0]))


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"baseline": None}, "baseline = None: must be a finite number"),
    ({"baseline": np.nan}, "baseline = nan: must be a finite number"),
    ({"baseline": np.ones(3)}, r"baseline: shape \(3,\), must be a number"),
    ({"mask": np.array([0.5, 1, 1])}, "must be True or False"),
    ({"mask": ["a", "b", "c"]}, "must be True or False"),
  ],
)
def test_nonsense_is_refused(options, message):
  with pytest.raises(ValueError, match=message):
    estimators.maxrl(np.array([0.5, 0.1, 1.0]), **options)


def test_a_negative_reward_is_told_who_takes_it():
  rewards = np.array([-3.0, -1.0])
  with pytest.raises(ValueError, match=r"= -3.0: .* with bounded=False"):
    estimators.rloo(rewards)
  actual = estimators.rloo(rewards, bounded=False)
  np.testing.assert_allclose(actual, [-2, 2])


@pytest.mark.parametrize("name", sorted(_LOGS))
@pytest.mark.parametrize("bad", [np.nan, 5.0])
def test_error_names_an_invalid_log_likelihood(name, bad):
  log_l = np.array([-1.0, bad, -2.0], np.float32)
  logs = _LOGS[name]
  with pytest.raises(ValueError, match=rf"log_likelihoods\[1\] = {bad}"):
    logs(log_l)
  if np.isnan(bad):  # Under jit it must not become zero.
    assert np.isnan(jax.jit(logs)(log_l)).any()


@pytest.mark.parametrize(
  ("name", "option"), [("power", "order"), ("pass_at_k", "k")]
)
def test_error_names_an_option_that_must_not_be_traced(name, option):
  function = getattr(estimators, name)
  more = {"alpha": 0.5} if name == "power" else {}

  @jax.jit
  def compiled(x):
    return function(np.full(4, 0.5), **{option: x}, **more)

  with pytest.raises(ValueError, match=f"{option}: traced, must be a number"):
    compiled(2)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize(
  "powers", [(-1400, -2, -1400, -1), (-1443, -1441, -1442, -1442)]
)
def test_finite_orders_lose_nothing_where_likelihoods_underflow(order, powers):
  """l = 2^x, 2^−1443 = e^−1000; exact advantages are what floats return."""
  exactly = [Fraction(2) ** x for x in powers]
  expected = exact.centred(exactly, [1] * order)
  l = np.exp2(np.array(powers, float)).astype(np.float32)
  actual = np.asarray(estimators.maxrl(l, order=order), float)
  np.testing.assert_allclose(
    actual, np.array(expected, float), rtol=2e-6, atol=1e-37
  )
  # Where all underflow, the exact ones are T (l_j − the others' mean).
  if max(powers) < -1000:
    rloo = exact.centred(exactly, [1])
    ratios = [x / y for x, y in zip(expected, rloo, strict=True) if y]
    assert max(abs(x / order - 1) for x in ratios) < Fraction(2) ** -1400
