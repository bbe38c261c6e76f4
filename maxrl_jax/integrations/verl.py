r"""Advantage estimators of verl: `algorithm.adv_estimator=maxrl`.

Importing this module registers them. verl imports it if an environment variable
names it:

    VERL_USE_EXTERNAL_MODULES=maxrl_jax.integrations.verl \
    python -m verl.trainer.main_ppo algorithm.adv_estimator=maxrl \
        +algorithm.maxrl_order=8 actor_rollout_ref.rollout.n=16 …

For every name in `NAMES`, options and `ceiling` are read from verl's algorithm
config, with the prefix `maxrl_`: maxrl_order, maxrl_baseline, maxrl_ceiling,
maxrl_k (required by `pass_at_k`), maxrl_alpha (by `power`). `register` binds
them to a new name instead. verl's norm_adv_by_std_in_grpo has no effect.

verl's losses are means over tokens by default. The estimators are unbiased for
a sum over tokens and a mean over rollouts:
actor_rollout_ref.actor.loss_agg_mode=seq-mean-token-sum. A KL penalty belongs
in the loss (use_kl_loss), not in the reward, which must stay in [0, ceiling].

Written for verl 0.9.1.
"""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from verl.trainer.ppo.core_algos import register_adv_est

from maxrl_jax.integrations import groups

NAMES = ("maxrl", "pass_at_k", "power", "tail_rl")

_PREFIX = "maxrl_"


def register(name: str, *, estimator: str = "maxrl", **options: Any) -> None:
  """Registers an estimator under a new name, with options bound to it.

  `register("maxrl8", order=8)` enables `algorithm.adv_estimator=maxrl8`.
  Options are those of `groups.advantages`, including `ceiling`; they take
  precedence over verl's config.

  Raises:
    ValueError: the name is already registered.
  """
  function = functools.partial(
    outcome_advantages, estimator=estimator, bound=options
  )
  register_adv_est(name)(function)


def outcome_advantages(
  token_level_rewards: torch.Tensor,
  response_mask: torch.Tensor,
  index: np.ndarray | None = None,
  config: Mapping | None = None,
  *,
  estimator: str,
  bound: Mapping,
  **_: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
  """Advantages of responses, repeated for all their tokens.

  Responses without unmasked tokens (rejected, padding) get 0 and have no effect
  on their group.

  Args:
    token_level_rewards: [R, L], summed to the reward of a response.
    response_mask: [R, L].
    index: group ids [R], verl's `uid`.
    config: verl's algorithm config.

  Returns:
    Advantages [R, L] and, for outcome rewards, equal returns; on the device of
    the rewards, with the dtype of rewards times mask, or float32 if that is an
    integer.
  """
  if index is None:
    raise ValueError("index is None: verl's batch has no `uid` to group by")
  scores = token_level_rewards.detach().sum(-1)
  if not scores.is_floating_point():  # Advantages would be cut to integers.
    scores = scores.float()
  advantages = groups.advantages(
    scores.float().cpu().numpy(),
    index,
    mask=response_mask.bool().any(-1).cpu().numpy(),
    estimator=estimator,
    **{**_options(config), **bound},
  )
  per_response = torch.from_numpy(advantages).to(scores).unsqueeze(-1)
  per_token = per_response * response_mask
  return per_token, per_token


def _options(config: Mapping | None) -> dict:
  config = config or {}
  names = [name for name in config if name.startswith(_PREFIX)]
  return {name.removeprefix(_PREFIX): config[name] for name in names}


for _name in NAMES:
  register(_name, estimator=_name)
