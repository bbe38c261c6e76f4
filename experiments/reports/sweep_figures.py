"""Figures of a sweep: order, learning, learning rate, maps, profiles."""

import json

import numpy as np

from experiments.reports.results import Drawing
from experiments.reports.sweep_analysis import RATE, Sweep, name
from maxrl_jax import plotting, stats
from maxrl_jax.estimators import ESTIMATORS
from maxrl_jax.runs import dataset

_ORDER, _ROLLOUTS = "estimator.order", "rollouts"
_MOST = 6  # Curves in a panel; more cannot be told apart.


def draw(sweep: Sweep) -> list[Drawing]:
  """All figures for which the grid has enough fields and values."""
  drawings = [
    _order_curve(sweep),
    _learning_curves(sweep),
    _map(sweep, _ORDER, RATE),
    _map(sweep, _ORDER, _ROLLOUTS),
    _sensitivity(sweep),
    _profiles(sweep),
  ]
  return [drawing for drawing in drawings if drawing is not None]


def _swept(sweep: Sweep, field: str) -> list:
  """Values of a numeric field, sorted; empty if there are fewer than two."""
  values = {
    row[axis.fields.index(field)]
    for axis in sweep.axes
    if field in axis.fields
    for row in axis.values
  } - {None}
  if len(values) < 2 or not all(isinstance(v, (int, float)) for v in values):
    return []
  return sorted(values)


def _families(methods, *fields: str) -> list[tuple[str, list]]:
  """Groups of methods that differ only in these fields, each with a label."""
  families: dict[str, tuple[str, list]] = {}
  for method in methods:
    rest = {k: v for k, v in method.fields.items() if k not in fields}
    families.setdefault(repr(rest), (name(rest), []))[1].append(method)
  return list(families.values())


def _more(count: int, noun: str) -> str:
  """A sentence on what a figure leaves out, if anything."""
  return f" {count} more {noun} are in the tables." if count > 0 else ""


def _distinct_colours(count: int):
  """Colours, each with its dash pattern; MaxRL's comes first."""
  first = plotting.COLOURS["maxrl"]
  every = dict.fromkeys((first, *plotting.COLOURS.values()))
  return list(every)[:count]


def _looks(methods) -> list[tuple]:
  """Each method, and its colour and label.

  Colours are light to dark if only the order differs, else distinct.
  """
  orders = {method.fields.get(_ORDER) for method in methods}
  if len(orders) == len(methods) and None not in orders:
    colours = [*map(plotting.shade, np.linspace(0, 1, len(methods)))]
  else:
    colours = _distinct_colours(len(methods))
  return [
    (method, {"colour": colour, "label": method.label})
    for method, colour in zip(methods, colours, strict=True)
  ]


def _order_curve(sweep: Sweep):
  """Score against T, one line per setting of the other fields."""
  orders = _swept(sweep, _ORDER)
  families = []
  for label, group in _families(sweep.methods, _ORDER):
    group = [m for m in group if m.fields.get(_ORDER) is not None]
    if len(group) > 1:
      families.append((label, sorted(group, key=lambda m: m.fields[_ORDER])))
  if not orders or not families:
    return None
  figure, ax = plotting.axes(width=5.4, height=3.4)
  shown = families[:_MOST]
  colours = _distinct_colours(len(shown))
  for (label, group), colour in zip(shown, colours, strict=True):
    x = [method.fields[_ORDER] for method in group]
    scores = [sweep.test(method) for method in group]
    plotting.mean_curve(ax, x, scores, colour=colour, label=label)
  plotting.every_tick(ax, orders, base=2)
  ax.set(xlabel="order T", ylabel=f"test {sweep.score}")
  if len(shown) > 1:
    figure.legend(loc="outside lower center", ncols=2)
  chosen = ", each at its chosen learning rate" * sweep.chooses
  return Drawing(
    "order",
    figure,
    f"Test {sweep.score} after training against the order T{chosen}; mean and"
    " 95 % interval over seeds." + _more(len(families) - _MOST, "settings"),
  )


def _learning_curves(sweep: Sweep):
  """Score of a split against steps, rollouts drawn and wall time."""
  data, config = sweep.data, json.loads(sweep.data.attrs["config"])
  scores = [data[f"{split}_{sweep.score}"] for split in ("validation", "test")]
  scores = [score for score in scores if "eval_step" in score.dims]
  if not scores:
    return None
  figure, axes = plotting.axes(columns=3, width=4.0, height=3.3)
  steps = data["eval_step"].values
  for method, look in _looks(sweep.methods[:_MOST]):
    mean, low, high = stats.mean_interval(scores[0].values[method.runs])
    seconds = data["seconds"].values[method.runs].mean()
    scales = (1, _drawn(method, config), seconds / steps[-1])
    for ax, scale in zip(axes, scales, strict=True):
      plotting.curve(ax, steps * scale, mean, low=low, high=high, **look)
  names = ("steps", "rollouts drawn, B × N × steps", "seconds per run")
  for ax, words in zip(axes, names, strict=True):
    ax.set_xlabel(words)
    ax.locator_params(axis="x", nbins=5)
    ax.ticklabel_format(axis="x", scilimits=(-3, 4))
  axes[0].set_ylabel(str(scores[0].name).replace("_", " "))
  plotting.legend_below(figure, axes[0], 3)
  return Drawing(
    "learning",
    figure,
    "Learning curves, mean and 95 % interval over seeds; against steps,"
    " rollouts drawn, and seconds per run, of runs that were trained together."
    + _more(len(sweep.methods) - _MOST, "methods"),
  )


