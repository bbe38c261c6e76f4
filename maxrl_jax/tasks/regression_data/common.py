"""What the data sets share."""

import jax
from jax.scipy import stats as densities

from maxrl_jax.tasks import base
from maxrl_jax.tasks.base import Prompts
from maxrl_jax.tasks.regression import Data, Target


def normal_prompts(x, y, clean, sigma) -> Prompts:
  reference = densities.norm.logpdf(y, clean, sigma).sum(-1)
  return Prompts(x, Target(y, clean, sigma, reference))


def drawn(draw, eval_size: int, task_seed: int, num_dims: int) -> Data:
  """Fixed splits from the same stream that training draws from."""
  base.check_positive(eval_size=eval_size)
  keys = jax.random.split(jax.random.key(task_seed), 3)
  names = ("train", "validation", "test")
  splits = {
    name: jax.jit(draw, static_argnums=1)(key, eval_size)
    for name, key in zip(names, keys, strict=True)
  }
  return Data(draw, splits, num_dims)
