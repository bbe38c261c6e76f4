"""Gradients of sampled sequences: a few prompts at a time, and only some."""

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from maxrl_jax.devices.mesh import ONE_DEVICE, Layout
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
  needed: Array | None = None,
  *,
  entropies: bool = False,
  layout: Layout = ONE_DEVICE,
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
    needed: [B], False where the gradient with respect to the result is 0; None
      if it is nowhere known to be.
    entropies: make entropies differentiable, too.
    layout: which devices have which prompts and rollouts; a block has as many
      prompts of each device.
  """
  fields = ("log_probs", "entropies") if entropies else ("log_probs",)

  def score(params: Any, outputs: Any, answers: Array) -> list[Array]:
    scores: Any = policy.apply(params, outputs, answers, method="score")
    return [getattr(scores, field) for field in fields]

  known = [getattr(drawn, field) for field in fields]
  if needed is None:
    needed = jnp.ones(drawn.actions.shape[0], bool)
  values = _attached(
    *(score, layout, params, outputs, known, drawn.actions, needed)
  )
  return drawn._replace(**dict(zip(fields, values, strict=True)))


def _attached(
  score: Callable,
  layout: Layout,
  params: Any,
  outputs: Any,
  known: list[Array],
  answers: Array,
  needed: Array,
) -> list[Array]:
  """The known values of `score`, with its gradients."""
  count, *size = answers.shape
  parts = layout.size("data")
  # Tokens of a prompt on one device.
  of_one = math.prod(size) // layout.size("rollouts")

  @jax.custom_vjp
  def attach(params: Any, outputs: Any, known: Any, *constants: Array) -> Any:
    return known

  def forward(*arguments: Any) -> tuple[Any, Any]:
    params, outputs, known, answers, needed = arguments
    return known, (params, outputs, answers, needed)

  def backward(saved: Any, slopes: list[Array]) -> tuple[Any, ...]:
    def in_blocks(tokens: int) -> Any:
      prompts = max(1, min(count // parts, tokens // of_one))
      return functools.partial(_gradient, score, parts, prompts)

    gradients = lax.platform_dependent(
      *(*saved, slopes),
      cpu=in_blocks(_ON_CPU),
      default=in_blocks(_ELSEWHERE),
    )
    return *gradients, None, None, None

  attach.defvjp(forward, backward)
  return attach(params, outputs, known, answers, needed)


def _gradient(
  score: Callable,
  parts: int,
  size: int,
  params: Any,
  outputs: Any,
  answers: Array,
  needed: Array,
  slopes: list[Array],
) -> tuple[Any, Any]:
  """Gradients of Σ slopes · score in (params, outputs).

  In blocks of `size` prompts of each of the equal parts of the batch. Each part
  has its own sum over blocks, so that devices communicate only once.
  """
  if size * parts == needed.shape[0]:
    return _of_some(score, params, outputs, answers, slopes)
  split = jax.tree.map(
    lambda x: x.reshape(parts, -1, *x.shape[1:]),
    (outputs, answers, needed, slopes),
  )
  blocks = jnp.max(-(-jnp.sum(split[2], 1) // size))
  in_blocks = functools.partial(_in_blocks, score, size, blocks, params)
  if parts == 1:
    split = jax.tree.map(lambda x: x[0], split)
    return in_blocks(*split)
  of_params, of_outputs = jax.vmap(in_blocks)(*split)
  return (
    jax.tree.map(lambda x: jnp.sum(x, 0), of_params),
    jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), of_outputs),
  )


def _in_blocks(
  score: Callable,
  size: int,
  blocks: Array,
  params: Any,
  outputs: Any,
  answers: Array,
  needed: Array,
  slopes: list[Array],
) -> tuple[Any, Any]:
  """`_gradient` of one part, of as many blocks as the largest part has."""
  count = needed.shape[0]
  # Needed prompts first; the last block may reach beyond all prompts.
  order = jnp.pad(
    jnp.argsort(~needed, stable=True), (0, size - 1), constant_values=count
  )
  slopes = [jnp.pad(x, ((0, 1), (0, 0))) for x in slopes]

  def add(state: tuple[Array, Any, Any]) -> tuple[Array, Any, Any]:
    index, of_params, of_outputs = state
    rows = lax.dynamic_slice_in_dim(order, index * size, size)
    some = jax.tree.map(lambda x: x[rows], (outputs, answers, slopes))
    more, new = _of_some(score, params, *some)
    of_params = jax.tree.map(jnp.add, of_params, more)
    of_outputs = jax.tree.map(
      lambda all_, new: all_.at[rows].set(new), of_outputs, new
    )
    return index + 1, of_params, of_outputs

  zeros = jax.tree.map(jnp.zeros_like, (params, outputs))
  state = (jnp.zeros((), blocks.dtype), *zeros)
  return lax.while_loop(lambda state: state[0] < blocks, add, state)[1:]


def _of_some(
  score: Callable, params: Any, outputs: Any, answers: Array, slopes: Any
) -> tuple[Any, Any]:
  scored = functools.partial(score, answers=answers)
  return jax.vjp(scored, params, outputs)[1](slopes)
