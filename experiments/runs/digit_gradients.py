"""Gradient norms of single digit strings, after training by each method."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from experiments.runs import resumable
from experiments.runs.digit_runs import Method, Preset, config_of
from experiments.runs.store import stored
from maxrl_jax import config as configuration
from maxrl_jax import evaluation
from maxrl_jax.learning import rollouts, training
from maxrl_jax.tasks import Prompts

STRINGS = 1000  # Held-out ones.
_PAPER_OPTIMIZER = {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9}


def norms(
  method: Method, preset: Preset, steps: int, num: int, folder: pathlib.Path
) -> tuple[np.ndarray, np.ndarray]:
  """Pass rate and gradient norm [STRINGS] after training by the same method.

  Args:
    method: with its rollouts in training.
    preset: of sizes; the optimizer is the paper's.
    steps: of training.
    num: rollouts a string for the norms.
    folder: where finished runs are kept.
  """
  settings = preset._replace(
    steps=steps, warmup=preset.warmup // 5, eval_every=steps // 4
  )
  config = config_of(method, settings, steps, **_PAPER_OPTIMIZER)
  more = config_of(method._replace(rollouts=num), settings, steps)
  found = stored(
    folder,
    f"gradient norms {method.label}",
    config,
    lambda unfinished: _measured(config, more, unfinished),
    rollouts=num,
  )
  return found["pass_rate"], found["norm"]


def _measured(config, more, unfinished) -> dict[str, np.ndarray]:
  """Trains by one config, and measures by the loss of another."""
  made = training.make_train(config)
  _, states = resumable.measured(made, config, lambda *_: {}, unfinished)
  params = jax.tree.map(lambda x: x[0], states.params)
  prompts = Prompts(*(x[:STRINGS] for x in made.task.splits["test"]))
  measure = configuration.make_loss(more, made.task, made.policy)

  def loss(params, key, prompts):
    return measure(params, key, prompts)[0]

  @jax.jit
  def run(params, key):
    keys = jax.random.split(key, STRINGS)
    norms = evaluation.gradient_norms(loss, params, keys, prompts)
    log_p = rollouts.log_pass_rates(made.policy, params, prompts, made.task)
    return {"pass_rate": jnp.exp(log_p), "norm": norms}

  return jax.tree.map(np.asarray, run(params, jax.random.key(2)))
