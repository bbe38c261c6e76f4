"""Learned noise and dimensions: sampled gradients against exact ones."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxrl_jax import estimators, objectives, symmetric
from maxrl_jax.learning import batch_losses, rollouts, training
from maxrl_jax.learning.build_loss import make_loss
from tests.support.extent import long
from tests.support.regression_cases import short_config, small


def _expected_gradient(policy, params, task, prompts, num, loss):
  """E over every outcome of ∇ loss of the first prompt, weighted by chance."""
  x, target = jax.tree.map(lambda a: a[0], prompts)
  places = policy.num_dims * num
  outcomes = np.array(
    list(itertools.product(range(policy.bins), repeat=places))
  )
  outcomes = jnp.asarray(outcomes.reshape(-1, policy.num_dims, num))

  def one(params, actions):
    outputs = policy.apply(params, x[None])
    outputs = jax.tree.map(lambda a: a[0], outputs)
    drawn = rollouts.score(actions, policy, params, outputs, target, task)
    return loss(drawn), jnp.exp(jnp.sum(drawn.log_probs))

  gradient, chance = jax.jit(jax.vmap(jax.grad(one, has_aux=True), (None, 0)))(
    params, outcomes
  )
  assert float(chance.sum()) == pytest.approx(1, abs=1e-9)
  return jax.tree.map(lambda g: jnp.tensordot(chance, g, 1), gradient)


def _assert_opposite(gradient, exact):
  for ours, theirs in zip(
    jax.tree.leaves(gradient), jax.tree.leaves(exact), strict=True
  ):
    np.testing.assert_allclose(-ours, theirs, rtol=0, atol=1e-10)
  assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(exact)) > 1e-3


def _group_loss(estimator, signal, pathwise, drawn):
  advantages = estimator(getattr(drawn, signal))
  return batch_losses.group_loss(pathwise, {}, drawn, advantages)


def _exact(policy, task, prompts, value, factorized=False):
  def objective(params):
    one = jax.tree.map(lambda a: a[:1], prompts)
    log_p = rollouts.log_pass_rates(policy, params, one, task)[0]
    log_p = log_p if factorized else jnp.sum(log_p)
    return jnp.sum(value(jnp.exp(log_p)))

  return objective


@pytest.mark.parametrize("learned", ["input", "global", None])
@pytest.mark.parametrize("order", [long(1), 2, long(4)])
def test_learned_noise_follows_the_exact_gradient(learned, order, x64):
  """E over all outcomes = ∇ J_T(E[l]), the decoder's parameters included."""
  policy, params, task, prompts = small(learned)

  def loss(drawn):
    return _group_loss(
      functools.partial(estimators.maxrl, order=order),
      "likelihoods",
      ("likelihoods", functools.partial(symmetric.loo_weights, order=order)),
      rollouts.joint(drawn),
    )

  gradient = _expected_gradient(policy, params, task, prompts, 4, loss)
  objective = _exact(policy, task, prompts, objectives.maxrl(order).value)
  _assert_opposite(gradient, jax.jit(jax.grad(objective))(params))
  if learned == "global":
    assert np.abs(gradient["params"]["noise_scale"]).max() > 1e-3


@pytest.mark.parametrize("factorized", [False, True])
@pytest.mark.parametrize("order", [1, 3])
def test_dimensions_together_or_each_alone(factorized, order, x64):
  """Joint: J_T of the product. Factorized: the sum of each one's J_T."""
  policy, params, task, prompts = small(None, num_dims=2, bins=2)
  group = functools.partial(
    _group_loss,
    functools.partial(estimators.maxrl, order=order),
    "likelihoods",
    None,
  )

  def loss(drawn):
    if factorized:
      return jnp.sum(jax.vmap(group)(drawn))
    return group(rollouts.joint(drawn))

  gradient = _expected_gradient(policy, params, task, prompts, 3, loss)
  value = objectives.maxrl(order).value
  objective = _exact(policy, task, prompts, value, factorized)
  _assert_opposite(gradient, jax.jit(jax.grad(objective))(params))


