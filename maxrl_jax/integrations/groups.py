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
import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import numpy.typing as npt

from maxrl_jax import ranges
from maxrl_jax.estimators import ESTIMATORS
from maxrl_jax.integrations import checks
from maxrl_jax.integrations.waves import sequential

__all__ = ["Diagnostics", "advantages", "check", "diagnostics", "sequential"]

# Rewards that are all 0 or 1 are passed to these as booleans.
_CLOSED_FORM = ("maxrl", "pass_at_k", "power", "series")
# The memory of a group is proportional to N².
_QUADRATIC = ("pass_at_k", "power", "series")


def advantages(
  rewards: npt.ArrayLike,
  groups: Any = None,
  *,
  num: int | None = None,
  rollouts: Any = None,
  mask: npt.ArrayLike | None = None,
  estimator: str = "maxrl",
  ceiling: float | None = None,
  **options: Any,
) -> np.ndarray:
  """Advantages of R rows of rollouts, each estimated within its group.

  A rollout is one row, or all rows with the same id in `rollouts`, such as the
  calls of one agent session: it counts once, and each of its rows gets its
  advantage, so that the score of a rollout is the sum over its rows.

  The gradient of one prompt is mean_j A_j ∇log m(z_j|x), with log-probabilities
  summed over tokens; `maxrl_jax.estimators` states which ∇J it estimates. In a
  group of n rollouts, order None means T = n − 1, and an order T > n acts as n,
  unbiased for ∇J_n but not centred; `pass_at_k` with k > n gives 0. In a batch
  with larger groups, a group of one gets 0, except with `reinforce` or a
  baseline that does not compare rollouts ('none', 'average_score', a number).

  A masked rollout is not a member of its group: if all others are masked, the
  remaining one is a group of one.

  Args:
    rewards: r [R]; in [0, 1] once divided by the ceiling, or any finite number
      for rloo, grpo, dr_grpo, reinforce, tail and tail_rl. Any argument of
      `np.asarray`; computed in float32.
    groups: [R] hashable ids, equal for rollouts of the same prompt.
    num: N, instead of ids: every N consecutive rewards are a group.
    rollouts: [R] hashable ids, equal for rows of the same rollout; unique only
      within a group. Rows of one rollout must have the same reward. None means
      that every row is a rollout.
    mask: [R], False for rows to ignore (truncated, rejected, without a reward):
      their advantage is 0. A rollout is masked if all of its rows are.
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
  batch = _estimate(
    rewards,
    groups,
    num=num,
    rollouts=rollouts,
    mask=mask,
    estimator=estimator,
    ceiling=ceiling,
    **options,
  )
  if batch.rollout is None:
    return batch.advantages
  return np.where(batch.rows, batch.advantages[batch.rollout], 0)


def check(
  num: int,
  *,
  estimator: str = "maxrl",
  ceiling: float | None = None,
  **options: Any,
) -> None:
  """Raises the errors of `advantages` for groups of N; does not start JAX."""
  _require_cpu()
  ranges.whole(num=num)
  ranges.at_least(1, num=num)
  options = checks.options(estimator, options, num)
  checks.likelihoods(np.zeros(num), np.ones(num, bool), estimator, ceiling)
  group = (1, _round_up(num))
  jax.eval_shape(
    _compiled(estimator, tuple(sorted(options.items()))),
    jax.ShapeDtypeStruct(group, np.float32),
    jax.ShapeDtypeStruct(group, bool),
  )


class Diagnostics(NamedTuple):
  """Statistics of a batch; fractions are of groups with an unmasked rollout.

  Attributes:
    none_solved: fraction of groups in which every reward is 0 (K = 0).
    all_solved: fraction of groups in which every reward is the ceiling (K = N).
    singletons: fraction of groups of one rollout.
    largest: largest |A_j|.
    order: the estimator's order T, at most n, as a mean over groups of n ≥ 2;
      nan if it has no order.
    active: fraction of rollouts with A_j ≠ 0, up to rounding; the others have
      no gradient.
  """

  none_solved: float
  all_solved: float
  singletons: float
  largest: float
  order: float
  active: float


def diagnostics(
  rewards: npt.ArrayLike, groups: Any = None, **arguments: Any
) -> Diagnostics:
  """Statistics of a batch, for a trainer's metrics.

  Takes the arguments of `advantages`, and recomputes the advantages; masked
  rollouts are left out. `_asdict()` of the result is a dictionary of numbers.
  """
  batch = _estimate(rewards, groups, **arguments)
  count = functools.partial(np.bincount, minlength=batch.group.max() + 1)
  members = batch.group[batch.mask]
  l = batch.l[batch.mask]
  sizes = count(members)
  nonempty = sizes > 0
  estimator = ESTIMATORS[arguments.get("estimator", "maxrl")].function
  order = np.full(len(sizes), np.nan)
  others = [arguments.get(name) for name in ("k", "coefficients")]
  has_order = "order" in inspect.signature(estimator).parameters
  if has_order and all(x is None for x in others):
    order = np.minimum(arguments.get("order") or sizes - 1, sizes)
  return Diagnostics(
    none_solved=_mean((count(members[l == 0]) == sizes)[nonempty]),
    all_solved=_mean((count(members[l == 1]) == sizes)[nonempty]),
    singletons=_mean((sizes == 1)[nonempty]),
    largest=float(np.abs(batch.advantages).max()),
    order=_mean(order[sizes > 1]),
    active=_mean(np.abs(batch.advantages[batch.mask]) > _rounding(batch)),
  )


def _rounding(batch: "_Batch") -> np.ndarray:
  """What an advantage of 0 may be after rounding, of every rollout."""
  return 1e-6 * np.abs(batch.l[batch.mask]).astype(np.float32)


def _mean(values: np.ndarray) -> float:
  return float(values.mean()) if values.size else math.nan


class _Batch(NamedTuple):
  """Likelihoods, masks, groups and advantages of rollouts, and their rows."""

  l: np.ndarray
  mask: np.ndarray
  group: np.ndarray
  advantages: np.ndarray
  rows: np.ndarray  # Which rows are unmasked, [R].
  rollout: np.ndarray | None  # Of each row [R]; None if every row is one.


def _estimate(
  rewards: npt.ArrayLike,
  groups: Any,
  *,
  num: int | None = None,
  rollouts: Any = None,
  mask: npt.ArrayLike | None = None,
  estimator: str = "maxrl",
  ceiling: float | None = None,
  **options: Any,
) -> _Batch:
  hint = "; the order is advantages(rewards, groups)"
  rewards = checks.flat("rewards", rewards, hint)
  size = len(rewards)
  present = rows = np.ones(size, bool)
  if mask is not None:
    present = rows = checks.mask(mask, size)
  group = checks.group_numbers(groups, num, size)
  rollout = checks.rollout_numbers(rollouts, num, group)
  if rollout is not None:
    group = checks.per_rollout(group, rollout)
  column, sizes = _positions(group)
  options = checks.options(estimator, options, sizes.max())
  l = checks.likelihoods(rewards, rows, estimator, ceiling)
  if rollout is not None:
    l, present = checks.one_per_rollout(l, rows, rollout, rewards)
  if estimator in _CLOSED_FORM and np.all((l == 0) | (l == 1)):
    l = l == 1
  shape = _round_up(len(sizes)), _round_up(sizes.max())
  padded = np.zeros(shape, l.dtype), np.zeros(shape, bool)
  for array, values in zip(padded, (l, present), strict=True):
    array[group, column] = values
  with jax.default_device(_cpu()):
    result = _compiled(estimator, tuple(sorted(options.items())))(*padded)
  result = np.asarray(result, np.float32)[group, column]
  return _Batch(l, present, group, result, rows, rollout)


def _positions(group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Position of each rollout in its group; sizes of groups."""
  size, sizes = len(group), np.bincount(group)
  by_group = np.argsort(group, kind="stable")
  first = np.repeat(np.cumsum(sizes) - sizes, sizes)
  column = np.empty(size, int)
  column[by_group] = np.arange(size) - first
  return column, sizes


