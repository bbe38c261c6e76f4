"""One RL step against the cross-entropy step of the same network."""

import functools

import jax

from configs import digits
from maxrl_jax.learning import training

_STEPS = 20  # Per timed call.


def comparisons():
  """(name, library call, baseline call, target ratio, larger is better)."""
  for optimizer in ("adam", "sgd"):
    reference = _steps("cross_entropy", 1, optimizer)
    for estimator, num, target in (
      ("maxrl", 128, 1.5),
      ("maxrl", 1024, 1.5),
      ("grpo", 1024, 1.5),
    ):
      yield (
        f"{_STEPS} steps, 1000 classes, {optimizer}: {estimator} N = {num}"
        " against cross-entropy",
        _steps(estimator, num, optimizer),
        reference,
        target,
        False,
      )


def _steps(estimator: str, num: int, optimizer: str):
  config = digits.get_config()
  config.estimator.name = estimator
  config.rollouts = num
  config.optimizer.name = optimizer
  return steps(training.make_train(config), _STEPS)


def steps(trainer: training.Train, num: int):
  """A call of this many steps that blocks."""
  state = jax.jit(trainer.init)(jax.random.key(0))

  @jax.jit
  def run(state, key):
    return jax.lax.scan(lambda s, _: trainer.step(s, key), state, None, num)

  return functools.partial(blocked, run, state, jax.random.key(1))


def blocked(function, *arguments):
  return jax.block_until_ready(function(*arguments))