def test_learned_noise_under_vimco_follows_its_bound(x64):
  """Pathwise and score terms together: ∇ E[log mean l], enumerated."""
  policy, params, task, prompts = small("input")
  group = functools.partial(
    _group_loss,
    estimators.log_vimco,
    "log_likelihoods",
    ("log_likelihoods", estimators.ESTIMATORS["vimco"].log_pathwise),
  )

  def loss(drawn):
    return group(rollouts.joint(drawn))

  gradient = _expected_gradient(policy, params, task, prompts, 3, loss)
  x, target = jax.tree.map(lambda a: a[0], prompts)
  outcomes = jnp.asarray(list(itertools.product(range(3), repeat=3)))

  def bound(params):
    outputs = jax.tree.map(lambda a: a[0], policy.apply(params, x[None]))

    def one(actions):
      drawn = rollouts.score(
        actions[None], policy, params, outputs, target, task
      )
      log_mean = jnp.log(jnp.mean(drawn.likelihoods))
      return jnp.exp(jnp.sum(drawn.log_probs)) * log_mean

    return jnp.sum(jax.vmap(one)(outcomes))

  _assert_opposite(gradient, jax.jit(jax.grad(bound))(params))


@pytest.mark.parametrize("name", ["maxrl_paper", "self_normalized", "vimco"])
def test_learned_noise_feels_prompts_whose_likelihood_underflows(name):
  """∂/∂log σ of the importance-weighted −log mean l, by hand: 1 − r²/σ²."""
  squares = 9.0 + np.array([0.0, 0.1, 0.4], np.float32)

  def log_l(log_s):
    return -log_s - squares / (2 * jnp.exp(2 * log_s))

  weigh = estimators.ESTIMATORS[name].log_pathwise

  def loss(log_s):
    l = log_l(log_s)
    return -jnp.mean(jax.lax.stop_gradient(weigh(l)) * l)

  for sigma in (0.3, 0.1, 0.05):
    share = np.float64(jax.nn.softmax(log_l(np.log(sigma))))
    expected = 1 - share @ np.float64(squares) / sigma**2
    actual = jax.grad(loss)(jnp.float32(np.log(sigma)))
    assert float(actual) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
  ("sampled", "exact"),
  [
    long({"estimator.order": 2}, {"estimator.name": "exact_maxrl"}),
    long(
      {"estimator.order": 2, "estimator.factorized": True},
      {"estimator.name": "exact_maxrl", "estimator.factorized": True},
    ),
    long(
      {"estimator.order": 2} | (noise := {"likelihood.learned": "input"}),
      {"estimator.name": "exact_maxrl"} | noise,
    ),
    long(
      {"estimator.order": 2, "estimator.factorized": True} | noise,
      {"estimator.name": "exact_maxrl", "estimator.factorized": True} | noise,
    ),
    long(
      {"estimator.name": "rloo"} | noise,
      {"estimator.name": "exact_rl"} | noise,
    ),
    (
      {"estimator.name": "reinforce"} | noise,
      {"estimator.name": "exact_rl"} | noise,
    ),
  ],
  ids=str,
)
def test_what_a_config_trains_is_what_it_says(sampled, exact):
  """make_loss of both configs: mean sampled gradient against the exact one."""
  own = {"policy.name": "grid", "policy.bins": 5, "rollouts": 6}
  own |= {"task.num_dims": 2, "likelihood.scale": 1.0, "policy.hidden": ()}
  if "likelihood.learned" in sampled:
    own["likelihood.smallest_scale"] = 0.5
  order = {"estimator.order": 2} if "maxrl" in exact["estimator.name"] else {}
  trainer = [
    training.make_train(short_config(**own | fields))
    for fields in (sampled, exact | order)
  ]
  losses_ = [
    make_loss(short_config(**own | fields), m.task, m.policy)
    for m, fields in zip(trainer, (sampled, exact | order), strict=True)
  ]
  params = jax.jit(trainer[0].init)(jax.random.key(0)).params
  prompts = trainer[0].task.draw(jax.random.key(1), 3)

  def gradient(loss, key):
    actual = jax.grad(lambda p: loss(p, key, prompts)[0])(params)
    return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(actual)])

  keys = jax.random.split(jax.random.key(2), 20_000)
  draws = jax.jit(
    lambda keys: jax.lax.map(
      lambda key: gradient(losses_[0], key), keys, batch_size=1000
    )
  )(keys)
  truth = jax.jit(lambda key: gradient(losses_[1], key))(keys[0])
  error = draws.std(0) / len(keys) ** 0.5
  assert float(jnp.linalg.norm(error)) < 0.05 * float(jnp.linalg.norm(truth))
  assert float(jnp.max(jnp.abs(draws.mean(0) - truth) / (error + 1e-7))) < 5
