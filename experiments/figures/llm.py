"""A small language model, post-trained in Tunix (extra `tunix`)."""

import importlib
from typing import NamedTuple

import numpy as np

from experiments.reports.results import (
  Claim,
  Drawing,
  Result,
  Table,
  larger,
  nan_if_zero_width,
)
from maxrl_jax import plotting, stats
from maxrl_jax.runs import cache, files
from maxrl_jax.runs.choose import best_rate
from maxrl_jax.runs.progress import listed

_METHODS = {
  "MaxRL, order 15": ("maxrl", None, plotting.COLOURS["maxrl"]),
  "MaxRL, order 4": ("maxrl", 4, plotting.COLOURS["maxrl_paper"]),
  "GRPO": ("grpo", None, plotting.COLOURS["grpo"]),
  "RLOO": ("rloo", None, plotting.COLOURS["rloo"]),
}


class Settings(NamedTuple):
  """Choices of the figure; `tuning_seeds` choose the rate of each method."""

  rates: tuple[float, ...] = (3e-4, 1e-3)
  tuning_seeds: int = 3
  seeds: int = 4
  steps: int = 300


PRESETS = {
  "quick": Settings(),
  "full": Settings(
    rates=(2e-4, 3e-4, 6e-4, 1e-3, 2e-3), tuning_seeds=6, seeds=12
  ),
}


def figure(settings: Settings, runs) -> Result:
  """Pass rates by step of MaxRL, GRPO and RLOO, each at its best rate."""
  # Its error names the missing extra.
  importlib.import_module("maxrl_jax.integrations.tunix")
  rates, curves = {}, {}
  for label in _METHODS:
    rates[label] = _choose(label, settings, runs)
    every = [
      _run(label, rates[label], seed, settings.steps, runs)
      for seed in range(settings.seeds)
    ]
    curves[label] = {k: np.stack([run[k] for run in every]) for k in every[0]}
  return Result(
    "A language model in Tunix: copying digits",
    [Drawing("llm", _draw(curves), _caption(settings))],
    _claims(curves),
    [_table(curves, rates)],
  )


def _run(label: str, rate: float, seed: int, steps: int, runs):
  """Pass rates of one run, cached."""
  from experiments.llm import copying

  config = copying.get_config()
  config.algorithm, config.order, _ = _METHODS[label]
  config.learning_rate, config.seed, config.steps = rate, seed, steps
  key = f"llm-{files.digest(config.to_dict())}"
  return cache.cached(runs, key, lambda _: copying.train(config))


def _choose(label: str, settings: Settings, runs) -> float:
  """By the pass rate over all of training, on seeds that are not reported."""

  def score(rate):
    every = [
      _run(label, rate, 100 + i, settings.steps, runs)
      for i in range(settings.tuning_seeds)
    ]
    return np.mean([run["pass_rate"].mean() for run in every])

  scores = [score(rate) for rate in settings.rates]
  return best_rate(f"llm, {label}", settings.rates, scores).rate


def _at_end(rates: np.ndarray, mean=np.mean) -> np.ndarray:
  """Mean of the last tenth of the steps: batches are small."""
  return mean(rates[:, -rates.shape[1] // 10 :], 1)


def _draw(curves):
  drawing, (every, hardest) = plotting.axes(columns=2, width=4.4, height=3.3)
  for label, (_, _, colour) in _METHODS.items():
    run = curves[label]
    pair = run["pass_rate"], run["by_length"][..., -1]
    for ax, values in zip((every, hardest), pair, strict=True):
      steps, smooth = _windows(values)
      plotting.curve(ax, steps, smooth.mean(0), colour=colour, label=label)
      for seed in smooth:
        ax.plot(steps, seed, color=colour, alpha=0.4, linewidth=0.7)
  every.set(xlabel="step", ylabel="pass rate", title="All prompts")
  hardest.set(
    xlabel="step", ylabel="pass rate", title="The hardest: three digits"
  )
  every.legend(loc="upper left")
  return drawing


def _windows(values: np.ndarray):
  """Last step of each window of ten steps, and means [runs, windows]."""
  count = values.shape[1] // 10
  parts = values[:, : count * 10].reshape(len(values), count, 10)
  return 10 * np.arange(1, count + 1), np.nanmean(parts, -1)


def _caption(settings: Settings) -> str:
  return (
    "A Qwen3 of 95 000 random parameters, sampled and trained by Tunix, is to"
    " copy the first one, two or three of three digits (pass rate by chance"
    " 1/16, 1/256 or 1/4096); 16 new prompts with 16 completions each per step"
    f" of Adam, the rate of each method chosen from {listed(settings.rates)} on"
    f" {settings.tuning_seeds} seeds. Thin lines: {settings.seeds} other seeds;"
    " thick lines: their mean; averages of ten steps."
  )


def _claims(curves) -> list[Claim]:
  maxrl = curves["MaxRL, order 15"]
  first = maxrl["pass_rate"][:, :10].mean()
  last = _at_end(maxrl["pass_rate"])
  low = nan_if_zero_width(stats.mean_interval(last)).low
  learns = Claim(
    "llm.learns",
    "own",
    "MaxRL in Tunix raises the pass rate of a model from a few per cent to"
    " nearly one.",
    f"{first:.3f} in the first ten steps, {last.mean():.3f} in the last tenth"
    f" (95 % interval from {low:.3f})",
    "below 0.05, then 95 % interval above 0.9",
    bool(first < 0.05 and low > 0.9),
  )
  versus = [
    larger(
      f"llm.maxrl_{name.lower()}",
      "figures 3 to 5 of arXiv 2602.02710, in small",
      f"MaxRL of order N − 1 learns faster than {name}: its pass rate is higher"
      " on average over training.",
      maxrl["pass_rate"].mean(1),
      curves[name]["pass_rate"].mean(1),
    )
    for name in ("GRPO", "RLOO")
  ]
  return [learns, *versus]


def _table(curves, rates: dict[str, float]) -> Table:
  rows = [
    [
      label,
      f"{rates[label]:g}",
      run["pass_rate"].mean(1),
      _at_end(run["pass_rate"]),
      # Some batches have no prompt of that length.
      _at_end(run["by_length"][..., -1], np.nanmean),
    ]
    for label, run in curves.items()
  ]
  return Table(
    "Pass rates, mean ± half the 95 % interval over seeds.",
    ["method", "rate", "over training", "last tenth", "three digits"],
    rows,
  )
