"""Bandit runs, whose pass rates are measured by how hard a prompt was."""

import functools

import jax
import numpy as np
from ml_collections import config_dict

from configs import bandit
from experiments.runs import resumable
from experiments.runs.store import stored
from maxrl_jax.learning import rollouts, training

NUM = 32  # Rollouts a prompt.
RATE = 30.0  # Common to all orders: the figure says why.
# Of the pass rates that prompts start with.
BANDS = ((1e-4, 1e-3), (1e-3, 1e-2), (1e-2, 1e-1), (1e-1, 0.51))


def curves(name, steps: int, count: int, folder) -> np.ndarray:
  """Mean pass rates [seeds, times, bands], from the start on.

  Args:
    name: an order, or "cross_entropy".
    steps: of training.
    count: of seeds.
    folder: where finished runs are kept.
  """
  config = _config(name, steps)
  return stored(
    folder,
    f"bandit {name}",
    config,
    lambda unfinished: {"curves": _train(config, count, unfinished)},
    seeds=count,
  )["curves"]


def _config(name, steps: int):
  config = bandit.get_config()
  config.steps = steps
  config.log_every = config.eval_every = steps // 40
  config.rollouts = NUM
  config.optimizer.learning_rate = RATE
  if name == "cross_entropy":
    config.estimator.name = name
  else:
    config.estimator.order = name
  return config_dict.FrozenConfigDict(config)


def _train(config, count: int, unfinished) -> np.ndarray:
  made = training.make_train(config)
  by_band = _pass_rates_by_band(made)
  initial = made.init(jax.random.key(0)).params
  start = by_band(jax.tree.map(lambda x: np.stack([x] * count), initial))
  rows, _ = resumable.measured(
    made,
    config,
    lambda step, states, metrics: {"by_band": by_band(states.params)},
    unfinished,
    seeds=np.arange(count),
  )
  return np.stack([start, *(row["by_band"] for row in rows)], 1)


def _pass_rates_by_band(made: training.Train):
  """(params of all runs) → mean pass rate in each band, [runs, bands]."""
  prompts = made.task.splits["train"]

  @jax.jit
  @functools.partial(jax.vmap, in_axes=0)
  def log_rates(params):
    return rollouts.log_pass_rates(made.policy, params, prompts, made.task)

  start = made.init(jax.random.key(0)).params
  alone = jax.tree.map(lambda x: x[None], start)
  initial = np.exp(log_rates(alone)[0])
  members = [(initial >= 0.99 * a) & (initial < 0.99 * b) for a, b in BANDS]

  def by_band(params):
    rates = np.exp(np.asarray(log_rates(params)))
    return np.stack([rates[:, m].mean(1) for m in members], 1)

  return by_band
