"""One group of rollouts: its size, its values, what leaving one out gives."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

Array = jax.Array


class LeaveOneOut(NamedTuple):
  """What the other rollouts say about w(p): weights [N] and baselines [N]."""

  weights: Array
  baselines: Array


def group_size(likelihoods: ArrayLike) -> int:
  """N of one prompt's likelihoods [N]; anything else is a ValueError."""
  shape = np.shape(likelihoods)
  if len(shape) != 1 or shape[0] < 1:
    raise ValueError(
      f"likelihoods: shape {shape}, must be [N]; vmap over prompts"
    )
  return shape[0]


def check_mask(mask: ArrayLike | None, size: int) -> None:
  """Raises ValueError unless mask is [N]; None passes."""
  if mask is not None and np.shape(mask) != (size,):
    raise ValueError(f"mask: shape {np.shape(mask)}, must be [N] = ({size},)")


def check_order(
  order: int | Array | None, size: int, name: str = "order"
) -> None:
  """Raises ValueError unless 1 ≤ order ≤ N; None and traced orders pass."""
  if order is None or isinstance(order, jax.core.Tracer):
    return
  if not 1 <= order <= size or order != int(order):
    raise ValueError(
      f"{name} = {order}: must be an integer from 1 to {size} with"
      f" N = {size} rollouts"
    )


def compute_dtype(likelihoods: Array) -> Any:
  """float32 for half precision, the default float for booleans and integers."""
  if not jnp.issubdtype(likelihoods.dtype, jnp.floating):
    return jnp.zeros(()).dtype
  return jnp.promote_types(likelihoods.dtype, jnp.float32)


def values(likelihoods: Array, mask: ArrayLike) -> Array:
  """l [N] in the dtype to work in, 0 where masked."""
  return jnp.where(mask, likelihoods.astype(compute_dtype(likelihoods)), 0)


def either(a: Array, b: Array) -> Array:
  """The chance that one of two independent events happens."""
  return a + (1 - a) * b
