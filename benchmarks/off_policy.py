"""What it costs to correct a prompt's weight off policy, exactly.

    python -m benchmarks.off_policy

The behaviour policy is a softmax over four actions, of which two are right,
with pass rate p; in the current one the logit of one action is higher by d.
Over all groups of N = 6, with the series of order T = 5: the weight of
`unclipped` divided by the current policy's, and the variances of two estimates
with the current weight divided by that of `unclipped`. `reweighted` has the
failures 1 − ρ l, the other one ρ (1 − l).
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.shell import console
from maxrl_jax import estimators, off_policy, symmetric

_RIGHT = np.array([1.0, 1.0, 0.0, 0.0])
_N, _T = 6, 5
_PASS_RATES = (0.02, 0.1, 0.3)
_SHIFTS = (-1.0, 0.5, 1.0, 2.0)
_MOVED = {"right": 0, "wrong": 2}


def main() -> None:
  rates = " | ".join(f"p = {p}" for p in _PASS_RATES)
  print(f"| moved | d | {rates} |\n|---|---{'|---' * len(_PASS_RATES)}|")
  with jax.enable_x64(True):
    for moved, shift in itertools.product(_MOVED, _SHIFTS):
      cells = [cell(p, moved, shift) for p in _PASS_RATES]
      print(f"| {moved} | {shift:g} | " + " | ".join(cells) + " |")


def cell(p: float, moved: str, shift: float) -> str:
  """The ratio of weights, and the two ratios of variances."""
  old, new = policies(p, moved, shift)
  unclipped, *others = (moments(e, old, new) for e in ESTIMATES)
  target = others[0][0]
  ratio = np.dot(unclipped[0], target) / np.dot(target, target)
  variances = [variance / unclipped[1] for _, variance in others]
  return f"{ratio:.2f}; " + ", ".join(f"{v:.2f}" for v in variances)


def policies(
  p: float, moved: str, shift: float
) -> tuple[np.ndarray, np.ndarray]:
  """μ and π [4]."""
  old = np.where(_RIGHT > 0, p / 2, (1 - p) / 2)
  new = old * np.exp(shift * np.eye(4)[_MOVED[moved]])
  return old, new / new.sum()


def moments(
  estimate, old: np.ndarray, new: np.ndarray
) -> tuple[np.ndarray, float]:
  """Mean [4] and variance (trace) of mean_j A_j S_j over all groups of μ."""
  groups = np.array([*itertools.product(range(4), repeat=_N)])
  chance = old[groups].prod(-1)
  ratios = (new / old)[groups]
  advantages = _compiled(estimate)(_RIGHT[groups], ratios)
  scores = (np.eye(4) - new)[groups]
  gradients = np.einsum("gn,gna->ga", np.asarray(advantages), scores) / _N
  mean = chance @ gradients
  return mean, float(chance @ np.sum(gradients**2, -1) - mean @ mean)


@functools.cache
def _compiled(estimate):
  return jax.jit(jax.vmap(estimate))


def unclipped(l, ratios):
  return ratios * estimators.maxrl(l, order=_T)


def reweighted(l, ratios):
  return off_policy.reweighted(l, ratios, coefficients=jnp.ones(_T))


def positive(l, ratios):
  """With ρ (1 − l) for each failure, which is never negative."""
  loo = symmetric.series_leave_one_out(1 - ratios * (1 - l), jnp.ones(_T))
  return ratios * (loo.weights * l - loo.baselines)


ESTIMATES = (unclipped, reweighted, positive)

if __name__ == "__main__":
  console.run(main)
