"""Sampled gradients of a transformer that writes numbers are the exact ones."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxrl_jax import estimators, evaluation, objectives
from maxrl_jax.config import default
from maxrl_jax.learning import batch_losses, rollouts, training
from maxrl_jax.learning.build_loss import make_loss
from tests.support.extent import long

_SMALL = {
  "task.context": 2,
  "task.base": 2,
  "task.num_values": 4,
  "task.eval_size": 8,
  "likelihood.scale": 2.5,
  "policy.num_layers": 1,
  "policy.hidden_size": 8,
  "policy.intermediate_size": 8,
  "policy.num_heads": 2,
  "policy.num_kv_heads": 1,
  "optimizer.learning_rate": 0.01,
  "batch_size": 3,
  "rollouts": 4,
  "steps": 4,
  "log_every": 2,
  "eval_every": 2,
}


def _config(**fields):
  config = default(task="noisy_regression")
  config.update_from_flattened_dict(_SMALL | fields)
  return config


@functools.cache
def _trainer(**fields):
  """A trainer, parameters away from the start, one prompt."""
  trainer = training.make_train(_config(**fields))
  prompts = jax.tree.map(lambda x: x[:1], trainer.task.splits["train"])
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(
    trainer.policy.init, jax.random.key(0), prompts.inputs
  )
  params = jax.tree.map(
    lambda s: np.float32(0.5 * rng.normal(size=s.shape)), shapes
  )
  return trainer, params, prompts


@pytest.mark.parametrize("order", [long(1), 2, long(3)])
def test_sampled_maxrl_follows_the_exact_gradient_of_its_order(order):
  """E over all 4⁴ outcomes of four rollouts = ∇ J_T(E[l])."""
  trainer, params, prompts = _trainer()
  policy, task = trainer.policy, trainer.task
  estimator = functools.partial(estimators.maxrl, order=order)
  outcomes = jnp.array(list(itertools.product(range(4), repeat=4)))
  target = jax.tree.map(lambda x: x[0], prompts.targets)

  def loss(params, actions):
    outputs = policy.apply(params, prompts.inputs)
    outputs = jax.tree.map(lambda x: x[0], outputs)
    drawn = rollouts.joint(
      rollouts.score(actions[None], policy, params, outputs, target, task)
    )
    advantages = estimator(drawn.likelihoods)
    group = batch_losses.group_loss(None, {}, drawn, advantages)
    return group, jnp.exp(jnp.sum(drawn.log_probs))

  gradients, chances = jax.jit(
    jax.vmap(jax.grad(loss, has_aux=True), (None, 0))
  )(params, outcomes)
  assert float(chances.sum()) == pytest.approx(1, abs=1e-5)
  mean = jax.tree.map(lambda g: -jnp.tensordot(chances, g, 1), gradients)

  def objective(params):
    log_p = rollouts.log_pass_rates(policy, params, prompts, task)
    return objectives.maxrl(order).value(jnp.exp(log_p[0, 0]))

  exact = jax.jit(jax.grad(objective))(params)
  largest = max(np.abs(x).max() for x in jax.tree.leaves(exact))
  assert largest > 1e-3
  for a, b in zip(jax.tree.leaves(mean), jax.tree.leaves(exact), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5 * largest)


def test_the_pass_rate_is_a_sum_over_all_numbers():
  trainer, params, prompts = _trainer()
  policy, task = trainer.policy, trainer.task
  log_p = jax.jit(
    lambda params: rollouts.log_pass_rates(policy, params, prompts, task)
  )(params)
  head = np.float64(jax.jit(policy.apply)(params, prompts.inputs).head[0, 0])
  centres = np.array([-3.0, -1.0, 1.0, 3.0])
  y = float(prompts.targets.y[0, 0])
  assert y in centres
  l = np.exp(-(((y - centres) / 2.5) ** 2) / 2)
  assert np.exp(float(log_p[0, 0])) == pytest.approx(np.exp(head) @ l, rel=1e-5)


_WAYS = [
  {"estimator.name": "cross_entropy", "likelihood.name": "exact_match"}
  | {"likelihood.scale": None},
  {"estimator.name": "maxrl", "likelihood.learned": "input"}
  | {"likelihood.smallest_scale": 2.1},
]
_MORE_WAYS = [
  {"estimator.name": "cross_entropy"},
  {"estimator.name": "mse"},
  {"estimator.name": "exact_maxrl", "estimator.order": 2},
  {"estimator.name": "rloo", "estimator.signal": "reward"},
  {"estimator.name": "self_normalized", "likelihood.name": "laplace"},
  {"estimator.name": "vimco", "likelihood.name": "student_t"},
  {"estimator.name": "tail_rl"},
  {"estimator.name": "grpo", "task.show_noise": True}
  | {"task.max_noise": 3.0, "task.noise": 2.2, "likelihood.per_prompt": True}
  | {"task.limit": 8.0, "task.num_values": 16}
  | {"likelihood.smallest_scale": 2.2},
]


@pytest.mark.parametrize(
  "way",
  [*_WAYS, *map(long, _MORE_WAYS)],
)
def test_it_trains_by(way):
  config = _config(**{"task.limit": 4.0} | way)
  trainer = training.make_train(config)
  *_, (step, states, metrics) = training.chunks(trainer, config)
  assert step == 4 and (metrics["gradient_norm"] > 0).all()
  actual = evaluation.make_evaluate(trainer, (1,))("test", states)
  assert all(np.isfinite(value).all() for value in actual.values())


def test_evaluation_has_the_likelihood_of_the_digits():
  trainer, params, _ = _trainer()
  states = trainer.start(trainer.keys(np.zeros(1, np.uint32))[0], {})
  states = states.replace(params=jax.tree.map(lambda x: x[None], params))
  actual = evaluation.make_evaluate(trainer, (1,))("test", states)
  prompts = trainer.task.splits["test"]
  apply = jax.jit(trainer.policy.apply)
  head = np.float64(apply(params, prompts.inputs).head[:, 0])
  index = np.round((np.asarray(prompts.targets.y)[:, 0] + 3) / 2).astype(int)
  nll = -np.mean(head[np.arange(len(head)), index])
  assert float(actual["digit_nll"][0]) == pytest.approx(nll, rel=1e-5)
  # Bins of width 2: the reference's density is their probability halved.
  best = -np.mean(np.asarray(prompts.targets.log_reference)) - np.log(2)
  excess = float(actual["excess_digit_nll"][0])
  assert excess == pytest.approx(nll - best, rel=1e-4)


@pytest.mark.long
def test_exact_and_sampled_losses_have_one_gradient_in_the_mean():
  """4000 batches of the whole loss, five standard errors at most."""
  trainer, params, _ = _trainer(**{"estimator.order": 3})
  prompts = jax.tree.map(lambda x: x[:3], trainer.task.splits["train"])
  sampled = make_loss(
    _config(**{"estimator.order": 3}), trainer.task, trainer.policy
  )
  exact = make_loss(
    _config(**{"estimator.name": "exact_maxrl", "estimator.order": 3}),
    trainer.task,
    trainer.policy,
  )

  def gradient(loss, key):
    tree = jax.grad(lambda p: loss(p, key, prompts)[0])(params)
    return tree["params"]["transformer"]["norm"]["scale"]

  keys = jax.random.split(jax.random.key(5), 4000)
  drawn = np.float64(jax.jit(jax.vmap(lambda k: gradient(sampled, k)))(keys))
  error = drawn.std(0) / len(drawn) ** 0.5
  expected = np.asarray(gradient(exact, keys[0]))
  assert error.max() < 0.05 * np.abs(expected).max()
  assert (np.abs(drawn.mean(0) - expected) < 5 * error).all()
