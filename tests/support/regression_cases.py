"""A regression problem to enumerate, and the config of a short run."""

import jax
import jax.numpy as jnp
import numpy as np

from maxrl_jax import likelihoods
from maxrl_jax.policies import POLICIES
from maxrl_jax.tasks import Prompts, regression
from maxrl_jax.tasks.regression import Data, Target
from tests.support.configs import make_config


def small(learned="input", num_dims=1, bins=3):
  policy = POLICIES["grid"](
    num_dims=num_dims,
    hidden=(3,),
    bins=bins,
    low=-1.0,
    high=1.0,
    learned_scale=learned,
    smallest_scale=0.3 if learned else 0.0,
    initial_scale=0.6,
  )
  likelihood = likelihoods.gaussian(
    scale=0.6, smallest_scale=0.3 if learned else None
  )
  rng = np.random.default_rng(1)
  y = jnp.asarray(rng.normal(size=(2, num_dims)) / 2)
  target = Target(y, y, jnp.ones_like(y), y.sum(-1))
  prompts = Prompts(jnp.asarray(rng.normal(size=(2, 2))), target)
  splits = {"train": prompts, "validation": prompts}
  data = Data(lambda key, batch: prompts, splits, num_dims)
  task = regression.task(data, likelihood)

  @jax.jit
  def perturbed():
    params = policy.init(jax.random.key(0), prompts.inputs)
    keys = iter(jax.random.split(jax.random.key(1), 20))
    return jax.tree.map(
      lambda p: p + 0.5 * jax.random.normal(next(keys), p.shape), params
    )

  params = perturbed()
  return policy, params, task, prompts


def short_config(**fields):
  short = {
    "steps": 4,
    "log_every": 2,
    "eval_every": 2,
    "batch_size": 3,
    "rollouts": 4,
    "task.name": "teacher",
    "policy.hidden": (4,),
  } | fields
  if short["task.name"] != "diabetes":  # All its rows are in its splits.
    short.setdefault("task.eval_size", 16)
  return make_config(short)
