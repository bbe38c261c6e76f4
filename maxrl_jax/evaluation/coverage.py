"""How many prompts a policy solves, exactly where p is known."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from maxrl_jax import objectives, ranges, symmetric
from maxrl_jax.evaluation.batches import judged
from maxrl_jax.tasks.base import Prompts, Task

Array = jax.Array


class PassRates(NamedTuple):
  """Exact results on M prompts: log p [M], and l of the likeliest action."""

  log_pass_rates: Array
  mode_likelihoods: Array


def pass_rates(
  policy: nn.Module, params: Any, prompts: Prompts, task: Task
) -> PassRates:
  """Exact log p = log Σ_z π(z|x) l(y, z) of every prompt.

  `mode_likelihoods` [M] is what majority vote over many rollouts earns: top-1
  accuracy for classification.
  """
  assert task.log_pass_rate is not None
  assert task.likelihoods is not None
  log_pass_rate, likelihoods = task.log_pass_rate, task.likelihoods

  def judge(components: Any, target: Any) -> PassRates:
    mode = components.locations[jnp.argmax(components.log_weights)]
    log_p = log_pass_rate(target, components)
    best = likelihoods(target, mode[None])[0]
    return PassRates(log_p, best.astype(log_p.dtype))

  return judged(policy, params, prompts, judge)


def metrics(
  policy: nn.Module,
  task: Task,
  params: Any,
  prompts: Prompts,
  ks: Sequence[int],
) -> dict[str, Array]:
  """Means over prompts of one run.

  pass@k for each k, `majority` (the likeliest action is right), and `nll`, the
  mean of −log p in nats.
  """
  return means(pass_rates(policy, params, prompts, task), ks)


def means(rates: PassRates, ks: Sequence[int]) -> dict[str, Array]:
  """What `metrics` makes of pass rates [M]."""
  log_p = rates.log_pass_rates
  covered = coverage(jnp.exp(log_p), ks)
  found = {f"pass@{k}": covered[i] for i, k in enumerate(ks)}
  found["majority"] = jnp.mean(rates.mode_likelihoods)
  found["nll"] = -jnp.mean(log_p)
  return found


def pass_at_k(
  num_correct: Array | np.ndarray, num_samples: int, k: int
) -> Array:
  """Unbiased pass@k from samples: 1 − C(n−c, k)/C(n, k) (arXiv 2107.03374).

  Stable for any n: a running sum of positive terms, no factorials.

  Args:
    num_correct: c, integers from 0 to n, any shape.
    num_samples: n.
    k: from 1 to n.

  Raises:
    ValueError: k not whole or outside 1..n, or c outside 0..n.
  """
  _check_k(k, num_samples)
  if not ranges.is_traced(num_correct):
    c = np.asarray(num_correct)
    wrong = c[(c < 0) | (c > num_samples)]
    if wrong.size:
      raise ValueError(
        f"num_correct = {wrong[0]}: must be from 0 to n = {num_samples} samples"
      )
  return symmetric.pass_at(float(k), float(num_samples), num_samples)[
    num_correct
  ]


def graded_pass_at_k(likelihoods: Array, k: int) -> Array:
  """Unbiased pass@k from samples that are right with chances l_j in [0, 1].

      1 − mean over k-subsets of Π (1 − l_j), unbiased for 1 − (1 − E[l])^k

  For l in {0, 1} it is `pass_at_k`. Each sample is a convex combination more,
  u_k ← u_k + (k/j) (l_j + (1 − l_j) u_{k−1} − u_k): nothing small is lost.

  Args:
    likelihoods: l [n], or boolean.
    k: from 1 to n.

  Raises:
    ValueError: k not whole or outside 1..n.
  """
  num = likelihoods.shape[0]
  _check_k(k, num)
  likelihoods = likelihoods.astype(symmetric.compute_dtype(likelihoods))
  sizes = jnp.arange(k + 1, dtype=likelihoods.dtype)

  def add(u: Array, sample: tuple[Array, Array]) -> tuple[Array, None]:
    l, j = sample
    fewer = jnp.concatenate([jnp.zeros(1, u.dtype), u[:-1]])
    # Entries of subsets larger than j are not used before j is as large.
    step = jnp.minimum(sizes / j, 1)
    return u + step * (l + (1 - l) * fewer - u), None

  counts = jnp.arange(1, num + 1, dtype=likelihoods.dtype)
  u, _ = lax.scan(add, jnp.zeros_like(sizes), (likelihoods, counts))
  return u[k]


def _check_k(k: int, num_samples: int) -> None:
  if not 1 <= k <= num_samples or k != int(k):
    raise ValueError(
      f"k = {k}: must be a whole number from 1 to n = {num_samples} samples"
    )


def coverage(p: Array, ks: Sequence[int]) -> Array:
  """Mean exact pass@k over prompts [M], for each k: [len(ks)]."""
  p = jnp.minimum(p, 1)  # A sum of chances may round to above it.
  return jnp.stack([jnp.mean(objectives.pass_at_k(k).value(p)) for k in ks])


def sampling_efficiency(
  ks: Sequence[int], ours: np.ndarray, theirs: np.ndarray
) -> np.ndarray:
  """How many times fewer samples one policy needs for another's coverage.

      k / k', where ours(k') = theirs(k)

  log k' is interpolated linearly (arXiv 2602.02710, figure 5).

  Args:
    ks: rising numbers of samples [K].
    ours: coverage at each of them [K].
    theirs: likewise.

  Returns:
    [K]; NaN where no k' from ks[0] to ks[-1] gives ours that coverage.
  """
  grid = np.log(ks)
  # Coverage rises with k, but may be level where nothing more is found.
  rising = np.maximum.accumulate(ours) + 1e-12 * np.arange(len(grid))
  needed = np.interp(theirs, rising, grid, left=np.nan, right=np.nan)
  return np.exp(grid - needed)


def gradient_norms(
  loss: Callable, params: Any, keys: Array, prompts: Prompts
) -> Array:
  """‖∇ loss‖₂ over all parameters, prompt by prompt, [M].

  Args:
    loss: (params, key, prompts [1]) → scalar.
    params: of the policy.
    keys: [M].
    prompts: M of them.
  """

  def norm(args: Any) -> Array:
    key, one = args
    alone = jax.tree.map(lambda x: x[None], one)
    leaves = jax.tree.leaves(jax.grad(loss)(params, key, alone))
    return jnp.sqrt(sum(jnp.sum(x * x) for x in leaves))

  return lax.map(norm, (keys, prompts))
