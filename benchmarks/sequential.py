"""Steps with waves until a success against steps with fixed groups.

For 1000 classes at a pass rate above one half, where one wave mostly suffices,
and for mazes after a short warm-up, most of which are rarely solved.
"""

import functools

import jax
import jax.numpy as jnp

from benchmarks.steps import blocked
from configs import digits, sequential
from experiments.figures.maze_settings import PRESETS, config_of
from maxrl_jax.learning import training

_STEPS = 20  # Per timed call.
_CHUNK, _MOST = 50, 4000  # Steps between checks of the pass rate, and in all.
_MAZES = PRESETS["quick"]


def comparisons():
  """(name, library call, baseline call, target ratio, larger is better)."""
  params, pass_rate = _trained()
  waves, groups = sequential.get_config(), digits.get_config()
  groups.estimator.baseline, groups.rollouts = "none", 128
  where = f"1000 classes, pass rate {pass_rate:.2f}"
  yield _against(where, waves, groups, params, 1.0)
  waves, groups = (config_of(_MAZES, "rl") for _ in range(2))
  groups.rollouts = 128
  waves.estimator.name, waves.rollouts = "sequential", 16
  waves.estimator.cap = 128
  where = f"mazes after a warm-up of {_MAZES.warmup} steps"
  yield _against(where, waves, groups, _warmed_up(), 0.5)


def _against(where, waves, groups, params, target):
  call, metrics = _steps(waves, params)
  drawn = float(jnp.mean(metrics["rollouts_drawn"]))
  rounds = float(jnp.mean(metrics["rounds"]))
  name = (
    f"{_STEPS} steps, {where}: waves of {waves.rollouts} up to"
    f" {waves.estimator.cap} ({drawn:.0f} rollouts per prompt, {rounds:.1f}"
    f" rounds) against N = {groups.rollouts}"
  )
  return name, call, _steps(groups, params)[0], target, False


def _warmed_up():
  run, state = _run(config_of(_MAZES, "warmup"))
  return run(state, jax.random.key(1), _MAZES.warmup)[0].params


def _trained():
  """Parameters once the mean pass rate is above .5, and that pass rate.

  Trained with waves, since their cost depends on the strings that training left
  unsolved, and at the rate that `sequential_digits` has chosen for them.
  """
  config = sequential.get_config()
  config.optimizer.learning_rate = 5e-4
  config.optimizer.schedule = "constant"
  run, state = _run(config)
  for _ in range(_MOST // _CHUNK):
    state, metrics = run(state, jax.random.key(1), _CHUNK)
    pass_rate = float(jnp.mean(metrics["pass_rate"]))
    if pass_rate > 0.5:
      return state.params, pass_rate
  raise RuntimeError(f"pass rate {pass_rate:.2f} after {_MOST} steps: not > .5")


def _run(config):
  trainer = training.make_train(config)
  state = jax.jit(trainer.init)(jax.random.key(0))

  @functools.partial(jax.jit, static_argnums=2)
  def run(state, key, steps):
    return jax.lax.scan(lambda s, _: trainer.step(s, key), state, None, steps)

  return run, state


def _steps(config, params):
  """A call that blocks, and its metrics."""
  run, state = _run(config)
  state = state.replace(params=params)
  call = functools.partial(blocked, run, state, jax.random.key(2), _STEPS)
  return call, call()[1]
