"""Drawing arrays on Axes, with one style per method.

Colours are distinguishable with any colour vision and contrast with white; each
has a dash pattern, for grey prints. Orders T of one method go from light to
dark.
"""

import contextlib
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from maxrl_jax import stats

COLOURS = {
  "cross_entropy": "#000000",
  "maximum_likelihood": "#000000",
  "maxrl": "#0072B2",
  "maxrl_paper": "#1E96FF",
  "grpo": "#D55E00",
  "rloo": "#009E73",
  "reinforce": "#009E73",
  "rl": "#009E73",
  "dr_grpo": "#86994C",
  "pass_at_k": "#CC79A7",
  "power": "#804502",
  "tail_rl": "#6100F3",
  "self_normalized": "#442108",
  "vimco": "#9E196A",
  "mse": "#5A5A3C",
}
_DASHES = {  # Points on, points off, …
  "cross_entropy": (4, 2),
  "maxrl": (),
  "maxrl_paper": (8, 1),
  "grpo": (6, 2),
  "rloo": (6, 2, 1, 2),
  "dr_grpo": (1, 2),
  "pass_at_k": (2, 1),
  "power": (1, 1),
  "tail_rl": (6, 1, 1, 1, 1, 1),
  "self_normalized": (3, 1, 3, 1, 1, 1),
  "vimco": (3, 1, 1, 1),
  "mse": (5, 1, 1, 1),
}
_DASHES_BY_COLOUR = {COLOURS[name]: dashes for name, dashes in _DASHES.items()}

STYLE: dict[str, Any] = {
  "figure.dpi": 110,
  "savefig.dpi": 160,
  "savefig.bbox": "tight",
  "figure.constrained_layout.use": True,
  "font.size": 9,
  "axes.titlesize": 9.5,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "axes.grid": True,
  "grid.alpha": 0.25,
  "grid.linewidth": 0.6,
  "legend.frameon": False,
  "legend.fontsize": 8.75,
  "legend.handlelength": 2.6,  # Room for dashes.
  "lines.linewidth": 1.6,
  "svg.hashsalt": "maxrl",
}


def styled() -> contextlib.AbstractContextManager[None]:
  """Context in which figures are drawn in this project's style."""
  return matplotlib.rc_context(STYLE)  # type: ignore[arg-type]  # Literals.


def axes(
  columns: int = 1, rows: int = 1, width: float = 4.2, height: float = 3.2
) -> tuple[Figure, Any]:
  """A styled figure and its Axes, an array if more than one.

  The figure is not one of pyplot's, so it need not be closed.
  """
  with styled():
    figure = Figure(figsize=(width * columns, height * rows))
    return figure, figure.subplots(rows, columns)


def shade(position: float, last: float = 1) -> tuple[float, ...]:
  """MaxRL's blue from light (0) to dark (`last`), with enough contrast."""
  colour = np.array(to_rgb(COLOURS["maxrl"]))
  light, dark = 1 - 0.78 * (1 - colour), 0.4 * colour
  x = float(np.clip(position / max(last, 1), 0, 1))
  return tuple((1 - x) * light + x * dark)


def by_rank(
  value: float, values: Sequence[float], *, grey: bool = False
) -> dict[str, Any]:
  """Look of one of several sizes: blue, or dashed grey; darker if larger."""
  place, last = sorted(values).index(value), max(len(values) - 1, 1)
  if grey:
    return {"colour": (0.7 * (1 - place / last),) * 3, "linestyle": (0, (4, 2))}
  return {"colour": shade(place, last)}


def dashes(colour: Any) -> Any:
  """Line style of a method, by its colour; solid for other colours."""
  pattern = _DASHES_BY_COLOUR.get(to_hex(colour).upper())
  return (0, pattern) if pattern else "-"


def curve(
  ax: Axes,
  x: npt.ArrayLike,
  y: npt.ArrayLike,
  *,
  colour: Any,
  label: str | None = None,
  low: npt.ArrayLike | None = None,
  high: npt.ArrayLike | None = None,
  **kwargs: Any,
) -> None:
  """A line in the method's dashes, with a band for its interval if given."""
  kwargs = {"linestyle": dashes(colour)} | kwargs
  ax.plot(x, y, color=colour, label=label, **kwargs)
  if low is not None and high is not None and np.isfinite(low).any():
    ax.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)


def marked_curve(
  ax: Axes, x: npt.ArrayLike, y: npt.ArrayLike, **kwargs: Any
) -> None:
  """A line with a marker at each point."""
  style: dict[str, Any] = {"marker": "o", "markersize": 3}
  curve(ax, x, y, **style, **kwargs)


