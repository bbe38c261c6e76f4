"""From the likelihoods of N rollouts to their advantages.

One prompt, rollouts z_1 … z_N drawn independently from the policy, scores
S_j = ∇ log m(z_j|x), likelihoods l_j = l(y, z_j) in [0, 1], p = E[l]. Every
estimator is a function likelihoods [N] → advantages [N], and the gradient
estimate is always

    ĝ = mean_j A_j S_j

Each docstring first states the gradient that ĝ estimates, and any bias. K is
the number of successes when l is binary. All take `mask` [N] for ragged groups:
a masked rollout gets advantage 0, and the mean over j excludes it. All take one
prompt; vmap over prompts. `sequential`, for rollouts drawn until a success,
also takes the wave of each rollout, and has no entry in `ESTIMATORS`.

Likelihoods that are NaN or outside [0, 1] raise a ValueError in eager calls.
Under `jit` nothing can be raised: the advantages of such a group are
meaningless, or NaN with `check=True`, and a traced order above N acts as N.
Training checks its metrics instead.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from maxrl_jax import objectives, symmetric
from maxrl_jax.estimators import estimands
from maxrl_jax.estimators.estimands import Estimand, Setting
from maxrl_jax.estimators.ratios import (
  log_self_normalized,
  log_vimco,
  maxrl_paper,
  self_normalized,
  vimco,
)
from maxrl_jax.estimators.score import dr_grpo, grpo, reinforce, rloo
from maxrl_jax.estimators.sequential import SEQUENTIAL_BASELINES, sequential
from maxrl_jax.estimators.series import (
  BASELINES,
  maxrl,
  pass_at_k,
  power,
  series,
)
from maxrl_jax.estimators.sums import combine, given_success
from maxrl_jax.estimators.tails import tail, tail_rl

Array = jax.Array

# Parameters of estimators that are arguments, not options.
NON_OPTIONS = (
  "likelihoods",
  "rewards",
  "mask",
  "method",
  "bounded",
  "check",
)


@dataclass(frozen=True)
class Estimator:
  """An estimator, and what the library can do with it.

  Attributes:
    function: likelihoods [N], options → advantages [N].
    estimand: setting → the gradient that it estimates; None where no closed
      form is known.
    log_function: the same function of log l, for l that underflows.
    pathwise: likelihoods [N], options → ω [N] of the pathwise term
      mean_j ω_j ∇l_j, where l depends on the parameters.
    log_pathwise: log l [N] → ω [N] of mean_j ω_j ∇log l_j.
    any_reward: whether it takes any finite reward, with `bounded=False` if it
      has that parameter.
    series: order, k, alpha → the objective whose series it estimates, for
      sweeps that mix such objectives in one program.
  """

  function: Callable[..., Array]
  estimand: Callable[[Setting], Estimand] | None = None
  log_function: Callable[..., Array] | None = None
  pathwise: Callable[..., Array] | None = None
  log_pathwise: Callable[[Array], Array] | None = None
  any_reward: bool = False
  series: Callable[..., objectives.Objective] | None = None

  def __call__(self, *args: Any, **kwargs: Any) -> Array:
    """Calls the function."""
    return self.function(*args, **kwargs)


def _posterior(log_l: Array) -> Array:
  return log_l.shape[0] * jax.nn.softmax(log_l)


ESTIMATORS: dict[str, Estimator] = {
  "reinforce": Estimator(
    reinforce, estimands.rl, pathwise=jnp.ones_like, any_reward=True
  ),
  "rloo": Estimator(
    rloo, estimands.rl, pathwise=jnp.ones_like, any_reward=True
  ),
  "grpo": Estimator(grpo, estimands.grpo, any_reward=True),
  "dr_grpo": Estimator(
    dr_grpo,
    estimands.dr_grpo,
    pathwise=lambda l: jnp.full_like(l, 1 - 1 / l.shape[0]),
    any_reward=True,
  ),
  "maxrl": Estimator(
    maxrl,
    estimands.maxrl,
    pathwise=symmetric.loo_weights,
    series=lambda order, k, alpha: objectives.maxrl(order),
  ),
  "maxrl_paper": Estimator(
    maxrl_paper,
    estimands.maxrl_paper,
    log_function=log_self_normalized,
    log_pathwise=_posterior,
  ),
  "pass_at_k": Estimator(
    pass_at_k,
    estimands.pass_at_k,
    series=lambda order, k, alpha: objectives.pass_at_k(k),
  ),
  "power": Estimator(
    power,
    estimands.power,
    series=lambda order, k, alpha: objectives.power(alpha),
  ),
  "series": Estimator(series, pathwise=symmetric.series_weights),
  "tail": Estimator(tail, estimands.tail, any_reward=True),
  "tail_rl": Estimator(tail_rl, estimands.tail_rl, any_reward=True),
  "self_normalized": Estimator(
    self_normalized,
    estimands.self_normalized,
    log_function=log_self_normalized,
    log_pathwise=_posterior,
  ),
  "vimco": Estimator(vimco, log_function=log_vimco, log_pathwise=_posterior),
}

__all__ = [
  "BASELINES",
  "ESTIMATORS",
  "NON_OPTIONS",
  "SEQUENTIAL_BASELINES",
  "Estimand",
  "Estimator",
  "Setting",
  "combine",
  "dr_grpo",
  "given_success",
  "grpo",
  "log_self_normalized",
  "log_vimco",
  "maxrl",
  "maxrl_paper",
  "pass_at_k",
  "power",
  "reinforce",
  "rloo",
  "self_normalized",
  "sequential",
  "series",
  "tail",
  "tail_rl",
  "vimco",
]
