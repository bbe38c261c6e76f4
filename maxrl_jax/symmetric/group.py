"""One group of rollouts: checks, dtype, and the leave-one-out estimates."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from jax.typing import ArrayLike

from maxrl_jax import ranges

Array = jax.Array


class LeaveOneOut(NamedTuple):
  """Estimates from the other rollouts: weights ω [N] and baselines b [N]."""

  weights: Array
  baselines: Array


def group_size(likelihoods: ArrayLike) -> int:
  """N of one prompt's likelihoods [N]; raises ValueError at other shapes."""
  shape = np.shape(likelihoods)
  if len(shape) != 1 or shape[0] < 1:
    raise ValueError(
      f"likelihoods: shape {shape}, must be [N]; vmap over prompts"
    )
  return shape[0]


def check_mask(mask: ArrayLike | None, size: int) -> None:
  """Raises ValueError unless the mask is None, or [N] of True or False."""
  if mask is not None and np.shape(mask) != (size,):
    raise ValueError(f"mask: shape {np.shape(mask)}, must be [N] = ({size},)")
  if mask is not None and not ranges.is_traced(mask):
    values = np.asarray(mask)
    if values.dtype != bool and not np.isin(values, (0, 1)).all():
      raise ValueError(f"mask = {mask}: must be True or False")


def check_order(
  order: int | Array | None, size: int, name: str = "order"
) -> None:
  """Raises ValueError unless order is in 1..N, None or traced."""
  if order is None or ranges.is_traced(order):
    return
  value = np.asarray(order)
  if value.ndim or value.item() not in range(1, size + 1):
    raise ValueError(
      f"{name} = {order!r}: must be an integer from 1 to {size} with"
      f" N = {size} rollouts"
    )


def check_coefficients(coefficients: ArrayLike, size: int) -> None:
  """Raises ValueError unless there are 1 to N, all at least 0 and finite."""
  shape = np.shape(coefficients)
  if len(shape) != 1:
    raise ValueError(f"coefficients: shape {shape}, must be [T]")
  if not ranges.is_traced(coefficients):
    try:
      values = np.asarray(coefficients, np.float64)
    except (TypeError, ValueError):
      raise ValueError(
        f"coefficients = {coefficients!r}: must be numbers [T]"
      ) from None
    wrong = values[~((values >= 0) & np.isfinite(values))]
    if wrong.size:
      raise ValueError(
        f"coefficients: {wrong[0]:g}, all must be at least 0 and finite"
      )
  if not 1 <= shape[0] <= size:
    raise ValueError(
      f"coefficients: {shape[0]} terms for N = {size} rollouts; must be 1 to N"
    )


def compute_dtype(likelihoods: Array | np.ndarray) -> Any:
  """float32 for half precision, the default float for booleans and integers."""
  dtype = likelihoods.dtype
  if not jnp.issubdtype(dtype, jnp.floating):
    return jnp.zeros(()).dtype
  return dtype if jnp.finfo(dtype).bits >= 32 else jnp.dtype("float32")


def values(likelihoods: Array, mask: ArrayLike) -> Array:
  """l [N] in the compute dtype, 0 where masked."""
  return jnp.where(mask, likelihoods.astype(compute_dtype(likelihoods)), 0)


def first_carry(x: Array, l: Array) -> Array:
  """x, marked as varying over the mesh axes that l varies over.

  Under `jax.shard_map` the first carry of a scan over l must have the type of
  the later ones.
  """
  return x + 0 * l[0]


def looked_up(table: Any, index: Any) -> Any:
  """table[index], where each prompt on a mesh has its own index, too."""
  if isinstance(index, np.ndarray):
    return table[index]
  table = jnp.asarray(table)
  if AxisType.Explicit not in jax.sharding.get_abstract_mesh().axis_types:
    return table[index]
  # vmap adds the axes that the prompts are sharded over, if there is one here.
  return table.at[index[None]].get(out_sharding=P())[0]


def either(a: Array, b: Array) -> Array:
  """P(A or B) of independent events with probabilities a and b."""
  return a + (1 - a) * b


def order_coefficients(
  likelihoods: Array, order: int | Array | None, mask: ArrayLike
) -> Array:
  """a_k of MaxRL: T terms for a static order, else N."""
  dtype = compute_dtype(likelihoods)
  static = isinstance(order, (int, np.integer))
  terms = jnp.arange(order if static else likelihoods.shape[0])
  if order is None:
    order = jnp.maximum(jnp.sum(mask) - 1, 1)
  return (terms < order).astype(dtype)
