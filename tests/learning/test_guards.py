"""Numbers that cannot be: named, skipped and counted."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import digits
from maxrl_jax.learning import guards, training
from maxrl_jax.runs import checkpoints, train_to_folder
from maxrl_jax.tasks import TASKS
from tests.support import keys
from tests.support.extent import long
from tests.support.resumable_cases import small


def _leaky(bad: float, at: int):
  """A bandit whose likelihoods are `bad` for one prompt of the 8."""
  task = TASKS["bandit"](num_prompts=8, num_arms=4, continuous=True)

  def likelihoods(target, actions):
    l = task.likelihoods(target[1], actions)
    return jnp.where(target[0] == at, bad, l)

  def marked(prompts):
    return prompts._replace(targets=(prompts.inputs, prompts.targets))

  return task.__class__(
    draw=lambda key, batch: marked(task.draw(key, batch)),
    splits={name: marked(p) for name, p in task.splits.items()},
    log_pass_rate=lambda target, policy: task.log_pass_rate(target[1], policy),
    likelihoods=likelihoods,
    policies=task.policies,
    policy_options=task.policy_options,
  )


def _own(task, config):
  """(made, states, metrics of all steps) of one run on a task of one's own."""
  trainer = training.make_train(config, task=task)
  rows = []
  for _, states, metrics in training.chunks(trainer, config):  # noqa: B007
    rows.append(metrics)
  actual = {k: np.concatenate([r[k][:, 0] for r in rows]) for k in rows[0]}
  return trainer, states, actual


def _leaky_config(**changes):
  config = small(**{"batch_size": 2, "rollouts": 4})
  config.update_from_flattened_dict(changes)
  return config


@pytest.mark.parametrize("bad", [np.nan, long(np.inf), long(1.5), long(-0.5)])
def test_impossible_likelihoods_are_skipped_and_counted(bad):
  config = _leaky_config(on_nonfinite="skip")
  trainer, states, metrics = _own(_leaky(bad, at=3), config)
  key = keys.of_steps(trainer)
  drawn = [
    trainer.task.draw(jax.random.split(jax.random.fold_in(key, step))[0], 2)
    for step in range(60)
  ]
  skipped = [bool((prompts.inputs == 3).any()) for prompts in drawn]
  assert 0 < sum(skipped) < 60
  np.testing.assert_array_equal(metrics["skipped"], skipped)
  assert int(states.step[0]) == 60
  for leaf in jax.tree.leaves((states.params, states.opt_state)):
    assert np.isfinite(leaf).all()
  # Adam's own count tells how many updates were made.
  assert int(states.opt_state[0].count[0]) == 60 - sum(skipped)
  with pytest.raises(FloatingPointError, match=r"likelihood_.*\[0, 1\]"):
    _own(_leaky(bad, at=3), _leaky_config())


def _first_with(trainer, at: int) -> tuple[int, int]:
  """Step, counted from 1, and place in its batch of a prompt's first draw."""
  key = keys.of_steps(trainer)
  for step in range(60):
    draw_key = jax.random.split(jax.random.fold_in(key, step))[0]
    places = np.flatnonzero(trainer.task.draw(draw_key, 2).inputs == at)
    if places.size:
      return step + 1, places[0]
  raise AssertionError("never drawn")


@pytest.mark.parametrize(
  ("bad", "quantity"),
  [
    (np.nan, "likelihood_m"),
    (np.inf, "likelihood_max = inf"),
    (1.5, r"likelihood_max = 1\.5"),
    (-0.5, r"likelihood_min = -0\.5"),
  ],
)
def test_the_prompt_of_an_impossible_likelihood_is_named(bad, quantity):
  task, config = _leaky(bad, at=5), _leaky_config()
  step, place = _first_with(training.make_train(config, task=task), at=5)
  message = rf"step {step}, run 0: {quantity}.* \(prompt {place} of the batch\)"
  with pytest.raises(FloatingPointError, match=message):
    _own(task, config)


def _breaking(harm, at: int):
  """A bandit with `harm` added to the log pass rate of one prompt of the 8."""
  task = _leaky(0.0, at)

  def log_pass_rate(target, policy):
    log_p = task.log_pass_rate(target, policy)
    return log_p + jnp.where(target[0] == at, harm(log_p), 0.0)

  return dataclasses.replace(task, log_pass_rate=log_pass_rate)


def test_the_prompt_of_an_infinite_loss_is_named():
  config = _leaky_config(**{"estimator.name": "cross_entropy"})
  task = _breaking(lambda log_p: -jnp.inf, at=5)
  step, place = _first_with(training.make_train(config, task=task), at=5)
  message = rf"step {step}, run 0: loss = inf.*\(prompt {place} of the batch\)"
  with pytest.raises(FloatingPointError, match=message):
    _own(task, config)


