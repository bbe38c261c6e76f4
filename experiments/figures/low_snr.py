"""Low signal-to-noise: does the likelihood help if the noise is equal?"""

import itertools
from typing import NamedTuple

import numpy as np

from experiments.figures import regression_methods as methods
from experiments.figures import set_steps
from experiments.reports.results import (
  Claim,
  Drawing,
  Result,
  Table,
  bounded,
  in_words,
)
from maxrl_jax import plotting, stats
from maxrl_jax.config import default
from maxrl_jax.runs import dataset, study
from maxrl_jax.runs.measure import Measure

_EXACT = ("MSE", "exact ML", "exact RL")
_SAMPLED = tuple(label for label in methods.METHODS if label not in _EXACT)
# Without a baseline the mean reward scales every score, which adds variance:
# the claims exclude these methods.
_WITHOUT_BASELINE = ("REINFORCE on l", "REINFORCE on −MSE")
_DRAWN = ("MaxRL", "RLOO on −MSE", "RLOO on l", "GRPO on l")
_NOISE, _WIDTH = 1.0, 0.5  # σ of the likelihood, deviation of the policy.


class Settings(NamedTuple):
  """Choices of the figure; if `rates` is empty, the config's is used."""

  rhos: tuple[float, ...] = (0.1, 0.3, 0.7)
  rollouts: tuple[int, ...] = (8, 64)
  rates: tuple[float, ...] = ()
  steps: int = 1000
  seeds: int = 5


PRESETS = {
  "quick": Settings(),
  "full": Settings(
    rhos=(0.05, 0.1, 0.2, 0.4, 0.7),
    rollouts=(8, 32, 128),
    rates=(1e-3, 3e-3, 1e-2),
    steps=2000,
    seeds=10,
  ),
}


def _config(settings: Settings):
  config = default(task="bag_of_words")
  config.likelihood.scale = _NOISE
  config.policy.name, config.policy.policy_scale = "normal", _WIDTH
  config.policy.hidden = ()
  set_steps(config, settings.steps, evaluations=4)
  config.batch_size = 64
  config.optimizer.name, config.optimizer.learning_rate = "adam", 3e-3
  return config


def studies(settings: Settings, runs) -> dict[str, study.Study]:
  """Methods by ρ; those that sample, by the number of rollouts, too."""
  del runs
  rollouts = {"rollouts": settings.rollouts}
  rho = {"task.rho": settings.rhos}
  grids = {
    "sampled": methods.methods_axis(_SAMPLED) | rollouts | rho,
    "exact": methods.methods_axis(_EXACT) | rho,
  }
  config, seeds = _config(settings), methods.seeds(settings)
  return {
    name: study.study(config, grid, seeds, Measure(ks=(1,)))
    for name, grid in grids.items()
  }


def _correlations(settings: Settings, runs) -> dict:
  """{(label, N or None, ρ): final correlations [seeds]}."""
  axes = {
    "sampled": (_SAMPLED, settings.rollouts, settings.rhos),
    "exact": (_EXACT, (None,), settings.rhos),
  }
  data: dict = {}
  for name, what in studies(settings, runs).items():
    keys = itertools.product(*axes[name])
    data |= methods.at_best_rates(what, keys, settings.rates, runs, "mse")
  return {
    key: dataset.final(run, "test_correlation") for key, run in data.items()
  }


def figure(settings: Settings, runs) -> Result:
  """Correlation with the clean signal by ρ, and gaps to exact ML."""
  data, rollouts = _correlations(settings, runs), sorted(settings.rollouts)
  drawing, (left, right) = plotting.axes(columns=2, width=4.8, height=3.3)
  for label in ("exact ML", "exact RL"):
    _line(left, data, label, None, linestyle="--")
  for label in _DRAWN:
    _line(left, data, label, max(rollouts))
  left.set(
    title=f"N = {max(rollouts)} rollouts",
    xlabel="ρ, correlation of y and signal",
    ylabel="1 − correlation with the signal",
    yscale="log",
  )
  plotting.every_tick(left, _rhos(data))
  plotting.legend_below(drawing, left)
  _draw_gaps(right, data, rollouts)
  rate = methods.rate_in_words(_config(settings), settings.rates, "MSE")
  caption = (
    "Bag of words: y = ρ × standardized sum of token values + noise. Linear"
    f" policy N(w·x, {_WIDTH:g}) under Gaussian noise of scale {_NOISE:g},"
    f" Adam, {rate}, {settings.steps} steps of 64 fresh prompts; mean over"
    f" {settings.seeds} seeds (intervals and other methods in the table; l is"
    " the likelihood, E[l] what RL on l maximizes). Right: at the smallest"
    " ρ, how far each method is behind exact ML, paired by seed, with 95 %"
    " intervals. As N grows, MaxRL, IWAE, VIMCO and RLOO on −MSE follow the"
    " residual r; RL on l follows r exp(−r²/2τ²), where τ² is the variance of"
    " noise plus policy. This downweights outliers: its efficiency is"
    f" {_efficiency():.2f} for any number of rollouts (exact RL is N → ∞)."
  )
  return Result(
    "Low signal-to-noise: correlation with the clean signal",
    [Drawing("low_snr", drawing, caption)],
    _claims(data, rollouts),
    [_table(data, rollouts)],
  )


