"""A small language model post-trained by Tunix, with our estimators in it.

Needs the extra `tunix`; the other figures do not.
"""

import importlib

import numpy as np

from experiments.reports.results import (
  Claim,
  Drawing,
  Result,
  Table,
  firm,
  larger,
  spread,
)
from experiments.runs.rates import best_rate
from experiments.runs.store import stored
from maxrl_jax import plotting, stats

_METHODS = {
  "MaxRL, order 15": ("maxrl", None, plotting.COLOURS["maxrl"]),
  "MaxRL, order 4": ("maxrl", 4, plotting.COLOURS["maxrl_paper"]),
  "GRPO": ("grpo", None, plotting.COLOURS["grpo"]),
  "RLOO": ("rloo", None, plotting.COLOURS["rloo"]),
}
_RATES = {"quick": (3e-4, 1e-3), "full": (2e-4, 3e-4, 6e-4, 1e-3, 2e-3)}
_TUNING = {"quick": (100, 101, 102), "full": range(100, 106)}
_SEEDS = {"quick": range(4), "full": range(12)}
_STEPS = {"quick": 300, "full": 300}


def figure(preset: str, workdir) -> Result:
  """Pass rates by step of MaxRL, GRPO and RLOO, each at its best rate."""
  # Says which extra is missing.
  importlib.import_module("maxrl_jax.integrations.tunix")
  rates, runs = {}, {}
  for label in _METHODS:
    rates[label] = _rate(label, preset, workdir)
    found = [
      _run(label, rates[label], seed, preset, workdir)
      for seed in _SEEDS[preset]
    ]
    runs[label] = {key: np.stack([r[key] for r in found]) for key in found[0]}
  return Result(
    "A language model in Tunix: copying digits",
    [Drawing("llm", _draw(runs), _caption(preset))],
    _claims(runs),
    [_table(runs, rates)],
  )


def _run(label: str, rate: float, seed: int, preset: str, workdir):
  from experiments.runs import llm_runs

  config = llm_runs.get_config()
  config.algorithm, config.order, _ = _METHODS[label]
  config.learning_rate, config.seed = rate, seed
  config.steps = _STEPS[preset]
  return stored(
    workdir / "runs",
    f"llm {config.algorithm}",
    config,
    lambda _: llm_runs.train(config),
  )


def _rate(label: str, preset: str, workdir) -> float:
  """By the pass rate over all of training, on seeds that are not reported."""

  def score(rate):
    found = [
      _run(label, rate, seed, preset, workdir) for seed in _TUNING[preset]
    ]
    return np.mean([_average(run["pass_rate"]) for run in found])

  rates = _RATES[preset]
  return best_rate(f"llm, {label}", rates, [score(r) for r in rates]).rate


def _average(rates: np.ndarray) -> np.ndarray:
  return rates.mean(-1)


def _at_end(rates: np.ndarray, mean=np.mean) -> np.ndarray:
  """Of the last tenth of the steps: batches are small."""
  return mean(rates[:, -rates.shape[1] // 10 :], 1)


def _draw(runs):
  drawing, (every, hardest) = plotting.axes(columns=2, width=4.4, height=3.3)
  for label, (_, _, colour) in _METHODS.items():
    run = runs[label]
    curves = run["pass_rate"], run["by_length"][..., -1]
    for ax, values in zip((every, hardest), curves, strict=True):
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


def _windows(values: np.ndarray, width: int = 10):
  """Means of every `width` steps, [runs, windows], and their last step."""
  runs, steps = values.shape
  count = steps // width
  parts = values[:, : count * width].reshape(runs, count, width)
  return width * np.arange(1, count + 1), np.nanmean(parts, -1)


def _caption(preset: str) -> str:
  return (
    "A Qwen3 of 95 000 random parameters, sampled and trained by Tunix, is to"
    " copy the first one, two or three of three digits (by chance right once in"
    " 16, 256 or 4096 times); 16 fresh prompts, 16 completions each, and a step"
    f" of Adam, the rate of each method chosen from {_RATES[preset]} on"
    f" {len(_TUNING[preset])} seeds. Thin: {len(_SEEDS[preset])} other seeds;"
    " thick: their mean; ten steps together."
  )


def _claims(runs) -> list[Claim]:
  ours = runs["MaxRL, order 15"]
  first = ours["pass_rate"][:, :10].mean()
  last = _at_end(ours["pass_rate"])
  low = firm(stats.mean_interval(last)).low
  learns = Claim(
    "llm.learns",
    "own",
    "MaxRL in Tunix takes a model from a pass rate of a few per cent to nearly"
    " always right.",
    f"{first:.3f} in the first ten steps, {last.mean():.3f} in the last tenth"
    f" (95 % interval from {low:.3f})",
    "below 0.05, then 95 % interval above 0.9",
    bool(first < 0.05 and low > 0.9),
  )
  versus = [
    larger(
      f"llm.maxrl_{name.lower()}",
      "figures 3 to 5 of arXiv 2602.02710, in small",
      f"MaxRL of order N − 1 learns sooner than {name}: its pass rate is higher"
      " on average over training.",
      _average(ours["pass_rate"]),
      _average(runs[name]["pass_rate"]),
    )
    for name in ("GRPO", "RLOO")
  ]
  return [learns, *versus]


def _table(runs, rates) -> Table:
  rows = [
    [
      label,
      f"{rates[label]:g}",
      spread(_average(run["pass_rate"])),
      spread(_at_end(run["pass_rate"])),
      # Some batches have no prompt of that length.
      spread(_at_end(run["by_length"][..., -1], np.nanmean)),
    ]
    for label, run in runs.items()
  ]
  return Table(
    "Pass rates, mean ± half the 95 % interval over seeds.",
    ["method", "rate", "over training", "last tenth", "three digits"],
    rows,
  )
