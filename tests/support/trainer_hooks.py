"""Where other trainers call a user's advantages, as recorded from their code.

Each stand-in has the signature of the named file at the named version, calls
the hook with the arguments that the library passes, and does to the result
what the library does before the loss. Recorded by reading the public
repositories and the wheels of skyrl 0.4.0 and openrlhf 0.11.2.
"""

import asyncio
import dataclasses
import enum
import types
from typing import Any

import numpy as np


@dataclasses.dataclass
class Sample:
  """What a hook may read of a sample of slime and miles.

  slime/utils/types.py at 0d234f3e3a83c81b7d37209994e0b994deacbb24 and
  miles/utils/types.py at 002ce70c0f33c97255bec842e8b95d1dfb31d3f3; since about
  22cdc6e1 slime's have `rollout_id`, too, equal for samples of one rollout.
  """

  group_index: int | None = None
  index: int | None = None
  rollout_id: int | None = None
  response_length: int = 0
  reward: float | dict[str, Any] | None = None
  loss_mask: list[int] | None = None
  remove_sample: bool = False

  def get_reward_value(self, args):
    return self.reward[args.reward_key] if args.reward_key else self.reward


def slime_advantages(hook, args, samples: list[Sample]) -> list[list[float]]:
  """Per token, of `--advantage-estimator grpo`.

  slime/ray/rollout.py at a51f0714179da87b1abdff81f99ae1e22034be92, which calls
  hook(args, samples) and checks the lengths of both results;
  slime/backends/megatron_utils/loss.py at
  00c2d6db0f23a4900be6e80a8eb81eebf9e1ebff, which repeats the second one over
  tokens. miles: miles/ray/rollout/train_data_conversion.py at
  01c59eec006ccef9d2f8ff53ec5627a34d535cdc calls it alike.
  """
  raw, rewards = hook(args, samples)
  assert len(raw) == len(rewards) == len(samples)
  assert all(type(reward) is float for reward in rewards)  # Stored as float32.
  masks = [[0 if s.remove_sample else 1] * s.response_length for s in samples]
  return [
    [reward * token for token in mask]
    for reward, mask in zip(rewards, masks, strict=True)
  ]


class SkyRL:
  """skyrl/backends/skyrl_train/utils/ppo_utils.py of skyrl 0.4.0."""

  def __init__(self) -> None:
    self.registry: dict[str, Any] = {}
    ppo_utils = types.SimpleNamespace(
      register_advantage_estimator=self._register
    )
    name = "skyrl.backends.skyrl_train.utils"
    self.modules = {
      name: module(name, ppo_utils=ppo_utils),
      "skyrl.train.entrypoints.main_base": module("main_base", main=None),
    }

  def _register(self, name: str):
    def decorator(function):
      if name in self.registry:
        raise ValueError(f"'{name}' already registered")
      self.registry[name] = function
      return function

    return decorator

  def advantages(self, name, token_level_rewards, response_mask, index):
    """`compute_advantages_and_returns`: only keyword arguments."""
    return self.registry[name](
      token_level_rewards=token_level_rewards,
      response_mask=response_mask,
      index=index,
      values=None,
      grpo_norm_by_std=True,
      gamma=1.0,
      lambd=1.0,
      config=types.SimpleNamespace(advantage_estimator=name),
    )

  def step_wise(self, name, token_level_rewards, response_mask, index, last):
    """skyrl/train/trainer.py, with `step_wise_trajectories`."""
    import torch

    ones = torch.ones_like(response_mask[last], dtype=torch.float)
    uids = np.array(index)[last.numpy()]
    result, _ = self.advantages(name, token_level_rewards[last], ones, uids)
    trajectory = torch.cat([torch.tensor([False]), last[:-1]]).int().cumsum(0)
    return result[trajectory] * response_mask


class Estimator(enum.StrEnum):
  """rllm/trainer/algorithms/config.py.

  At 08d884b4c11cc6ed5e85a74847e30ee85879cab9.
  """

  GRPO = "grpo"
  OTHER = "other"

  @classmethod
  def _missing_(cls, value):
    return cls.OTHER


