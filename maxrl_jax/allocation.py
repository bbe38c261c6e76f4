"""How many rollouts each prompt gets."""

import heapq
import math

import numpy as np
import numpy.typing as npt

from maxrl_jax import ranges


def allocate(
  pass_rates: npt.ArrayLike, total: int, *, smallest: int = 2
) -> np.ndarray:
  """Rollouts per prompt that maximize Σ_b pass@N_b for Σ_b N_b = total.

  One rollout after another goes to the prompt with the largest p (1−p)^N, the
  probability that it is the first success of its prompt. It raises pass@N by
  that and `objectives.activity` by twice that, so both sums are maximized.
  Hopeless (p = 0) and solved (p = 1) prompts get `smallest`, unless all are;
  with `smallest` 0, a solved prompt gets one rollout, its first success.

  Estimates stay unbiased if `pass_rates` do not depend on the rollouts that are
  allocated. With order None, prompts differ in their order N_b − 1; for one
  objective, pass `maxrl` an order below `smallest`.

  Args:
    pass_rates: estimates of p [B] in [0, 1], such as means of earlier steps.
    total: number of rollouts, at least B · smallest.
    smallest: the fewest for one prompt; estimators that compare need 2.

  Returns:
    N [B], integers.

  Raises:
    ValueError: a pass rate outside [0, 1], a number that is not whole, a
      negative `smallest`, or too small a total.
  """
  p = np.asarray(pass_rates, float)
  if p.ndim != 1 or not p.size or not np.all((p >= 0) & (p <= 1)):
    raise ValueError(f"pass_rates = {pass_rates!r}: must be [B], in [0, 1]")
  ranges.whole(total=total, smallest=smallest)
  ranges.at_least(0, smallest=smallest)
  if total < p.size * smallest:
    raise ValueError(
      f"total = {total}: must be at least {p.size * smallest}, {smallest} for"
      f" each of {p.size} prompts"
    )
  num = np.full(p.size, smallest)
  # Smallest first: −log gain, then the fewest rollouts, so that ties alternate.
  queue = [(_cost(x, smallest), smallest, b) for b, x in enumerate(p.tolist())]
  heapq.heapify(queue)
  for _ in range(total - p.size * smallest):
    _, n, b = queue[0]
    num[b] = n + 1
    heapq.heapreplace(queue, (_cost(float(p[b]), n + 1), n + 1, b))
  return num


def _cost(p: float, n: int) -> float:
  """−log(p (1−p)^n), which does not underflow."""
  if p == 0 or (p == 1 and n > 0):
    return math.inf
  return -math.log(p) - (n * math.log1p(-p) if n else 0)
