"""What the data sets share."""

from collections.abc import Callable

import jax
from jax.scipy import stats as densities

from maxrl_jax import ranges
from maxrl_jax.tasks import base
from maxrl_jax.tasks.base import Prompts
from maxrl_jax.tasks.regression import Data, Target


def normal_prompts(
  x: jax.Array, y: jax.Array, clean: jax.Array, sigma: jax.Array
) -> Prompts:
  reference = densities.norm.logpdf(y, clean, sigma).sum(-1)
  return Prompts(x, Target(y, clean, sigma, reference))


def drawn(
  draw: Callable[[jax.Array, int], Prompts],
  eval_size: int,
  task_seed: int,
  num_dims: int,
) -> Data:
  """Fixed splits from the same stream that training draws from."""
  ranges.at_least(1, eval_size=eval_size)
  keys = jax.random.split(jax.random.key(task_seed), 3)
  compiled = jax.jit(draw, static_argnums=1)
  return Data(draw, base.drawn_splits(compiled, keys, eval_size), num_dims)
