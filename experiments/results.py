"""What a figure hands to the report: drawings, claims and tables."""

from typing import Any, NamedTuple

from matplotlib.figure import Figure


class Claim(NamedTuple):
  """A statement that the measurement may refute.

  `measured` and `threshold` are what was compared, in words and numbers;
  `holds` is the outcome, never an opinion.
  """

  id: str
  source: str
  statement: str
  measured: str
  threshold: str
  holds: bool


class Drawing(NamedTuple):
  """One image file and the caption below it."""

  name: str
  figure: Figure
  caption: str


class Table(NamedTuple):
  """A small table of the report."""

  caption: str
  header: list[str]
  rows: list[list[Any]]


class Result(NamedTuple):
  """Everything one figure of the paper gives."""

  title: str
  drawings: list[Drawing]
  claims: list[Claim]
  tables: list[Table]
