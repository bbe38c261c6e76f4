"""Results of figures: drawings, claims and tables, and their files.

For each figure, a work folder has figures/*.png, *.svg and *.csv (the points of
its lines); results/NAME.json with its captions, claims and tables; and
results/NAME_1.csv, … with each table.
"""

import csv
import io
import json
import pathlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from maxrl_jax import stats
from maxrl_jax.runs.files import write_text


class Claim(NamedTuple):
  """A statement that the measurement may refute.

  Attributes:
    id: FIGURE.NAME.
    source: the paper's figure or section, or 'own'.
    statement: in words.
    measured: the measurement.
    threshold: the condition under which the claim holds.
    holds: the outcome.
    why: the reason if it fails, in a sentence; only a reason that was tested.
  """

  id: str
  source: str
  statement: str
  measured: str
  threshold: str
  holds: bool
  why: str = ""


class Drawing(NamedTuple):
  """An image and its caption; once saved, `figure` is its path."""

  name: str
  figure: Figure | pathlib.Path
  caption: str


class Table(NamedTuple):
  """A small table of the report; once saved, `file` is its CSV file.

  A cell with the values of runs, an array, is saved as their mean ± half its
  95 % interval.
  """

  caption: str
  header: list[str]
  rows: list[list[Any]]
  file: str = ""


class Result(NamedTuple):
  """The results of one figure.

  Attributes:
    title: of its section of the page.
    drawings: the most important one first.
    claims: below the drawings.
    tables: below the claims.
    made_by: command, time and machine.
    summary: the outcome, in a sentence or two.
  """

  title: str
  drawings: list[Drawing]
  claims: list[Claim]
  tables: list[Table]
  made_by: str = ""
  summary: str = ""


def mean_plus_minus(values: np.ndarray, digits: int = 3) -> str:
  """Mean over runs ± half its 95 % interval, for a table."""
  mean, low, _ = stats.mean_interval(values)
  return f"{mean:.{digits}f} ± {mean - low:.{digits}f}"


def nan_if_zero_width(interval: stats.Interval) -> stats.Interval:
  """The interval, or NaN if it has no width, so that no claim rests on it.

  Identical outcomes of a few seeds say nothing about another one.
  """
  mean, low, high = interval
  flat = _has_no_width(interval)
  return stats.Interval(
    mean, np.where(flat, np.nan, low), np.where(flat, np.nan, high)
  )


def _has_no_width(interval: stats.Interval):
  return np.isclose(interval.low, interval.high, rtol=1e-9, atol=1e-12)


def in_words(interval: stats.Interval, digits: str = ".3f") -> str:
  """A mean and its interval, for a claim's measurement."""
  mean, low, high = interval
  if _has_no_width(interval):
    return f"{mean:{digits}}, equal for all seeds"
  return f"{mean:{digits}} [{low:{digits}}, {high:{digits}}]"


def not_established(interval: stats.Interval, limit: float) -> str:
  """Why a claim that an interval is on one side of a limit fails.

  Empty if the interval is on the other side: no reason is known then.
  """
  mean, low, high = interval
  if not np.isfinite([mean, low, high]).all():
    return "A score is not a number, or there are too few seeds."
  if _has_no_width(interval):
    return "All seeds agree, which says nothing about another one."
  if low <= limit <= high:
    return f"The interval contains {limit:g}: these seeds do not establish it."
  return ""


def bounded(
  id: str,
  source: str,
  statement: str,
  intervals: stats.Interval | dict[str, stats.Interval],
  *,
  above: float = -np.inf,
  below: float = np.inf,
  measured: str = "",
) -> Claim:
  """The claim that intervals are above a limit, below one, or inside ±`below`.

  Args:
    id: as in `Claim`, as are `source` and `statement`.
    source: of the claim.
    statement: of the claim.
    intervals: of a mean, or of several by name; the claim is about all.
    above: the lower limit.
    below: the upper limit; with both, `above` is `-below`.
    measured: as in `Claim`; if empty, the intervals are called differences.
  """
  if np.isinf(below):
    threshold = f"above {above:g}"
  else:
    threshold = f"below {below:g}" if np.isinf(above) else f"inside ±{below:g}"
  if isinstance(intervals, stats.Interval):
    intervals = {"": intervals}
  else:
    threshold += ", each"
  failed = []
  for interval in intervals.values():
    _, low, high = nan_if_zero_width(interval)
    if not (low > above and high < below):
      limits = [limit for limit in (above, below) if np.isfinite(limit)]
      reasons = [not_established(interval, limit) for limit in limits]
      failed.append(next(filter(None, reasons), ""))
  words = [f"{in_words(x)} {name}".strip() for name, x in intervals.items()]
  return Claim(
    id,
    source,
    statement,
    measured or f"difference {', '.join(words)}",
    f"95 % interval {threshold}",
    not failed,
    # One that lies on the wrong side refutes the claim, whatever the others do.
    failed[0] if failed and all(failed) else "",
  )


