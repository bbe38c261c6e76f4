"""A table of the library's speed against baselines, measured in one run.

    python -m benchmarks.run [--rows=weights,step] [--table=FILE.json]

Calls are interleaved (A B A B …), so that drift in machine speed affects both;
the table has medians and their ratio. PyTorch rows require the extra
`benchmark` and are skipped without it; the maze rows take ten minutes.
"""

import json
from collections.abc import Callable
from typing import NamedTuple

from absl import flags

from benchmarks import mazes, numbers, sequential, steps, timing, weights
from experiments.shell import console
from maxrl_jax.runs import folders

_ROWS = flags.DEFINE_list("rows", None, "Suites of rows; default: all.")
_REPEATS = flags.DEFINE_integer("repeats", 7, "Timed calls of each.", 3)
_TABLE = flags.DEFINE_string("table", None, "JSON file for the table.")


class Row(NamedTuple):
  """Times of library and baseline in ms, their ratio and its target."""

  name: str
  library_ms: float
  baseline_ms: float
  ratio: float
  target: str
  met: bool


def main() -> None:
  suites = {
    "weights": weights.comparisons,
    "step": steps.comparisons,
    "sequential": sequential.comparisons,
    "numbers": numbers.comparisons,
    "mazes": mazes.comparisons,
  }
  names = _ROWS.value or list(suites)
  for name in names:
    if name not in suites:
      raise ValueError(f"rows: {name!r}: choose from {sorted(suites)}")
  print(folders.machine())
  rows = []
  for name in names:
    for comparison in suites[name]():
      rows.append(_measure(*comparison))
      print(_line(rows[-1]), flush=True)
  if _TABLE.value:
    table = {
      "environment": folders.machine(),
      "rows": [row._asdict() for row in rows],
    }
    with open(_TABLE.value, "w") as file:
      json.dump(table, file, indent=2)


def _measure(
  name: str, library: Callable, baseline: Callable, goal: float, faster: bool
) -> Row:
  """Times both, interleaved."""
  calls = {"library": library, "baseline": baseline}
  a, b = timing.medians(calls, _REPEATS.value).values()
  ratio = b / a if faster else a / b
  target = f"{'≥' if faster else '≤'} {goal:g}"
  met = ratio >= goal if faster else ratio <= goal
  return Row(name, a, b, ratio, target, met)


def _line(row: Row) -> str:
  return (
    f"| {row.name} | {row.library_ms:.2f} | {row.baseline_ms:.2f} |"
    f" {row.ratio:.2f}× | {row.target}× | {'met' if row.met else 'NOT met'} |"
  )


if __name__ == "__main__":
  console.run(main)
