"""Advantages of prompts that a trainer sends again until they are solved."""

from typing import Any

import numpy as np
import numpy.typing as npt

from maxrl_jax.integrations import checks


def sequential(
  rewards: npt.ArrayLike,
  groups: Any,
  waves: npt.ArrayLike,
  *,
  mask: npt.ArrayLike | None = None,
  baseline: str | float = "leave_one_out",
  average: str = "prompt",
) -> np.ndarray:
  """`estimators.sequential` of R binary rewards, in NumPy.

  For trainers that send unsolved prompts again: A_j = (n/m) (m r_j/K − b_j),
  with n rollouts of the prompt and K successes among the m of the first wave
  that has one: n/K for a success, minus the baseline. Waves without a success
  get 0, or −β n/m with a constant baseline β; later waves get 0.

  Args:
    rewards: r [R], 0 or 1.
    groups: [R] hashable ids, equal for rollouts of the same prompt.
    waves: [R] integers, increasing in the order of drawing; only their order
      within a prompt matters.
    mask: [R], False for rollouts to ignore.
    baseline: a name in `estimators.SEQUENTIAL_BASELINES`, or a number.
    average: 'prompt', the gradient of a prompt is mean_j A_j ∇log m(z_j|x) over
      its n rollouts; or 'batch', for a loss that takes the mean over all
      unmasked rollouts of the batch: A_j is divided by n and multiplied by the
      mean n, so that prompts count equally.

  Returns:
    A [R], float32.

  Raises:
    ValueError: names the invalid argument, its value and the requirement.
  """
  hint = "; the order is sequential(rewards, groups, waves)"
  r = checks.flat("rewards", rewards, hint)
  R = len(r)
  present = np.ones(R, bool)
  if mask is not None:
    present = checks.mask(mask, R)
  prompt = checks.group_numbers(groups, None, R)
  checks.sequential(r, waves, present, baseline, average)
  numbers, wave = np.unique(np.asarray(waves), return_inverse=True)
  success = present & (r == 1)
  first = np.full(prompt.max() + 1, len(numbers))
  np.minimum.at(first, prompt[success], wave[success])
  drawn = present & (wave <= first[prompt])
  success &= drawn
  _, group = np.unique(prompt * len(numbers) + wave, return_inverse=True)

  def total(x: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Sums over rollouts with the same index, for each rollout."""
    return np.bincount(index, x)[index]

  m, K, n = total(drawn, group), total(success, group), total(present, prompt)
  constants = {
    "leave_one_out": success < K,
    "none": 0,
    "average_score": 1,
    "centred": K > 0,
  }
  b = constants[baseline] if isinstance(baseline, str) else baseline
  coefficients = success / np.maximum(K, 1) - b / np.maximum(m, 1)
  if average == "batch":
    n = present.sum() / max(len(np.unique(prompt[present])), 1)
  return np.where(drawn, n * coefficients, 0).astype(np.float32)
