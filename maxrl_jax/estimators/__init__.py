"""From the likelihoods of N rollouts to their advantages.

One prompt, rollouts z_1 … z_N drawn independently from the policy, scores
S_j = ∇ log m(z_j|x), likelihoods l_j = l(y, z_j) in [0, 1], p = E[l]. Every
estimator is a function likelihoods [N] → advantages [N], and the gradient
estimate is always

    ĝ = mean_j A_j S_j

Which ∇J it estimates, and whether without bias, is the first thing each
docstring says. K is the number of successes when l is binary. All take `mask`
[N] for ragged groups: a masked rollout gets advantage 0, and the mean over j
runs over the others. All take one prompt: vmap them.

Likelihoods that are NaN or outside [0, 1] raise a ValueError in eager calls;
under `jit` nothing can be raised, and `training` watches for them instead.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from maxrl_jax import symmetric
from maxrl_jax.estimators.ratios import (
  log_self_normalized,
  log_vimco,
  maxrl_paper,
  self_normalized,
  tail_rl,
  vimco,
)
from maxrl_jax.estimators.score import dr_grpo, grpo, reinforce, rloo
from maxrl_jax.estimators.series import (
  BASELINES,
  maxrl,
  pass_at_k,
  power,
  series,
)

Array = jax.Array

ESTIMATORS: dict[str, Callable[..., Array]] = {
  "reinforce": reinforce,
  "rloo": rloo,
  "grpo": grpo,
  "dr_grpo": dr_grpo,
  "maxrl": maxrl,
  "maxrl_paper": maxrl_paper,
  "pass_at_k": pass_at_k,
  "power": power,
  "series": series,
  "tail_rl": tail_rl,
  "self_normalized": self_normalized,
  "vimco": vimco,
}

# These take any finite reward when called with `bounded=False`.
ANY_REWARD = ("reinforce", "rloo", "grpo", "dr_grpo")

# What they are given besides their options.
GIVEN = ("likelihoods", "mask", "method", "bounded")

# The same from log-likelihoods, where l itself would underflow.
LOG_ESTIMATORS: dict[str, Callable[..., Array]] = {
  "self_normalized": log_self_normalized,
  "maxrl_paper": log_self_normalized,
  "vimco": log_vimco,
}


# ω [N] of the pathwise term mean_j ω_j ∇l_j, where l depends on the parameters.
PATHWISE: dict[str, Callable[..., Array]] = {
  "reinforce": jnp.ones_like,
  "rloo": jnp.ones_like,
  "dr_grpo": lambda l: jnp.full_like(l, 1 - 1 / l.shape[0]),
  "maxrl": symmetric.loo_weights,
  "series": symmetric.series_weights,
}

# The same for mean_j ω_j ∇log l_j, given log l: no likelihood is too small.
LOG_PATHWISE: dict[str, Callable[..., Array]] = dict.fromkeys(
  ("self_normalized", "maxrl_paper", "vimco"),
  lambda log_l: log_l.shape[0] * jax.nn.softmax(log_l),
)

__all__ = [
  "ANY_REWARD",
  "BASELINES",
  "ESTIMATORS",
  "LOG_ESTIMATORS",
  "LOG_PATHWISE",
  "PATHWISE",
  "dr_grpo",
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
  "series",
  "tail_rl",
  "vimco",
]