def _round_up(size: int) -> int:
  """The next power of two; 1 stays 1, where some estimators must raise."""
  return 2 ** math.ceil(math.log2(size))


@functools.lru_cache(maxsize=256)
def _compiled(estimator: str, options: tuple) -> Callable[..., jax.Array]:
  """The jitted estimator: (l, mask) [G, N] → advantages [G, N]."""
  function = functools.partial(ESTIMATORS[estimator], **dict(options))

  def of_groups(l: jax.Array, mask: jax.Array) -> jax.Array:
    one = lambda group: function(group[0], mask=group[1])  # noqa: E731
    count, size = l.shape
    together = count
    if estimator in _QUADRATIC:
      together = max(2**24 // size**2, 1)
    if together >= count:
      return jax.vmap(one)((l, mask))
    return jax.lax.map(one, (l, mask), batch_size=together)

  return jax.jit(of_groups)


def _cpu() -> jax.Device:
  """JAX's first CPU device; initializes no other backend by default."""
  # Querying devices initializes all allowed platforms, and a CUDA client takes
  # most memory of each visible GPU. Has no effect once JAX is initialized.
  _require_cpu()
  if not _platforms():
    jax.config.update("jax_platforms", "cpu")
  try:
    return jax.local_devices(backend="cpu")[0]
  except RuntimeError as error:
    raise _no_cpu_error(error) from None


def _platforms() -> str | None:
  return jax.config.jax_platforms  # type: ignore[attr-defined]


def _require_cpu() -> None:
  """Raises RuntimeError if JAX_PLATFORMS leaves the CPU out."""
  platforms = _platforms()
  if platforms and "cpu" not in platforms.split(","):
    raise _no_cpu_error("it is not listed")


def _no_cpu_error(reason: Any) -> RuntimeError:
  return RuntimeError(
    f"JAX_PLATFORMS = {_platforms()!r}: advantages are computed on the CPU; add"
    f" ',cpu' ({reason})"
  )