def larger(
  id: str,
  source: str,
  statement: str,
  first: np.ndarray,
  second: np.ndarray,
  digits: int = 3,
) -> Claim:
  """The claim that the first runs have a larger mean, [runs] each."""
  gap = stats.difference_interval(first, second)
  measured = (
    f"{np.mean(first):.{digits}f} against {np.mean(second):.{digits}f},"
    f" difference {in_words(gap, f'.{digits}f')}"
  )
  claim = bounded(id, source, statement, gap, above=0, measured=measured)
  if claim.holds or claim.why:
    return claim
  opposite = "The opposite was measured; the reason is not known."
  return claim._replace(why=opposite)


def save(result: Result, name: str, workdir: pathlib.Path) -> None:
  """Writes images, tables and results/NAME.json, the latter last."""
  folder = workdir / "results"
  folder.mkdir(exist_ok=True)
  save_drawings(result.drawings, workdir)
  tables = []
  for number, table in enumerate(result.tables, 1):
    file = f"results/{name}_{number}.csv"
    rows = [list(map(_cell, row)) for row in table.rows]
    write_text(workdir / file, as_csv([table.header, *rows]))
    tables.append(table._replace(rows=rows, file=file))
  record = result._asdict() | {
    "drawings": [(d.name, d.caption) for d in result.drawings],
    "claims": [claim._asdict() for claim in result.claims],
    "tables": tables,
  }
  text = json.dumps(record, indent=2, default=_plain) + "\n"
  write_text(folder / f"{name}.json", text)


def _cell(value):
  return mean_plus_minus(value) if isinstance(value, np.ndarray) else value


def _plain(value):
  """NumPy numbers as Python's; as text, 'False' would be true."""
  return value.item() if isinstance(value, np.generic) else str(value)


def as_csv(rows: Iterable[Iterable[Any]]) -> str:
  """Rows as comma-separated text."""
  text = io.StringIO()
  csv.writer(text, lineterminator="\n").writerows(rows)
  return text.getvalue()


def save_drawings(drawings: list[Drawing], workdir: pathlib.Path) -> None:
  """Writes figures/NAME.png, NAME.svg and the lines' points, NAME.csv."""
  (workdir / "figures").mkdir(exist_ok=True)
  for drawing in drawings:
    assert isinstance(drawing.figure, Figure)
    image = workdir / "figures" / f"{drawing.name}.png"
    drawing.figure.savefig(image)
    # Without the date: equal numbers give equal files.
    drawing.figure.savefig(image.with_suffix(".svg"), metadata={"Date": None})
    write_text(image.with_suffix(".csv"), as_csv(_points(drawing.figure)))


def _points(figure: Figure) -> Iterator[Sequence[Any]]:
  """Every point of every line, except for reference lines across a panel."""
  yield ("panel", "title", "line", "x", "y")
  for panel, ax in enumerate(figure.axes, 1):
    lines = [x for x in ax.lines if x.get_transform() is ax.transData]
    for line in lines:
      # matplotlib names a line without a label _child.
      label = re.sub("^_.*", "", str(line.get_label()))
      for x, y in np.asarray(line.get_xydata()):
        yield (panel, ax.get_title(), label, f"{x:g}", f"{y:g}")


def load(name: str, workdir: pathlib.Path) -> Result | None:
  """The result that `save` wrote; None if there is none."""
  path = workdir / "results" / f"{name}.json"
  if not path.exists():
    return None
  record = json.loads(path.read_text(encoding="utf-8"))
  images = workdir / "figures"
  return Result(
    record["title"],
    [Drawing(n, images / f"{n}.png", c) for n, c in record["drawings"]],
    [Claim(**claim) for claim in record["claims"]],
    [Table(*table) for table in record["tables"]],
    record["made_by"],
    record["summary"],
  )
