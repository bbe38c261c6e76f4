"""MaxRL in Tunix, a JAX library for post-training language models.

    from maxrl_jax.integrations.tunix import MaxRLConfig

    config = MaxRLConfig(num_generations=16, order=4)
    GRPOLearner(rl_cluster=cluster, algo_config=config, reward_fns=reward)

Rewards in [0, 1], one per completion, are the likelihoods; `num_generations` is
N. A rollout is one row, in Tunix's agentic learner too, which joins its turns.
No mask reaches an estimator: a trajectory that Tunix masks out still counts in
its group, and a reward that is None or NaN arrives as 0. Requires the extra
`tunix`.
"""

import dataclasses
from typing import Any

import numpy as np

from maxrl_jax.integrations import groups

try:
  from tunix.rl import function_registry
  from tunix.rl.grpo.grpo_learner import GRPOConfig
except ImportError as error:
  raise ImportError(f"{error}; run pip install -e '.[tunix]'") from error

# Fields of MaxRLConfig, in the order of the registered name.
_OPTIONS = ("order", "baseline", "k", "alpha", "ceiling")


def register(name: str, estimator: str = "maxrl", **options: Any) -> None:
  """Registers an estimator in Tunix, for `advantage_estimator=name`.

  Args:
    name: for `GRPOConfig.advantage_estimator`; replaces an existing one.
    estimator: a name in `maxrl_jax.estimators.ESTIMATORS`.
    **options: of the estimator, and ceiling, as in `groups.advantages`; invalid
      ones raise when the first rewards arrive.
  """

  @function_registry.register_advantage_estimator(name)
  def advantages(rewards: Any, num_generations: int, **_: Any) -> np.ndarray:
    """Rewards [B·N] → advantages [B·N]."""
    return groups.advantages(
      rewards, num=num_generations, estimator=estimator, **options
    )


@dataclasses.dataclass(kw_only=True)
class MaxRLConfig(GRPOConfig):
  """`GRPOConfig` with an estimator of this library and the loss that it needs.

  Tunix's defaults are a KL penalty (beta) and a mean over the tokens of each
  completion, which gives short ones more weight. Here beta is 0 and tokens are
  summed: with one iteration per batch, the gradient is mean_j A_j S_j, where
  S_j is the score of the entire completion.

  Attributes:
    estimator: 'maxrl', 'pass_at_k', 'power', 'tail', 'tail_rl', or another
      one of `maxrl_jax.estimators.ESTIMATORS` but 'series', whose
      coefficients have no field here.
    order: T of 'maxrl', 'power' and 'tail', from 1 to num_generations; None
      means num_generations − 1, the paper's algorithm.
    baseline: as in `estimators.maxrl`; None means its default.
    k: of 'pass_at_k' and 'tail'.
    alpha: of 'power' and 'tail'.
    ceiling: the largest possible reward, by which rewards are divided; None
      means 1.
    advantage_estimator: set from the fields above.

  Raises:
    ValueError: names the invalid field, its value and the requirement.
  """

  estimator: str = "maxrl"
  order: int | None = None
  baseline: str | float | None = None
  k: int | None = None
  alpha: float | None = None
  ceiling: float | None = None
  beta: float = 0.0
  loss_agg_mode: str = "seq-mean-token-sum"

  def __post_init__(self) -> None:
    super().__post_init__()
    options = {name: getattr(self, name) for name in _OPTIONS}
    options = {name: x for name, x in options.items() if x is not None}
    # Checked without computing advantages, which would initialize JAX with the
    # CPU as its only device.
    groups.check(self.num_generations, estimator=self.estimator, **options)
    arguments = ", ".join(f"{name}={value}" for name, value in options.items())
    self.advantage_estimator = f"{self.estimator}({arguments})"
    register(self.advantage_estimator, self.estimator, **options)