def _efficiency() -> float:
  """(E ψ')²/E ψ² of ψ(r) = r exp(−r²/2τ²) under unit normal noise."""
  variance = _NOISE**2 + _WIDTH**2  # τ².
  slope = (1 + 1 / variance) ** -1.5
  return slope**2 * (1 + 2 / variance) ** 1.5


def _rhos(data) -> list[float]:
  return sorted({rho for _, _, rho in data})


def _line(ax, data, label, num, **style) -> None:
  rhos = _rhos(data)
  means = [1 - data[label, num, rho].mean() for rho in rhos]
  colour = methods.COLOURS[label]
  style |= {"colour": colour, "label": label, "marker": "."}
  plotting.curve(ax, rhos, means, **style)


def _draw_gaps(ax, data, rollouts) -> None:
  """One row per method, one marker per N."""
  rho = _rhos(data)[0]
  rows = [*_DRAWN, "exact RL"]
  markers = dict(zip(rollouts, itertools.cycle("os^v"), strict=False))
  markers[None] = "D"
  for i, label in enumerate(rows):
    numbers = rollouts if label in _SAMPLED else (None,)
    for k, num in enumerate(numbers):
      gap = _gap(data, label, num, rho)
      ax.errorbar(
        gap.mean,
        i + 0.5 * ((k + 1) / (len(numbers) + 1) - 0.5),
        xerr=[[gap.mean - gap.low], [gap.high - gap.mean]],
        fmt=markers[num],
        ms=4,
        capsize=2,
        lw=1,
        color=methods.COLOURS[label],
      )
  for num, marker in markers.items():
    label = f"N = {num}" if num else "exact gradient"
    ax.plot([], [], marker, color="0.4", ms=4, label=label)
  ax.axvline(0, color="0.5", lw=0.8, ls="--")
  ax.set_yticks(range(len(rows)), rows)
  ax.invert_yaxis()
  ax.set(title=f"ρ = {rho:g}", xlabel="correlation behind exact ML")
  ax.legend(loc="upper right")


def _gap(data, label, num, rho):
  """Exact ML's correlation less the method's, seed by seed."""
  return stats.mean_interval(
    data["exact ML", None, rho] - data[label, num, rho]
  )


def _claims(data, rollouts) -> list[Claim]:
  most = max(rollouts)
  return [
    _close_to_exact(data, most),
    _rl_is_inefficient(data),
    _maxrl_equals_rloo(data, most),
  ]


def _close_to_exact(data, most: int) -> Claim:
  gaps = {
    f"{label} at ρ = {rho:g}": _gap(data, label, most, rho)
    for label in _SAMPLED
    if label not in _WITHOUT_BASELINE
    for rho in _rhos(data)
  }
  # The first NaN, if there is one: Python's max would drop it.
  worst = list(gaps)[np.argmax([gap.high for gap in gaps.values()])]
  return bounded(
    "low_snr.one_direction",
    "own: homoscedastic Gaussian theory",
    f"With N = {most} rollouts no method that has a baseline falls behind"
    " exact ML by more than 0.02 in correlation.",
    gaps,
    below=0.02,
    measured=f"worst: {worst}, {in_words(gaps[worst])}",
  )


def _rl_is_inefficient(data) -> Claim:
  lost = _gap(data, "exact RL", None, min(_rhos(data)))
  return bounded(
    "low_snr.efficiency",
    "own: M-estimation",
    "RL on l falls behind exact ML at the smallest ρ even with exact"
    " gradients: it downweights outliers, which Gaussian noise does not have.",
    lost,
    above=0,
    measured=in_words(lost),
  )


def _maxrl_equals_rloo(data, most: int) -> Claim:
  return bounded(
    "low_snr.null",
    "own: homoscedastic Gaussian theory",
    f"With N = {most}, MaxRL and RLOO on −MSE end alike (a null result: the"
    " noise is the same everywhere, and both follow one direction).",
    {
      f"at ρ = {rho:g}": stats.mean_interval(
        data["MaxRL", most, rho] - data["RLOO on −MSE", most, rho]
      )
      for rho in _rhos(data)
    },
    above=-0.02,
    below=0.02,
  )


def _table(data, rollouts) -> Table:
  rhos = _rhos(data)
  pairs = [(label, None) for label in _EXACT]
  pairs += [(label, num) for label in _SAMPLED for num in rollouts]
  rows = []
  for label, num in pairs:
    cells = [data[label, num, rho] for rho in rhos]
    rows.append([label, "" if num is None else num, *cells])
  return Table(
    "Correlation of the policy's mean with the clean signal, test split: mean ±"
    " half the 95 % interval over seeds.",
    ["method", "N", *(f"ρ = {rho:g}" for rho in rhos)],
    rows,
  )
