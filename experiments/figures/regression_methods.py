"""What figures of regression share: methods, colours, tuning and probes."""

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from ml_collections import ConfigDict

from maxrl_jax import plotting
from maxrl_jax.config import overlay
from maxrl_jax.config.build import choice
from maxrl_jax.learning import rollouts
from maxrl_jax.runs import choose, dataset
from maxrl_jax.runs.progress import listed
from maxrl_jax.runs.study import Study

FIELDS = ("estimator.name", "estimator.signal")
# Values of the fields, and the name of the colour in all figures of regression;
# T = 1 is RLOO on l.
_TABLE = {
  "exact ML": ("cross_entropy", None, "cross_entropy"),
  "MSE": ("mse", None, "mse"),
  "exact RL": ("exact_rl", None, "rloo"),
  "MaxRL": ("maxrl", None, "maxrl"),
  "REINFORCE on l": ("reinforce", None, "dr_grpo"),
  "REINFORCE on −MSE": ("reinforce", "reward", "maxrl_paper"),
  "RLOO on l": ("rloo", None, "rloo"),
  "RLOO on −MSE": ("rloo", "reward", "power"),
  "GRPO on l": ("grpo", None, "grpo"),
  "GRPO on −MSE": ("grpo", "reward", "pass_at_k"),
  "TailRL": ("tail_rl", None, "tail_rl"),
  "IWAE": ("self_normalized", None, "self_normalized"),
  "VIMCO": ("vimco", None, "vimco"),
}
METHODS = {label: (name, signal) for label, (name, signal, _) in _TABLE.items()}
COLOURS = {label: plotting.COLOURS[row[-1]] for label, row in _TABLE.items()}


def with_method(config: ConfigDict, label: str) -> ConfigDict:
  """A copy of the config that learns by METHODS[label]."""
  return overlay(config, dict(zip(FIELDS, METHODS[label], strict=True)))


def methods_axis(labels: Iterable[str]) -> dict[tuple[str, ...], list]:
  """The axis of a grid with these methods.

  Raises:
    ValueError: there is no such method.
  """
  return {FIELDS: [choice(METHODS, "method", label) for label in labels]}


def ends(settings) -> tuple[str, str]:
  """Labels of the smallest and the largest order."""
  return f"T = {min(settings.orders)}", f"T = {max(settings.orders)}"


def seeds(settings) -> range:
  """Seeds of reported runs, 1 … S."""
  return range(1, settings.seeds + 1)


def at_best_rates(
  what: Study,
  labels: Iterable[Hashable],
  rates: tuple[float, ...],
  runs,
  score: str = "nll",
) -> dict[Any, xr.Dataset]:
  """Runs by the label of their point; validation chooses each point's rate."""
  tuning = choose.Tuning(rates, score=score, larger=False)
  return dataset.by_point(choose.run(what, tuning, runs).data, labels)


def rate_in_words(
  config: ConfigDict, rates: Sequence[float], score: str = "NLL"
) -> str:
  """How the learning rate was chosen, for a caption."""
  if not rates:
    rate = config.optimizer.learning_rate
    return f"learning rate {rate:g} for every method"
  return (
    f"learning rate chosen for every method from {listed(rates)} by the"
    f" validation {score} of two other seeds"
  )


def two_modes(trainer):
  """Mass on the rarer side, Jensen's two averages, and three whole policies.

  The averages are per prompt: E[log l] and log E[l].
  """
  prompts = trainer.task.splits["test"]
  shown = shown_rows(prompts)
  likelihood = trainer.task.likelihood

  def probe(params) -> dict[str, jax.Array]:
    outputs = trainer.policy.apply(params, prompts.inputs)
    mixtures = jax.vmap(
      lambda out: trainer.policy.apply(params, out, method="components")
    )(outputs)
    log_pi, values = mixtures.log_weights[:, 0], mixtures.locations[:, 0]
    pi = jnp.exp(log_pi)
    log_l = likelihood.log_likelihoods(prompts.targets.y - values)
    return {
      "minor_mass": jnp.mean(jnp.sum(pi * (values < 0), -1)),
      "average_log": jnp.sum(pi * log_l, -1),
      "log_average": jax.nn.logsumexp(log_pi + log_l, axis=-1),
      "policies": pi[shown],
    }

  return probe


def shown_rows(prompts) -> np.ndarray:
  """The prompts with the modes closest, in the middle and furthest apart."""
  order = np.argsort(np.asarray(prompts.targets.clean[:, 0]))
  return order[[0, len(order) // 2, -1]]


def clean_and_noisy(trainer):
  """Mean over prompts of log E[l], for the clean and the noisy target."""
  prompts = trainer.task.splits["test"]
  clean = prompts._replace(
    targets=prompts.targets._replace(y=prompts.targets.clean)
  )

  def probe(params) -> dict[str, jax.Array]:
    def mean(prompts):
      log_p = rollouts.log_pass_rates(
        trainer.policy, params, prompts, trainer.task
      )
      return jnp.mean(jnp.sum(log_p, -1))

    return {"log_p_clean": mean(clean), "log_p": mean(prompts)}

  return probe
