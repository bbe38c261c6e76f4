"""Rollouts drawn in waves until a success: order T by w_T(p) rollouts."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from maxrl_jax import ranges, symmetric
from maxrl_jax.estimators.group import checked, prepare
from maxrl_jax.symmetric.group import either
from maxrl_jax.symmetric.waves import Waves, leave_one_out

Array = jax.Array

# Baselines within a wave: (l, the wave's leave-one-out means) → b [n].
SEQUENTIAL_BASELINES: dict[str, Callable[[Array, Waves], Array]] = {
  # P(another rollout of the wave succeeds): order m, as without other waves.
  "leave_one_out": lambda l, wave: wave.others,
  "none": lambda l, wave: jnp.zeros_like(l),
  # Eq. 10 of the MaxRL paper subtracts the mean score of every wave.
  "average_score": lambda l, wave: jnp.ones_like(l),
  # P(the wave has a success), as in Algorithm 1: lower order, sums to 0.
  "centred": lambda l, wave: either(wave.others, l),
}


def sequential(
  likelihoods: ArrayLike,
  waves: ArrayLike,
  *,
  solved: ArrayLike | None = None,
  baseline: str | float | Array = "leave_one_out",
  mask: ArrayLike | None = None,
  check: bool = False,
) -> Array:
  """Waves of rollouts until one has a success: A_j = (n/m) (ω_j l_j − b_j).

      ω_j = m ∫₀¹ Π_{i≠j} (1 − t l_i) dt,  i in the wave of rollout j

  m is the size of rollout j's wave, n that of all waves. Unbiased for ∇J_T,
  T = m_1 + … + m_R, if whole waves of m_1 … m_R rollouts are drawn until one
  has a success; for P(solved) ∇log p if sizes depend on earlier waves or on
  other prompts. It takes Σ_i m_i (1−p)^{m_1+…+m_{i−1}} rollouts on average,
  w_T(p) in waves of one rollout (docs/theory/sequential.md). For binary l,
  ĝ = mean_j A_j S_j is the mean score of the K successes of the first wave that
  has one, less a baseline: ω_j l_j is m/K for each, 0 in earlier waves.

  Graded l: each wave stops the prompt with probability 1 − Π(1 − l_j), by a
  random draw. Unbiased as above, with or without `solved`, the outcome of the
  last draw. With it, ω_j l_j/m is replaced by c_j if solved, else by 0, which
  lowers the variance if good answers have nearly equal scores:

      c_j = l_j Σ_{s≤k<n} ē_k^j / Σ_i l_i Σ_{s≤k<n} ē_k^i

  with s of the n rollouts drawn before the last wave.

  K = 0 (never solved): 0; −β n/m with a constant β. K = m: 0 if m ≥ 2;
  (1 − β) n/m with a constant. n = 1: l − β; l with 'leave_one_out', 0 with
  'centred'. One wave: `maxrl` of order N; with 'centred' Algorithm 1, of order
  N − 1.

  Args:
    likelihoods: l [n] in [0, 1], of one prompt; boolean or integer ones use the
      closed form.
    waves: [n] integers, equal within a wave and increasing in the order of
      drawing; rollouts may be in any order. Waves after the first with an
      l = 1 are ignored: A_j = 0.
    solved: whether the last wave stopped the prompt, or None.
    baseline: b_j, one of
      'leave_one_out': 1 − Π_{i≠j} (1 − l_i) over the wave;
      'none': 0;
      'average_score', or a number β: the constant 1, or β; adds noise from
      waves without a success;
      'centred': 1 − Π_i (1 − l_i) over the wave. A_j sums to 0 over each wave
      (without `solved`), but w_T(p) falls to
      Σ_i (1−p)^{m_1+…+m_{i−1}} w_{m_i−1}(p).
    mask: [n], False for rollouts to ignore.
    check: return NaN if a value is out of range under `jit`, where nothing is
      raised and the result would have no meaning.

  Returns:
    A [n], 0 where masked.

  Raises:
    ValueError: shapes differ, waves are not integers of 32 bits, unknown
      baseline, l outside [0, 1], or `solved` contradicts l.
  """
  ranges.name_or_number(SEQUENTIAL_BASELINES, baseline=baseline)
  l, mask = prepare(likelihoods, mask)
  _check_waves(waves, mask)
  _check_solved(likelihoods, waves, solved, mask)
  waves, present = jnp.asarray(waves), jnp.asarray(mask)
  binary = not jnp.issubdtype(jnp.asarray(likelihoods).dtype, jnp.floating)
  drawn = present & (waves <= _first_success(l, waves))
  l = jnp.where(drawn, l, 0)
  wave = leave_one_out(l, waves, drawn, binary)
  if isinstance(baseline, str):
    b = SEQUENTIAL_BASELINES[baseline](l, wave)
  else:
    b = jnp.asarray(baseline, l.dtype)
  weighted = wave.weights * l
  if solved is not None:
    share = _over_orders(l, waves, drawn, weighted)
    weighted = wave.sizes * jnp.where(jnp.asarray(solved, bool), share, 0)
  n = jnp.sum(present).astype(l.dtype)
  advantages = jnp.where(drawn, n / wave.sizes * (weighted - b), 0)
  return checked(advantages, likelihoods, present, check)


def _first_success(l: Array, waves: Array) -> Array:
  """The first wave with an l = 1, else the largest integer."""
  return jnp.min(jnp.where(l == 1, waves, jnp.iinfo(waves.dtype).max))


def _over_orders(
  l: Array, waves: Array, drawn: Array, weighted: Array
) -> Array:
  """c_j: E[r_j/K] over all successes and drawing orders with this outcome.

  Proportional to l_j Σ_{s≤k<n} ē_k^j. Where that underflows, to the weights of
  the last wave alone, which is unbiased too.
  """
  smallest = jnp.iinfo(waves.dtype).min
  last = drawn & (waves == jnp.max(jnp.where(drawn, waves, smallest)))
  k, before = jnp.arange(l.shape[0]), jnp.sum(drawn & ~last)
  terms = (k >= before) & (k < jnp.sum(drawn))
  weights = symmetric.series_weights(l, terms.astype(l.dtype), mask=drawn)
  all_orders = weights * l
  exists = jnp.sum(all_orders) >= jnp.finfo(l.dtype).tiny
  share = jnp.where(exists, all_orders, jnp.where(last, weighted, 0))
  total = jnp.sum(share)
  return share / jnp.where(total > 0, total, 1)


def _check_waves(waves: ArrayLike, mask: ArrayLike) -> None:
  shape, required = np.shape(waves), np.shape(mask)
  if shape != required:
    raise ValueError(f"waves: shape {shape}, must be [n] = {required}")
  dtype = waves.dtype if hasattr(waves, "dtype") else np.asarray(waves).dtype
  if not np.issubdtype(dtype, np.integer):
    raise ValueError(
      f"waves: {dtype}, must be integers, one per rollout, equal within a wave"
    )
  if ranges.is_traced(waves) or ranges.is_traced(mask):
    return
  numbers = np.asarray(waves)
  limits = np.iinfo(np.int32)
  beyond = (numbers < limits.min) | (numbers > limits.max)
  for j in np.flatnonzero(beyond & np.asarray(mask)):
    raise ValueError(f"waves[{j}] = {numbers[j]}: must fit in 32 bits")


def _check_solved(
  likelihoods: ArrayLike,
  waves: ArrayLike,
  solved: ArrayLike | None,
  mask: ArrayLike,
) -> None:
  """Raises ValueError where l contradicts `solved`, unless traced."""
  if solved is None:
    return
  if np.shape(solved) != ():
    raise ValueError(
      f"solved: shape {np.shape(solved)}, must be one boolean; vmap over"
      " prompts"
    )
  if any(map(ranges.is_traced, (likelihoods, waves, solved, mask))):
    return
  l, waves = np.asarray(likelihoods, np.float64), np.asarray(waves)
  mask = np.asarray(mask)
  final = np.max(waves[mask], initial=np.iinfo(waves.dtype).min)
  last = mask & (waves == final) & bool(solved)
  for j in np.flatnonzero(mask & (l == 1) & ~last):
    raise ValueError(
      f"likelihoods[{j}] = {l[j]}: always stops a prompt, must be in the last"
      " wave, with solved = True"
    )
  if solved and not np.any(l[last] > 0):
    raise ValueError(
      f"solved = {solved}: all likelihoods of the last wave, {final}, are 0"
    )
