"""Waves until a success: what is drawn, its gradient, errors, and mazes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxrl_jax.learning import sequential, training
from maxrl_jax.learning.build_loss import make_loss
from maxrl_jax.learning.rollouts import Rollouts
from maxrl_jax.learning.waves import draw_until_solved, stops
from maxrl_jax.tasks import TASKS
from tests.support.configs import make_config, short_bandit
from tests.support.extent import long

_SEQUENTIAL = {"estimator.name": "sequential", "rollouts": 4}


def _coins(pass_rates, wave, keep=lambda l: l):
  """Draws right or wrong, independent of which slot of the pool it is."""

  def draw(key, owner):
    shape = (owner.shape[0], wave)
    l = jax.random.uniform(key, shape) < pass_rates[owner][:, None]
    return Rollouts(l, l, keep(l), lengths=jnp.full(shape, 3))

  return draw


@pytest.mark.parametrize(("wave", "cap"), [(1, 1), (1, 12), (4, 12), (4, 14)])
def test_waves_end_as_if_drawn_one_after_another(wave, cap):
  """Binomial counts of each prompt, though others share its pool."""
  p, num = np.array([0.01, 0.1, 0.1, 0.5, 0.99]), 4000
  draw = _coins(jnp.asarray(p), wave)

  def one(key):
    return draw_until_solved(key, draw, len(p), wave, cap)

  waves = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), num))
  rounds = cap // wave
  solved, needed = np.asarray(waves.solved), np.asarray(waves.needed)
  for r in range(1, rounds + 1):
    chance = (1 - p) ** (wave * (r - 1)) * (1 - (1 - p) ** wave)
    count = (solved & (needed == wave * r)).sum(0)
    error = np.sqrt(num * chance * (1 - chance))
    assert (np.abs(count - num * chance) <= 4.5 * error + 1e-9).all()
  assert (needed[~solved] == wave * rounds).all()
  # The last wave is that of the success; the pool is never left empty.
  np.testing.assert_array_equal(waves.actions.any(-1), solved)
  drawn = np.asarray(waves.drawn)
  assert ((needed <= drawn) & (drawn <= cap)).all()
  assert (np.asarray(waves.rounds) <= rounds).all()
  np.testing.assert_array_equal(waves.tokens, 3 * drawn.sum(-1))
  if rounds > 1:
    assert (drawn > needed).any()
    assert np.mean(np.asarray(waves.rounds) < rounds) > 0.3


def test_a_coin_ends_waves_of_graded_likelihoods():
  """l = p for every rollout: as if right with probability p."""
  p, num = np.array([0.05, 0.4]), 6000

  def draw(key, owner):
    l = jnp.broadcast_to(jnp.asarray(p, jnp.float32)[owner, None], (2, 3))
    return Rollouts(l, l, l)

  def one(key):
    return draw_until_solved(key, draw, 2, 3, 9)

  waves = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(1), num))
  solved = 1 - (1 - p) ** 9
  needed = 3 * solved / (1 - (1 - p) ** 3)
  for values, expected in ((waves.solved, solved), (waves.needed, needed)):
    values = np.asarray(values, float)
    error = values.std(0) / num**0.5
    assert (np.abs(values.mean(0) - expected) <= 4.5 * error).all()


def _gradients(fields, prompts, keys):
  """Gradients of the tabular policy's logits, one for each key."""
  config = short_bandit(**fields)
  trainer = training.make_train(config)
  loss = make_loss(config, trainer.task, trainer.policy)
  params = trainer.init(jax.random.key(3)).params

  def gradient(key):
    of_loss = jax.grad(lambda p: loss(p, key, prompts(trainer), None)[0])
    return of_loss(params)["params"]["logits"]

  return np.asarray(jax.jit(jax.vmap(gradient))(keys), np.float64)


@pytest.mark.parametrize("baseline", sequential.BASELINES)
@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize(("wave", "cap"), [long(1, 6), (3, 9)])
def test_the_gradient_is_that_of_the_truncated_objective(
  wave, cap, continuous, baseline
):
  """Of order `cap`, by the exact objective of the same policy."""

  def prompts(trainer):
    return trainer.task.draw(jax.random.key(5), 5)

  fields = {"task.continuous": continuous, "batch_size": 5}
  exact = {"estimator.name": "exact_maxrl", "estimator.order": cap}
  keys = jax.random.split(jax.random.key(0), 20_000)
  (expected,) = _gradients(fields | exact, prompts, keys[:1])
  drawn = fields | _SEQUENTIAL | {"rollouts": wave, "estimator.cap": cap}
  drawn |= {"estimator.baseline": baseline}
  gradients = _gradients(drawn, prompts, keys)
  error = gradients.std(0) / len(keys) ** 0.5
  assert np.linalg.norm(error) < 0.05 * np.linalg.norm(expected)
  assert (np.abs(gradients.mean(0) - expected) <= 4.5 * error + 1e-7).all()


