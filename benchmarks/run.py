"""One table of the library's speed against yardsticks, measured in one run.

    python -m benchmarks.run [--rows=weights,step,mazes] [--table=FILE.json]

Competitors take turns (A B A B …), so that a machine whose speed drifts slows
both; the figures are medians and their ratio. PyTorch rows need the extra
`benchmark` and are left out without it; those of mazes take ten minutes.
"""

import json
from collections.abc import Callable
from typing import NamedTuple

from absl import flags

from benchmarks import mazes, steps, timing, weights
from experiments.shell import console, workdirs

_ROWS = flags.DEFINE_list("rows", None, "Rows to run: weights, step, mazes.")
_REPEATS = flags.DEFINE_integer("repeats", 7, "Timed calls of each side.", 3)
_TABLE = flags.DEFINE_string("table", None, "JSON file for the table.")


class Row(NamedTuple):
  """Two sides of a comparison, in milliseconds, and the ratio asked for."""

  name: str
  ours_ms: float
  yardstick_ms: float
  ratio: float
  target: str
  met: bool


def main(argv) -> None:
  console.no_arguments(argv)
  suites = {
    "weights": weights.comparisons,
    "step": steps.comparisons,
    "mazes": mazes.comparisons,
  }
  names = _ROWS.value or list(suites)
  for name in names:
    if name not in suites:
      raise ValueError(f"rows: {name!r} is none of {sorted(suites)}")
  print(workdirs.machine())
  rows = []
  for name in names:
    for comparison in suites[name]():
      rows.append(_measure(*comparison))
      print(_line(rows[-1]), flush=True)
  if _TABLE.value:
    table = {
      "environment": workdirs.machine(),
      "rows": [row._asdict() for row in rows],
    }
    with open(_TABLE.value, "w") as file:
      json.dump(table, file, indent=2)


def _measure(
  name: str, ours: Callable, yardstick: Callable, wanted: float, faster: bool
) -> Row:
  """Times both in turns."""
  sides = {"ours": ours, "yardstick": yardstick}
  a, b = timing.medians(sides, _REPEATS.value).values()
  ratio = b / a if faster else a / b
  target = f"{'≥' if faster else '≤'} {wanted:g}"
  met = ratio >= wanted if faster else ratio <= wanted
  return Row(name, a, b, ratio, target, met)


def _line(row: Row) -> str:
  return (
    f"| {row.name} | {row.ours_ms:.2f} | {row.yardstick_ms:.2f} |"
    f" {row.ratio:.2f}× | {row.target}× | {'met' if row.met else 'NOT met'} |"
  )


if __name__ == "__main__":
  console.run(main)
