"""Calls timed in turns."""

import statistics
import time
from collections.abc import Callable


def medians(calls: dict[str, Callable], repeats: int) -> dict[str, float]:
  """Milliseconds of each call: the median, taken A B A B …

  A machine whose speed drifts slows all alike. Each blocks until its result is
  there. The first call compiles, the second touches its memory: they do not
  count.
  """
  times: dict[str, list[float]] = {name: [] for name in calls}
  for repeat in range(repeats + 2):
    for name, call in calls.items():
      start = time.perf_counter()
      call()
      if repeat >= 2:
        times[name].append(1e3 * (time.perf_counter() - start))
  return {name: statistics.median(found) for name, found in times.items()}
