"""Gradients of sampled sequences: a few prompts at a time, and only some."""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from maxrl_jax.learning.rollouts import Rollouts

Array = jax.Array

# Tokens of answers in memory at a time: on a CPU their activations then fit
# into its caches; other devices need many rows to be busy.
_ON_CPU, _ELSEWHERE = 2**11, 2**16


def differentiable(
  drawn: Rollouts,
  policy: nn.Module,
  params: Any,
  outputs: Any,
  needed: Array | None,
) -> Rollouts:
  """Sampled rollouts, with gradients of the needed prompts' log-probabilities.

  A prompt whose rollouts all have the advantage 0 adds nothing to the gradient
  of a surrogate. Where most prompts are unsolved, or most always solved, they
  would be most of the work. The others are scored when the gradient is taken,
  block by block, so that activations of a whole batch are never in memory.

  Args:
    drawn: of B prompts, fields [B, N, …].
    policy: of sequences.
    params: its parameters; the result is differentiable in them.
    outputs: the policy's; differentiable likewise.
    needed: [B], False where the gradient with respect to the log-probabilities
      is 0. None scores everything at once, and makes entropies differentiable.
  """
  if needed is None:
    scores: Any = policy.apply(params, outputs, drawn.actions, method="score")
    return drawn._replace(
      log_probs=scores.log_probs, entropies=scores.entropies
    )
  count, *size = drawn.actions.shape

  @jax.custom_vjp
  def attach(params: Any, outputs: Any, known: Array, *constants: Array) -> Any:
    return known

  def forward(*arguments: Any) -> tuple[Array, Any]:
    params, outputs, known, answers, needed = arguments
    return known, (params, outputs, answers, needed)

  def backward(saved: Any, slopes: Array) -> tuple[Any, ...]:
    def in_blocks(tokens: int) -> Any:
      prompts = max(1, min(count, tokens // math.prod(size)))
      return functools.partial(_gradient, policy, prompts)

    gradients = lax.platform_dependent(
      *(*saved, slopes),
      cpu=in_blocks(_ON_CPU),
      default=in_blocks(_ELSEWHERE),
    )
    return *gradients, None, None, None

  attach.defvjp(forward, backward)
  log_probs = attach(params, outputs, drawn.log_probs, drawn.actions, needed)
  return drawn._replace(log_probs=log_probs)


def _gradient(
  policy: nn.Module,
  size: int,
  params: Any,
  outputs: Any,
  answers: Array,
  needed: Array,
  slopes: Array,
) -> tuple[Any, Any]:
  """Gradients of Σ slopes · log-probabilities in (params, outputs)."""
  none = needed.shape[0]
  # Needed prompts first; the last block may reach beyond all prompts.
  order = jnp.pad(
    jnp.argsort(~needed, stable=True), (0, size - 1), constant_values=none
  )
  blocks = -(-jnp.sum(needed) // size)
  slopes = jnp.pad(slopes, ((0, 1), (0, 0)))

  def add(state: tuple[Array, Any, Any]) -> tuple[Array, Any, Any]:
    index, of_params, of_outputs = state
    rows = lax.dynamic_slice_in_dim(order, index * size, size)

    def score(params: Any, some: Any) -> Array:
      scores: Any = policy.apply(params, some, answers[rows], method="score")
      return scores.log_probs

    some = jax.tree.map(lambda x: x[rows], outputs)
    _, pull = jax.vjp(score, params, some)
    more, of_some = pull(slopes[rows])
    of_params = jax.tree.map(jnp.add, of_params, more)
    of_outputs = jax.tree.map(
      lambda all_, new: all_.at[rows].set(new), of_outputs, of_some
    )
    return index + 1, of_params, of_outputs

  zeros = jax.tree.map(jnp.zeros_like, (params, outputs))
  state = (jnp.zeros((), blocks.dtype), *zeros)
  return lax.while_loop(lambda state: state[0] < blocks, add, state)[1:]
