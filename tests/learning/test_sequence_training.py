"""Training policies that write sequences: supervised, entropy, configs."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import maze
from maxrl_jax import estimators
from maxrl_jax.learning import batch_losses, rollouts, sequences, training
from maxrl_jax.policies import POLICIES
from maxrl_jax.tasks import TASKS, Prompts, Task, base
from tests.support import keys, maze_oracles, transformer_oracle
from tests.support.tasks import with_methods


@pytest.fixture(scope="module")
def mazes():
  """Of size 7, trained on a few: none has to be drawn in a step."""
  return TASKS["maze"](size=7, random_ends=True, train_size=100, eval_size=100)


def _maze(**options):
  config = maze.get_config()
  config.task.size = 7
  config.update_from_flattened_dict(
    {
      "steps": 80,
      "log_every": 20,
      "eval_every": 80,
      "batch_size": 20,
      "policy.num_layers": 1,
      "policy.hidden_size": 16,
      "policy.intermediate_size": 32,
      "optimizer.learning_rate": 1e-2,
    }
    | options
  )
  return config


@pytest.mark.long
def test_supervised_learning_lowers_its_loss_on_right_answers(mazes):
  longer = {"steps": 120, "eval_every": 120}
  config = _maze(**longer | {"estimator.name": "supervised"})
  trainer = training.make_train(config, mazes)
  losses, params = [], {}
  for step, states, metrics in training.chunks(trainer, config):
    losses.extend(metrics["token_nll"][:, 0])
    params[step] = jax.tree.map(lambda x: np.float64(x[0]), states.params)
  assert losses[0] == pytest.approx(np.log(32), abs=0.2)
  assert np.mean(losses[100:]) < 1 < np.mean(losses[:5])
  assert trainer.advance._cache_size() == 1

  # One of them, from the prompts and parameters it was made of.
  key = keys.of_steps(trainer)
  draw_key = jax.random.split(jax.random.fold_in(key, 20))[0]
  prompts = mazes.draw(draw_key, 20)
  total = tokens = 0
  shape = transformer_oracle.Shape(4, 2, trainer.policy.rope_theta)
  for text, *target in zip(prompts.inputs, *prompts.targets, strict=True):
    is_open, start, goal = (np.asarray(x) for x in target)
    answer = maze_oracles.only_answer(is_open, tuple(start), tuple(goal))
    log_p, _, length = transformer_oracle.score(
      params[20], text, answer, 2, shape
    )
    total, tokens = total + log_p, tokens + length
  assert losses[20] == pytest.approx(-total / tokens, rel=1e-4)


def _of_five_tokens():
  """A small task, a transformer for it, and parameters far from uniform."""
  inputs = np.random.default_rng(0).integers(5, size=(4, 3)).astype(np.int32)
  prompts = Prompts(inputs, np.arange(4))
  policy = POLICIES["transformer"](
    vocab_size=5,
    max_length=3,
    eos=2,
    num_layers=1,
    hidden_size=8,
    intermediate_size=8,
    num_heads=2,
    num_kv_heads=1,
  )
  task = Task(
    draw=lambda key, batch: base.uniform_rows(key, prompts, batch),
    splits={"validation": prompts},
    likelihoods=lambda y, z: z[:, 0] == y,
  )
  params = policy.init(jax.random.key(0), inputs)
  rng = np.random.default_rng(1)
  params = jax.tree.map(
    lambda p: p + 0.5 * rng.normal(size=p.shape).astype(p.dtype), params
  )
  return task, policy, params


def test_sequences_have_rewards_too():
  """−[first token right]/2 of every answer, where the task says so."""
  task, policy, params = _of_five_tokens()
  task = with_methods(task, rewards=lambda y, z: -0.5 * (z[:, 0] == y))
  prompts = task.splits["validation"]
  drawn = jax.jit(
    lambda p: rollouts.sample_batch(
      jax.random.key(1), policy, p, prompts, task, 6
    )
  )(params)
  right = drawn.actions[..., 0] == prompts.targets[:, None]
  assert 0 < right.mean() < 1
  np.testing.assert_array_equal(drawn.rewards, -0.5 * right)


def test_the_entropy_bonus_is_the_slope_of_the_mean_entropy():
  """Of the tokens that were drawn, taken as given."""
  task, policy, params = _of_five_tokens()
  prompts = task.splits["validation"]
  key = jax.random.key(1)

  @jax.jit
  def gradient(params, bonus):
    loss = batch_losses.sampled(
      lambda l: l - jnp.mean(l), policy, task, 6, entropy_bonus=bonus
    )
    return jax.grad(loss, has_aux=True)(params, key, prompts)

  (none, metrics), (some, _) = (gradient(params, b) for b in (0.0, 0.7))
  drawn = jax.jit(
    lambda p: rollouts.sample_batch(key, policy, p, prompts, task, 6)
  )(params)
  shape = transformer_oracle.Shape(2, 1, policy.rope_theta)

  def known(params):
    actual = [
      transformer_oracle.score(params, text, answer, 2, shape)
      for text, answers in zip(prompts.inputs, drawn.actions, strict=True)
      for answer in np.asarray(answers)
    ]
    _, entropies, lengths = np.transpose(actual)
    return entropies.sum() / lengths.sum()

  double = jax.tree.map(np.float64, params)
  np.testing.assert_allclose(metrics["entropy"], known(double), rtol=1e-4)
  for names, direction, slope in transformer_oracle.slopes(known, double):
    a, b = none, some
    for name in names:
      a, b = a[name], b[name]
    actual = np.sum(np.float64(b - a) * direction)
    assert actual == pytest.approx(-0.7 * slope, rel=2e-3, abs=1e-5), names


@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize("tokens", [1, 36, 72, 2**11])
@pytest.mark.parametrize(
  "needed", ["111111", "011010", "000001", "111000", "000000"], ids=str
)
def test_gradients_of_some_prompts_are_those_of_all(
  monkeypatch, tokens, needed, parts
):
  """In blocks of 1, 2, 4 prompts and all; the slopes of the others are 0."""
  monkeypatch.setattr(sequences, "_ON_CPU", tokens)
  task, policy, params = _of_five_tokens()
  prompts = jax.tree.map(
    lambda x: x[np.arange(6) % 4], task.splits["validation"]
  )
  drawn = rollouts.sample_batch(
    jax.random.key(1), policy, params, prompts, task, 6
  )
  needed = jnp.array([c == "1" for c in needed])
  slopes = (
    jax.random.normal(jax.random.key(2), (2, 6, 6)) * needed[None, :, None]
  )
  layout = types.SimpleNamespace(size={"data": parts, "rollouts": 1}.get)

  def in_blocks(params, outputs):
    return sequences.differentiable(
      *(drawn, policy, params, outputs, needed), entropies=True, layout=layout
    )

  def at_once(params, outputs):
    return policy.apply(params, outputs, drawn.actions, method="score")

  def gradients(scored):
    def total(params, outputs):
      some = scored(params, outputs)
      return jnp.sum(slopes * jnp.stack([some.log_probs, some.entropies]))

    outputs = policy.apply(params, prompts.inputs)
    return jax.jit(jax.grad(total, (0, 1)))(params, outputs)

  some, whole = gradients(in_blocks), gradients(at_once)
  close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
  jax.tree.map(close, some, whole)


def test_prompts_without_advantages_are_not_scored(monkeypatch):
  """A prompt whose encoding is NaN does no harm, unless it is needed."""
  monkeypatch.setattr(sequences, "_ON_CPU", 1)
  task, policy, params = _of_five_tokens()
  prompts = task.splits["validation"]
  outputs = policy.apply(params, prompts.inputs)
  drawn = rollouts.sample_batch(
    jax.random.key(1), policy, params, prompts, task, 6, outputs
  )
  outputs = jax.tree.map(lambda x: x.at[2].set(jnp.nan), outputs)

  @jax.jit
  def total(params, needed):
    some = sequences.differentiable(drawn, policy, params, outputs, needed)
    return jnp.sum(some.log_probs * needed[:, None])

  for needed, finite in ((2, True), (3, False)):
    gradient = jax.grad(total)(params, jnp.arange(4) < needed)
    leaves = jax.tree.leaves(gradient)
    assert all(np.isfinite(x).all() for x in leaves) == finite


def test_the_gradient_is_that_of_every_rollout(monkeypatch):
  """Of a loss, where some prompts have successes, against the sum of all."""
  monkeypatch.setattr(sequences, "_ON_CPU", 1)
  task, policy, params = _of_five_tokens()
  prompts = task.splits["validation"]
  key = jax.random.key(1)
  loss = batch_losses.sampled(estimators.rloo, policy, task, 6)
  actual, metrics = jax.jit(jax.grad(loss, has_aux=True))(params, key, prompts)
  assert 0 < metrics["solved"] < 1
  drawn = rollouts.sample_batch(key, policy, params, prompts, task, 6)
  right = np.asarray(drawn.likelihoods, np.float64)
  advantages = right - (right.sum(1, keepdims=True) - right) / 5

  def known(params):
    outputs = policy.apply(params, prompts.inputs)
    scores = policy.apply(params, outputs, drawn.actions, method="score")
    return -jnp.mean(advantages * scores.log_probs)

  close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
  jax.tree.map(close, actual, jax.grad(known)(params))


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    (
      "estimator.name",
      "cross_entropy",
      "name = 'cross_entropy': this task has no `log_pass_rate`",
    ),
    ("estimator.name", "exact_rl", "name = 'exact_rl': this task has"),
    (
      "estimator.name",
      "mse",
      "name = 'mse': this task is not a regression task",
    ),
    ("estimator.entropy_bonus", -0.1, "entropy_bonus = -0.1: must be at least"),
    ("estimator.factorized", True, "factorized = True: this task has no"),
    ("policy.name", "mlp", "policy.name = 'mlp': the task takes"),
    ("policy.dtype", "float16", "policy.dtype = 'float16'"),
    ("policy.max_positions", 60, "policy.max_positions = 60"),
  ],
)
def test_a_wrong_config_of_mazes_names_the_field(mazes, field, value, message):
  with pytest.raises(ValueError, match=message):
    training.make_train(_maze(**{field: value}), mazes)


def test_supervised_learning_takes_no_options(mazes):
  options = {"estimator.name": "supervised", "estimator.order": 3}
  with pytest.raises(ValueError, match="order = 3: 'supervised' takes"):
    training.make_train(_maze(**options), mazes)
