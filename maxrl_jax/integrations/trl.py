"""TRL's GRPOTrainer with the advantages of any estimator.

    trainer = MaxRLTrainer(
      model, reward_funcs=…, args=GRPOConfig(loss_type="dr_grpo", …),
      estimator="maxrl", estimator_options={"order": 4},
    )

TRL computes advantages inside `_generate_and_score_completions`. This trainer
replaces them before the loss by the estimator's advantages, computed from the
rewards of `_calculate_rewards`, which cover all processes. Evaluation uses
TRL's advantages, since its groups may be smaller.

loss_type="dr_grpo" divides by a constant, so the gradient is the mean of
A_j ∇log m(z_j|x) that the estimators define; "dapo", TRL's default, divides by
the number of tokens in the batch; "grpo" gives long responses less weight.
scale_rewards has no effect.

A rollout of several turns, with tools, an environment or `rollout_func`, is one
completion in TRL, in which tokens that are not the policy's are masked. A
`rollout_func` that returns more completions than prompts is refused.

Written for TRL 1.16; an incompatible version raises ImportError.
"""

from __future__ import annotations  # For docs built without PyTorch.

from collections.abc import Mapping
from typing import Any

import torch
import trl
from trl import GRPOTrainer

from maxrl_jax.integrations import groups

_HOOKS = ("_calculate_rewards", "_generate_and_score_completions")


def check_hooks(trainer: type) -> None:
  """Raises ImportError unless a trainer class has the overridden methods."""
  for hook in _HOOKS:
    if not callable(getattr(trainer, hook, None)):
      raise _incompatible(f"{trainer.__name__} has no method {hook}")


def _incompatible(problem: str) -> ImportError:
  return ImportError(
    f"trl = {trl.__version__}: {problem}; this adapter is written for trl 1.16:"
    " pip install 'trl==1.16.*'"
  )


check_hooks(GRPOTrainer)


def _in_loss(output: dict) -> torch.Tensor:
  """Which tokens are in the loss, [B, L]."""
  tokens = output["completion_mask"].bool()
  for factor in ("tool_mask", "importance_sampling_ratio"):
    if output.get(factor) is not None:
      tokens = tokens & (output[factor] != 0)
  return tokens


class MaxRLTrainer(GRPOTrainer):
  """GRPOTrainer with the advantages of any estimator in `ESTIMATORS`.

  Groups exclude completions for which every reward function returned None and
  those without a token in the loss: truncated ones under
  mask_truncated_completions, and those that vllm_importance_sampling_mode
  rejects.

  Args:
    estimator: a name in `ESTIMATORS`.
    estimator_options: of `groups.advantages`: order, ceiling, k, alpha, …
    *args: of GRPOTrainer.
    **kwargs: of GRPOTrainer.

  Raises:
    ValueError: an invalid option, before training begins.
    ImportError: TRL's version is incompatible.
  """

  def __init__(
    self,
    *args: Any,
    estimator: str = "maxrl",
    estimator_options: Mapping | None = None,
    **kwargs: Any,
  ) -> None:
    super().__init__(*args, **kwargs)
    aggregation = getattr(self, "multi_objective_aggregation", None)
    if aggregation == "normalize_then_sum":
      raise ValueError(
        f"multi_objective_aggregation = {aggregation!r}: the estimator takes"
        " one reward per completion; must be 'sum_then_normalize'"
      )
    self._estimator = {"estimator": estimator, **(estimator_options or {})}
    self._rewards_per_func: Any = None
    self._estimate(torch.zeros(self.num_generations))

  def _estimate(
    self, rewards: torch.Tensor, mask: torch.Tensor | None = None
  ) -> torch.Tensor:
    advantages = groups.advantages(
      rewards.float().cpu().numpy(),
      num=self.num_generations,
      mask=mask,
      **self._estimator,
    )
    return torch.from_numpy(advantages).to(rewards)

  def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Any:
    self._rewards_per_func = super()._calculate_rewards(*args, **kwargs)
    return self._rewards_per_func

  def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
    self._rewards_per_func = None
    output = super()._generate_and_score_completions(inputs)
    if self.model.training:
      self._replace_advantages(output)
    return output

  def _replace_advantages(self, output: dict) -> None:
    """Sets `output["advantages"]` of this process's completions."""
    if self._rewards_per_func is None or "advantages" not in output:
      raise _incompatible("no rewards, or no advantages to replace")
    # Every process has all rewards, as groups may span processes.
    rewards = self._weighted_sum(self._rewards_per_func)
    unmasked = self.accelerator.gather(_in_loss(output).any(1))
    rows, world = len(output["completion_mask"]), self.accelerator.num_processes
    shapes = output["advantages"].shape, rewards.shape, unmasked.shape
    if shapes != ((rows,), (rows * world,), (rows * world,)):
      raise _incompatible(
        f"advantages, rewards and masks of shapes {[*map(tuple, shapes)]} from"
        f" {rows} completions in each of {world} processes, where each rollout"
        " must be one completion"
      )
    mask = unmasked & ~rewards.isnan()
    advantages = self._estimate(rewards, mask.cpu().numpy())
    first = rows * self.accelerator.process_index
    output["advantages"] = advantages[first : first + rows]
    self._replace_log(advantages.tolist())

  def _weighted_sum(self, rewards_per_func: torch.Tensor) -> torch.Tensor:
    """Weighted sum [R] over reward functions; NaN if all returned None."""
    weights = self.reward_weights.to(rewards_per_func.device)
    rewards = (rewards_per_func * weights).nansum(1)
    missing = rewards_per_func.isnan().all(1)
    return torch.where(missing, torch.nan, rewards)

  def _replace_log(self, advantages: list[float]) -> None:
    """Replaces TRL's advantages in the table of completions."""
    log = self._logs["advantages"]
    for _ in range(min(len(advantages), len(log))):
      log.pop()
    log.extend(advantages)
