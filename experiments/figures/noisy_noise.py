"""Numbers written by a transformer: kinds of noise."""

from typing import Any

import numpy as np

from experiments.figures import noisy_drawings as drawings
from experiments.figures import noisy_studies
from experiments.figures import regression_methods as methods
from experiments.figures.noisy_drawings import MSE
from experiments.figures.noisy_regression import FIELDS, methods_of, train
from experiments.figures.noisy_studies import (
  Settings,
  describe,
  final_nll,
  study_of,
)
from experiments.reports.results import (
  Claim,
  Drawing,
  Result,
  Table,
  bounded,
  larger,
)
from maxrl_jax import plotting, stats
from maxrl_jax.runs import dataset, study

PRESETS = noisy_studies.PRESETS

_MIXED: dict[str, dict[str, Any]] = {
  "outliers": {
    "task.noise": 0.1,
    "task.outliers": 0.1,
    "likelihood.scale": 0.1,
  },
  "σ hidden": {
    "task.noise": 0.05,
    "task.max_noise": 2.0,
    "likelihood.scale": 0.3,
  },
  "two rules": {"task.rules": 2, "likelihood.scale": 0.3},
}


def _situations(settings: Settings) -> dict[str, dict[str, Any]]:
  """Fields of the config by kind of noise."""
  fixed = {
    f"σ = {sigma:g}": {
      "task.noise": sigma,
      "task.limit": max(4.0, 4 * sigma),
      "likelihood.scale": sigma,
    }
    for sigma in settings.noises
  }
  return fixed | _MIXED


def studies(settings: Settings, runs) -> dict[str, study.Study]:
  """All methods with every kind of noise, to which the warm-up is adapted."""
  if MSE not in settings.others:
    raise ValueError(
      f"others = {settings.others}: must have {MSE!r}, which claims compare"
    )
  every = {}
  for label, fields in _situations(settings).items():
    rows = methods_of(settings, fields["likelihood.scale"])
    grid = {FIELDS: [*rows.values()]}
    every[label] = study_of(settings, runs, fields, grid)
  return every


def figure(settings: Settings, runs) -> Result:
  """NLL and correlation by kind of noise and method."""
  labels = methods_of(settings, 1.0)
  nll, correlation = {}, {}
  for situation, what in studies(settings, runs).items():
    trained = train(what, runs, labels)
    nll[situation] = {label: final_nll(run) for label, run in trained.items()}
    correlation[situation] = {
      label: dataset.final(run, "test_correlation")
      for label, run in trained.items()
    }
  caption = (
    "Left: NLL minus that of exact maximum likelihood. Right: correlation of"
    " the policy's mean with the signal without noise. Dots are"
    f" {settings.seeds} seeds, bars their means. Outliers: a tenth of all y has"
    " ten times the noise; σ hidden: it differs from prompt to prompt, from"
    " .05 to 2; two rules: every pair, and the query, follows one of two w at"
    f" random. {describe(settings)}."
  )
  rows = [
    [situation, label, nll[situation][label], correlation[situation][label]]
    for situation in nll
    for label in labels
  ]
  return Result(
    "Numbers written by a transformer: kinds of noise",
    [Drawing("noisy_noise", _draw(nll, correlation, settings), caption)],
    _claims(nll, correlation, settings),
    [
      Table(
        "After training, test split.",
        ["noise", "method", "fitted NLL", "correlation"],
        rows,
      )
    ],
  )


def _draw(nll, correlation, settings: Settings):
  drawing, (left, right) = plotting.axes(columns=2, width=5.4, height=3.4)
  looks = drawings.colours(settings)
  labels = [label for label in next(iter(nll.values())) if label != "exact ML"]
  places = np.arange(len(nll))
  for ax, scores in ((left, nll), (right, correlation)):
    for i, label in enumerate(labels):
      values = [of[label] for of in scores.values()]
      if ax is left:
        best = [of["exact ML"].mean() for of in scores.values()]
        values = [x - b for x, b in zip(values, best, strict=True)]
      at = places + 0.13 * (i - (len(labels) - 1) / 2)
      dots: dict[str, Any] = {"linestyle": "", "color": looks[label]}
      for seed in np.transpose(values):
        ax.plot(at, seed, marker=".", markersize=3, **dots)
      means = np.mean(values, 1)
      ax.plot(at, means, marker="_", markersize=9, label=label, **dots)
    ax.set_xticks(places, [*nll])
  for place, of in zip(places, correlation.values(), strict=True):
    best = of["exact ML"].mean()
    right.plot([place - 0.4, place + 0.4], [best] * 2, color="0.5", lw=0.9)
  left.axhline(0, color="0.5", lw=0.9, label="exact ML")
  left.set(ylabel="NLL above exact ML, nats")
  right.set(ylabel="correlation with the signal")
  plotting.legend_below(drawing, left)
  return drawing


def _claims(nll, correlation, settings: Settings) -> list[Claim]:
  least, most = methods.ends(settings)
  claims = []
  for sigma in sorted({min(settings.noises), max(settings.noises)}):
    scores = correlation[f"σ = {sigma:g}"]
    gap = stats.difference_interval(scores[most], scores[MSE])
    claims.append(
      bounded(
        f"noisy_noise.fixed.{sigma:g}",
        "own",
        f"With the same σ = {sigma:g} in all prompts {most} and {MSE} end"
        " with the same correlation.",
        gap,
        above=-0.02,
        below=0.02,
      )
    )
  for situation in _MIXED:
    name = situation.replace("σ", "sigma").replace(" ", "_")
    claims += [
      larger(
        f"noisy_noise.{name}.nll",
        "own",
        f"{situation}: {least} ends with a larger NLL than {most}.",
        nll[situation][least],
        nll[situation][most],
      ),
      larger(
        f"noisy_noise.{name}.correlation",
        "own",
        f"{situation}: {most} ends with a larger correlation than {MSE}.",
        correlation[situation][most],
        correlation[situation][MSE],
      ),
    ]
  return claims
