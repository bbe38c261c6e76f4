"""Several updates a batch and stale rollouts: steps, resuming, and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import maze
from maxrl_jax import config as configuration
from maxrl_jax import off_policy
from maxrl_jax.learning import rollouts, training, update
from maxrl_jax.runs import programs, study
from tests.support import keys as run_keys
from tests.support import oracles
from tests.support.configs import make_config, short_bandit
from tests.support.extent import long


def _off(name="unclipped", updates=1, staleness=0, **more):
  fields = {"name": name, "updates": updates, "staleness": staleness, **more}
  return {f"off_policy.{field}": value for field, value in fields.items()}


def _advance(config, steps=None):
  """The compiled text of a chunk."""
  trainer = training.make_train(config)
  start_keys, keys = trainer.keys(np.zeros(1, np.uint32))
  states = jax.eval_shape(lambda k: trainer.start(k, {}), start_keys)
  return trainer.advance.lower(states, keys).as_text()


def test_one_update_on_fresh_rollouts_is_the_same_program():
  usual = _advance(short_bandit())
  assert usual == _advance(short_bandit(**_off("clipped")))
  assert usual != _advance(short_bandit(**_off("clipped", updates=2)))
  assert usual != _advance(short_bandit(**_off("clipped", staleness=1)))


def _group_gradient(logits, old, start, actions, l, order, kl, reference_kl):
  """−∇ of `unclipped` and both KLs, one prompt, by loops."""
  new, before, first = map(oracles.softmax, (logits, old, start))
  total = np.zeros_like(logits)
  advantages = oracles.maxrl_advantages(l, order)
  for z, advantage in zip(actions, advantages, strict=True):
    ratio = new[z] / before[z]
    pull = ratio * advantage - kl * ratio * np.log(ratio)
    pull -= reference_kl * ratio * np.log(new[z] / first[z])
    total += pull * (np.eye(len(logits))[z] - new) / len(actions)
  return total


@pytest.mark.parametrize(
  ("updates", "staleness"), [(1, 0), (3, 0), (1, 2), (2, 1)]
)
def test_steps_are_the_pseudocode(updates, staleness):
  """Four batches; rollouts of the parameters before the last S of them."""
  order, kl, reference_kl, rate = 3, 0.5, 2.0, 0.3
  config = short_bandit(
    **{"estimator.order": order, "estimator.baseline": 1 / 6},
    **{"optimizer.momentum": 0.0, "optimizer.schedule": "constant"},
    **{"optimizer.learning_rate": rate},
    **{"estimator.reference_kl": reference_kl},
    **_off("unclipped", updates, staleness, kl=kl),
  )
  trainer = training.make_train(config)
  key = run_keys.of_steps(trainer)
  *_, (_, states, metrics) = training.chunks(trainer, config)
  first = trainer.keys(np.zeros(1, np.uint32))[0][0]
  state = trainer.init(first)
  table = np.float64(state.params["params"]["logits"])
  tables = [table] * (staleness + 1)  # Before each batch, the oldest first.
  for step in range(4):
    old, table = tables[-1 - staleness], tables[-1].copy()
    draw_key, rollout_key = jax.random.split(jax.random.fold_in(key, step))
    prompts = trainer.task.draw(draw_key, 5)
    keys = jax.random.split(rollout_key, 5)
    rollouts = [
      np.asarray(
        trainer.policy.apply(
          state.params,
          keys[b],
          jnp.asarray(old[x], jnp.float32),
          6,
          method="sample",
        )
      )
      for b, x in enumerate(np.asarray(prompts.inputs))
    ]
    for _ in range(updates):
      gradient = np.zeros_like(table)
      for b, x in enumerate(np.asarray(prompts.inputs)):
        l = np.float64(np.asarray(prompts.targets)[b][rollouts[b]])
        logits = table[x], old[x], tables[0][x]
        gradient[x] += (
          _group_gradient(*logits, rollouts[b], l, order, kl, reference_kl) / 5
        )
      table = table + rate * gradient
    tables.append(table)
  np.testing.assert_allclose(
    states.params["params"]["logits"][0], table, rtol=1e-4, atol=1e-5
  )
  past = states.past or ()
  assert len(past) == staleness
  for got, wanted in zip(past, tables[-1 - staleness : -1], strict=True):
    np.testing.assert_allclose(
      got["params"]["logits"][0], wanted, rtol=1e-4, atol=1e-5
    )
  np.testing.assert_array_equal(
    states.reference["params"]["logits"][0], tables[0]
  )
  kls = {"reference_kl", "kl"} if updates + staleness > 1 else {"reference_kl"}
  assert kls == {name for name in metrics if "kl" in name}
  for name in kls:
    assert (metrics[name] >= 0).all()
    assert metrics[name].max() > 1e-5


def _maze():
  config = maze.get_config()
  config.update_from_flattened_dict(
    {"task.eval_size": 2, "task.size": 7, "task.random_ends": True}
    | {"task.max_length": 8, "task.train_size": 8}
    | {"policy.num_layers": 1}
    | {"batch_size": 2, "rollouts": 4, "steps": 2}
    | {"log_every": 1, "eval_every": 1, "policy.hidden_size": 16}
    | {"policy.intermediate_size": 16, "policy.num_heads": 2}
    | {"policy.num_kv_heads": 1, "optimizer.learning_rate": 0.1}
    | {"estimator.baseline": 1.0}  # Nothing succeeds yet.
  )
  return config


def _regression(factorized):
  return make_config(
    {"task.name": "bimodal", "policy.hidden": (4,), "rollouts": 4}
    | {"batch_size": 3, "steps": 2, "log_every": 1, "eval_every": 1}
    | {"likelihood.scale": 0.4}
    | {"estimator.factorized": factorized}
  )


CASES = {
  "binary": lambda: short_bandit(),
  "graded": lambda: short_bandit(**{"task.continuous": True}),
  "regression": lambda: _regression(None),
  "factorized": lambda: _regression(True),
  "maze": _maze,
}
EACH = ["binary", "graded", *map(long, ("regression", "factorized", "maze"))]


@pytest.mark.parametrize("name", EACH)
def test_the_first_step_is_that_on_policy(name):
  """All parameters are those that drew the rollouts: every ratio is 1."""

  def first(fields):
    config = CASES[name]()
    config.update_from_flattened_dict(fields)
    trainer = training.make_train(config)
    state = jax.jit(trainer.init)(jax.random.key(0))
    after, metrics = jax.jit(trainer.step)(state, jax.random.key(1))
    return jax.tree.map(np.subtract, after.params, state.params), metrics

  wanted, metrics = first({})
  assert float(metrics["gradient_norm"]) > 1e-3
  losses = {
    "binary": (*off_policy.LOSSES, "reweighted"),
    "maze": (*off_policy.LOSSES,),
  }.get(name, ("clipped", "reweighted"))
  for loss in losses:
    actual, own = first(_off(loss, staleness=1))
    assert float(own["ratio_max"]) == pytest.approx(1, abs=1e-4)
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
      actual,
      wanted,
    )


@pytest.mark.long
def test_token_log_probs_add_up():
  trainer = training.make_train(_maze())
  prompts = trainer.task.splits["validation"]
  params = trainer.policy.init(jax.random.key(0), prompts.inputs)
  outputs = trainer.policy.apply(params, prompts.inputs)
  answers = jax.random.randint(jax.random.key(1), (2, 3, 8), 0, 8)
  scores = trainer.policy.apply(params, outputs, answers, method="score")
  tokens = np.asarray(scores.token_log_probs)
  np.testing.assert_allclose(tokens.sum(-1), scores.log_probs, rtol=1e-5)
  np.testing.assert_array_equal((tokens != 0).sum(-1), scores.lengths)


@pytest.mark.parametrize("staleness", [0, 3])
def test_a_run_goes_on_to_the_same_bits(staleness):
  config = short_bandit(
    **{"runs": 2, "steps": 8, "on_nonfinite": "skip"},
    **{"estimator.reference_kl": 0.1},
    **_off("clipped", 2, staleness),
  )
  trainer = training.make_train(config)
  whole = [
    (step, jax.tree.map(np.array, states))
    for step, states, _ in training.chunks(trainer, config)
  ]
  _, middle = whole[1]
  *_, (_, rest, _) = training.chunks(trainer, config, states=middle)
  jax.tree.map(np.testing.assert_array_equal, rest, whole[-1][1])


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("staleness", [long(0), 1])
def test_the_kl_to_the_start_of_any_policy(name, staleness):
  """Its value, by loops over prompts and rollouts, at other parameters."""
  config = CASES[name]()
  config.estimator.reference_kl = 1.0
  config.update_from_flattened_dict(_off("unclipped", 1, staleness))
  run = update.make_run(config, None, (), None)
  first = jax.jit(run.policy.init)(jax.random.key(0), run.task.example)
  other = jax.tree.map(
    lambda x: x + 0.1 * np.sin(np.arange(x.size)).reshape(x.shape), first
  )
  prompts, key = run.task.draw(jax.random.key(2), 3), jax.random.key(3)
  if run.off_policy is None:
    _, metrics = run.loss(other, key, prompts, {}, first)
    num = config.rollouts
    batch = rollouts.sample_batch(
      key, run.policy, other, prompts, run.task, num
    )
  else:
    batch, _ = run.off_policy.sample(other, key, prompts, {}, first)
    _, metrics = run.off_policy.loss(other, prompts, batch, {})
  log_probs = []
  for params in (other, first):
    outputs, _ = rollouts.forward(run.policy, params, prompts.inputs)
    tokens = rollouts.token_log_probs(
      run.policy, params, outputs, batch.actions
    )
    log_probs.append(np.float64(tokens).sum(-1))
  if name == "regression":  # A rollout of all dimensions.
    log_probs = [x.sum(1) for x in log_probs]
  total, size = 0.0, log_probs[0].shape[-1]
  for new, old in zip(*map(np.ravel, log_probs), strict=True):
    total += (new - old - 1 + np.exp(old - new)) / (3 * size)
  assert total > 1e-3
  np.testing.assert_allclose(metrics["reference_kl"], total, rtol=1e-3)


def test_the_schedule_counts_updates():
  """Two per batch: four batches and a warm-up of one."""
  config = short_bandit(**_off(updates=2), **{"optimizer.warmup": 1})
  config.optimizer.momentum, config.optimizer.schedule = 0.0, "cosine"
  optimizer = configuration.make_optimizer(config)
  state, scales = optimizer.init(jnp.ones(())), []
  for _ in range(8):
    scale, state = optimizer.update(jnp.ones(()), state)
    scales.append(float(scale))
  cosine = [0.5 * (1 + np.cos(np.pi * i / 6)) for i in range(6)]
  np.testing.assert_allclose(scales, [0.5, 1, *cosine], atol=1e-6)


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    (_off(None, 2), "off_policy.name is not set: off_policy.updates = 2 needs"),
    (_off(None, 1, 1), "name is not set: off_policy.staleness = 1 needs"),
    (_off(None, cap=3.0), "name is not set: off_policy.cap = 3.0 needs"),
    (_off("cliped"), "off_policy.name = 'cliped': did you mean 'clipped'"),
    (_off("unclipped", 2, cap=3.0), "off_policy.cap = 3.0: 'unclipped' takes"),
    (_off("truncated", 2, cap=0.5), "off_policy.cap = 0.5: must be at least 1"),
    (_off("clipped", 2, epsilon=1.5), "off_policy.epsilon = 1.5: must be betw"),
    (_off("clipped", 0), "off_policy.updates = 0: must be at least 1"),
    (_off("clipped", 1, -1), "off_policy.staleness = -1: must be at least 0"),
    (_off("clipped", 2, kl=-1.0), "off_policy.kl = -1.0: must be at least 0"),
    (
      {"estimator.reference_kl": -0.1},
      "estimator.reference_kl = -0.1: must be at least 0",
    ),
    (
      {"estimator.reference_kl": 0.1, "estimator.name": "cross_entropy"},
      "estimator.reference_kl = 0.1: 'cross_entropy' takes",
    ),
    (
      {"estimator.reference_kl": 0.1, "estimator.name": "sequential"}
      | {"estimator.cap": 12},
      "estimator.reference_kl = 0.1: 'sequential' takes",
    ),
    (
      _off("clipped", 2) | {"estimator.name": "cross_entropy"},
      "off_policy.updates = 2: 'cross_entropy' has no group of rollouts",
    ),
    (
      _off("clipped", 1, 2)
      | {"estimator.name": "sequential", "estimator.cap": 12},
      "off_policy.staleness = 2: 'sequential' has no group of rollouts",
    ),
    (
      _off("reweighted", 2) | {"estimator.name": "grpo"},
      "off_policy.name = 'reweighted': only the weights of .'maxrl', 'pass_at",
    ),
    (
      _off("reweighted", 2) | {"estimator.baseline": "loo_mean"},
      "^estimator.baseline = 'loo_mean': choose from",
    ),
  ],
)
def test_what_does_not_go_together_is_refused(fields, message):
  config = short_bandit(**{"estimator.baseline": None})
  config.update_from_flattened_dict(fields)
  with pytest.raises(ValueError, match=message):
    training.make_train(config)


def test_a_learned_noise_scale_is_refused():
  config = _regression(None)
  config.update_from_flattened_dict(
    {"likelihood.learned": "input", **_off(updates=2)}
  )
  with pytest.raises(ValueError, match=r"likelihood.learned = 'input': needs"):
    training.make_train(config)


def test_every_point_of_a_study_is_checked_before_any_is_trained(tmp_path):
  config = short_bandit(**_off("reweighted", 2))
  what = study.study(config, {"estimator.name": ("maxrl", "grpo")})
  with pytest.raises(ValueError, match=r"estimator.name=grpo: off_policy.name"):
    what.plan()
  swept = study.study(short_bandit(), {"off_policy.name": ("clipped", "a")})
  with pytest.raises(ValueError, match=r"off_policy.name = 'a': choose from"):
    swept.plan()


@pytest.mark.long
def test_a_study_of_reweighted_k_is_each_run_alone(tmp_path):
  config = short_bandit(**_off("reweighted", 2))
  names = ("estimator.name", "estimator.order", "estimator.k")
  rows = [("pass_at_k", None, 1), ("pass_at_k", None, 3), ("maxrl", 2, None)]
  what = study.study(config, {names: rows}, (0,))
  together = study.run(what, tmp_path / "together")
  for i, row in enumerate(rows):
    alone = configuration.overlay(config, dict(zip(names, row, strict=True)))
    one = study.run(study.study(alone, None, (0,)), tmp_path / "alone")
    np.testing.assert_allclose(
      together["train_loss"][i], one["train_loss"][0], rtol=1e-4, atol=1e-6
    )


def test_an_unset_block_leaves_cached_runs_as_they_are():
  config = short_bandit()
  fields = config.to_dict()
  del fields["off_policy"]
  assert programs.digest(config) == programs.digest(ConfigDict(fields))
  other = short_bandit(**_off("clipped", 2))
  assert programs.digest(config) != programs.digest(other)
