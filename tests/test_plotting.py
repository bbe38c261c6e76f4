"""Colours are distinguishable with any colour vision, dashes in grey."""

import itertools

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.colors import to_rgb

from experiments.figures import (
  estimator_study,
  factorized,
  maze_settings,
  regression_methods,
)
from experiments.reports import sweep_figures
from maxrl_jax import plotting

# Machado, Oliveira and Fernandes, A physiologically-based model for simulation
# of color vision deficiency (2009), severity 1, on linear RGB.
_VISIONS = {
  "normal": np.eye(3),
  "protanopia": np.array(
    [
      [0.152286, 1.052583, -0.204868],
      [0.114503, 0.786281, 0.099216],
      [-0.003882, -0.048116, 1.051998],
    ]
  ),
  "deuteranopia": np.array(
    [
      [0.367322, 0.860646, -0.227968],
      [0.280085, 0.672501, 0.047413],
      [-0.011820, 0.042940, 0.968881],
    ]
  ),
  "tritanopia": np.array(
    [
      [1.255528, -0.076749, -0.178779],
      [-0.078411, 0.930809, 0.147602],
      [0.004733, 0.691367, 0.303900],
    ]
  ),
}
# Linear sRGB → XYZ, IEC 61966-2-1; the white point is what (1, 1, 1) gives.
_XYZ = np.array(
  [
    [0.4124564, 0.3575761, 0.1804375],
    [0.2126729, 0.7151522, 0.0721750],
    [0.0193339, 0.1191920, 0.9503041],
  ]
)


def _linear(colour):
  c = np.array(to_rgb(colour))
  return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def _lab(colour, vision="normal"):
  """CIELAB coordinates as perceived with this colour vision."""
  seen = np.clip(_VISIONS[vision] @ _linear(colour), 0, 1)
  x, y, z = (
    np.cbrt(t) if t > (6 / 29) ** 3 else t / (3 * (6 / 29) ** 2) + 4 / 29
    for t in _XYZ @ seen / _XYZ.sum(1)
  )
  return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def _closest(colours, vision):
  pairs = itertools.combinations([_lab(c, vision) for c in colours], 2)
  return min(np.linalg.norm(a - b) for a, b in pairs)


def _contrast(colour):
  """WCAG 2 contrast ratio on white."""
  return 1.05 / (_XYZ[1] @ _linear(colour) + 0.05)


def test_colour_measures_by_hand():
  np.testing.assert_allclose(_lab("#ffffff"), [100, 0, 0], atol=1e-3)
  # Published CIELAB of sRGB's red; a red and a green that few confuse.
  np.testing.assert_allclose(_lab("#ff0000"), [53.24, 80.09, 67.20], atol=0.01)
  assert _closest(["#b04000", "#507000"], "normal") > 50
  assert _closest(["#b04000", "#507000"], "deuteranopia") < 25
  assert _contrast("#767676") == pytest.approx(4.54, abs=0.01)


_SETS = {
  "methods": plotting.COLOURS,
  "regression": regression_methods.COLOURS,
  "mazes": maze_settings.COLOURS,
  "factorized": factorized.COLOURS,
  "baselines": {k: v[0] for k, v in estimator_study._BASELINES.items()},
  "sweeps": dict(
    enumerate(sweep_figures._distinct_colours(sweep_figures._MOST))
  ),
}


@pytest.mark.parametrize("vision", _VISIONS)
@pytest.mark.parametrize("name", _SETS)
def test_methods_are_distinguishable(name, vision):
  # A difference of 2.3 is just noticeable side by side; lines are thin.
  assert _closest(set(_SETS[name].values()), vision) > 12


@pytest.mark.parametrize("name", _SETS)
def test_colours_contrast_with_the_background(name):
  for label, colour in _SETS[name].items():
    assert _contrast(colour) >= 3, label


def test_sweeps_have_enough_colours():
  assert len(set(sweep_figures._distinct_colours(sweep_figures._MOST))) == 6


