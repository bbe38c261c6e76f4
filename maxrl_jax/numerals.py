"""Numbers as digits: K equally spaced values, each with m digits of a base."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


class Numerals(NamedTuple):
  """K = base^m values: the centres of K equal bins of [−A, A].

  Attributes:
    base: digits are 0 … base − 1, the most significant one first.
    length: m digits of a number.
    limit: A > 0; numbers beyond it are clipped to the outermost bins.
  """

  base: int
  length: int
  limit: float

  @property
  def num_values(self) -> int:
    """K."""
    return self.base**self.length

  @property
  def spacing(self) -> float:
    """Distance of neighbouring values, 2A/K."""
    return 2 * self.limit / self.num_values

  def values(self) -> np.ndarray:
    """All values, ascending: float32 [K]."""
    middle = (np.arange(self.num_values) + 0.5) / self.num_values
    return (self.limit * (2 * middle - 1)).astype(np.float32)

  def nearest(self, x: Array) -> Array:
    """Index of the value nearest to x, at a tie the upper one: int32, as x."""
    index = jnp.floor((x + self.limit) / self.spacing)
    return jnp.clip(index, 0, self.num_values - 1).astype(jnp.int32)

  def digits(self, index: Array) -> Array:
    """Digits of indices: [...] → [..., m]."""
    places = np.expand_dims(self._places(), tuple(range(jnp.ndim(index))))
    return index[..., None] // places % self.base

  def read(self, digits: Any) -> Any:
    """Indices of digits (NumPy or JAX): [..., m] → [...]."""
    return digits @ self._places()

  def _places(self) -> np.ndarray:
    """Place values base^(m−1) … 1, [m]."""
    return self.base ** np.arange(self.length)[::-1]


def numerals(base: int, num_values: int, limit: float) -> Numerals:
  """The numerals of K = `num_values` values.

  Raises:
    ValueError: K is not a power of the base, or A is not above 0.
  """
  if base < 2:
    raise ValueError(f"base = {base}: must be at least 2")
  length = 1
  while base**length < num_values:
    length += 1
  if base**length != num_values:
    raise ValueError(
      f"num_values = {num_values}: must be a power of base = {base}, such as"
      f" {base**length}"
    )
  if not 0 < limit < float("inf"):
    raise ValueError(f"limit = {limit}: must be above 0 and finite")
  return Numerals(base, length, limit)
