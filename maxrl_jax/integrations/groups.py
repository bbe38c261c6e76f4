"""Advantages of many prompts at once, for trainers that are not in JAX.

Rewards come in flat, as PyTorch trainers have them, with the group (prompt) of
each rollout; advantages go back in the same order, both as NumPy arrays.
Groups may be ragged and interleaved: they are padded to [groups, N], both
rounded up to powers of two, and given to the estimator vmapped and jitted. A
loop whose groups change in size and number compiles log G · log N programs at
most for each set of options, twice as many where rewards are sometimes all 0
or 1: those take the closed form.

It all happens on JAX's CPU device. Where JAX has not started yet and
JAX_PLATFORMS is not set, JAX is told to start the CPU alone, so that no GPU
gets a context or loses memory to it. Who wants JAX on the GPU too, in the same
process, sets JAX_PLATFORMS=cuda,cpu or starts JAX before the first call.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from maxrl_jax.estimators import ESTIMATORS
from maxrl_jax.integrations import checks

# Rewards that are all 0 or 1 go to these as booleans.
_CLOSED_FORM = ("maxrl", "pass_at_k", "power", "series")


def advantages(
  rewards: npt.ArrayLike,
  groups: Any = None,
  *,
  num: int | None = None,
  mask: npt.ArrayLike | None = None,
  estimator: str = "maxrl",
  ceiling: float | None = None,
  **options: Any,
) -> np.ndarray:
  """Advantages A_j of R rollouts, each estimated from its own group.

  The gradient of one prompt is mean_j A_j ∇log m(z_j|x), the logarithm summed
  over tokens: which ∇J that is, `maxrl_jax.estimators` says of each estimator.
  In a group of n rollouts, order None is T = n − 1. An order T > n counts as n
  there, unbiased for ∇J_n but not centred; `pass_at_k` with k > n gives 0. A
  group of one, beside larger ones, gets 0, but with `reinforce` or a baseline
  that does not compare ('none', 'average_score', a number).

  Args:
    rewards: r [R]; in [0, 1] once divided by the ceiling, any finite number
      for `ANY_REWARD` (rloo, grpo, dr_grpo, reinforce). Anything `np.asarray`
      takes; computed in float32.
    groups: [R] ids, equal for rollouts of the same prompt: anything hashable.
    num: instead of ids, N: every N rewards in a row are a group.
    mask: [R], False where a rollout is to be left out (truncated, filtered,
      without a reward): its advantage is 0 and the others are as if it had
      never been drawn.
    estimator: a name in `ESTIMATORS`.
    ceiling: the largest reward there can be, by which rewards are divided.
    **options: those of the estimator, such as order, baseline, k or alpha; None
      is not set. A program is compiled for each set of values.

  Returns:
    A [R], float32.

  Raises:
    ValueError: naming the argument, its value and what it must be; before
      anything is compiled.
  """
  rewards = checks.flat("rewards", rewards, float)
  size = len(rewards)
  present = np.ones(size, bool)
  if mask is not None:
    present = checks.flat("mask", mask, bool, size)
  group, column, sizes = _places(groups, num, size)
  options = checks.options(estimator, options, sizes.max())
  l = checks.likelihoods(rewards, present, estimator, ceiling)
  if estimator in _CLOSED_FORM and np.all((l == 0) | (l == 1)):
    l = l == 1
  shape = _round_up(len(sizes)), _round_up(sizes.max())
  padded = np.zeros(shape, l.dtype), np.zeros(shape, bool)
  for array, values in zip(padded, (l, present), strict=True):
    array[group, column] = values
  with jax.default_device(_cpu()):
    found = _compiled(estimator, tuple(sorted(options.items())))(*padded)
  return np.asarray(found, np.float32)[group, column]


def check(
  num: int,
  *,
  estimator: str = "maxrl",
  ceiling: float | None = None,
  **options: Any,
) -> None:
  """Raises what `advantages` would of groups of N; JAX does not start."""
  platforms = _platforms()
  if platforms and "cpu" not in platforms.split(","):
    raise _without_cpu("not among them")
  options = checks.options(estimator, options, num)
  checks.likelihoods(np.zeros(num), np.ones(num, bool), estimator, ceiling)
  group = (1, _round_up(num))
  jax.eval_shape(
    _compiled(estimator, tuple(sorted(options.items()))),
    jax.ShapeDtypeStruct(group, np.float32),
    jax.ShapeDtypeStruct(group, bool),
  )


def _places(
  groups: Any, num: int | None, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Of each rollout its group and its place in it, [R]; the groups' sizes."""
  group = checks.group_numbers(groups, num, size)
  sizes = np.bincount(group)
  by_group = np.argsort(group, kind="stable")
  first = np.repeat(np.cumsum(sizes) - sizes, sizes)
  column = np.empty(size, int)
  column[by_group] = np.arange(size) - first
  return group, column, sizes


def _round_up(size: int) -> int:
  """The next power of two; 1 stays 1, which estimators that compare refuse."""
  return 2 ** math.ceil(math.log2(size))


@functools.lru_cache(maxsize=256)
def _compiled(estimator: str, options: tuple) -> Callable[..., jax.Array]:
  function = functools.partial(ESTIMATORS[estimator], **dict(options))
  return jax.jit(jax.vmap(lambda l, mask: function(l, mask=mask)))


def _cpu() -> jax.Device:
  """JAX's first CPU device; starts no other backend if none was asked for."""
  # Any look at devices starts every platform allowed: a CUDA client takes most
  # of each visible GPU. Once JAX has started, the setting changes nothing.
  if not _platforms():
    jax.config.update("jax_platforms", "cpu")
  try:
    return jax.local_devices(backend="cpu")[0]
  except RuntimeError as error:
    raise _without_cpu(error) from None


def _platforms() -> str | None:
  return jax.config.jax_platforms  # type: ignore[attr-defined]


def _without_cpu(reason: Any) -> RuntimeError:
  return RuntimeError(
    f"JAX_PLATFORMS = {_platforms()!r}: advantages are computed on the CPU; add"
    f" ',cpu' ({reason})"
  )