def test_a_gradient_alone_that_is_no_number_is_named():
  """√(0·x) has the value 0 and no derivative."""
  config = _leaky_config(**{"estimator.name": "cross_entropy"})
  task = _breaking(lambda log_p: jnp.sqrt(0.0 * log_p), at=5)
  message = r"gradient_norm = nan, .*the loss of every prompt is finite\)"
  with pytest.raises(FloatingPointError, match=message):
    _own(task, config)


def test_what_is_skipped_has_not_diverged():
  metrics = {"loss": np.array([[np.nan, 1.0], [np.inf, np.nan], [2.0, 3.0]])}
  np.testing.assert_array_equal(guards.diverged(metrics), [True, True])
  metrics["skipped"] = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
  np.testing.assert_array_equal(guards.diverged(metrics), [False, True])


def test_where_nothing_is_wrong_nothing_is_skipped():
  plain = _own(None, small())
  guarded = _own(None, small(on_nonfinite="skip"))
  assert not guarded[2]["skipped"].any()
  jax.tree.map(
    np.testing.assert_array_equal, plain[1].params, guarded[1].params
  )


def test_a_stop_names_the_last_good_checkpoint(monkeypatch, tmp_path):
  config = digits.get_config()
  config.steps, config.log_every, config.eval_every = 40, 10, 10
  config.batch_size, config.rollouts, config.policy.hidden = 4, 4, (4,)
  config.optimizer.warmup, config.estimator.name = 0, "cross_entropy"
  trainer = training.make_train(config)
  advance, calls = trainer.advance, []

  def broken(states, keys):
    calls.append(1)
    if len(calls) == 3:
      states = states.replace(
        params=jax.tree.map(lambda x: x * jnp.nan, states.params)
      )
    return advance(states, keys)

  monkeypatch.setattr(
    training,
    "make_train",
    lambda *_, **__: trainer._replace(advance=broken),
  )
  folder = tmp_path / "checkpoints"
  message = f"step 21, run 0: .*; last good checkpoint: step 20 in {folder}"
  with pytest.raises(FloatingPointError, match=message):
    train_to_folder.train(config, tmp_path)
  states = training.make_train(config).start
  assert checkpoints.restore(folder, _like(states))[0].step == 20


def _like(start):
  keys = jax.vmap(jax.random.key)(jnp.zeros(1, jnp.uint32))
  return jax.eval_shape(start, keys, {})


def test_spikes_are_skipped_by_hand():
  """Norms 2, …, 2, then 2.1, 9, 2 against twice the running mean."""
  norms = [2.0] * 25 + [2.1, 9.0, 2.0]
  state = training.TrainState(
    jnp.int32(0), jnp.float32(0), (), {}, jnp.float32(0)
  )
  skipped = []
  for norm in norms:
    after = state.replace(step=state.step + 1, params=state.params + 1)
    state, metrics = guards.guarded(
      state,
      after,
      {"gradient_norm": jnp.float32(norm)},
      skip_nonfinite=False,
      spike_factor=2.0,
    )
    skipped.append(float(metrics["skipped"]))
  assert skipped == [0.0] * 26 + [1.0, 0.0]
  assert (float(state.params), int(state.step)) == (27, 28)
  # Two norms have moved the mean of 2, and the spike has not.
  mean = 0.99 * (0.99 * 2 + 0.01 * 2.1) + 0.01 * 2
  np.testing.assert_allclose(state.typical_norm, mean, rtol=1e-6)


@pytest.mark.parametrize("every", [1, 20])
def test_batches_without_a_gradient_make_no_spike_of_the_others(every):
  """25 norms of 0, then one of 1 in every 1 or 20 steps."""
  norms = jnp.zeros(425).at[25::every].set(1.0)
  state = training.TrainState(
    jnp.int32(0), jnp.float32(0), (), {}, jnp.float32(0)
  )

  def step(state, norm):
    after = state.replace(step=state.step + 1, params=state.params + norm)
    state, metrics = guards.guarded(
      state,
      after,
      {"gradient_norm": norm},
      skip_nonfinite=False,
      spike_factor=2.0,
    )
    return state, metrics["skipped"]

  state, skipped = jax.lax.scan(step, state, norms)
  assert not skipped.any() and state.params == 400 / every
  # A spike of those that have one is still skipped.
  assert step(state, jnp.float32(9))[1] == 1


def test_skipped_updates_are_counted_in_the_log(tmp_path):
  changes = {"optimizer.spike_factor": 1.0001, "batch_size": 2, "rollouts": 4}
  config = small(**changes)
  train_to_folder.train(config, tmp_path)
  lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
  counts = [json.loads(line)["skipped"] for line in lines]
  assert all(count == int(count) <= 10 for count in counts)
  assert sum(counts[:2]) == 0 < sum(counts)
