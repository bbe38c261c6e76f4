"""Steps with waves until a success against steps with fixed groups.

The policies, for 1000 classes, have a pass rate above one half, where one wave
mostly suffices.
"""

import functools

import jax
import jax.numpy as jnp

from benchmarks.steps import blocked
from configs import digits, sequential
from maxrl_jax.learning import training

_STEPS = 20  # Per timed call.
_CHUNK, _MOST = 50, 4000  # Steps between checks of the pass rate, and in all.


def comparisons():
  """(name, library call, baseline call, target ratio, larger is better)."""
  params, pass_rate = _trained()
  waves, groups = sequential.get_config(), digits.get_config()
  groups.estimator.baseline = "none"
  groups.rollouts = 128
  call, metrics = _steps(waves, params)
  drawn = float(jnp.mean(metrics["rollouts_drawn"]))
  rounds = float(jnp.mean(metrics["rounds"]))
  yield (
    f"{_STEPS} steps, 1000 classes, pass rate {pass_rate:.2f}: waves of 16 up"
    f" to 1024 ({drawn:.0f} rollouts per prompt, {rounds:.1f} rounds) against"
    " N = 128",
    call,
    _steps(groups, params)[0],
    1.0,
    False,
  )


def _trained():
  """Parameters once the mean pass rate is above .5, and that pass rate.

  Trained with waves, since their cost depends on the strings that training left
  unsolved.
  """
  config = sequential.get_config()
  config.optimizer.warmup, config.optimizer.schedule = _CHUNK, "constant"
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
