"""Impossible numbers: found, named, and kept out of the parameters."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

Array = jax.Array

# Metrics that say where in a batch something was.
PLACES = ("prompt_of_likelihood", "prompt_of_loss")

_LEARNT_AFTER = 20  # Steps before the spike guard knows what is typical.
_MEMORY = 0.99  # Of its running mean.


def guarded(
  config: ConfigDict, before: Any, after: Any, metrics: dict[str, Array]
) -> tuple[Any, dict[str, Array]]:
  """The state after an update, or before it where it must not be made.

  With config.on_nonfinite = 'skip' an update is skipped where any number of the
  step is impossible; with config.optimizer.spike_factor, where the gradient's
  norm is above so many times its running mean. The step counts all the same,
  and metric `skipped` is 1. Otherwise the update is made, whatever it is.

  Args:
    config: of the run.
    before: TrainState before the update.
    after: TrainState after it.
    metrics: of this step, scalars.

  Returns:
    (state, metrics).
  """
  factor = config.optimizer.spike_factor
  if config.on_nonfinite == "stop" and factor is None:
    return after, metrics
  sound = jnp.array(True)
  if config.on_nonfinite == "skip":
    for name, value in metrics.items():
      sound &= possible(name, value)
  norm, typical = metrics["gradient_norm"], before.typical_norm
  if factor is not None:
    sound &= (before.step < _LEARNT_AFTER) | ~(norm > factor * typical)
  # Compared with NaN a norm is never above, and would spoil the mean.
  mean = _MEMORY * typical + (1 - _MEMORY) * norm
  learnt = jnp.where(typical > 0, mean, norm)
  typical = jnp.where(sound & jnp.isfinite(norm), learnt, typical)
  state = jax.tree.map(lambda a, b: jnp.where(sound, a, b), after, before)
  state = state.replace(step=after.step, typical_norm=typical)
  return state, metrics | {"skipped": 1.0 - sound.astype(jnp.float32)}


def check_metrics(
  metrics: dict[str, np.ndarray], start: int, noise: Any = None
) -> None:
  """Raises FloatingPointError at the first step with an impossible number.

  Args:
    metrics: of a chunk, each [steps, runs].
    start: steps done before it.
    noise: the task's noise model, whose ceiling is named where l exceeds it.
  """
  found = []
  for name, values in metrics.items():
    for step, run in np.argwhere(~possible(name, values))[:1]:
      found.append((step, _cause(name), run, name))
  if found:
    step, _, run, name = min(found)
    here = {key: values[step, run] for key, values in metrics.items()}
    allowed = "in [0, 1]" if _is_likelihood(name) else "finite"
    raise FloatingPointError(
      f"step {start + step + 1}, run {run}: {name} = {here[name]:.6g}, must be"
      f" {allowed}{_where(name, here)}{_why(name, noise)}"
    )


def diverged(metrics: dict[str, np.ndarray]) -> np.ndarray:
  """Whether updates were made of impossible numbers, [steps, runs] → [runs]."""
  skipped = metrics.get("skipped", 0) == 1
  sound = [
    (possible(name, values) | skipped).all(0)
    for name, values in metrics.items()
  ]
  return ~np.logical_and.reduce(sound)


def _cause(name: str) -> int:
  """Within a step, what comes first: the rest follows from it."""
  if _is_likelihood(name):
    return 0
  order = ("loss", "gradient_norm")
  return 1 + order.index(name) if name in order else 3


def _where(name: str, here: dict) -> str:
  """The prompt, where it is known which is to blame."""
  kind = "likelihood" if _is_likelihood(name) else "loss"
  prompt = here.get(f"prompt_of_{kind}", -1)
  if prompt >= 0:
    return f" (prompt {prompt:.0f} of the batch)"
  return " (the loss of every prompt is)" if name == "gradient_norm" else ""


def _why(name: str, noise: Any) -> str:
  if name != "likelihood_max" or noise is None:
    return ""
  return f"; its ceiling is a log density of {noise.log_ceiling:.4g}"


def possible(name: str, values: Any) -> Any:
  """Whether numbers of a metric can be: finite, and likelihoods in [0, 1]."""
  good = abs(values) < np.inf  # NumPy's arrays and traced ones alike.
  if _is_likelihood(name):  # An exact pass rate is a sum, and rounds.
    good &= (values >= 0) & (values <= 1 + 1e-5)
  return good


def _is_likelihood(name: str) -> bool:
  return name.startswith(("likelihood", "pass_rate"))
