"""Contextual bandits small enough to enumerate."""

import numpy as np

from maxrl_jax import ranges
from maxrl_jax.tasks import base


def bandit(
  *,
  num_prompts: int = 64,
  num_arms: int = 16,
  hardest: float = 1e-4,
  easiest: float = 0.5,
  continuous: bool = False,
  task_seed: int = 0,
) -> base.ExactTask:
  """Prompts whose initial pass rates are evenly spaced on a log scale.

  Every prompt has a row of likelihoods over the arms. The initial policy
  (`policy_options['initial_logits']`) has pass rate exactly p_x, from `hardest`
  to `easiest` in geometric steps. Binary: one arm succeeds. Continuous: one arm
  has l = 1, the others are uniform in [0, p_x], so that a policy can improve
  without finding the best arm.

  Args:
    num_prompts: contexts x, each a prompt.
    num_arms: A ≥ 2 actions.
    hardest: smallest initial pass rate, in (0, easiest].
    easiest: largest, below 1.
    continuous: likelihoods in [0, 1] rather than binary.
    task_seed: which arms are good, and the policy's initial preferences.
  """
  ranges.at_least(1, num_prompts=num_prompts)
  ranges.at_least(2, num_arms=num_arms)
  if not 0 < hardest <= easiest < 1:
    raise ValueError(
      f"hardest = {hardest}, easiest = {easiest}: need"
      " 0 < hardest <= easiest < 1"
    )
  rng = np.random.default_rng(task_seed)
  pass_rates = np.geomspace(hardest, easiest, num_prompts)
  best = rng.integers(num_arms, size=num_prompts)
  likelihoods = np.zeros((num_prompts, num_arms))
  if continuous:
    share = rng.uniform(size=likelihoods.shape)
    likelihoods = share * pass_rates[:, None]
  likelihoods[np.arange(num_prompts), best] = 1.0
  policy = _policy(rng, likelihoods, best, pass_rates)

  table = likelihoods.astype(np.float32) if continuous else likelihoods > 0
  everything = base.Prompts(np.arange(num_prompts, dtype=np.int32), table)
  return base.ExactTask(
    draw=lambda key, batch: base.uniform_rows(key, everything, batch),
    likelihoods=base.tabulated,
    log_pass_rate=base.tabulated_log_pass_rate,
    splits=dict.fromkeys(("train", "validation", "test"), everything),
    policies=("tabular",),
    policy_options={
      "num_actions": num_arms,
      "initial_logits": np.log(policy).astype(np.float32),
    },
  )


def _policy(
  rng: np.random.Generator,
  likelihoods: np.ndarray,
  best: np.ndarray,
  pass_rates: np.ndarray,
) -> np.ndarray:
  """Probabilities [prompts, arms] of a policy with exactly these pass rates.

  Those of the arms that are not the best are random.
  """
  num_prompts, num_arms = likelihoods.shape
  rows = np.arange(num_prompts)
  others = rng.dirichlet(np.full(num_arms, 5.0), size=num_prompts)
  others[rows, best] = 0
  others /= others.sum(1, keepdims=True)
  pass_rates_of_others = (others * likelihoods).sum(1)
  p_best = (pass_rates - pass_rates_of_others) / (1 - pass_rates_of_others)
  policy = others * (1 - p_best)[:, None]
  policy[rows, best] = p_best
  return policy
