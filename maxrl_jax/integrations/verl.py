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

The trainer of `trainer.use_v1` may split a session of an agent into several
rows, with keys uid_session_0, uid_session_1, … It passes these keys to
`compute_advantage_for_multi_trajectories`, which counts a session once for GRPO
only, and not on to registered estimators. This module wraps that function: for
the estimators registered here, a session is one rollout with the reward of its
last row, as for verl's GRPO, and all its rows get its advantage.

Written for verl 0.9.1.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from verl.trainer.ppo.core_algos import register_adv_est

from maxrl_jax.integrations import groups

NAMES = ("maxrl", "pass_at_k", "power", "tail", "tail_rl")

_PREFIX = "maxrl_"
_registered: set[str] = set()


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
  _registered.add(name)


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

  Responses without unmasked tokens (rejected, padding) get 0 and are not
  members of their group: a single remaining one is a group of one.

  Args:
    token_level_rewards: [R, L], summed to the reward of a response.
    response_mask: [R, L].
    index: group ids [R], verl's `uid`, or a `Row` for each.
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
  rewards = scores.float().cpu().numpy()
  uids: Any = index
  rollouts = None
  if isinstance(index[0], Row):
    uids, rollouts, last = _sessions(index)
    rewards = rewards[last]
  advantages = groups.advantages(
    rewards,
    uids,
    rollouts=rollouts,
    mask=response_mask.bool().any(-1).cpu().numpy(),
    estimator=estimator,
    **{**_options(config), **bound},
  )
  per_response = torch.from_numpy(advantages).to(scores).unsqueeze(-1)
  per_token = per_response * response_mask
  return per_token, per_token


class Row(NamedTuple):
  """A row of a session: its prompt, session, and position in the session."""

  uid: Any
  session: str
  place: int


def _row(uid: Any, key: str) -> Row:
  """The row of a key uid_session_index."""
  session, _, place = key.rpartition("_")
  if not (place.isdecimal() and "_" in session):
    raise ValueError(f"key = {key!r}: must be uid_session_index, as in verl")
  return Row(uid, session, int(place))


def _sessions(rows: np.ndarray) -> tuple[list, list, list]:
  """Of each row: uid, session, and index of the session's last row."""
  last: dict[str, int] = {}
  for i, row in enumerate(rows):
    if row.place >= rows[last.setdefault(row.session, i)].place:
      last[row.session] = i
  uids, sessions, _ = map(list, zip(*rows, strict=True))
  return uids, sessions, [last[session] for session in sessions]


def with_sessions(compute: Callable) -> Callable:
  """verl's function for multiple trajectories, counting each session once.

  Args:
    compute: `compute_advantage_for_multi_trajectories`; still computes the
      advantages of all estimators that are not registered here.
  """

  # Without __type_params__, which a stand-in for verl does not have.
  @functools.wraps(
    compute, ("__module__", "__name__", "__qualname__", "__doc__")
  )
  def wrapped(
    data: Any, batch_keys: Sequence[str], adv_estimator: Any, **kwargs: Any
  ) -> Any:
    if adv_estimator not in _registered:
      return compute(data, batch_keys, adv_estimator, **kwargs)
    uids = data.non_tensor_batch["uid"]
    rows = map(_row, uids, batch_keys)
    data.non_tensor_batch["uid"] = np.fromiter(rows, object, len(uids))
    try:
      return compute(data, batch_keys, adv_estimator, **kwargs)
    finally:
      data.non_tensor_batch["uid"] = uids

  return wrapped


def _wrap_trainer() -> None:
  """Wraps the function where the trainer looks it up."""
  name = "compute_advantage_for_multi_trajectories"
  try:
    from verl.trainer.ppo.v1 import trainer_base, utils
  except ModuleNotFoundError as error:
    if error.name != "transfer_queue":
      raise
    return  # The trainer does not run without it either.
  if not hasattr(trainer_base, name):
    raise ImportError(
      f"verl.trainer.ppo.v1.trainer_base has no {name}; this adapter is written"
      " for verl 0.9.1"
    )
  wrapped = with_sessions(getattr(utils, name))
  for module in (trainer_base, utils):
    setattr(module, name, wrapped)


def _options(config: Mapping | None) -> dict:
  """Options and ceiling in verl's config, without the prefix."""
  config = config or {}
  names = [name for name in config if name.startswith(_PREFIX)]
  return {name.removeprefix(_PREFIX): config[name] for name in names}


for _name in NAMES:
  register(_name, estimator=_name)
_wrap_trainer()
