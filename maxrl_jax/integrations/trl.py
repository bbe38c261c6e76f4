"""TRL's GRPOTrainer with the advantages of any estimator.

    trainer = MaxRLTrainer(
      model, reward_funcs=…, args=GRPOConfig(loss_type="dr_grpo", …),
      estimator="maxrl", estimator_options={"order": 4},
    )

TRL computes advantages in the middle of `_generate_and_score_completions`. Here
it does so as ever, and they are replaced before the losses see them: by the
estimator, from the rewards of `_calculate_rewards`, which are those of all
processes. TRL's own remain in evaluation, where groups may be smaller.

loss_type="dr_grpo" divides by a constant, and what is followed is the mean of
A_j ∇log m(z_j|x) that the estimators speak of; "dapo", TRL's default, divides
by the tokens of the batch; "grpo" weighs a long response less. scale_rewards
does nothing here.

Written for TRL 1.16; an incompatible version is refused.
"""

from __future__ import annotations  # Documented without PyTorch.

from collections.abc import Mapping
from typing import Any

import torch
import trl
from trl import GRPOTrainer

from maxrl_jax.integrations import groups

_HOOKS = ("_calculate_rewards", "_generate_and_score_completions")


def check_hooks(trainer: type) -> None:
  """Raises ImportError unless a trainer class has the methods replaced here."""
  for hook in _HOOKS:
    if not callable(getattr(trainer, hook, None)):
      raise _incompatible(f"{trainer.__name__} has no method {hook}")


def _incompatible(what: str) -> ImportError:
  return ImportError(
    f"trl = {trl.__version__}: {what}; this adapter is written for trl 1.16:"
    " pip install 'trl==1.16.*'"
  )


check_hooks(GRPOTrainer)


class MaxRLTrainer(GRPOTrainer):
  """GRPOTrainer with the advantages of an estimator of `ESTIMATORS`.

  Left out of their groups are completions for which every reward function
  returned None, and truncated ones under TRL's mask_truncated_completions.

  Args:
    estimator: a name in `ESTIMATORS`.
    estimator_options: those of `groups.advantages`: order, ceiling, k, alpha, …
    *args: those of GRPOTrainer.
    **kwargs: likewise.

  Raises:
    ValueError: an invalid option, before training begins.
    ImportError: a version of TRL that makes advantages in another way.
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
        " one reward a completion; must be 'sum_then_normalize'"
      )
    self._estimator = {"estimator": estimator, **(estimator_options or {})}
    self._rewards_per_func: Any = None
    self._estimate(torch.zeros(self.num_generations))

  def _estimate(
    self, rewards: torch.Tensor, mask: torch.Tensor | None = None
  ) -> torch.Tensor:
    found = groups.advantages(
      rewards.float().cpu().numpy(),
      num=self.num_generations,
      mask=mask,
      **self._estimator,
    )
    return torch.from_numpy(found).to(rewards)

  def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Any:
    self._rewards_per_func = super()._calculate_rewards(*args, **kwargs)
    return self._rewards_per_func

  def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
    self._rewards_per_func = None
    output = super()._generate_and_score_completions(inputs)
    if self.model.training:
      self._replace(output)
    return output

  def _replace(self, output: dict) -> None:
    """Ours for `output["advantages"]`, of this process's completions."""
    if self._rewards_per_func is None or "advantages" not in output:
      raise _incompatible("no rewards, or no advantages to replace")
    # Every process has all rewards; whole groups may cross its border.
    rewards = self._sum(self._rewards_per_func)
    kept = self.accelerator.gather(output["completion_mask"].bool().any(1))
    rows, world = len(output["completion_mask"]), self.accelerator.num_processes
    shapes = output["advantages"].shape, rewards.shape, kept.shape
    if shapes != ((rows,), (rows * world,), (rows * world,)):
      raise _incompatible(
        f"advantages, rewards and masks of shapes {[*map(tuple, shapes)]} from"
        f" {rows} completions in each of {world} processes"
      )
    mask = kept & ~rewards.isnan()
    ours = self._estimate(rewards, mask.cpu().numpy())
    first = rows * self.accelerator.process_index
    output["advantages"] = ours[first : first + rows]
    self._relog(ours.tolist())

  def _sum(self, rewards_per_func: torch.Tensor) -> torch.Tensor:
    """The weighted sum [R] over reward functions; NaN where none gave one."""
    weights = self.reward_weights.to(rewards_per_func.device)
    rewards = (rewards_per_func * weights).nansum(1)
    nothing = rewards_per_func.isnan().all(1)
    return torch.where(nothing, torch.nan, rewards)

  def _relog(self, ours: list[float]) -> None:
    """Ours in place of theirs in the table of completions."""
    log = self._logs["advantages"]
    for _ in range(min(len(ours), len(log))):
      log.pop()
    log.extend(ours)
