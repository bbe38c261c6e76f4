"""What a policy or an estimator turned out to be, exactly where p is known."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from maxrl_jax import distributions, objectives, symmetric
from maxrl_jax.tasks.base import Prompts, Task

Array = jax.Array


# Policies


class PassRates(NamedTuple):
  """Exact results on M prompts: log p [M], and l of the likeliest action."""

  log_pass_rates: Array
  mode_likelihoods: Array


def pass_rates(
  policy: nn.Module, params, prompts: Prompts, task: Task
) -> PassRates:
  """Exact log p = log Σ_z π(z|x) l(y, z) of every prompt.

  `mode_likelihoods` [M] is what majority vote over many rollouts earns: top-1
  accuracy for classification.
  """
  outputs = policy.apply(params, prompts.inputs)

  def one(outputs, target):
    components = policy.apply(params, outputs, method="components")
    mode = components.locations[jnp.argmax(components.log_weights)]
    log_p = task.log_pass_rate(target, components)
    return log_p, task.likelihoods(target, mode[None])[0]

  log_p, best = jax.vmap(one)(outputs, prompts.targets)
  return PassRates(log_p, best.astype(log_p.dtype))


def make_evaluate(policy: nn.Module, task: Task, ks: Sequence[int]) -> Callable:
  """Compiles (split, params with the run axis first) → metrics, each [runs].

  Metrics are means over the split's prompts: pass@k for each k, `majority`
  (the likeliest action is right) and `nll`, −log p in nats.
  """

  @functools.partial(jax.jit, static_argnums=0)
  def evaluate(split: str, params) -> dict[str, Array]:
    def one_run(params):
      return summarize(pass_rates(policy, params, task.splits[split], task))

    return lax.map(one_run, params)

  def summarize(rates: PassRates) -> dict[str, Array]:
    log_p = rates.log_pass_rates
    covered = coverage(jnp.exp(log_p), ks)
    summary = {f"pass@{k}": covered[i] for i, k in enumerate(ks)}
    summary["majority"] = jnp.mean(rates.mode_likelihoods)
    summary["nll"] = -jnp.mean(log_p)
    return summary

  # jit sorts dictionaries by name; pass@k reads better by k.
  names = [*(f"pass@{k}" for k in ks), "majority", "nll"]

  def in_order(split, params):
    found = evaluate(split, params)
    return {name: np.asarray(found[name]) for name in names}

  return in_order


def exact_pass_at_k(p: Array, k) -> Array:
  """pass@k = 1 − (1−p)^k where the pass rate is known."""
  return objectives.pass_at_k(k).value(p)


def pass_at_k(num_correct: Array, num_samples: int, k: int) -> Array:
  """Unbiased pass@k from samples: 1 − C(n−c, k)/C(n, k) (arXiv 2107.03374).

  Stable for any n: a running sum of positive terms, no factorials.

  Args:
    num_correct: c, integers from 0 to n, any shape.
    num_samples: n.
    k: from 1 to n.

  Raises:
    ValueError: k outside 1..n.
  """
  if not 1 <= k <= num_samples:
    raise ValueError(f"k = {k}: must be from 1 to n = {num_samples} samples")
  return symmetric.pass_at(float(k), float(num_samples), num_samples)[
    num_correct
  ]


def coverage(p: Array, ks: Sequence[int]) -> Array:
  """Mean exact pass@k over prompts [M], for each k: [len(ks)]."""
  return jnp.stack([jnp.mean(exact_pass_at_k(p, k)) for k in ks])


def majority_vote(
  actions: Array, likelihoods: Array, num_actions: int
) -> Array:
  """What the most frequent of N sampled actions is worth, for one prompt.

  Ties count as a fair draw among the most frequent actions.

  Args:
    actions: [N] integers below num_actions.
    likelihoods: l [N] of the same rollouts.
    num_actions: C.
  """
  chex.assert_equal_shape([actions, likelihoods])
  counts = jnp.zeros(num_actions, jnp.int32).at[actions].add(1)
  votes = counts[actions]
  # Every winning action has the same number of rollouts: their mean is fair.
  wins = votes == jnp.max(counts)
  return jnp.sum(jnp.where(wins, likelihoods, 0)) / jnp.sum(wins)


def gradient_norms(
  loss: Callable, params, keys: Array, prompts: Prompts
) -> Array:
  """‖∇ loss‖₂ over all parameters, prompt by prompt, [M].

  Args:
    loss: (params, key, prompts [1]) → scalar.
    params: of the policy.
    keys: [M].
    prompts: M of them.
  """

  def norm(args):
    key, one = args
    alone = jax.tree.map(lambda x: x[None], one)
    leaves = jax.tree.leaves(jax.grad(loss)(params, key, alone))
    return jnp.sqrt(sum(jnp.sum(x * x) for x in leaves))

  return lax.map(norm, (keys, prompts))


# Estimators, on one prompt with a softmax policy over C actions


class Moments(NamedTuple):
  """Of a gradient estimate with respect to the C logits.

  Attributes:
    mean: E[ĝ] [C].
    standard_error: of the mean [C]; 0 where it is exact.
    variance: the trace of Cov[ĝ], a scalar.
  """

  mean: Array
  standard_error: Array
  variance: Array


def exact_gradient(
  objective: objectives.Objective, logits: Array, likelihoods: Array
) -> Array:
  """∇J(E[l]) [C] for the policy softmax(logits) and l(z) [C]."""

  def value(logits):
    p = jnp.sum(jax.nn.softmax(logits) * likelihoods)
    return objective.value(p)

  return jax.grad(value)(logits)


def enumerated_moments(
  estimator: Callable, logits: Array, likelihoods: Array, num: int
) -> Moments:
  """Exact moments over all C^N outcomes of N rollouts.

  Args:
    estimator: l [N] → A [N].
    logits: [C].
    likelihoods: l(z) [C].
    num: N; C^N is at most about a million.

  Raises:
    ValueError: too many outcomes.
  """
  chex.assert_rank([logits, likelihoods], 1)
  chex.assert_equal_shape([logits, likelihoods])
  size = logits.shape[0]
  if size**num > 2**20:
    raise ValueError(f"num = {num}: {size}^{num} outcomes; sample instead")
  outcomes = np.indices((size,) * num).reshape(num, -1).T
  policy = jax.nn.softmax(logits)
  chance = jnp.prod(policy[outcomes], -1)
  estimates = _estimates(estimator, policy, likelihoods, jnp.asarray(outcomes))
  mean = jnp.sum(chance[:, None] * estimates, 0)
  spread = jnp.sum((estimates - mean[None]) ** 2, -1)
  return Moments(mean, jnp.zeros_like(mean), jnp.sum(chance * spread))


@functools.partial(jax.jit, static_argnums=(1, 4, 5))
def sampled_moments(
  key: Array,
  estimator: Callable,
  logits: Array,
  likelihoods: Array,
  num: int,
  groups: int,
) -> Moments:
  """Moments over independently sampled groups of N rollouts.

  Args:
    key: a typed random key.
    estimator: l [N] → A [N].
    logits: [C].
    likelihoods: l(z) [C].
    num: N.
    groups: how many, a multiple of 1024 or below it.
  """
  batch = min(groups, 1024)
  if groups < 2 or groups % batch:
    raise ValueError(
      f"groups = {groups}: must be from 2 to 1024 or a multiple of 1024"
    )
  policy = jax.nn.softmax(logits)

  def accumulate(sums, key):
    draw = functools.partial(distributions.categorical, num=num)
    keys = jax.random.split(key, batch)
    actions = jax.vmap(draw, (0, None))(keys, logits)
    g = _estimates(estimator, policy, likelihoods, actions)
    return (sums[0] + jnp.sum(g, 0), sums[1] + jnp.sum(g * g, 0)), None

  zeros = jnp.zeros_like(policy)
  keys = jax.random.split(key, groups // batch)
  (total, squares), _ = lax.scan(accumulate, (zeros, zeros), keys)
  mean = total / groups
  variance = jnp.maximum(squares / groups - mean**2, 0) * groups / (groups - 1)
  return Moments(mean, jnp.sqrt(variance / groups), jnp.sum(variance))


def _estimates(estimator, policy, likelihoods, actions) -> Array:
  """ĝ = mean_j A_j (1[z_j] − π) for each group of actions [G, N]: [G, C]."""
  advantages = jax.vmap(estimator)(likelihoods[actions])
  num = actions.shape[1]

  def scatter(actions, advantages):
    taken = jnp.zeros_like(policy).at[actions].add(advantages)
    return (taken - jnp.sum(advantages) * policy) / num

  return jax.vmap(scatter)(actions, advantages)