def test_advantages_of_the_last_wave_by_hand():
  """K = 2 of 4: less whether another one succeeds, 1; K = 1: less 0 for it."""
  of = sequential.last_wave_advantages
  for l, expected in (
    ([1, 1, 0, 0], [1, 1, -1, -1]),
    ([0, 1, 0, 0], [-1, 4, -1, -1]),
    ([1, 1, 1, 1], [0, 0, 0, 0]),
  ):
    l = jnp.array(l, bool)
    actual = of(l, jnp.array(True), "leave_one_out")
    np.testing.assert_allclose(actual, expected, rtol=1e-6)
    plain = np.asarray(l) * 4 / np.asarray(l).sum()
    np.testing.assert_allclose(of(l, jnp.array(True), "none"), plain, rtol=1e-6)
    np.testing.assert_array_equal(of(l, jnp.array(False), "none"), 0)
  # Coefficients l_j / (1 − Π (1 − l_i)) of one, and 0 without a chance.
  one = of(jnp.array([0.25]), jnp.array(True), "leave_one_out")
  np.testing.assert_allclose(one, [1.0], rtol=1e-6)
  np.testing.assert_array_equal(of(jnp.zeros(3), jnp.array(True), "none"), 0)
  # Two halves: success of both 1/4, of one 1/2; given one: 1/3 · 1/2 + 1/3.
  two = of(jnp.array([0.5, 0.5]), jnp.array(True), "none")
  np.testing.assert_allclose(two, [1, 1], rtol=1e-6)


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({}, "estimator.cap is not set: 'sequential' needs it"),
    ({"estimator.cap": 2}, "estimator.cap = 2: must be a multiple of rollouts"),
    ({"estimator.cap": 10}, "estimator.cap = 10: must be a multiple of roll"),
    (
      {"estimator.cap": 8, "estimator.baseline": "centred"},
      r"estimator\.baseline = 'centred': choose from",
    ),
    (
      {"estimator.cap": 8, "estimator.order": 3},
      "estimator.order = 3: 'sequential' takes",
    ),
    (
      {"estimator.cap": 8, "mesh.rollouts": 2},
      "mesh.rollouts = 2: 'sequential' draws no fixed number",
    ),
    (
      {"estimator.name": "maxrl", "estimator.cap": 8},
      "estimator.cap = 8: 'maxrl' takes",
    ),
  ],
)
def test_what_does_not_fit_is_one_line(fields, message):
  trainer = training.make_train(short_bandit())
  config = short_bandit(**_SEQUENTIAL | fields)
  with pytest.raises(ValueError, match=message):
    make_loss(config, trainer.task, trainer.policy)


@pytest.mark.parametrize(
  ("l", "wave"),
  [(2.0**-26, 256), (0.01, 16), long(2.0**-26, 16), long(2.0**-20, 16)],
)
def test_a_wave_stops_with_its_chance_however_small(l, wave):
  """As many waves as give sixteen stops or more on average."""
  chance = -np.expm1(wave * np.log1p(-l))
  num = min(int(16 / chance), 2**26 // wave)

  @jax.jit
  def stopped(key):
    waves = jnp.full((num, wave), l, jnp.float32)
    return jnp.sum(stops(key, waves))

  keys = jax.random.split(jax.random.key(4), 16)
  count = sum(int(stopped(key)) for key in keys)
  expected = 16 * num * chance
  assert abs(count - expected) < 3.5 * expected**0.5


@pytest.mark.parametrize("bad", [1.5, -0.1])
def test_impossible_likelihoods_stop_the_run(bad):
  """Of any wave, though their mean may be possible."""
  task = TASKS["bandit"](num_prompts=8, num_arms=4, continuous=True)

  def likelihoods(target, actions):
    return jnp.where(actions == 0, bad, 0.1)

  task = dataclasses.replace(task, likelihoods=likelihoods)
  config = short_bandit(**_SEQUENTIAL | {"estimator.cap": 16, "rollouts": 4})
  trainer = training.make_train(config, task)
  end = "max" if bad > 0 else "min"
  message = f"step 1, run 0: likelihood_{end} = {bad}, must be in"
  with pytest.raises(FloatingPointError, match=message):
    next(training.chunks(trainer, config))


@pytest.mark.long
@pytest.mark.parametrize(
  "fields",
  [
    {"task.name": "maze", "task.size": 7, "task.eval_size": 16},
    {"task.name": "teacher", "policy.name": "normal", "likelihood.scale": 0.7},
  ],
)
def test_sequences_and_numbers_train(fields):
  """Mazes count their tokens; rollouts with numbers are thinned."""
  config = make_config(
    {"steps": 4, "log_every": 2, "eval_every": 4, "batch_size": 6}
    | {"optimizer.learning_rate": 1e-3, "estimator.cap": 16}
    | _SEQUENTIAL
    | fields
  )
  trainer = training.make_train(config)
  runs = [[*training.chunks(trainer, config)] for _ in range(2)]
  (_, states, metrics), (_, again, _) = runs[0][-1], runs[1][-1]
  assert trainer.advance._cache_size() == 1
  jax.tree.map(np.testing.assert_array_equal, states.params, again.params)
  drawn, needed = metrics["rollouts_drawn"], metrics["rollouts_needed"]
  assert (needed >= 4).all() and (needed <= drawn).all() and (drawn <= 16).all()
  if config.task.name == "maze":
    assert (metrics["tokens"] >= 6 * drawn - 1e-3).all()
