"""Advantages of many prompts at once, for trainers outside JAX.

Rewards are flat, as in PyTorch trainers, with the group (prompt) of each
rollout; advantages are in the same order; both are NumPy arrays. Groups may be
ragged and interleaved: they are padded to [groups, N], both rounded up to
powers of two, for the vmapped and jitted estimator. If groups vary in size and
number, at most log G · log N programs are compiled per set of options, or twice
as many if rewards are sometimes all 0 or 1, which use the closed form.

Everything runs on JAX's CPU device. If JAX has not been initialized and
JAX_PLATFORMS is not set, JAX initializes only the CPU, so that it allocates no
GPU memory. To use JAX on the GPU too, in the same process, set
JAX_PLATFORMS=cuda,cpu or initialize JAX before the first call.
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

# Rewards that are all 0 or 1 are passed to these as booleans.
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
  """Advantages A_j of R rollouts, each estimated within its group.

  The gradient of one prompt is mean_j A_j ∇log m(z_j|x), with log-probabilities
  summed over tokens; `maxrl_jax.estimators` states which ∇J it estimates. In a
  group of n rollouts, order None means T = n − 1, and an order T > n acts as n,
  unbiased for ∇J_n but not centred; `pass_at_k` with k > n gives 0. A group of
  one, beside larger ones, gets 0, except with `reinforce` or a baseline that
  does not compare rollouts ('none', 'average_score', a number).

  Args:
    rewards: r [R]; in [0, 1] once divided by the ceiling, or any finite number
      for `ANY_REWARD` (rloo, grpo, dr_grpo, reinforce). Any argument of
      `np.asarray`; computed in float32.
    groups: [R] hashable ids, equal for rollouts of the same prompt.
    num: N, instead of ids: every N consecutive rewards are a group.
    mask: [R], False for rollouts to ignore (truncated, filtered, without a
      reward): their advantage is 0 and they do not affect the others.
    estimator: a name in `ESTIMATORS`.
    ceiling: the largest possible reward, by which rewards are divided.
    **options: of the estimator, such as order, baseline, k or alpha; None means
      the default. A program is compiled for each set of values.

  Returns:
    A [R], float32.

  Raises:
    ValueError: names the invalid argument, its value and the requirement;
      raised before anything is compiled.
  """
  rewards = checks.flat("rewards", rewards, float)
  size = len(rewards)
  present = np.ones(size, bool)
  if mask is not None:
    present = checks.flat("mask", mask, bool, size)
  group, column, sizes = _positions(groups, num, size)
  options = checks.options(estimator, options, sizes.max())
  l = checks.likelihoods(rewards, present, estimator, ceiling)
  if estimator in _CLOSED_FORM and np.all((l == 0) | (l == 1)):
    l = l == 1
  shape = _round_up(len(sizes)), _round_up(sizes.max())
  padded = np.zeros(shape, l.dtype), np.zeros(shape, bool)
  for array, values in zip(padded, (l, present), strict=True):
    array[group, column] = values
  with jax.default_device(_cpu()):
    result = _compiled(estimator, tuple(sorted(options.items())))(*padded)
  return np.asarray(result, np.float32)[group, column]


def check(
  num: int,
  *,
  estimator: str = "maxrl",
  ceiling: float | None = None,
  **options: Any,
) -> None:
  """Raises the errors of `advantages` for groups of N; does not start JAX."""
  platforms = _platforms()
  if platforms and "cpu" not in platforms.split(","):
    raise _no_cpu_error("it is not listed")
  options = checks.options(estimator, options, num)
  checks.likelihoods(np.zeros(num), np.ones(num, bool), estimator, ceiling)
  group = (1, _round_up(num))
  jax.eval_shape(
    _compiled(estimator, tuple(sorted(options.items()))),
    jax.ShapeDtypeStruct(group, np.float32),
    jax.ShapeDtypeStruct(group, bool),
  )


def _positions(
  groups: Any, num: int | None, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Group of each rollout and position in it, [R] each; sizes of groups."""
  group = checks.group_numbers(groups, num, size)
  sizes = np.bincount(group)
  by_group = np.argsort(group, kind="stable")
  first = np.repeat(np.cumsum(sizes) - sizes, sizes)
  column = np.empty(size, int)
  column[by_group] = np.arange(size) - first
  return group, column, sizes


def _round_up(size: int) -> int:
  """The next power of two; 1 for 1, where comparing estimators raise."""
  return 2 ** math.ceil(math.log2(size))


@functools.lru_cache(maxsize=256)
def _compiled(estimator: str, options: tuple) -> Callable[..., jax.Array]:
  function = functools.partial(ESTIMATORS[estimator], **dict(options))
  return jax.jit(jax.vmap(lambda l, mask: function(l, mask=mask)))


def _cpu() -> jax.Device:
  """JAX's first CPU device; initializes no other backend by default."""
  # Querying devices initializes all allowed platforms, and a CUDA client takes
  # most memory of each visible GPU. Has no effect once JAX is initialized.
  if not _platforms():
    jax.config.update("jax_platforms", "cpu")
  try:
    return jax.local_devices(backend="cpu")[0]
  except RuntimeError as error:
    raise _no_cpu_error(error) from None


def _platforms() -> str | None:
  return jax.config.jax_platforms  # type: ignore[attr-defined]


def _no_cpu_error(reason: Any) -> RuntimeError:
  return RuntimeError(
    f"JAX_PLATFORMS = {_platforms()!r}: advantages are computed on the CPU; add"
    f" ',cpu' ({reason})"
  )
