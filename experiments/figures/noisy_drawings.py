"""Drawings and tables of the figure of numbers written by a transformer."""

import numpy as np

from experiments.figures import regression_methods as methods
from experiments.reports.results import Table
from maxrl_jax import plotting
from maxrl_jax.runs import dataset

LABELS = "labels"  # The method that learns from the digits of y.
MSE = "RLOO on −MSE"
REFERENCE = "ridge on rounded numbers"  # The least NLL that the prompt allows.
EVALUATIONS = 3


def colours(settings) -> dict:
  """Colours of the methods by label."""
  shades = {
    f"T = {t}": plotting.by_rank(t, settings.orders)["colour"]
    for t in settings.orders
  }
  labels = {LABELS: plotting.COLOURS["mse"]}
  return methods.COLOURS | shades | labels


def draw(fitted, gradients, best, settings):
  """NLL over steps, and the cosines and norms of sampled gradients."""
  drawing, (left, middle, right) = plotting.axes(
    columns=3, width=4.2, height=3.8
  )
  steps = draw_methods(left, fitted, settings)
  left.axhline(best[REFERENCE].digit_nll, color="0.5", lw=0.9, label=REFERENCE)
  left.set(xlabel="step", ylabel="NLL of the number, nats")
  plotting.legend_below(drawing, left)
  for ax, name in ((middle, "cosine"), (right, "norm_ratio")):
    _draw_gradients(ax, steps, gradients[f"probe_{name}"].values, settings)
  middle.set(ylabel="cosine with the exact gradient")
  middle.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
  right.set(ylabel="norm / exact norm")
  return drawing


def draw_scores(runs, settings):
  """Squared error to the signal, calibration and entropy over steps."""
  drawing, axes = plotting.axes(columns=3, width=4.2, height=3.4)
  panels = {
    "mse_clean": "squared error to w·x",
    "pit_distance": "distance from calibration",
    "entropy": "entropy, nats",
  }
  for ax, (name, words) in zip(axes, panels.items(), strict=True):
    values = {label: run[f"test_{name}"].values for label, run in runs.items()}
    draw_methods(ax, values, settings)
    ax.set(xlabel="step", ylabel=words)
  plotting.legend_below(drawing, axes[0])
  return drawing


def draw_methods(ax, values, settings) -> np.ndarray:
  """Values [S, steps] of the most important methods; returns the steps."""
  steps = np.linspace(0, settings.steps, EVALUATIONS + 1)
  shown = dict.fromkeys((LABELS, "exact ML", *methods.ends(settings), MSE))
  looks = colours(settings)
  for label in filter(values.__contains__, shown):
    plotting.seed_curves(
      ax, steps, values[label], colour=looks[label], label=label
    )
  return steps


def _draw_gradients(ax, steps, values: np.ndarray, settings) -> None:
  """Means of values [S, steps, N, T] over seeds, at the ends of both."""
  for place, j in enumerate((0, len(settings.gradient_orders) - 1)):
    order = settings.gradient_orders[j]
    for i, num in [*enumerate(settings.gradient_rollouts)][-2:]:
      if order < num:
        plotting.curve(
          ax,
          steps,
          values[:, :, i, j].mean(0),
          colour=plotting.shade(place),
          linestyle=("-", "--", ":", "-.")[i % 4],
          label=f"T = {order}, N = {num}",
        )
  ax.set(xlabel="step of exact ML")


def table(runs, fitted, best) -> Table:
  """Scores of every method, then of the references."""
  names = ("digit_nll", "mse", "mse_clean", "pit_distance", "entropy")
  rows = []
  for label, run in runs.items():
    scores = [dataset.final(run, f"test_{name}") for name in names]
    rows.append([label, fitted[label][:, -1], *scores])
  for label, x in best.items():
    numbers = (x.digit_nll, x.mse, x.mse_clean)
    rows.append([label, "", *(f"{v:.3f}" for v in numbers), "", ""])
  return Table(
    "Test split after training: NLL of the number with fitted noise and without"
    " any, squared errors, calibration under its own likelihood, entropy.",
    [
      "method",
      "fitted NLL",
      "NLL",
      "MSE",
      "to clean",
      "PIT distance",
      "entropy",
    ],
    rows,
  )


def gradient_table(gradients, settings) -> Table:
  """Mean cosine and norm ratio at the start and at the end, by N and T."""
  rows = []
  for i, num in enumerate(settings.gradient_rollouts):
    for when, at in (("start", 0), ("end", -1)):
      cells = [
        " / ".join(
          f"{gradients[f'probe_{name}'].values[:, at, i, j].mean():.2f}"
          for name in ("cosine", "norm_ratio")
        )
        for j in range(len(settings.gradient_orders))
      ]
      rows.append([num, when, *cells])
  return Table(
    "Cosine / norm ratio of sampled gradients with the exact one.",
    ["N", "step", *(f"T = {t}" for t in settings.gradient_orders)],
    rows,
  )
