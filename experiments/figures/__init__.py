"""The figures, each a function (preset, workdir) → Result, with what it takes.

Minutes are of whole figures, compilation included, on two CPU cores: `make
reproduce` in a fresh clone on 2026-11-25, where another figure was made at the
same time, 13 minutes for all; others as docs/results.md and docs/performance.md
have them. What has not been timed has no number.
"""

import importlib
from typing import NamedTuple

from experiments.shell import output

_SIZES = ("quick", "full")
_PAPER = (*_SIZES, "paper")
_MAZES = (*_SIZES, "long", "paper")


class Figure(NamedTuple):
  """Where a figure is made, minutes by preset, and presets that it has.

  It has those by which something changes: long is quick with more of the steps
  that not all mazes' figures have, and paper's rates were not chosen.
  """

  module: str
  minutes: dict[str, float]
  function: str = "figure"
  presets: tuple[str, ...] = _SIZES

  def __call__(self, preset: str, workdir):
    # Not before it is made: modules are slow to import.
    module = importlib.import_module(f"{__name__}.{self.module}")
    return getattr(module, self.function)(preset, workdir)


FIGURES = {
  "weights": Figure("weights", {"quick": 0.2}),
  "bounds": Figure("bounds", {"quick": 0.1}),
  "estimators": Figure("estimator_study", {"quick": 0.4}),
  "bandit": Figure("bandit", {"quick": 0.3}),
  "digits": Figure("digit_strings", {"quick": 4.5, "full": 48}),
  "gradient_norms": Figure("gradient_norms", {"quick": 0.9}),
  "bimodal": Figure("bimodal", {"quick": 3.0}),
  # From the runs of bimodal; alone, it trains them.
  "jensen": Figure("jensen", {"quick": 0.0}),
  "low_snr": Figure("low_snr", {"quick": 2.8}),
  "heteroscedastic": Figure("heteroscedastic", {"quick": 2.1}),
  "scale": Figure("scale", {"quick": 0.0}),
  "factorized": Figure("factorized", {"quick": 2.3}),
  "family": Figure("family", {"quick": 2.1}),
  "budget": Figure("budget", {"quick": 2.0}),
  "maze_answers": Figure("maze_pictures", {"quick": 2.3}, presets=_PAPER),
  "maze_gradients": Figure("maze_studies", {"quick": 0.6}, "gradients", _PAPER),
  "mazes": Figure("mazes", {"quick": 5.5, "long": 27}, presets=_MAZES),
  "maze_rollouts": Figure("maze_studies", {"quick": 16}, "rollouts", _PAPER),
  "maze_scarce": Figure("maze_studies", {"quick": 5}, "scarce", _PAPER),
  "maze_baselines": Figure("mazes", {"quick": 10.5}, "baselines", _MAZES),
  "maze_rates": Figure("maze_rates", {"quick": 35}, presets=(*_SIZES, "long")),
  "llm": Figure("llm", {"quick": 10}),
}
# Training transformers by RL takes longer than all the others: mazes have their
# own command, and only what is measured of the warm-up is among all. The choice
# of their learning rates takes longer still; presets record it.
MAZES = [
  name for name in FIGURES if name.startswith("maze") and name != "maze_rates"
]
_WARM_UP = ["maze_answers", "maze_gradients"]
ALL = [
  name for name in FIGURES if not name.startswith("maze") and name != "llm"
] + _WARM_UP


def expected(names: list[str], preset: str, jobs: int) -> str:
  """What figures are expected to take, in words."""
  times = {name: FIGURES[name].minutes.get(preset) for name in names}
  known = {name: time for name, time in times.items() if time is not None}
  words = output.counted(len(names), "figure")
  if known:
    # Jobs wait for the longest one.
    total = max(sum(known.values()) / jobs, *known.values())
    each = ", ".join(f"{name} {time:g}" for name, time in known.items())
    some = f"about {total:.0f} minutes" if total >= 1 else "less than a minute"
    words += f", {some} on two CPU cores ({each})"
  unknown = [name for name in names if name not in known]
  if unknown:
    words += f"; not timed with preset {preset}: {', '.join(unknown)}"
  return words