@pytest.mark.parametrize("vision", _VISIONS)
def test_orders_go_from_light_to_dark(vision):
  shades = [plotting.shade(x) for x in np.linspace(0, 1, 8)]
  lightness = [_lab(shade, vision)[0] for shade in shades]
  assert max(np.diff(lightness)) < -4
  assert _contrast(shades[0]) >= 3


def test_no_figure_stays_open():
  """pyplot keeps its figures until they are closed, and warns of the 21st."""
  plotting.axes(columns=2)
  assert pyplot.get_fignums() == []


def test_dash_patterns_are_unique_per_method():
  colours = set(plotting.COLOURS.values())
  styles = {plotting.dashes(colour) for colour in colours}
  assert len(styles) == len(colours)
  ax = plotting.axes()[1]
  for name in ("maxrl", "grpo"):
    plotting.curve(ax, [0, 1], [0, 1], colour=plotting.COLOURS[name])
  plotting.curve(
    ax, [0, 1], [0, 1], colour=plotting.COLOURS["grpo"], linestyle="-"
  )
  solid, dashed, override = ax.lines
  assert not solid.is_dashed() and dashed.is_dashed()
  assert not override.is_dashed()


def test_few_seeds_are_lines_and_many_a_band():
  y = np.arange(14.0).reshape(7, 2)
  _, ax = plotting.axes()
  plotting.seed_curves(ax, [0, 1], y[:3], colour="black", label="mean")
  assert [list(line.get_ydata()) for line in ax.lines] == [
    *([0, 1], [2, 3], [4, 5]),
    [2, 3],  # Their mean.
  ]
  assert not ax.collections
  _, ax = plotting.axes()
  plotting.seed_curves(ax, [0, 1], y, colour="black", label="mean")
  assert [list(line.get_ydata()) for line in ax.lines] == [[6, 7]]
  assert len(ax.collections) == 1  # The band.


def test_few_values_are_evenly_spaced_with_both_ends():
  assert plotting.few([1, 2, 4, 8, 16, 32, 64, 128], 4) == [1, 4, 16, 128]
  assert plotting.few([1, 2], 4) == [1, 2]


def test_means_over_runs_and_their_students_intervals():
  _, ax = plotting.axes()
  plotting.mean_curve(ax, [1, 2], [[1.0, 3.0], [2.0, 6.0]], colour="black")
  assert list(ax.lines[0].get_ydata()) == [2, 4]
  y = ax.collections[0].get_paths()[0].vertices[:, 1]
  # t of one degree of freedom times the standard errors 1 and 2.
  assert sorted({*np.round(y, 2)}) == [-21.41, -10.71, 14.71, 29.41]


def test_larger_sizes_are_darker_whatever_their_order():
  for grey in (False, True):
    looks = [plotting.by_rank(v, (8, 1, 4), grey=grey) for v in (1, 4, 8)]
    lightness = [sum(to_rgb(look["colour"])) for look in looks]
    assert max(np.diff(lightness)) < 0
    assert all(("linestyle" in look) is grey for look in looks)
  assert plotting.by_rank(3, (3,))["colour"] == plotting.shade(0)


def test_a_legend_below_has_the_lines_of_one_panel_or_of_all_once():
  figure, (left, right) = plotting.axes(columns=2)
  for i in range(4):
    plotting.curve(left, [0, 1], [0, i], colour="black", label=str(i))
  plotting.curve(right, [0, 1], [0, 1], colour="black", label="other")
  plotting.legend_below(figure, left, 3)
  (legend,) = figure.legends
  assert [text.get_text() for text in legend.get_texts()] == list("0123")
  figure, axes = plotting.axes(columns=2)
  for ax, labels in zip(axes, ("ab", "bc"), strict=True):
    for label in labels:
      plotting.curve(ax, [0, 1], [0, 1], colour="black", label=label)
  plotting.legend_below(figure, axes)
  (legend,) = figure.legends
  assert [text.get_text() for text in legend.get_texts()] == list("abc")
