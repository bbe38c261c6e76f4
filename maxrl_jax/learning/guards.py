"""Checks of metrics and of states to resume from; updates that are skipped."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from maxrl_jax.config import values_of

Array = jax.Array

# Metrics that are indices of prompts in the batch.
PLACES = ("prompt_of_likelihood", "prompt_of_loss")

_WARM_UP = 20  # Steps before the spike guard acts.
_DECAY = 0.99  # Of its running mean.


def guarded(
  before: Any,
  after: Any,
  metrics: dict[str, Array],
  *,
  skip_nonfinite: bool,
  spike_factor: float | None,
) -> tuple[Any, dict[str, Array]]:
  """The state after an update, or before it if the update is skipped.

  A skipped update still counts as a step; its metric `skipped` is 1.

  Args:
    before: TrainState before the update.
    after: TrainState after it.
    metrics: of this step, scalars.
    skip_nonfinite: skip an update if any metric of the step is invalid.
    spike_factor: skip an update if the gradient's norm exceeds the running mean
      of those that are not 0 by more than this factor; None never does.

  Returns:
    (state, metrics).
  """
  if not skip_nonfinite and spike_factor is None:
    return after, metrics
  accept = jnp.array(True)
  if skip_nonfinite:
    for name, value in metrics.items():
      accept &= valid(name, value)
  norm, typical = metrics["gradient_norm"], before.typical_norm
  if spike_factor is not None:
    early = (before.step < _WARM_UP) | (typical == 0)
    accept &= early | ~(norm > spike_factor * typical)
  mean = _DECAY * typical + (1 - _DECAY) * norm
  updated = jnp.where(typical > 0, mean, norm)
  # Nor may a NaN enter the running mean, or batches without a success, which
  # have no gradient: every other one would then be a spike.
  counts = accept & jnp.isfinite(norm) & (norm > 0)
  typical = jnp.where(counts, updated, typical)
  state = jax.tree.map(lambda a, b: jnp.where(accept, a, b), after, before)
  state = state.replace(step=after.step, typical_norm=typical)
  return state, metrics | {"skipped": 1.0 - accept.astype(jnp.float32)}


def check_states(
  states: Any, config: ConfigDict, hyper: dict[str, np.ndarray], runs: int
) -> None:
  """Raises ValueError if the states are not of runs with this config."""
  if np.shape(states.step) != (runs,):
    raise ValueError(
      f"states: of {np.size(states.step)} runs, must be of {runs}, one for each"
      " seed"
    )
  done = int(np.asarray(states.step)[0])
  if (config.steps - done) % config.log_every:
    raise ValueError(
      f"log_every = {config.log_every}: must divide the {config.steps - done}"
      f" steps that are left after step {done}"
    )
  wanted = values_of(config, states.hyper) | hyper
  for name, value in wanted.items():
    if name not in states.hyper:
      raise ValueError(
        f"hyper['{name}']: the states to resume from have no value of it; pass"
        " varying to make_train, and start again"
      )
    saved = np.asarray(states.hyper[name])
    asked = np.asarray(value, saved.dtype)
    if not np.array_equal(saved, np.broadcast_to(asked, saved.shape)):
      raise ValueError(
        f"{name} = {_distinct(asked)}: the states to resume from have"
        f" {_distinct(saved)}; resume with that, or start in another folder"
      )


def _distinct(values: np.ndarray) -> str:
  """Values as text; one number if all are equal."""
  distinct = np.unique(values)
  shown = distinct if len(distinct) == 1 else np.ravel(values)
  return ", ".join(f"{value:g}" for value in shown)


def check_metrics(
  metrics: dict[str, np.ndarray], start: int, log_ceiling: float | None = None
) -> None:
  """Raises FloatingPointError at the first step with an invalid metric.

  Args:
    metrics: of a chunk, each [steps, runs].
    start: steps done before it.
    log_ceiling: of the noise model, for the message where l exceeds 1.
  """
  invalid = []
  for name, values in metrics.items():
    for step, run in np.argwhere(~valid(name, values))[:1]:
      invalid.append((step, _cause(name), run, name))
  if invalid:
    step, _, run, name = min(invalid)
    here = {key: values[step, run] for key, values in metrics.items()}
    allowed = "in [0, 1]" if _is_likelihood(name) else "finite"
    raise FloatingPointError(
      f"step {start + step + 1}, run {run}: {name} = {here[name]:.6g}, must be"
      f" {allowed}{_where(name, here)}{_why(name, log_ceiling)}"
    )


def diverged(metrics: dict[str, np.ndarray]) -> np.ndarray:
  """Whether any update used invalid numbers, [steps, runs] → [runs]."""
  skipped = metrics.get("skipped", 0) == 1
  valid_runs = [
    (valid(name, values) | skipped).all(0) for name, values in metrics.items()
  ]
  return ~np.logical_and.reduce(valid_runs)


def _cause(name: str) -> int:
  """Rank of a metric within a step: an invalid one makes later ones invalid."""
  if _is_likelihood(name):
    return 0
  order = ("loss", "gradient_norm")
  return 1 + order.index(name) if name in order else 3


def _where(name: str, here: dict) -> str:
  """The prompt at fault, if it is known."""
  kind = "likelihood" if _is_likelihood(name) else "loss"
  prompt = here.get(f"prompt_of_{kind}", -1)
  if prompt >= 0:
    return f" (prompt {prompt:.0f} of the batch)"
  if name == "gradient_norm":
    return " (the loss of every prompt is finite)"
  return ""


def _why(name: str, log_ceiling: float | None) -> str:
  """The ceiling of the density, if a likelihood exceeds 1."""
  if name != "likelihood_max" or log_ceiling is None:
    return ""
  return f"; its ceiling is a log density of {log_ceiling:.4g}"


def valid(name: str, values: Any) -> Any:
  """Whether metric values are valid: finite, and likelihoods in [0, 1]."""
  good = abs(values) < np.inf  # For NumPy arrays and traced ones.
  if _is_likelihood(name):  # An exact pass rate is a sum, and rounds.
    good &= (values >= 0) & (values <= 1 + 1e-5)
  return good


def _is_likelihood(name: str) -> bool:
  return name.startswith(("likelihood", "pass_rate"))
