"""What every task provides."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from maxrl_jax.distributions import Components

Array = jax.Array


class Prompts(NamedTuple):
  """A batch: what the policy sees, [B, …], and what it is to find, [B, …]."""

  inputs: Array
  targets: Array


@dataclass(frozen=True)
class Task:
  """Single-step task with C enumerable actions.

  Attributes:
    num_actions: C.
    draw: (key, B) → training Prompts.
    likelihoods: (target, actions [N]) → l [N] of one prompt; boolean where
      rewards are right or wrong, which gives estimators their closed form.
    log_pass_rate: (target, Components) → log E[l] of one prompt, exactly.
    splits: fixed Prompts by name: 'train', 'validation', 'test'.
    policy_options: what the task wants of its policy, such as initial logits.
  """

  num_actions: int
  draw: Callable[[Array, int], Prompts]
  likelihoods: Callable[[Array, Array], Array]
  log_pass_rate: Callable[[Array, Components], Array]
  splits: dict[str, Prompts]
  policy_options: dict[str, Any]


def exact_match(target: Array, actions: Array) -> Array:
  """l = 1[z = y], boolean [N]."""
  return actions == target


def exact_match_log_pass_rate(target: Array, policy: Components) -> Array:
  """log π(y|x) without leaving log space."""
  return policy.log_weights[target]


def tabulated(target: Array, actions: Array) -> Array:
  """l(y, z) looked up in the prompt's own row of likelihoods, [N]."""
  return target[actions]


def tabulated_log_pass_rate(target: Array, policy: Components) -> Array:
  """log Σ_z π(z|x) l(y, z)."""
  log_weights = policy.log_weights
  return jax.nn.logsumexp(log_weights, b=target.astype(log_weights.dtype))


def check_at_least(least, **fields) -> None:
  """Raises ValueError at the first field that is below `least`."""
  for name, value in fields.items():
    if value < least:
      raise ValueError(f"{name} = {value}: must be at least {least}")


def check_positive(**fields) -> None:
  """Raises ValueError at the first field that is below 1."""
  check_at_least(1, **fields)


def uniform_rows(key: Array, prompts: Prompts, batch: int) -> Prompts:
  """A batch drawn with replacement."""
  rows = jax.random.randint(key, (batch,), 0, prompts.targets.shape[0])
  return jax.tree.map(lambda x: jnp.take(x, rows, axis=0), prompts)
