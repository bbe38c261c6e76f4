"""Optimizers and schedules by name, for `config.optimizer`.

An optimizer is a function of options → an optax transformation from gradients
to directions; the update subtracts learning rate × direction. A schedule is a
function of the number of updates → (update → factor of the learning rate).
"""

from collections.abc import Callable

import optax

from maxrl_jax import ranges


def sgd(momentum: float = 0.9) -> optax.GradientTransformation:
  """The gradient, or its sum with decay `momentum` ∈ [0, 1)."""
  ranges.decay(momentum=momentum)
  return optax.trace(momentum) if momentum else optax.identity()


def adam(
  b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformation:
  """Adam (arXiv 1412.6980, algorithm 1); b1 and b2 in [0, 1)."""
  ranges.decay(b1=b1, b2=b2)
  ranges.above_zero(eps=eps)
  return optax.scale_by_adam(b1, b2, eps)


def adamw(
  b1: float = 0.9,
  b2: float = 0.999,
  eps: float = 1e-8,
  weight_decay: float = 0.0,
) -> optax.GradientTransformation:
  """Adam with decoupled weight decay (arXiv 1711.05101, algorithm 2)."""
  ranges.at_least(0, weight_decay=weight_decay)
  decay = optax.add_decayed_weights(weight_decay)
  return optax.chain(adam(b1, b2, eps), decay)


def cosine(updates: int) -> optax.Schedule:
  """From 1 to 0 along half a cosine."""
  return optax.cosine_decay_schedule(1.0, updates)


def constant(updates: int) -> optax.Schedule:
  """1 throughout."""
  del updates
  return optax.constant_schedule(1.0)


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
  "sgd": sgd,
  "adam": adam,
  "adamw": adamw,
}
SCHEDULES: dict[str, Callable[[int], optax.Schedule]] = {
  "cosine": cosine,
  "constant": constant,
}
