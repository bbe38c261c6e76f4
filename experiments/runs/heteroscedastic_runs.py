"""Training under heteroscedastic noise, and gradients of single prompts."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.runs import regression_runs
from maxrl_jax import config as configuration
from maxrl_jax import evaluation, objectives
from maxrl_jax.config import default
from maxrl_jax.learning import rollouts

# Whose σ the noise model has: its own fixed one, unless the label says more.
SIGMAS = {
  "MaxRL, σ learned": {"learned": "input", "scale": 0.5, "smallest_scale": 0.1},
  "MaxRL, σ known": {"per_prompt": True, "smallest_scale": 0.1},
}
_MEASURED = ("exact ML", "MaxRL", "RLOO on l", "RLOO on −MSE")
NUM = 64


def config_of(label: str, learnable: bool, steps: int):
  """Of a method: its noise model is `SIGMAS`', where it is among them."""
  config = default()
  config.task.name, config.task.learnable = "heteroscedastic", learnable
  config.task.dim = 4
  config.likelihood.scale = 0.1
  config.policy.name, config.policy.hidden = "normal", (64,)
  config.rollouts, config.batch_size = NUM, 64
  config.steps, config.log_every = steps, steps // 4
  config.eval_every = config.log_every
  config.optimizer.name, config.optimizer.learning_rate = "adam", 3e-3
  config.likelihood.update(SIGMAS.get(label, {}))
  return regression_runs.with_method(config, label.split(",")[0])


def gradient_spent(steps: int, seeds: int, folder):
  """Of exact ML's policies early in training: σ [M], norms and w(p) [S, M]."""
  config = config_of("exact ML", True, steps)
  config.log_every = config.eval_every = steps
  found = regression_runs.train(
    config,
    seeds,
    folder,
    f"heteroscedastic gradient norms {steps}",
    probe=_probe,
  )
  found = regression_runs.at_point(found, 0)
  norms = {label: found[f"norm {label}"][:, -1] for label in _MEASURED}
  p = np.exp(np.float64(found["log_p"][:, -1]))
  weights = {
    "exact ML": 1 / p,
    "MaxRL": np.asarray(objectives.maxrl(NUM - 1).weight(p)),
    "RLOO on l": np.ones_like(p),
  }
  return found["sigma"][0, -1], norms, weights


def _probe(made):
  """Gradient norm of single prompts under each method, log p and σ, [M]."""
  prompts = jax.tree.map(lambda x: x[:500], made.task.splits["test"])
  keys = jax.random.split(jax.random.key(1), 500)
  losses = {
    label: configuration.make_loss(
      config_of(label, True, 4), made.task, made.policy
    )
    for label in _MEASURED
  }

  def one(params) -> dict[str, jax.Array]:
    found = {
      f"norm {label}": evaluation.gradient_norms(
        lambda *args, loss=loss: loss(*args)[0], params, keys, prompts
      )
      for label, loss in losses.items()
    }
    log_p = rollouts.log_pass_rates(made.policy, params, prompts, made.task)
    sigma = prompts.targets.noise_scale[:, 0]
    return found | {"log_p": log_p[:, 0], "sigma": jnp.asarray(sigma)}

  return one
