"""All estimators: degenerate groups, masks, precision, errors."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxrl_jax import estimators
from tests.support.estimator_groups import BINARY, GRADED, assert_same

# One call per estimator and set of options.
_SERIES = np.array([1.0, 0.5, 2.0], np.float32)
CALLS = {
  "reinforce": estimators.reinforce,
  "rloo": estimators.rloo,
  "grpo": estimators.grpo,
  "grpo epsilon": functools.partial(estimators.grpo, epsilon=0.1),
  "dr_grpo": estimators.dr_grpo,
  "maxrl": estimators.maxrl,
  "maxrl order 2": functools.partial(estimators.maxrl, order=2),
  "maxrl loo_mean": functools.partial(
    estimators.maxrl, order=3, baseline="loo_mean"
  ),
  "maxrl_paper": estimators.maxrl_paper,
  "pass_at_k": functools.partial(estimators.pass_at_k, k=3),
  "power": functools.partial(estimators.power, alpha=0.5),
  "series": functools.partial(estimators.series, coefficients=_SERIES),
  "tail": estimators.tail,
  "tail k": functools.partial(estimators.tail, k=3),
  "tail alpha": functools.partial(estimators.tail, alpha=0.5),
  "tail_rl": estimators.tail_rl,
  "self_normalized": estimators.self_normalized,
  "vimco": estimators.vimco,
}
CENTRED = sorted(set(CALLS) - {"reinforce", "maxrl loo_mean", "vimco"})
# Any finite reward will do.
TAILS = [name for name in CALLS if name.startswith("tail")]
CLOSED_FORM = ["maxrl", "maxrl order 2", "pass_at_k", "power"]
COMPILED = {name: jax.jit(call) for name, call in CALLS.items()}
each = pytest.mark.parametrize("name", CALLS)

# Degenerate groups


@pytest.mark.parametrize("name", CENTRED)
def test_centred_advantages_sum_to_zero(name):
  for l in (GRADED, BINARY):
    assert_same(np.sum(COMPILED[name](l)), 0, 3e-6)


@each
def test_all_failures_and_all_successes(name):
  for dtype in (float, bool) if name in CLOSED_FORM else (float,):
    assert_same(COMPILED[name](np.zeros(6, dtype)), np.zeros(6), 0)
    noise = np.full(6, 1.0 if name == "reinforce" else 0.0)
    assert_same(COMPILED[name](np.ones(6, dtype)), noise, 1e-6)


@pytest.mark.parametrize("name", CENTRED)
@pytest.mark.parametrize("level", [1e-30, 1e-6, 0.3, 0.7])
def test_equal_likelihoods_have_zero_advantages(name, level):
  assert_same(COMPILED[name](np.full(6, level)), np.zeros(6), 1e-6)
  for garbage in (0.5, np.nan):
    mask = np.arange(10) % 5 < 3
    got = COMPILED[name](np.where(mask, level, garbage), mask=mask)
    assert_same(got, np.zeros(10), 1e-6)


def test_tiny_likelihoods_by_hand():
  l = 1e-30 * np.array([1, 2, 3], np.float32)
  expected = [-1 / 2, 0, 1 / 2]
  assert_same(estimators.self_normalized(l), expected, 1e-6)
  root = math.sqrt(3 / 2)
  assert_same(estimators.grpo(l), [-root, 0, root], 1e-6)
  # With a masked rollout.
  got = estimators.grpo(np.append(l, 1), mask=np.arange(4) < 3)
  assert_same(got, [-root, 0, root, 0], 1e-6)


@each
def test_group_of_one_raises(name):
  one = np.array([0.3])
  if name == "reinforce":
    assert_same(CALLS[name](one), one, 1e-7)
    return
  calls = {
    "maxrl order 2": estimators.maxrl,
    "maxrl loo_mean": functools.partial(estimators.maxrl, baseline="loo_mean"),
    "pass_at_k": functools.partial(estimators.pass_at_k, k=1),
    "tail k": functools.partial(estimators.tail, k=1),
    "series": functools.partial(estimators.series, coefficients=_SERIES[:1]),
  }
  with pytest.raises(ValueError, match=r"N = 1 rollouts: .* needs N ≥ 2"):
    calls.get(name, CALLS[name])(one)


def test_group_of_one_is_reinforce_with_constant_baselines():
  @jax.jit
  def advantages(l):
    return [
      (
        estimators.maxrl(l, baseline=baseline),
        estimators.pass_at_k(l, k=1, baseline=baseline),
        estimators.power(l, alpha=0.5, baseline=baseline),
      )
      for baseline in ("none", 0.25)
    ]

  one = np.array([0.3])
  for actual, b in zip(advantages(one), (0, 0.25), strict=True):
    for got in actual:
      assert_same(got, one - b, 1e-7)


# Masks and transformations


@each
@pytest.mark.parametrize("largest", [1e-37, 1e-40, 1e-45])
def test_likelihoods_near_underflow_have_finite_advantages(name, largest):
  l = np.float32(largest) * np.array([1, 0.5, 0, 0, 0.25, 0], np.float32)
  for call in (CALLS[name], COMPILED[name]):
    actual = call(l)
    assert np.isfinite(actual).all()
    # Ratios or differences: at most N.
    assert name == "vimco" or np.abs(actual).max() <= 6


@each
@pytest.mark.parametrize("garbage", [0.5, 1.0, np.nan, 1e9, -1.0])
def test_masked_group_equals_the_smaller_group(name, garbage):
  mask = np.arange(10) % 5 < 3
  padded = np.full(10, garbage)
  padded[mask] = GRADED
  got = COMPILED[name](padded, mask=mask)
  assert_same(got[mask], COMPILED[name](GRADED), 2e-6)
  assert not np.any(got[~mask])


@pytest.mark.parametrize("name", CLOSED_FORM)
def test_masked_boolean_group_equals_the_smaller_group(name):
  mask = np.arange(10) % 5 < 3
  padded = np.ones(10, bool)
  padded[mask] = BINARY == 1
  got = COMPILED[name](padded, mask=mask)
  assert_same(got[mask], COMPILED[name](BINARY), 2e-6)
  assert not np.any(got[~mask])


@each
def test_jit_and_vmap_change_nothing(name):
  batch = np.stack([GRADED, GRADED[::-1] / 2, BINARY])
  one_by_one = [COMPILED[name](x) for x in batch]
  assert_same(jax.jit(jax.vmap(CALLS[name]))(batch), one_by_one, 2e-6)
  assert_same(CALLS[name](GRADED), one_by_one[0], 2e-6)


@pytest.mark.parametrize("name", ["rloo", "maxrl", "maxrl order 2"])
def test_masked_values_are_not_checked(name):
  padded = np.append(GRADED, np.nan)
  got = CALLS[name](padded, mask=np.isfinite(padded))
  assert_same(got, np.append(COMPILED[name](GRADED), 0), 2e-6)


@pytest.mark.parametrize("name", ["maxrl", "power", "tail"])
def test_likelihoods_and_mask_may_be_lists(name):
  got = CALLS[name]([0.5, 0.9, 0.7, 0.3], mask=[True, False, True, True])
  assert_same(got[np.array([0, 2, 3])], CALLS[name]([0.5, 0.7, 0.3]), 2e-6)


def test_a_traced_order_equals_a_static_one():
  @jax.jit
  def traced(l):
    sweep = np.array([2, 5, 6])
    return jax.vmap(lambda T: estimators.maxrl(l, order=T))(sweep)

  @jax.jit
  def static(l):
    return jnp.stack([estimators.maxrl(l, order=T) for T in (2, 5, 6)])

  assert_same(traced(GRADED), static(GRADED), 2e-6)
  assert_same(traced(BINARY == 1), static(BINARY == 1), 2e-6)


@each
@pytest.mark.parametrize("dtype", [bool, jnp.int32, jnp.float16, jnp.bfloat16])
def test_advantages_are_in_single_precision(name, dtype):
  l = jax.ShapeDtypeStruct((6,), dtype)
  assert jax.eval_shape(CALLS[name], l).dtype == np.float32


@pytest.mark.parametrize("name", ["grpo", "tail_rl", "maxrl order 2"])
def test_half_precision_is_computed_in_single(name):
  l = GRADED.astype(jnp.bfloat16)
  expected = COMPILED[name](l.astype(np.float32))
  assert_same(COMPILED[name](l), expected, 1e-6)


# Errors


@each
@pytest.mark.parametrize("invalid", [np.nan, np.inf, 1.5, -0.25])
def test_error_names_an_invalid_likelihood(name, invalid):
  l = np.array([0.5, 0.1, invalid, 0.5])
  match = rf"^likelihoods\[2\] = {invalid}: must be in \[0, 1\]"
  if name in TAILS:
    if np.isfinite(invalid):
      assert np.isfinite(CALLS[name](l)).all()
      return
    match = rf"^rewards\[2\] = {invalid}: must be finite"
  with pytest.raises(ValueError, match=match):
    CALLS[name](l)


@each
@pytest.mark.parametrize("shape", [(), (5, 2)])
def test_likelihoods_must_be_one_group(name, shape):
  with pytest.raises(ValueError, match=r"^likelihoods: shape .* vmap"):
    CALLS[name](np.full(shape, 0.5))


@pytest.mark.parametrize(
  ("estimator", "arguments", "message"),
  [
    (estimators.maxrl, {"order": 0}, "order = 0: .* 1 to 3"),
    (estimators.maxrl, {"order": 4}, "order = 4: .* 1 to 3"),
    (estimators.maxrl, {"order": 1.5}, "order = 1.5: "),
    (estimators.maxrl, {"baseline": "mean"}, "baseline = 'mean': .*choose"),
    (estimators.maxrl, {"method": "peel"}, "method = 'peel': choose"),
    (estimators.pass_at_k, {"k": 0}, "k = 0: must be"),
    (estimators.pass_at_k, {"k": 4}, "k = 4: must be"),
    (estimators.pass_at_k, {"k": 1.5}, "k = 1.5: must be"),
    (
      estimators.pass_at_k,
      {"k": 2, "baseline": "mean"},
      "baseline = 'mean': .*choose",
    ),
    (estimators.power, {"alpha": -0.1}, "alpha = -0.1: must be in"),
    (estimators.power, {"alpha": 1.1}, "alpha = 1.1: must be in"),
    (estimators.power, {"alpha": 0.5, "order": 4}, "order = 4: .* 1 to 3"),
    (
      estimators.power,
      {"alpha": 0.5, "baseline": "mean"},
      "baseline = 'mean': .*choose",
    ),
  ],
)
def test_error_names_an_argument_out_of_range(estimator, arguments, message):
  with pytest.raises(ValueError, match="^" + message):
    estimator(np.array([0.1, 0.2, 0.3]), **arguments)


def test_estimator_names_are_function_names():
  for name, estimator in estimators.ESTIMATORS.items():
    assert estimator.function is getattr(estimators, name)
    assert any(call.split()[0] == name for call in CALLS)


@pytest.mark.parametrize("name", ["maxrl", "rloo", "pass_at_k", "power"])
def test_group_with_one_unmasked_rollout_has_zero_advantages(name):
  options = {"pass_at_k": {"k": 1}, "power": {"alpha": 0.5}}.get(name, {})
  mask = np.array([False, True, False])
  got = estimators.ESTIMATORS[name](
    np.array([0.2, 0.6, 1.0]), mask=mask, **options
  )
  assert_same(got, np.zeros(3))


@pytest.mark.parametrize("name", sorted(estimators.ESTIMATORS))
def test_error_names_a_mask_of_another_shape(name):
  options = {"pass_at_k": {"k": 2}, "power": {"alpha": 0.5}}
  options = (options | {"series": {"coefficients": _SERIES}}).get(name, {})
  with pytest.raises(ValueError, match="mask: shape"):
    estimators.ESTIMATORS[name](
      np.full(4, 0.5), mask=np.ones(3, bool), **options
    )