class Rllm:
  """rllm/trainer/algorithms/advantage.py.

  At 18c8622371845166d24a2b3246ee03bc8190ab89.
  """

  def __init__(self) -> None:
    self.registry: dict[str, Any] = {}
    name = "rllm.trainer.algorithms.advantage"
    self.modules = {
      name: module(name, register_rllm_adv_estimator=self._register)
    }

  def _register(self, name: str):
    def decorator(function):
      self.registry[name] = function
      return function

    return decorator

  def collect(self, groups, estimator: Estimator, by_role: dict[str, str]):
    """`collect_reward_and_advantage_from_trajectory_groups`, for RL.

    Args:
      groups: (role, rewards of its trajectories) of each.
      estimator: of `rllm.algorithm.adv_estimator`.
      by_role: `traj_group_adv_estimator_map`.

    Returns:
      Advantages of each group, as floats.
    """
    result: list[list[float]] = [[] for _ in groups]
    for role in dict.fromkeys(role for role, _ in groups):
      mine = [i for i, (other, _) in enumerate(groups) if other == role]
      name = by_role.get(role, estimator)
      if name not in self.registry:
        raise ValueError(f"Unknown advantage estimator {name}")
      advantages, _ = self.registry[name](
        rewards=[np.array(groups[i][1]) for i in mine],
        algorithm_config=types.SimpleNamespace(norm_adv_by_std_in_grpo=True),
        traj_groups=[groups[i] for i in mine],
      )
      assert len(advantages) == len(mine)
      for i, values in zip(mine, advantages, strict=True):
        assert len(values) == len(groups[i][1])
        result[i] = [float(value) for value in values]
    return result


class PrimeRL:
  """src/prime_rl/orchestrator/algo/.

  `score_group` as in max_rl.py at 0d6738ff505ae6ee810394a6d8124a069f84a6b4;
  the table as in __init__.py at 328f56ddfff0816ad95aaf1f846374e4d6a4be51.
  """

  class MaxRLAlgorithm:
    def __init__(self, config, policy_pool) -> None:
      self.config, self.policy_pool = config, policy_pool

    async def score_group(self, group) -> None:
      raise NotImplementedError

  @dataclasses.dataclass
  class Rollout:
    reward: float
    tokens: int
    advantages: list[float] | None = None

    def assign_advantages(self, advantages: float | list[float]) -> None:
      """A scalar is repeated over the tokens of the completion."""
      if not isinstance(advantages, list):
        advantages = [float(advantages)] * self.tokens
      self.advantages = advantages

  def __init__(self) -> None:
    self.classes = {"max_rl": self.MaxRLAlgorithm}
    self.checked = []  # Groups that may have rollouts of several agents.
    name, base = "prime_rl.orchestrator.algo", "prime_rl.orchestrator.algo.base"
    self.modules = {
      name: module(
        name,
        ALGORITHM_CLASSES=self.classes,
        MaxRLAlgorithm=self.MaxRLAlgorithm,
      ),
      base: module(base, assert_single_trainable_agent=self.checked.append),
    }

  def advantages(self, group) -> list[list[float] | None]:
    algorithm = self.classes["max_rl"](config=None, policy_pool=None)
    asyncio.run(algorithm.score_group(group))
    return [rollout.advantages for rollout in group]


class NemoRL:
  """nemo_rl/algorithms/grpo.py at 002cdc27b8019eafc470f0aab22d4a7206d0de81."""

  def __init__(self) -> None:
    self.grpo = types.SimpleNamespace(_create_advantage_estimator=None)
    name = "nemo_rl.algorithms"
    self.modules = {name: module(name, grpo=self.grpo)}

  def advantages(self, prompt_ids, rewards, token_mask, sample_mask):
    """As `grpo_train`, with the clip bounds at their default, null."""
    estimator = self.grpo._create_advantage_estimator("master config")
    return estimator.compute_advantage(
      prompt_ids=prompt_ids,
      rewards=rewards,
      mask=token_mask * sample_mask.unsqueeze(-1),
      repeated_batch={},
      logprobs_policy=None,
      logprobs_reference=None,
    )


class OpenRLHF:
  """openrlhf/trainer/ppo_utils/experience_maker.py of openrlhf 0.11.2."""

  @dataclasses.dataclass
  class Experience:
    """experience.py beside it."""

    index: list[int]
    rewards: Any  # [B]
    action_mask: Any  # [B, A]
    advantages: Any = None
    returns: Any = None

  def __init__(self, samples_per_prompt: int) -> None:
    import torch

    class RemoteExperienceMaker:
      args = types.SimpleNamespace(
        rollout=types.SimpleNamespace(n_samples_per_prompt=samples_per_prompt)
      )

      def compute_advantages_and_returns(self, experiences):
        """Overwrites rewards and advantages in place, here with garbage."""
        for e in experiences:
          e.rewards = torch.full_like(e.rewards, torch.nan)
          e.returns = e.advantages = torch.full(e.action_mask.shape, torch.nan)
        return experiences

    self.maker = RemoteExperienceMaker
    name = "openrlhf.trainer.ppo_utils.experience_maker"
    self.modules = {name: module(name, RemoteExperienceMaker=self.maker)}


def module(name: str, **contents: Any) -> types.ModuleType:
  result = types.ModuleType(name)
  vars(result).update(contents)
  return result