def _drawn(method, config: dict) -> float:
  """Rollouts per step; NaN if the method draws none, or no fixed number."""
  batch = method.fields.get("batch_size", config["batch_size"])
  rollouts = method.fields.get("rollouts", config["rollouts"])
  kind = method.fields.get("estimator.name", config["estimator"]["name"])
  return batch * rollouts if kind in ESTIMATORS else np.nan


def _map(sweep: Sweep, rows: str, columns: str):
  """Mean score by two fields of the grid, one panel per setting of the rest."""
  ys, xs = _swept(sweep, rows), _swept(sweep, columns)
  if not ys or not xs:
    return None
  panels = [
    (label, _cells(sweep, group, rows, columns, ys, xs))
    for label, group in _families(sweep.methods, rows, columns)
  ]
  panels = [
    (label, cells) for label, cells in panels if np.isfinite(cells).any()
  ]
  if not panels:
    return None
  shown = panels[:4]
  figure, axes = plotting.axes(
    columns=min(2, len(shown)),
    rows=-(-len(shown) // 2),
    width=1.6 + 0.75 * len(xs),
    height=1.2 + 0.4 * len(ys),
  )
  places = np.ravel(axes)
  for ax in places[len(shown) :]:
    ax.set_axis_off()
  low = min(np.nanmin(cells) for _, cells in shown)
  high = max(np.nanmax(cells) for _, cells in shown)
  for ax, (label, cells) in zip(places, shown, strict=False):
    image = _draw_cells(ax, cells, low, high)
    ax.set_xticks(range(len(xs)), [f"{x:g}" for x in xs])
    ax.set_yticks(range(len(ys)), [f"{y:g}" for y in ys])
    ax.set(xlabel=columns, ylabel=rows, title=label if len(panels) > 1 else "")
  figure.colorbar(image, ax=places, label=f"test {sweep.score}")
  chosen = sweep.chooses and columns != RATE
  words = ", at the chosen learning rates" * chosen
  return Drawing(
    f"map_{dataset.plain(rows)}_{dataset.plain(columns)}",
    figure,
    f"Mean test {sweep.score} over the reported seeds{words}."
    + _more(len(panels) - len(shown), "settings"),
  )


def _draw_cells(ax, cells, low: float, high: float):
  """Colours from low to high, and the numbers; returns the image."""
  image = ax.imshow(
    cells, "viridis", aspect="auto", origin="lower", vmin=low, vmax=high
  )
  for i, j in np.argwhere(np.isfinite(cells)):
    dark = (cells[i, j] - low) < 0.6 * (high - low)
    colour = "white" if dark else "black"
    words = f"{cells[i, j]:.3f}"
    ax.text(j, i, words, ha="center", va="center", fontsize=8, color=colour)
  ax.grid(False)
  return image


def _cells(sweep: Sweep, methods, rows: str, columns: str, ys, xs):
  """Mean scores [len(ys), len(xs)], NaN where the grid has no such point."""
  scores = dataset.final(sweep.data, f"test_{sweep.score}")
  cells = np.full((len(ys), len(xs)), np.nan)
  for method in methods:
    y, x = method.fields.get(rows), method.fields.get(columns)
    places = method.by_rate if columns == RATE else {x: method.runs}
    for x, runs in places.items():
      if y in ys and x in xs:
        cells[ys.index(y), xs.index(x)] = scores[runs].mean()
  return cells


def _sensitivity(sweep: Sweep):
  """Score against the learning rate, one line per method."""
  rates = _swept(sweep, RATE)
  scores = dataset.final(sweep.data, f"test_{sweep.score}")
  complete = [m for m in sweep.methods if set(rates) <= set(m.by_rate)]
  if not rates or not complete:
    return None
  figure, ax = plotting.axes(width=5.4, height=3.4)
  for method, look in _looks(complete[:_MOST]):
    values = [scores[method.by_rate[rate]] for rate in rates]
    plotting.mean_curve(ax, rates, values, **look)
  plotting.every_tick(ax, rates)
  ax.set(xlabel="learning rate", ylabel=f"test {sweep.score}")
  figure.legend(loc="outside lower center", ncols=2)
  return Drawing(
    "learning_rate",
    figure,
    f"Sensitivity to the learning rate: test {sweep.score} of the reported"
    " seeds, mean and 95 % interval." + _more(len(complete) - _MOST, "methods"),
  )


def _profiles(sweep: Sweep):
  """Share of runs that score above τ."""
  if not sweep.larger or len(sweep.methods) < 2:
    return None
  figure, ax = plotting.axes(width=5.4, height=3.4)
  shown = sweep.methods[:_MOST]
  scores = [sweep.test(method) for method in shown]
  every = np.concatenate(scores)
  every = every[np.isfinite(every)]  # NaN, of a diverged run, is above no τ.
  if not every.size:
    return None
  low, high = every.min(), every.max()
  pad = max(0.05 * (high - low), 1e-3)
  thresholds = np.linspace(low - pad, high + pad, 400)
  for (_, look), values in zip(_looks(shown), scores, strict=True):
    shares = stats.performance_profile(values, thresholds)
    plotting.curve(ax, thresholds, shares, **look)
  ax.set(xlabel=f"τ, test {sweep.score}", ylabel="share of runs above τ")
  figure.legend(loc="outside lower center", ncols=2)
  return Drawing(
    "profile",
    figure,
    f"Performance profiles: the share of reported runs whose test {sweep.score}"
    " is above τ." + _more(len(sweep.methods) - _MOST, "methods"),
  )
