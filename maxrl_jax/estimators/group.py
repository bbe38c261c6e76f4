"""Checks of one group of likelihoods, and means over unmasked rollouts."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from maxrl_jax import ranges, symmetric

Array = jax.Array


def prepare(
  likelihoods: ArrayLike,
  mask: ArrayLike | None,
  smallest: int = 1,
  bounded: bool = True,
) -> tuple[Array, Array]:
  """Checked likelihoods in at least float32, and a mask that is not None."""
  size = symmetric.group_size(likelihoods)
  if size < smallest:
    raise ValueError(
      f"N = {size} rollouts: this estimator or its baseline compares"
      f" rollouts and needs N ≥ {smallest}; 'maxrl' with baseline='none' takes"
      " a single one"
    )
  symmetric.check_mask(mask, size)
  # A NumPy mask is a constant under tracing.
  present: Any = (
    np.ones(size, bool) if mask is None else jnp.asarray(mask, bool)
  )
  check_likelihoods(likelihoods, present, bounded)
  l = _as_array(likelihoods)
  # Masked values are ignored, even NaN.
  return jnp.where(present, l.astype(symmetric.compute_dtype(l)), 0), present


def _as_array(x: ArrayLike) -> Array:
  """A JAX array; NumPy's integers as floats, since JAX's could overflow."""
  if isinstance(x, jax.Array):
    return x
  x = np.asarray(x)
  if np.issubdtype(x.dtype, np.integer):
    x = x.astype(jnp.zeros(()).dtype)
  return jnp.asarray(x)


def check_likelihoods(
  likelihoods: ArrayLike, mask: ArrayLike = True, bounded: bool = True
) -> None:
  """Raises ValueError at NaN or values outside [0, 1], unless traced.

  With `bounded=False`, any finite value is valid.
  """
  if any(map(ranges.is_traced, (likelihoods, mask))):
    return
  l = np.asarray(likelihoods, np.float64)
  if bounded:
    valid = (l >= 0) & (l <= 1)
  else:  # In the dtype in which they are used.
    dtype = jax.dtypes.canonicalize_dtype(
      symmetric.compute_dtype(np.asarray(likelihoods))
    )
    with np.errstate(over="ignore"):
      valid = np.isfinite(l.astype(dtype))
  bad = np.flatnonzero(~valid & np.asarray(mask))
  if bad.size and bounded:
    raise ValueError(
      f"likelihoods[{bad[0]}] = {l[bad[0]]}: must be in [0, 1]; divide by the"
      " largest value a likelihood can take (rloo, grpo, dr_grpo and reinforce"
      " take any reward with bounded=False)"
    )
  if bad.size:
    raise ValueError(
      f"rewards[{bad[0]}] = {l[bad[0]]}: must be finite, in {dtype}"
    )


def _is_order(order: Array, size: int) -> Array:
  return (order >= 1) & (order <= size) & (order == jnp.round(order))


# Whether the value of an option is valid in a group of this size.
_VALID: dict[str, Callable[[Array, int], Array]] = {
  "order": _is_order,
  "k": _is_order,
  "alpha": lambda x, _: (x >= 0) & (x <= 1),
  "coefficients": lambda x, _: jnp.all((x >= 0) & jnp.isfinite(x)),
  "epsilon": lambda x, _: x >= 0,
}


def checked(
  advantages: Array,
  likelihoods: ArrayLike,
  mask: Array,
  check: bool,
  bounded: bool = True,
  **options: Any,
) -> Array:
  """The advantages; with `check`, NaN where `check_likelihoods` would raise.

  Or where an option is out of range. For the whole group, and under `jit` too.
  """
  if not check:
    return advantages
  l = jnp.asarray(likelihoods)
  each = (l >= 0) & (l <= 1) if bounded else jnp.isfinite(l)
  valid = jnp.all(each | ~mask)
  for name, value in options.items():
    if value is not None:
      valid &= _VALID[name](jnp.asarray(value), l.shape[0])
  return jnp.where(mask & ~valid, jnp.nan, advantages)


def count(mask: ArrayLike, l: Array) -> Array:
  return jnp.maximum(jnp.sum(mask), 1).astype(l.dtype)


def mean(x: Array, mask: ArrayLike) -> Array:
  return jnp.sum(jnp.where(mask, x, 0)) / count(mask, x)


def loo_mean(l: Array, mask: ArrayLike) -> Array:
  """mean_{i≠j} l_i [N]; l_j if j is the only unmasked rollout."""
  total = jnp.sum(jnp.where(mask, l, 0))
  others = jnp.sum(mask).astype(l.dtype) - 1
  return jnp.where(others > 0, (total - l) / jnp.maximum(others, 1), l)
