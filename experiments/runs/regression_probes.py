"""What figures of regression measure of policies besides the usual metrics."""

import jax
import jax.numpy as jnp
import numpy as np

from maxrl_jax.learning import rollouts


def two_modes(made):
  """Mass on the rarer side, Jensen's two averages, and three whole policies.

  The averages are per prompt: E[log l] and log E[l].
  """
  prompts = made.task.splits["test"]
  shown = shown_rows(prompts)
  likelihood = made.task.likelihood

  def one(params) -> dict[str, jax.Array]:
    outputs = made.policy.apply(params, prompts.inputs)
    found = jax.vmap(
      lambda out: made.policy.apply(params, out, method="components")
    )(outputs)
    log_pi, values = found.log_weights[:, 0], found.locations[:, 0]
    pi = jnp.exp(log_pi)
    log_l = likelihood.log_likelihoods(prompts.targets.y - values)
    return {
      "minor_mass": jnp.mean(jnp.sum(pi * (values < 0), -1)),
      "average_log": jnp.sum(pi * log_l, -1),
      "log_average": jax.nn.logsumexp(log_pi + log_l, axis=-1),
      "policies": pi[shown],
    }

  return one


def shown_rows(prompts) -> np.ndarray:
  """The prompts with the modes closest, in the middle and furthest apart."""
  order = np.argsort(np.asarray(prompts.targets.clean[:, 0]))
  return order[[0, len(order) // 2, -1]]


def clean_and_noisy(made):
  """Mean over prompts of log E[l], for the clean and the noisy target."""
  prompts = made.task.splits["test"]
  clean = prompts._replace(
    targets=prompts.targets._replace(y=prompts.targets.clean)
  )

  def one(params) -> dict[str, jax.Array]:
    def mean(prompts):
      log_p = rollouts.log_pass_rates(made.policy, params, prompts, made.task)
      return jnp.mean(jnp.sum(log_p, -1))

    return {"log_p_clean": mean(clean), "log_p": mean(prompts)}

  return one
