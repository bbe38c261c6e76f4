"""Off-policy losses against sums over every group of the behaviour policy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxrl_jax import estimators, losses, off_policy
from tests.support import oracles
from tests.support.estimator_groups import assert_same
from tests.support.extent import long

# Logits of three actions: the policy that sampled, and the current one.
OLD = np.array([0.4, -0.6, 0.9])
NEW = np.array([-0.3, 0.8, 0.5])
VALUES = np.array([[0.15, 0.95, 0.4], [1.0, 0.0, 0.3], [0.0, 1.0, 0.0]])
N = 4
MU, PI = oracles.softmax(OLD), oracles.softmax(NEW)
SCORES = oracles.scores(NEW)


def pass_rate(policy, values):
  return policy @ values


def weight(p, T):
  return sum((1 - p) ** k for k in range(T))


def gradient(values):
  """∇p of the current policy."""
  return PI * (values - pass_rate(PI, values))


def expected(loss):
  """E_μ[−∇ loss(log-ratios, likelihoods)] with respect to the new logits.

  One row for each row of VALUES.
  """
  groups, chance, _ = oracles.outcomes(OLD, N)

  def mean(logits, l):
    log_ratios = jax.nn.log_softmax(logits) - jnp.log(MU)
    each = jax.vmap(lambda z: loss(log_ratios[z][:, None], l[z]))
    return -jnp.dot(chance, each(groups))

  gradients = jax.jit(jax.vmap(jax.grad(mean), (None, 0)))
  return gradients(jnp.asarray(NEW), jnp.asarray(VALUES))


def with_advantages(loss, T, **options):
  def of_group(log_ratios, l):
    return loss(log_ratios, estimators.maxrl(l, order=T), **options)

  return of_group


@pytest.mark.parametrize("T", [1, 2, 3])
def test_unclipped_has_the_old_weight_and_the_new_gradient(T, x64):
  every = expected(with_advantages(off_policy.unclipped, T))
  for actual, values in zip(every, VALUES, strict=True):
    w = weight(pass_rate(MU, values), T)
    assert_same(actual, w * gradient(values))
    # The two weights differ: the other one would be refused.
    assert abs(w - weight(pass_rate(PI, values), T)) > 0.05 or T == 1


@pytest.mark.parametrize("baseline", ["centred", "none"])
@pytest.mark.parametrize("T", [long(1), 2, 3, long(4)])
def test_reweighted_has_the_new_weight_too(T, baseline, x64):
  def loss(log_ratios, l):
    advantages = off_policy.reweighted(
      l, jnp.exp(log_ratios[:, 0]), coefficients=jnp.ones(T), baseline=baseline
    )
    return off_policy.uncorrected(log_ratios, advantages)

  for actual, values in zip(expected(loss), VALUES, strict=True):
    w = weight(pass_rate(PI, values), T)
    assert_same(actual, w * gradient(values))


@pytest.mark.parametrize("cap", [1.0, 1.3, 5.0])
def test_truncated_counts_answers_up_to_the_cap(cap, x64):
  T, counted = 2, np.minimum(PI, cap * MU)
  every = expected(with_advantages(off_policy.truncated, T, cap=cap))
  for actual, values in zip(every, VALUES, strict=True):
    p = pass_rate(MU, values)
    terms = counted * (weight(p, T) * values - (1 - (1 - p) ** T))
    assert_same(actual, terms @ SCORES)


def test_uncorrected_averages_over_the_old_policy(x64):
  T = 3
  every = expected(with_advantages(off_policy.uncorrected, T))
  for actual, values in zip(every, VALUES, strict=True):
    p = pass_rate(MU, values)
    terms = MU * (weight(p, T) * values - (1 - (1 - p) ** T))
    assert_same(actual, terms @ SCORES)
    assert np.linalg.norm(actual - weight(p, T) * gradient(values)) > 0.01


def test_reweighted_is_the_estimator_at_equal_policies(x64):
  l = np.array([0.9, 0.0, 0.35, 1.0, 0.6])
  for T in (1, 3, 4, 5):
    actual = off_policy.reweighted(l, np.ones(5), coefficients=jnp.ones(T))
    assert_same(actual, estimators.maxrl(l, order=T))


def test_reweighted_by_hand():
  """N = 2, T = 1: ω = 1 and b_j = ρ_i l_i."""
  actual = off_policy.reweighted(
    [1.0, 0.5], [3.0, 0.5], coefficients=jnp.ones(1)
  )
  np.testing.assert_allclose(actual, [3 * (1 - 0.25), 0.5 * (0.5 - 3)])


LOSSES = [*off_policy.LOSSES.values()]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("tokens", [1, 3])
def test_at_equal_policies_all_are_the_surrogate(loss, tokens):
  advantages = jnp.array([2.0, -1.0, 0.5, -1.5])
  ours = jax.grad(loss)(jnp.zeros((4, tokens)), advantages)
  theirs = jax.grad(losses.surrogate)(jnp.zeros(4), advantages)
  np.testing.assert_allclose(ours, np.stack([theirs] * tokens, 1), rtol=1e-6)


def _slopes(loss, ratios, advantages, **options):
  """−N ∂loss/∂log ρ_jt [N, L]."""
  log_ratios = jnp.log(jnp.asarray(ratios))
  slopes = jax.grad(loss)(log_ratios, jnp.asarray(advantages), **options)
  return -len(advantages) * slopes


def test_clipping_by_hand():
  """ρA if the ratio may still move in the direction of A, else 0."""
  ratios = [[0.5], [0.9], [1.1], [1.5], [0.5], [0.9], [1.1], [1.5]]
  advantages = [2.0] * 4 + [-2.0] * 4
  actual = _slopes(off_policy.clipped, ratios, advantages, epsilon=0.2)
  expected = [1, 1.8, 2.2, 0, 0, -1.8, -2.2, -3]
  np.testing.assert_allclose(actual[:, 0], expected, rtol=1e-6)
  wider = _slopes(
    off_policy.clipped, ratios, advantages, epsilon=0.2, epsilon_high=0.6
  )
  expected[3] = 3
  np.testing.assert_allclose(wider[:, 0], expected, rtol=1e-6)


def test_clipping_is_by_token():
  actual = _slopes(off_policy.clipped, [[1.5, 1.1], [0.5, 1.0]], [1.0, -1.0])
  np.testing.assert_allclose(actual, [[0, 1.1], [0, -1]], rtol=1e-6)


def test_the_geometric_mean_by_hand():
  """s = √(1.21 · 1) = 1.1 of two tokens; one of the second; 0 where clipped."""
  ratios = [[1.21, 1.0], [1.05, 1.0], [1.21, 1.0]]
  actual = _slopes(
    off_policy.geometric,
    ratios,
    [2.0, 1.0, 2.0],
    epsilon=0.2,
    lengths=jnp.array([2, 1, 2]),
  )
  # L s A / L for each of the L tokens.
  expected = [[2.2, 2.2], [1.05, 1.05], [2.2, 2.2]]
  np.testing.assert_allclose(actual, expected, rtol=1e-6)
  clipped = _slopes(off_policy.geometric, ratios, [2.0] * 3, epsilon=0.05)
  np.testing.assert_allclose(np.asarray(clipped)[[0, 2]], 0)


def test_ratios_of_whole_rollouts_are_products():
  ratios, advantages = [[2.0, 0.5], [3.0, 2.0]], [1.0, -1.0]
  actual = _slopes(off_policy.unclipped, ratios, advantages)
  np.testing.assert_allclose(actual, [[1, 1], [-6, -6]], rtol=1e-6)
  actual = _slopes(off_policy.truncated, ratios, advantages, cap=4.0)
  np.testing.assert_allclose(actual, [[1, 1], [-4, -4]], rtol=1e-6)


def test_a_huge_ratio_does_not_overflow_where_it_is_capped():
  actual = _slopes(off_policy.truncated, jnp.exp(jnp.zeros((1, 1))), [1.0])
  np.testing.assert_allclose(actual, 1)
  slope = jax.grad(off_policy.truncated)(jnp.full((1, 1), 200.0), jnp.ones(1))
  np.testing.assert_allclose(slope, -2, rtol=1e-6)


@pytest.mark.parametrize("loss", [off_policy.clipped, off_policy.geometric])
@pytest.mark.parametrize("advantage", [0.0, 3.0])
def test_an_overflowing_ratio_has_no_gradient_where_it_is_clipped(
  loss, advantage
):
  value, slope = jax.value_and_grad(loss)(
    jnp.array([[100.0]]), jnp.array([advantage]), epsilon=0.2
  )
  assert value == pytest.approx(-1.2 * advantage)
  np.testing.assert_array_equal(slope, 0)


@pytest.mark.parametrize("reference", [None, (0.5, -1.0, 0.3)])
def test_kl_is_unbiased_in_value_and_gradient(x64, reference):
  of_reference = MU if reference is None else oracles.softmax(reference)

  def exact(logits):
    log_pi = jax.nn.log_softmax(logits)
    return jnp.sum(jnp.exp(log_pi) * (log_pi - jnp.log(of_reference)))

  def kl(logits, answer):
    log_ratio = jax.nn.log_softmax(logits)[answer] - jnp.log(MU[answer])
    other = None
    if reference is not None:
      other = jnp.log(of_reference / MU)[answer].reshape(1, 1)
    return off_policy.kl(log_ratio.reshape(1, 1), reference=other)

  value, slope = jax.value_and_grad(exact)(jnp.asarray(NEW))
  each, slopes = zip(
    *(jax.value_and_grad(kl)(jnp.asarray(NEW), z) for z in range(len(MU))),
    strict=True,
  )
  assert min(each) >= 0
  assert_same(MU @ np.array(each), value)
  assert_same(MU @ np.array(slopes), slope)


def test_kl_near_the_reference_does_not_cancel():
  """π is e^1e-3 ν, and both are e^3 times μ: e^3.001 (d + e^−d − 1)."""
  actual = off_policy.kl(
    jnp.full((1, 1), 3.001), reference=jnp.full((1, 1), 3.0)
  )
  d = float(np.float32(3.001)) - 3.0
  np.testing.assert_allclose(actual, np.exp(3.001) * d * d / 2, rtol=1e-2)
  assert off_policy.kl(jnp.full((1, 1), -2.0)) > 0


@pytest.mark.parametrize("garbage", [7.0, np.inf, np.nan])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_masked_rollout_has_no_effect(loss, garbage):
  log_ratios = np.array([[0.1, -0.3], [0.05, 0.1]])
  advantages, mask = np.array([3.0, -1.0]), np.array([True, False, True])
  both = jax.value_and_grad(loss)
  value, slope = both(
    jnp.asarray(np.insert(log_ratios, 1, garbage, 0)),
    jnp.asarray(np.insert(advantages, 1, garbage)),
    mask=mask,
  )
  wanted, smaller = both(jnp.asarray(log_ratios), jnp.asarray(advantages))
  np.testing.assert_allclose(value, wanted, rtol=1e-6)
  np.testing.assert_allclose(slope, np.insert(smaller, 1, 0, 0), rtol=1e-6)


def test_a_masked_rollout_has_no_effect_on_weights():
  l, ratios = np.array([1.0, 0.0, 0.5]), np.array([1.5, 0.5, 0.8])
  mask = np.array([True, True, False, True])
  actual = off_policy.reweighted(
    np.insert(l, 2, np.nan),
    np.insert(ratios, 2, np.nan),
    coefficients=jnp.ones(2),
    mask=mask,
  )
  wanted = off_policy.reweighted(l, ratios, coefficients=jnp.ones(2))
  np.testing.assert_allclose(actual, np.insert(wanted, 2, 0), rtol=1e-6)


@pytest.mark.parametrize(
  ("name", "options", "message"),
  [
    ("truncated", {"cap": 0.5}, "cap = 0.5: must be at least 1"),
    ("clipped", {"epsilon": 1.0}, "epsilon = 1.0: must be between 0 and 1"),
    ("geometric", {"epsilon_high": 0.0}, "epsilon_high = 0.0: must be above 0"),
    ("clipped", {"epsilon": "0.2"}, "epsilon = '0.2': must be between 0 and 1"),
    ("truncated", {"cap": None}, "cap = None: must be at least 1"),
    ("unclipped", {"mask": [2, 1]}, "must be True or False"),
    ("uncorrected", {"mask": [0.5, 1]}, "must be True or False"),
  ],
)
def test_wrong_options_are_refused(name, options, message):
  with pytest.raises(ValueError, match=message):
    off_policy.LOSSES[name](jnp.zeros((2, 1)), jnp.ones(2), **options)


def test_whole_ratios_are_ratios():
  l, a = np.array([0.5, 0.2, 0.9]), np.ones(2)
  whole, real = (
    off_policy.reweighted(l, np.ones(3, kind), coefficients=a)
    for kind in (int, np.float32)
  )
  np.testing.assert_array_equal(whole, real)
  assert np.abs(real).min() > 0.1


@pytest.mark.parametrize(
  ("likelihoods", "ratios", "message"),
  [
    ([0.5, 0.2], [1.0], r"ratios: shape \(1,\), must be that"),
    ([5.0, 0.2], [1.0, 1.0], r"likelihoods\[0\] = 5"),
    ([0.5, 0.2], [1.0, -1.0], r"ratios\[1\] = -1.0: must be at least 0"),
  ],
)
def test_reweighted_refuses_what_it_cannot_use(likelihoods, ratios, message):
  with pytest.raises(ValueError, match=message):
    off_policy.reweighted(likelihoods, ratios, coefficients=np.ones(1))


def test_losses_take_lists_and_lengths_of_every_rollout():
  log_ratios, advantages = [[0.01, 0, 0], [0.1, 0.2, 0.3]], [1.0, -2.0]
  whole = off_policy.geometric(
    log_ratios, advantages, lengths=[1, 3], mask=[True, True]
  )
  np.testing.assert_allclose(whole, 3.1592, rtol=1e-4)
  with pytest.raises(ValueError, match=r"lengths: shape \(2, 1\)"):
    off_policy.geometric(log_ratios, advantages, lengths=[[1], [3]])


def test_a_mask_of_integers_counts_rollouts():
  """A traced mask cannot be checked; 255 is True."""
  log_ratios, advantages = jnp.zeros((3, 1)), jnp.array([1.0, 3, 9])
  loss = jax.jit(
    lambda mask: off_policy.unclipped(log_ratios, advantages, mask=mask)
  )
  np.testing.assert_allclose(loss(jnp.array([255, 255, 0], jnp.uint8)), -2)


def test_wrong_shapes_are_refused():
  with pytest.raises(ValueError, match=r"reference: shape \(2, 1\), must be"):
    off_policy.kl([[0.0, 0], [0, 0]], reference=np.ones((2, 1)))
  with pytest.raises(ValueError, match=r"must be \[N, L\], \[N\] and \[N\]"):
    off_policy.unclipped(jnp.zeros(3), jnp.ones(3))
  with pytest.raises(ValueError, match="baseline = 'loo_mean'"):
    off_policy.reweighted(
      jnp.ones(2), jnp.ones(2), coefficients=jnp.ones(1), baseline="loo_mean"
    )


@pytest.mark.parametrize("log_ratio", [-300.0, -89.0, -88.0, -3.0, 0.0, 5.0])
@pytest.mark.parametrize("log_reference", [0.0, -2.0])
def test_kl_of_rollouts_that_the_policy_no_longer_draws(
  log_ratio, log_reference
):
  """ρ may be 0 in float32: ρ d − ρ + ν/μ, d = log π/ν, and slope ρ d."""
  tokens = jnp.full((1, 512), log_ratio / 512)
  other = jnp.full((1, 512), log_reference / 512)
  value, slope = jax.value_and_grad(
    lambda x: off_policy.kl(x, reference=other)
  )(tokens)
  d, ratio = log_ratio - log_reference, np.exp(log_ratio)
  assert float(value) == pytest.approx(
    ratio * d - ratio + np.exp(log_reference), rel=1e-4, abs=1e-6
  )
  assert float(slope[0, 0]) == pytest.approx(ratio * d, rel=1e-4, abs=1e-30)
