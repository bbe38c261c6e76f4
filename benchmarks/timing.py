"""Timing of interleaved calls."""

import statistics
import time
from collections.abc import Callable


def medians(calls: dict[str, Callable], repeats: int) -> dict[str, float]:
  """Median milliseconds of each call, interleaved as A B A B …

  Drift in machine speed then affects all equally. Calls must block until their
  result is ready. The first two are not timed: they compile and allocate.
  """
  times: dict[str, list[float]] = {name: [] for name in calls}
  for repeat in range(repeats + 2):
    for name, call in calls.items():
      start = time.perf_counter()
      call()
      if repeat >= 2:
        times[name].append(1e3 * (time.perf_counter() - start))
  return {name: statistics.median(x) for name, x in times.items()}
