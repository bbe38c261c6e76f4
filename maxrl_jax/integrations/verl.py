r"""Advantage estimators of verl: `algorithm.adv_estimator=maxrl`.

To import this module is to register them, and verl imports what one of its
environment variables names:

    VERL_USE_EXTERNAL_MODULES=maxrl_jax.integrations.verl \
    python -m verl.trainer.main_ppo algorithm.adv_estimator=maxrl \
        +algorithm.maxrl_order=8 actor_rollout_ref.rollout.n=16 …

Options and `ceiling` are read from verl's algorithm config, by their names
after `maxrl_`, for whichever of `NAMES` is chosen: maxrl_order, maxrl_baseline,
maxrl_ceiling, maxrl_k (which `pass_at_k` needs), maxrl_alpha (`power`). Or they
are bound to a name of their own by `register`. verl's norm_adv_by_std_in_grpo
does nothing here.

verl's losses are means over tokens unless told otherwise. What the estimators
are unbiased for is a sum over tokens and a mean over rollouts:
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
  """Registers an estimator under another name, with options bound to it.

  `register("maxrl8", order=8)` makes `algorithm.adv_estimator=maxrl8`. Options,
  of which `ceiling` is one, are those of `groups.advantages`; a bound one goes
  before one in verl's config.

  Raises:
    ValueError: the name is taken.
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
  """Every token of a response gets the advantage of the response.

  A response of which no token is left (rejected, padding) has none and counts
  for nothing in its group.

  Args:
    token_level_rewards: [R, L], summed to the reward of a response.
    response_mask: [R, L].
    index: group ids [R], verl's `uid`.
    config: verl's algorithm config.

  Returns:
    Advantages [R, L] and, as they are outcomes, the same again as returns; of
    the device of the rewards and the type that rewards times mask has, float32
    where that is whole.
  """
  if index is None:
    raise ValueError("index is None: verl's batch has no `uid` to group by")
  scores = token_level_rewards.detach().sum(-1)
  if not scores.is_floating_point():  # Advantages would be cut to integers.
    scores = scores.float()
  found = groups.advantages(
    scores.float().cpu().numpy(),
    index,
    mask=response_mask.bool().any(-1).cpu().numpy(),
    estimator=estimator,
    **{**_options(config), **bound},
  )
  found = torch.from_numpy(found).to(scores).unsqueeze(-1) * response_mask
  return found, found


def _options(config: Mapping | None) -> dict:
  given = config or {}
  names = [name for name in given if name.startswith(_PREFIX)]
  return {name.removeprefix(_PREFIX): given[name] for name in names}


for _name in NAMES:
  register(_name, estimator=_name)
