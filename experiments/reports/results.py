"""Results of figures: drawings, claims and tables, and their files.

Each figure of a work folder has figures/*.png, *.svg and a results/NAME.json
with its captions, claims and tables, so that figures are independent.
"""

import json
import pathlib
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
  """

  id: str
  source: str
  statement: str
  measured: str
  threshold: str
  holds: bool


class Drawing(NamedTuple):
  """One image and the caption below it; once saved, the image is a path."""

  name: str
  figure: Figure | pathlib.Path
  caption: str


class Table(NamedTuple):
  """A small table of the report."""

  caption: str
  header: list[str]
  rows: list[list[Any]]


class Result(NamedTuple):
  """The results of one figure."""

  title: str
  drawings: list[Drawing]
  claims: list[Claim]
  tables: list[Table]
  made_by: str = ""  # Command, time and machine.


def mean_plus_minus(values: np.ndarray, digits: int = 3) -> str:
  """Mean over runs ± half its 95 % interval, for a table."""
  mean, low, _ = stats.mean_interval(values)
  return f"{mean:.{digits}f} ± {mean - low:.{digits}f}"


def nan_if_zero_width(interval: stats.Interval) -> stats.Interval:
  """The interval, NaN if it has no width: no claim may rest on it.

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
    return f"{mean:{digits}}, and no seed differs"
  return f"{mean:{digits}} [{low:{digits}}, {high:{digits}}]"


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
  return Claim(
    id,
    source,
    statement,
    f"{np.mean(first):.{digits}f} against {np.mean(second):.{digits}f},"
    f" difference {in_words(gap, f'.{digits}f')}",
    "95 % interval above 0",
    bool(nan_if_zero_width(gap).low > 0),
  )


def save(result: Result, name: str, workdir: pathlib.Path) -> None:
  """Writes the images and results/NAME.json, the latter last."""
  (workdir / "results").mkdir(exist_ok=True)
  save_drawings(result.drawings, workdir)
  record = result._asdict() | {
    "drawings": [(d.name, d.caption) for d in result.drawings],
    "claims": [claim._asdict() for claim in result.claims],
  }
  text = json.dumps(record, indent=2, default=_plain) + "\n"
  write_text(workdir / "results" / f"{name}.json", text)


def _plain(value):
  """NumPy's numbers as Python's: 'False' as text would be true."""
  return value.item() if isinstance(value, np.generic) else str(value)


def save_drawings(drawings: list[Drawing], workdir: pathlib.Path) -> None:
  """Writes figures/NAME.png and NAME.svg."""
  (workdir / "figures").mkdir(exist_ok=True)
  for drawing in drawings:
    assert isinstance(drawing.figure, Figure)
    image = workdir / "figures" / f"{drawing.name}.png"
    drawing.figure.savefig(image)
    # Without the date, the same numbers make the same file.
    drawing.figure.savefig(image.with_suffix(".svg"), metadata={"Date": None})


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
  )
