"""MaxRL in Tunix, JAX's engine for post-training language models.

    from maxrl_jax.integrations.tunix import MaxRLConfig

    config = MaxRLConfig(num_generations=16, order=4)
    GRPOLearner(rl_cluster=cluster, algo_config=config, reward_fns=reward)

Rewards in [0, 1], one a completion, are the likelihoods; `num_generations` is
N. Needs the extra `tunix`.
"""

import dataclasses
from typing import Any

import numpy as np

from maxrl_jax.integrations import groups

try:
  from tunix.rl import function_registry
  from tunix.rl.grpo.grpo_learner import GRPOConfig
except ImportError as error:
  raise ImportError(f"{error}: pip install 'maxrl_jax[tunix]'") from error

# Of MaxRLConfig, in the order in which they name what is registered.
_OPTIONS = ("order", "baseline", "k", "alpha", "ceiling")


def register(name: str, estimator: str = "maxrl", **options: Any) -> None:
  """Makes an estimator known to Tunix: `advantage_estimator=name`.

  Args:
    name: for `GRPOConfig.advantage_estimator`; an older one is replaced.
    estimator: of `maxrl_jax.estimators.ESTIMATORS`.
    **options: of the estimator, and ceiling, as in `groups.advantages`; what is
      wrong with them is told when the first rewards come.
  """

  @function_registry.register_advantage_estimator(name)
  def advantages(rewards: Any, num_generations: int, **_: Any) -> np.ndarray:
    """Rewards [B·N] → advantages [B·N]."""
    return groups.advantages(
      rewards, num=num_generations, estimator=estimator, **options
    )


@dataclasses.dataclass(kw_only=True)
class MaxRLConfig(GRPOConfig):
  """`GRPOConfig` with one of our estimators, and the loss that it is made for.

  Tunix's defaults are a KL penalty (beta) and a mean over the tokens of each
  completion, which gives short ones more weight. Here beta is 0 and tokens are
  summed: with one iteration a batch, the gradient is mean_j A_j S_j, where S_j
  is the score of a whole completion.

  Attributes:
    estimator: 'maxrl', 'pass_at_k', 'power', 'tail_rl', or another one of
      `maxrl_jax.estimators.ESTIMATORS`.
    order: T of 'maxrl' and 'power', from 1 to num_generations; None is
      num_generations − 1, the paper's algorithm.
    baseline: as in `estimators.maxrl`; None is its default.
    k: of 'pass_at_k'.
    alpha: of 'power'.
    ceiling: the largest reward there can be, by which rewards are divided; None
      is 1.
    advantage_estimator: is set from those above.

  Raises:
    ValueError: naming the field, its value and what is allowed.
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
    given = {name: getattr(self, name) for name in _OPTIONS}
    given = {name: x for name, x in given.items() if x is not None}
    # What is wrong with them is told now, where nothing has been computed: to
    # ask for advantages would start JAX, and on the CPU alone.
    groups.check(self.num_generations, estimator=self.estimator, **given)
    words = ", ".join(f"{name}={value}" for name, value in given.items())
    self.advantage_estimator = f"{self.estimator}({words})"
    register(self.advantage_estimator, self.estimator, **given)
