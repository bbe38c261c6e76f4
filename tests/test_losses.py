"""The gradient of the surrogate is the policy-gradient estimate."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from maxrl_jax import estimators, losses, objectives, symmetric
from tests.support import oracles
from tests.support.extent import long


def test_one_update_equals_the_pseudocode(x64):
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(3, 4))
  actions = rng.integers(4, size=(3, 5))
  likelihoods = rng.random((3, 5))
  T, learning_rate = 3, 0.7

  def loss(logits):
    advantages = jax.vmap(
      lambda l: estimators.maxrl(l, order=T, baseline=1 / 5)
    )(likelihoods)
    log_probs = jnp.take_along_axis(jax.nn.log_softmax(logits), actions, -1)
    return jnp.mean(jax.vmap(losses.surrogate)(log_probs, advantages))

  optimizer = optax.sgd(learning_rate)
  updates, _ = optimizer.update(
    jax.jit(jax.grad(loss))(logits), optimizer.init(logits)
  )
  expected = oracles.maxrl_step(logits, actions, likelihoods, T, learning_rate)
  got = optax.apply_updates(logits, updates)
  np.testing.assert_allclose(got, expected, rtol=0, atol=1e-13)
  assert not np.allclose(got, logits, atol=1e-3)


@pytest.mark.parametrize("T", [long(1), 3, long(4)])
def test_gradient_with_a_learned_decoder_is_unbiased(T, x64):
  # Policy and likelihoods share two parameters.
  theta = np.array([0.3, -0.8])
  to_logits = np.array([[1.0, 0.5], [-0.7, 1.2], [0.2, -1.0]])
  to_values = np.array([[-0.4, 1.0], [0.9, 0.3], [-1.5, 0.6]])

  def policy(theta):
    return jax.nn.softmax(jnp.dot(to_logits, theta, precision="highest"))

  def values(theta):
    return jax.nn.sigmoid(jnp.dot(to_values, theta, precision="highest"))

  def loss(theta, group):
    l = values(theta)[group]
    return losses.surrogate(
      jnp.log(policy(theta))[group],
      estimators.maxrl(l, order=T),
      weights=symmetric.loo_weights(l, T),
      likelihoods=l,
    )

  def exact(theta):
    p = jnp.dot(policy(theta), values(theta), precision="highest")
    return objectives.maxrl(T).value(p)

  logits = np.log(policy(theta))
  groups, probability, _ = oracles.outcomes(logits, 4)
  gradients = jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(theta, groups)
  np.testing.assert_allclose(
    -probability @ gradients,
    jax.jit(jax.grad(exact))(theta),
    rtol=0,
    atol=1e-10,
  )


def test_gradients_by_hand():
  log_probs, advantages = jnp.array([-1.0, -2.0]), jnp.array([3.0, -1.0])
  likelihoods, weights = jnp.array([0.5, 0.1]), jnp.array([2.0, 4.0])

  def loss(log_probs, advantages, weights, likelihoods):
    return losses.surrogate(
      log_probs, advantages, weights=weights, likelihoods=likelihoods
    )

  gradients = jax.grad(loss, range(4))(
    log_probs, advantages, weights, likelihoods
  )
  # −A/N, −ω/N, and no gradient through A and ω.
  for got, expected in zip(
    gradients, ([-1.5, 0.5], [0, 0], [0, 0], [-1, -2]), strict=True
  ):
    np.testing.assert_array_equal(got, expected)


def test_lists_are_arrays():
  value = losses.surrogate(
    [-1.0, -2.0, 5.0],
    [3.0, -1.0, 5.0],
    mask=[1, True, False],
    weights=[2.0, 4.0, 5.0],
    likelihoods=[0.5, 0.1, 5.0],
  )
  assert float(value) == pytest.approx(-(-3 + 2 + 1 + 0.4) / 2)


@pytest.mark.parametrize("garbage", [7.0, np.inf, np.nan])
def test_a_masked_rollout_has_no_effect(garbage):
  mask = np.array([True, False, True])

  def loss(log_probs, likelihoods, advantages, weights, mask=None):
    return losses.surrogate(
      log_probs,
      advantages,
      mask=mask,
      weights=weights,
      likelihoods=likelihoods,
    )

  group = np.array([[-1.0, -2.0], [0.5, 0.1], [3.0, -1.0], [2.0, 4.0]])
  # Estimators give a masked rollout advantage and weight 0.
  hidden = [garbage, garbage, *([7.0, 7.0] if garbage == 7 else [0.0, 0.0])]
  both = jax.value_and_grad(loss, (0, 1))
  value, gradients = both(*np.insert(group, 1, hidden, 1), mask=mask)
  expected, smaller = both(*group)
  np.testing.assert_allclose(value, expected, rtol=1e-6)
  for got, small in zip(gradients, smaller, strict=True):
    np.testing.assert_allclose(got, np.insert(small, 1, 0), rtol=1e-6)


def test_fully_masked_group_has_zero_loss():
  x = jnp.ones(2)
  value, gradient = jax.value_and_grad(losses.surrogate)(
    x, x, mask=np.zeros(2, bool)
  )
  assert value == 0
  np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("name", ["weights", "likelihoods"])
def test_half_a_pathwise_term_raises(name):
  x = jnp.ones(2)
  with pytest.raises(ValueError, match="needs both weights and likelihoods"):
    losses.surrogate(x, x, **{name: x})


def test_a_mask_is_true_or_false():
  x = jnp.log(jnp.array([0.5, 0.2, 0.1]))
  for mask in ([2, 2, 0], [0.5, 0.5, 0]):
    with pytest.raises(ValueError, match="must be True or False"):
      losses.surrogate(x, jnp.ones(3), mask=mask)
  loss = jax.jit(lambda mask: losses.surrogate(x, jnp.ones(3), mask=mask))
  traced = loss(jnp.array([255, 255, 0], jnp.uint8))
  np.testing.assert_allclose(traced, -np.log(0.1) / 2, rtol=1e-6)


def test_error_names_mismatched_shapes():
  ones = jnp.ones(3)
  with pytest.raises(ValueError, match=r"'advantages': \(2,\).*must be \[N\]"):
    losses.surrogate(ones, jnp.ones(2))
  with pytest.raises(ValueError, match="vmap over prompts"):
    losses.surrogate(jnp.ones((2, 3)), jnp.ones((2, 3)))
