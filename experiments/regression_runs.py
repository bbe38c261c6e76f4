"""Regression runs of several seeds at once, kept on disk when done."""

import pathlib
from collections.abc import Callable

import jax
import numpy as np
from ml_collections import config_dict

from experiments.store import stored
from maxrl_jax import evaluation, plotting, training

# Ways to learn, by the label that figures give them.
METHODS = {
  "exact ML": {"name": "cross_entropy"},
  "MSE": {"name": "mse"},
  "MaxRL": {"name": "maxrl"},
  "RLOO on l": {"name": "rloo"},
  "RLOO on −MSE": {"name": "rloo", "signal": "reward"},
  "GRPO on l": {"name": "grpo"},
  "GRPO on −MSE": {"name": "grpo", "signal": "reward"},
  "TailRL": {"name": "tail_rl"},
  "IWAE": {"name": "self_normalized"},
  "VIMCO": {"name": "vimco"},
}
# One colour a label in all figures of regression; T = 1 is RLOO on l.
COLOURS = {
  "exact ML": plotting.COLOURS["cross_entropy"],
  "MSE": "#888888",
  "MaxRL": plotting.COLOURS["maxrl"],
  "RLOO on l": plotting.COLOURS["rloo"],
  "RLOO on −MSE": plotting.COLOURS["power"],
  "GRPO on l": plotting.COLOURS["grpo"],
  "GRPO on −MSE": plotting.COLOURS["pass_at_k"],
  "TailRL": plotting.COLOURS["tail_rl"],
  "IWAE": plotting.COLOURS["self_normalized"],
  "VIMCO": plotting.COLOURS["maxrl_paper"],
}


def with_method(config, label: str, order: int | None = None):
  """A copy of the config that learns by METHODS[label]."""
  changed = config.copy_and_resolve_references()
  with changed.unlocked():
    changed.estimator.update(METHODS[label])
    if order is not None:
      changed.estimator.order = order
  return changed


def train(
  config,
  seeds: int,
  folder: pathlib.Path,
  label: str,
  probe: Callable | None = None,
) -> dict[str, np.ndarray]:
  """Trains all seeds in one program and evaluates them on the test split.

  Args:
    config: what to train; `eval_every` says how often to evaluate.
    seeds: how many, counted from config.seed.
    folder: for finished runs.
    label: of the run's file.
    probe: made → a function of one seed's params that gives more arrays.

  Returns:
    'step' [evaluations], and metrics by name, [seeds, evaluations, …].
  """
  config = config.copy_and_resolve_references()
  with config.unlocked():
    config.runs = seeds
  name = "" if probe is None else f"{probe.__module__}.{probe.__qualname__}"
  return stored(
    folder, label, config, lambda: _train(config, probe), probe=name
  )


def _train(config, probe) -> dict[str, np.ndarray]:
  config = config_dict.FrozenConfigDict(config)
  made = training.make_train(config)
  evaluate = evaluation.make_evaluate(made.policy, made.task, (1,))
  more = None if probe is None else _over_seeds(probe(made))
  rows, steps = [], []
  for step, states, _ in training.chunks(made, config):
    if step % config.eval_every:
      continue
    found = evaluate("test", states.params)
    if more is not None:
      found |= jax.tree.map(np.asarray, more(states.params))
    rows.append(found)
    steps.append(step)
  curves = {name: np.stack([row[name] for row in rows], 1) for name in rows[0]}
  return curves | {"step": np.array(steps)}


def _over_seeds(function: Callable) -> Callable:
  return jax.jit(lambda params: jax.lax.map(function, params))
