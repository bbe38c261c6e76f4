"""Numbers that cannot be: found, named, and kept out of the parameters."""

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

_LEARNT_AFTER = 20  # Steps before the spike guard knows what is typical.
_MEMORY = 0.99  # Of its running mean.


def guarded(config, before, after, metrics: dict[str, Array]):
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
  metrics: dict[str, np.ndarray], start: int, noise=None
) -> None:
  """Raises FloatingPointError at the first step with an impossible number.

  Args:
    metrics: of a chunk, each [steps, runs].
    start: steps done before it.
    noise: the task's noise model, whose ceiling is named where l exceeds it.
  """
  found = []
  places = metrics.get("prompt_of_max")
  for name, values in metrics.items():
    likelihood = _is_likelihood(name)
    for step, run in np.argwhere(~possible(name, values))[:1]:
      allowed = "in [0, 1]" if likelihood else "finite"
      message = f"{name} = {values[step, run]:.6g}, must be {allowed}"
      if name == "likelihood_max" and places is not None:
        message += f" (prompt {places[step, run]:.0f} of the batch)"
        if noise is not None:
          message += (
            f"; its ceiling is a log density of {noise.log_ceiling:.4g}"
          )
      # A likelihood is the cause, what follows from it in that step is not.
      found.append((step, not likelihood, run, message))
  if found:
    step, _, run, message = min(found)
    raise FloatingPointError(f"step {start + step + 1}, run {run}: {message}")


def possible(name: str, values):
  """Whether numbers of a metric can be: finite, and likelihoods in [0, 1]."""
  good = abs(values) < np.inf  # NumPy's arrays and traced ones alike.
  if _is_likelihood(name):  # An exact pass rate is a sum, and rounds.
    good &= (values >= 0) & (values <= 1 + 1e-5)
  return good


def _is_likelihood(name: str) -> bool:
  return name.startswith(("likelihood", "pass_rate"))