def interval_curve(
  ax: Axes, x: npt.ArrayLike, interval: Sequence[npt.ArrayLike], **kwargs: Any
) -> None:
  """Means with markers and the band of a `stats.Interval`, each [len(x)]."""
  mean, low, high = interval
  marked_curve(ax, x, mean, low=low, high=high, **kwargs)


def mean_curve(
  ax: Axes, x: npt.ArrayLike, scores: Sequence[npt.ArrayLike], **kwargs: Any
) -> None:
  """Means over runs and their 95 % intervals; scores [runs] for each x."""
  interval_curve(ax, x, stats.mean_interval(np.stack(scores, -1)), **kwargs)


_FEW_SEEDS = 6


def few(values: Sequence[Any], most: int) -> list[Any]:
  """At most `most` ≥ 2 evenly spaced values, with the first and the last."""
  places = np.linspace(0, len(values) - 1, min(most, len(values)))
  return [values[int(place)] for place in places]


def seeds_in_words(count: int) -> str:
  """What `seed_curves` draws, for a caption."""
  if count > _FEW_SEEDS:
    return f"mean and 95 % interval over {count} seeds"
  if count == 1:
    return "one seed"
  return f"mean of {count} seeds, which are the thin lines"


def seed_curves(
  ax: Axes,
  x: npt.ArrayLike,
  y: np.ndarray,
  *,
  colour: Any,
  label: str | None = None,
  **kwargs: Any,
) -> None:
  """The mean over seeds, with a thin line per seed or, for many, an interval.

  Args:
    ax: where to draw.
    x: [points], or [seeds, points].
    y: [seeds, points].
    colour: of all lines.
    label: of the mean.
    **kwargs: as in `curve`; markers are for the mean alone.
  """
  x = np.broadcast_to(x, y.shape)
  if len(y) > _FEW_SEEDS:
    mean, low, high = stats.mean_interval(y)
    band: dict[str, Any] = {"low": low, "high": high, "label": label}
    curve(ax, x.mean(0), mean, colour=colour, **band, **kwargs)
    return
  thin = {k: v for k, v in kwargs.items() if k == "linestyle"}
  for place, seed in zip(x, y, strict=True):
    curve(ax, place, seed, colour=colour, linewidth=0.4, alpha=0.6, **thin)
  curve(ax, x.mean(0), y.mean(0), colour=colour, label=label, **kwargs)


def legend_below(figure: Figure, panels: Any, columns: int = 6) -> None:
  """A legend below the figure: each line of one or several Axes, once."""
  entries: dict[str, Any] = {}
  for ax in np.ravel(panels):
    handles, labels = ax.get_legend_handles_labels()
    entries |= dict(zip(labels, handles, strict=True))
  lines, labels = [*entries.values()], [*entries]
  columns = min(columns, len(labels))
  figure.legend(lines, labels, loc="outside lower center", ncols=columns)


def every_tick(
  ax: Axes, values: Sequence[float], base: float | None = None
) -> None:
  """Sets a logarithmic x axis with ticks at exactly these values."""
  ax.set_xscale("log", base=base or 10)
  ax.set_xticks(values, [f"{value:g}" for value in values])
  ax.minorticks_off()


def maze(
  ax: Axes,
  is_open: np.ndarray,
  start: np.ndarray,
  goal: np.ndarray,
  path: npt.ArrayLike,
  *,
  colour: Any,
) -> None:
  """Draws a maze and a path through it.

  Args:
    ax: where to draw.
    is_open: [S, S], True for free cells.
    start: row and column.
    goal: row and column.
    path: [moves, 2], cell after each move; drawn until it leaves the maze.
    colour: of the path.
  """
  ax.imshow(is_open, cmap="gray", vmin=-1.2, vmax=1)
  cells = np.vstack([np.asarray(start)[None], np.reshape(path, (-1, 2))])
  inside = np.all((cells >= 0) & (cells < len(is_open)), 1)
  length = len(cells) if inside.all() else int(np.argmin(inside))
  ax.plot(cells[:length, 1], cells[:length, 0], color=colour, linewidth=2)
  marks: dict[str, Any] = {"color": "#000000", "markersize": 7, "linestyle": ""}
  ax.plot(start[1], start[0], marker="o", **marks)
  ax.plot(goal[1], goal[0], marker="*", **marks)
  ax.set_axis_off()
