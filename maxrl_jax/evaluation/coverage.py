"""Pass rates and pass@k of prompts, exact if p is known."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from maxrl_jax import objectives, ranges, symmetric
from maxrl_jax.estimators import group
from maxrl_jax.evaluation.batches import map_components
from maxrl_jax.tasks import ExactTask, Prompts

Array = jax.Array


class PassRates(NamedTuple):
  """Exact results on M prompts: log p [M], l of the likeliest action [M]."""

  log_pass_rates: Array
  mode_likelihoods: Array


def pass_rates(
  policy: nn.Module, params: Any, prompts: Prompts, task: ExactTask
) -> PassRates:
  """Exact log p = log Σ_z π(z|x) l(y, z) of every prompt.

  `mode_likelihoods` [M] is l of the most likely action, the limit of majority
  voting over many rollouts; its mean is top-1 accuracy for classification.
  """

  def evaluate(components: Any, target: Any) -> PassRates:
    mode = components.locations[jnp.argmax(components.log_weights)]
    log_p = task.log_pass_rate(target, components)
    mode_likelihood = task.likelihoods(target, mode[None])[0]
    return PassRates(log_p, mode_likelihood.astype(log_p.dtype))

  return map_components(evaluate, policy, params, prompts)


def metrics(
  policy: nn.Module,
  task: ExactTask,
  params: Any,
  prompts: Prompts,
  ks: Sequence[int],
) -> dict[str, Array]:
  """Means over the prompts of one run.

  pass@k for each k, `majority` (l of the most likely action), and `nll` (−log p
  in nats).
  """
  return means(pass_rates(policy, params, prompts, task), ks)


def means(rates: PassRates, ks: Sequence[int]) -> dict[str, Array]:
  """`metrics` from pass rates [M]."""
  log_p = rates.log_pass_rates
  covered = coverage(jnp.exp(log_p), ks)
  values = {f"pass@{k}": covered[i] for i, k in enumerate(ks)}
  values["majority"] = jnp.mean(rates.mode_likelihoods)
  values["nll"] = -jnp.mean(log_p)
  return values


def pass_at_k(
  num_correct: Array | np.ndarray, num_samples: int, k: int
) -> Array:
  """Unbiased pass@k from samples: 1 − C(n−c, k)/C(n, k) (arXiv 2107.03374).

  Estimates 1 − (1−p)^k, the probability that one of k binary samples is right;
  `best_at_k` is its counterpart for graded ones.

  Stable for any n: a running sum of positive terms without factorials.

  Args:
    num_correct: c, integers from 0 to n, any shape.
    num_samples: n.
    k: from 1 to n.

  Raises:
    ValueError: k not an integer in 1..n, or c outside 0..n.
  """
  _check_k(k, num_samples)
  if not ranges.is_traced(num_correct):
    c = np.asarray(num_correct)
    if c.dtype.kind not in "iu":
      raise ValueError(f"num_correct: {c.dtype}, must be whole numbers")
    wrong = c[(c < 0) | (c > num_samples)]
    if wrong.size:
      raise ValueError(
        f"num_correct = {wrong[0]}: must be from 0 to n = {num_samples} samples"
      )
  table = symmetric.pass_at(k, num_samples, num_samples, float)
  return table[jnp.asarray(num_correct)]


def graded_pass_at_k(likelihoods: ArrayLike, k: int) -> Array:
  """Unbiased pass@k from samples that succeed with probability l_j.

      1 − mean over k-subsets of Π (1 − l_j), unbiased for 1 − (1 − E[l])^k

  The objective of `estimators.pass_at_k`. It is not the expected best of k,
  which is `best_at_k`, unless l is binary: l is the probability of a success,
  so that several mediocre samples are likely to contain one.

  For l in {0, 1} it equals `pass_at_k`. Sample j is added by the convex
  combination u_k ← u_k + (k/j) (l_j + (1 − l_j) u_{k−1} − u_k), without
  cancellation.

  Args:
    likelihoods: l [n] in [0, 1], or boolean.
    k: from 1 to n.

  Raises:
    ValueError: k not an integer in 1..n, or a likelihood outside [0, 1].
  """
  l, _ = group.prepare(likelihoods, None)
  _check_k(k, len(l))
  return _graded(l, int(k))


@functools.partial(jax.jit, static_argnums=1, inline=True)
def _graded(likelihoods: Array, k: int) -> Array:
  num = likelihoods.shape[0]
  sizes = jnp.arange(k + 1, dtype=likelihoods.dtype)

  def add(u: Array, sample: tuple[Array, Array]) -> tuple[Array, None]:
    l, j = sample
    fewer = jnp.concatenate([jnp.zeros(1, u.dtype), u[:-1]])
    # u_k is not used before j reaches k.
    step = jnp.minimum(sizes / j, 1)
    return u + step * (l + (1 - l) * fewer - u), None

  counts = jnp.arange(1, num + 1, dtype=likelihoods.dtype)
  u, _ = lax.scan(add, jnp.zeros_like(sizes), (likelihoods, counts))
  return u[k]


def best_at_k(rewards: ArrayLike, k: int) -> Array:
  """Unbiased expected best of k graded samples, from n of them.

      mean over k-subsets of max r = r_(1) + Σ_c (r_(n−c+1) − r_(n−c)) pass@k(c)

  summed over c = 1 … n−1, the number of samples above a gap between sorted
  rewards: terms of one sign, without factorials. The objective of
  `estimators.tail(k=…)`; for binary rewards it equals `pass_at_k`.

  Args:
    rewards: r [n], any finite numbers.
    k: from 1 to n.

  Raises:
    ValueError: k not an integer in 1..n, or a reward that is not finite.
  """
  r, _ = group.prepare(rewards, None, bounded=False)
  num = len(r)
  _check_k(k, num)
  ordered = jnp.sort(r)
  chance = symmetric.pass_at(k, num, num, ordered.dtype)[1:-1]
  return ordered[0] + jnp.sum(jnp.diff(ordered) * chance[::-1])


def _check_k(k: int, num_samples: int) -> None:
  """Raises ValueError unless n is an integer and k one from 1 to n."""
  if np.ndim(num_samples):
    raise ValueError(
      f"num_samples: shape {np.shape(num_samples)}, must be one number; call"
      " pass_at_k once for each number of samples"
    )
  ranges.whole(1, num_samples=num_samples)
  if k not in range(1, num_samples + 1):
    raise ValueError(
      f"k = {k}: must be an integer from 1 to n = {num_samples} samples"
    )


def coverage(p: Array, ks: Sequence[int]) -> Array:
  """Mean exact pass@k over prompts [M], for each k: [len(ks)].

  Raises:
    ValueError: a pass rate that is not in [0, 1].
  """
  if not ranges.is_traced(p):
    for wrong in np.asarray(p)[~(np.abs(np.asarray(p) - 0.5) < 0.501)]:
      raise ValueError(f"p: {wrong}, must be in [0, 1]")
  # Sums of probabilities can round to above 1.
  p = jnp.minimum(jnp.asarray(p), 1)
  each = [jnp.mean(objectives.pass_at_k(k).value(p)) for k in ks]
  return jnp.stack(each) if each else jnp.zeros(0, p.dtype)


def sampling_efficiency(
  ks: Sequence[int], first: np.ndarray, second: np.ndarray
) -> np.ndarray:
  """Factor by which a policy needs fewer samples for the coverage of another.

      k / k', where first(k') = second(k)

  log k' is interpolated linearly (arXiv 2602.02710, figure 5).

  Args:
    ks: increasing numbers of samples [K].
    first: coverage of the policy that may need fewer, at each k [K].
    second: coverage of the other policy [K].

  Returns:
    [K]; NaN where the first policy does not have that coverage with ks[-1]
    samples; k / ks[0], a lower bound, where it has more with ks[0].
  """
  grid = np.log(ks)
  # Coverage may be constant in k; interpolation needs it to increase.
  increasing = np.maximum.accumulate(first) + 1e-12 * np.arange(len(grid))
  needed = np.interp(second, increasing, grid, right=np.nan)
  return np.exp(grid - needed)


def gradient_norms(
  loss: Callable, params: Any, keys: Array, prompts: Prompts
) -> Array:
  """‖∇ loss‖₂ over all parameters, for each prompt, [M].

  Args:
    loss: (params, key, prompts [1]) → (scalar, metrics), as `make_loss` builds
      it.
    params: parameters of the policy.
    keys: [M].
    prompts: M prompts.
  """

  def norm(args: Any) -> Array:
    key, prompt = args
    batch = jax.tree.map(lambda x: x[None], prompt)
    gradient, _ = jax.grad(loss, has_aux=True)(params, key, batch)
    leaves = jax.tree.leaves(gradient)
    return jnp.sqrt(sum(jnp.sum(x * x) for x in leaves))

  return lax.map(norm, (keys, prompts))
