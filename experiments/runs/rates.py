"""How every method's learning rate is chosen."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Choice(NamedTuple):
  """A learning rate, and whether it is the smallest or largest there was."""

  rate: float
  edge: bool


def best_rate(
  method: str, rates: Sequence[float], scores: npt.ArrayLike
) -> Choice:
  """The rate with the highest score, the first of several.

  Args:
    method: what it is chosen for.
    rates: to choose from.
    scores: [rates]; what is not finite has diverged, and is not chosen.

  Raises:
    ValueError: all have, naming the method.
  """
  scores = np.asarray(scores, np.float64)
  known = np.isfinite(scores)
  if not known.any():
    tried = ", ".join(f"{rate:g}" for rate in rates)
    raise ValueError(f"{method}: diverged at every learning rate ({tried})")
  rate = rates[int(np.argmax(np.where(known, scores, -np.inf)))]
  return Choice(rate, len(rates) > 1 and rate in (min(rates), max(rates)))


def marked(rate: float, edge: bool) -> str:
  """A rate in a table: at an edge, one beyond it might do better still."""
  return f"{rate:g}" + " (edge)" * edge
