"""Coordination of several processes that train together.

With one process nothing is communicated. Every process must call the functions
that are documented as collective, in the same order.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils


def is_first() -> bool:
  """Whether this is the one process that writes logs and results."""
  return jax.process_index() == 0


def any_of(flag: bool) -> bool:
  """Whether the flag is set in any process; collective."""
  if jax.process_count() == 1:
    return flag
  return bool(multihost_utils.process_allgather(np.array(flag)).any())


def on_first(action: Callable[[], Any]) -> Any:
  """Runs `action` on the first process; if it raises, all raise; collective.

  Returns what `action` returns; None on other processes.
  """
  failure, result = None, None
  if is_first():
    try:
      result = action()
    except Exception as error:
      failure = error
  if any_of(failure is not None):
    raise failure or ValueError("the first process failed; see its message")
  return result


def all_same(number: int) -> bool:
  """Whether every process has the same number below 2³²; collective."""
  if jax.process_count() == 1:
    return True
  numbers = multihost_utils.process_allgather(np.array(number, np.uint32))
  return bool((numbers == numbers[0]).all())


def wait(name: str) -> None:
  """Waits until all processes are at the point of this name; collective."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def whole(tree: Any) -> Any:
  """NumPy copies of entire arrays, on every process; collective."""
  if jax.process_count() == 1:
    return jax.tree.map(np.array, tree)

  def one(x: Any) -> np.ndarray:
    if isinstance(x, jax.Array):
      return np.array(multihost_utils.process_allgather(x, tiled=True))
    return np.array(x)

  return jax.tree.map(one, tree)
