"""Regression runs, whole families in one program, kept on disk when done."""

import pathlib
from collections.abc import Callable, Sequence

import jax
import numpy as np
from ml_collections import config_dict

from experiments.runs import resumable
from experiments.runs.rates import best_rate
from experiments.runs.store import stored
from maxrl_jax import evaluation
from maxrl_jax.learning import training
from maxrl_jax.learning.update import RATE

# Ways to learn, by the label that figures give them.
METHODS = {
  "exact ML": {"name": "cross_entropy"},
  "MSE": {"name": "mse"},
  "exact RL": {"name": "exact_rl"},
  "MaxRL": {"name": "maxrl"},
  "REINFORCE on l": {"name": "reinforce"},
  "REINFORCE on −MSE": {"name": "reinforce", "signal": "reward"},
  "RLOO on l": {"name": "rloo"},
  "RLOO on −MSE": {"name": "rloo", "signal": "reward"},
  "GRPO on l": {"name": "grpo"},
  "GRPO on −MSE": {"name": "grpo", "signal": "reward"},
  "TailRL": {"name": "tail_rl"},
  "IWAE": {"name": "self_normalized"},
  "VIMCO": {"name": "vimco"},
}
_TUNING_SEEDS = (1000, 1001)  # Never seeds of the reported runs.


def with_method(config, label: str):
  """A copy of the config that learns by METHODS[label]."""
  changed = config.copy_and_resolve_references()
  with changed.unlocked():
    changed.estimator.update(METHODS[label])
  return changed


def train(
  config,
  seeds: int,
  folder: pathlib.Path,
  label: str,
  *,
  points: Sequence[dict] = ({},),
  rates: Sequence[float] = (),
  score: str = "nll",
  probe: Callable | None = None,
) -> dict[str, np.ndarray]:
  """Trains seeds 1 … S of every point in one program, scored on test prompts.

  Args:
    config: of all runs; evaluated every `eval_every` steps.
    seeds: S.
    folder: where finished runs are kept.
    label: names the file.
    points: config fields by dotted name, of `configuration.VARYING`; P of them.
    rates: learning rates to choose from at each point, by the mean validation
      score of two other seeds, both of which must not diverge; none is the
      config's own.
    score: the metric that chooses, the smaller the better.
    probe: made → (params → arrays by name), what else to measure at each
      evaluation; a function of a module, its name keys the stored run.

  Returns:
    Metrics [P, S, evaluations, …], `step` [evaluations], `learning_rate` [P].

  Raises:
    ValueError: a point diverged at every learning rate.
  """
  name = None if probe is None else f"{probe.__module__}.{probe.__qualname__}"
  return stored(
    folder,
    label,
    config,
    lambda unfinished: _tuned(
      config, seeds, label, points, rates, score, probe, unfinished
    ),
    seeds=seeds,
    points=[sorted(point.items()) for point in points],
    rates=list(rates),
    score=score,
    probe=name,
  )


def at_point(found: dict[str, np.ndarray], index: int):
  """Of what `train` returns, the part of one point: metrics [S, …]."""
  return {k: v if k == "step" else v[index] for k, v in found.items()}


def _tuned(config, seeds, label, points, rates, score, probe, unfinished):
  """Chooses a rate for each point, then trains the reported seeds."""
  config = config_dict.FrozenConfigDict(config)
  made = training.make_train(config, varying=list(points[0]))
  evaluate = evaluation.make_evaluate(made, (1,))
  chosen = [config.optimizer.learning_rate] * len(points)
  if rates:
    grid = [p | {RATE: r} for p in points for r in rates]
    _, states = resumable.measured(
      made,
      config,
      lambda *_: {},
      unfinished / "tuning",
      **_runs(grid, _TUNING_SEEDS),
      check=False,  # Some may diverge.
    )
    chosen = _best(label, points, rates, evaluate("validation", states)[score])
  final = [
    point | {RATE: rate} for point, rate in zip(points, chosen, strict=True)
  ]
  more = None if probe is None else jax.jit(_over_runs(probe(made)))

  def measure(step, states, metrics):
    del metrics
    if step % config.eval_every:
      return {}
    row = {"step": np.array(step)} | evaluate("test", states)
    if more is not None:
      row |= jax.tree.map(np.asarray, more(states.params))
    return row

  rows, _ = resumable.measured(
    made,
    config,
    measure,
    unfinished / "final",
    **_runs(final, range(1, seeds + 1)),
  )
  curves = _curves(rows, (len(points), seeds))
  return curves | {"learning_rate": np.array(chosen)}


def _best(label: str, points, rates, losses: np.ndarray) -> list[float]:
  """The rate of each point with the smallest mean loss, of [P · rates · S]."""
  means = losses.reshape(len(points), len(rates), -1).mean(-1)
  names = [
    ", ".join([label, *(f"{k} = {v}" for k, v in point.items())])
    for point in points
  ]
  return [
    best_rate(name, rates, -row).rate
    for name, row in zip(names, means, strict=True)
  ]


def _curves(rows: list[dict], shape: tuple[int, int]) -> dict[str, np.ndarray]:
  """Rows of metrics [P · S, …], some empty → metrics [P, S, rows, …]."""
  rows = [row for row in rows if row]
  steps = np.array([row["step"] for row in rows])
  curves = {
    name: np.stack([row[name] for row in rows], 1)
    for name in rows[0]
    if name != "step"
  }
  curves = {
    name: curve.reshape(*shape, *curve.shape[1:])
    for name, curve in curves.items()
  }
  return curves | {"step": steps}


def _runs(points, seeds) -> dict:
  """Seeds and varied fields of all points × seeds, the seed fastest."""
  varied = {
    name: np.repeat([point[name] for point in points], len(seeds))
    for name in points[0]
  }
  seeds = np.tile(np.asarray(seeds), len(points))
  return {"seeds": seeds, "varied": varied}


def _over_runs(function: Callable) -> Callable:
  return lambda params: jax.lax.map(function, params)
