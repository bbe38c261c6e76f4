"""The figures: settings by preset, the studies they need, drawings and claims.

A figure is a function (settings, runs) → Result of its module, where `runs` is
the folder of cached runs. `PRESETS` of the module has the settings, and
`studies(settings, runs)` its studies by name, which `experiments.sweep
--figure=NAME` runs too.

Minutes are of whole figures, compilation included, on two CPU cores: `make
reproduce` in a fresh clone, with another figure at the same time; those that
train one run per core, alone, after the figures above. Figures without a number
have not been timed.
"""

import importlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from maxrl_jax.runs import progress

_SIZES = ("quick", "full")
_MAZES = (*_SIZES, "paper")


class Figure(NamedTuple):
  """A figure's module and function, minutes by preset, and its presets."""

  module: str
  minutes: dict[str, float]
  function: str = "figure"
  presets: tuple[str, ...] = _SIZES

  def load(self) -> Any:
    """Imports the module, which takes seconds."""
    return importlib.import_module(f"{__name__}.{self.module}")


FIGURES = {
  "digits": Figure("digit_strings", {"quick": 2.7, "full": 48}),
  "weights": Figure("weights", {"quick": 0.3}),
  "bounds": Figure("bounds", {"quick": 0.2}),
  "estimators": Figure("estimator_study", {"quick": 0.6}),
  "bandit": Figure("bandit", {"quick": 0.3}),
  "gradient_norms": Figure("gradient_norms", {"quick": 1.0}),
  "bimodal": Figure("bimodal", {"quick": 2.8}),
  "low_snr": Figure("low_snr", {"quick": 2.8}),
  "heteroscedastic": Figure("heteroscedastic", {"quick": 2.1}),
  "scale": Figure("scale", {"quick": 0.1}),
  "factorized": Figure("factorized", {"quick": 2.3}),
  "family": Figure("family", {"quick": 2.1}),
  "budget": Figure("budget", {"quick": 2.0}),
  "noisy_regression": Figure("noisy_regression", {"quick": 6}),
  "noisy_noise": Figure("noisy_noise", {"quick": 12}),
  "noisy_scale": Figure("noisy_studies", {"quick": 6}, "scale"),
  "noisy_pool": Figure("noisy_studies", {"quick": 6}, "pool"),
  "sequential": Figure("sequential", {"quick": 0.6}),
  "sequential_digits": Figure("sequential_digits", {"full": 80}),
  "sequential_budget": Figure("sequential_budget", {"quick": 0.7, "full": 2}),
  "off_policy": Figure("off_policy", {"quick": 9}),
  "maze_answers": Figure("maze_pictures", {"quick": 1}, presets=_MAZES),
  "maze_gradients": Figure("maze_studies", {"quick": 0.6}, "gradients", _MAZES),
  "mazes": Figure("mazes", {"quick": 13}, presets=_MAZES),
  "maze_rollouts": Figure("maze_studies", {"quick": 23}, "rollouts", _MAZES),
  "maze_scarce": Figure("maze_studies", {}, "scarce", _MAZES),
  "maze_baselines": Figure("mazes", {"quick": 24}, "baselines", _MAZES),
  "maze_when": Figure("maze_when", {}, presets=_MAZES),
  "maze_sequential": Figure("maze_sequential", {}, presets=_MAZES),
  # The paper states its learning rate.
  "maze_rates": Figure("maze_rates", {"quick": 36}),
  "off_policy_mazes": Figure("off_policy_mazes", {"quick": 45}),
  "half_seen": Figure("half_seen", {}),
  "llm": Figure("llm", {"quick": 10}),
}
# Training transformers by RL takes longer than all other figures together:
# mazes have a command of their own.
_HOURS = ("maze_rates", "maze_when", "maze_sequential")
MAZES = [
  name for name in FIGURES if name.startswith("maze") and name not in _HOURS
]
# A first look, in minutes; the most important figure first. The command `make
# reproduce-more` runs MORE; others are run by name.
FIRST = [
  *("digits", "weights", "bounds", "estimators", "bandit", "gradient_norms"),
  *("bimodal", "budget", "sequential", "scale"),
]
MORE = [
  *("low_snr", "heteroscedastic", "factorized", "family"),
  *("maze_answers", "maze_gradients"),
]


def settings(name: str, preset: str, changes: Sequence[str] = ()) -> Any:
  """The settings of a figure's preset, changed by FIELD=VALUE texts.

  Raises:
    ValueError: no such figure, preset or field, a value of another type, or a
      number that is not above 0.
  """
  from maxrl_jax import ranges  # Takes seconds, as `load` does.

  ranges.one_of(FIGURES, figure=name)
  if preset not in FIGURES[name].presets:
    raise ValueError(
      f"preset = {preset!r}: figure {name!r} has"
      f" {', '.join(FIGURES[name].presets)}"
    )
  presets = FIGURES[name].load().PRESETS
  chosen = presets[preset]
  for change in changes:
    field, _, text = change.partition("=")
    if field not in chosen._fields:
      raise ValueError(
        f"--set={change}: figure {name!r} has {', '.join(chosen._fields)}"
      )
    # An empty tuple does not tell the type of its elements.
    example = getattr(chosen, field) or getattr(presets["quick"], field)
    try:
      value = _of_type(text, example)
    except (KeyError, ValueError):
      raise ValueError(
        f"--set={change}: must be like {field}={_text(example)}"
      ) from None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
      ranges.above_zero(of="--set: ", **{field: value})
    chosen = chosen._replace(**{field: value})
  return chosen


def _of_type(text: str, example: Any) -> Any:
  """Parses a text as a value of the example's type."""
  if isinstance(example, tuple):
    kind = type(example[0]) if example else float
    return tuple(kind(part) for part in text.split(",") if part)
  if isinstance(example, bool):
    return {"False": False, "True": True}[text]
  return type(example)(text)


def _text(value: Any) -> str:
  return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def set_steps(config: Any, steps: int, evaluations: int) -> None:
  """Sets the steps of a figure's config, and evaluates this often.

  Raises:
    ValueError: the evaluations cannot be spaced evenly.
  """
  if steps < 1 or steps % evaluations:
    raise ValueError(
      f"steps = {steps}: must be a multiple of {evaluations}; the figure"
      " evaluates that often"
    )
  config.steps = steps
  config.log_every = config.eval_every = steps // evaluations


def studies(name: str, chosen: Any, runs: Any) -> dict[str, Any]:
  """The studies of a figure by name; may train a warm-up that they start from.

  Raises:
    ValueError: the figure trains nothing, or not by studies.
  """
  figure = FIGURES[name]
  module, prefix = figure.load(), figure.function.replace("figure", "")
  function = getattr(module, f"{prefix}_studies".lstrip("_"), None)
  if function is None:
    raise ValueError(f"figure = {name!r}: has no study to sweep")
  return function(chosen, runs)


def make(name: str, chosen: Any, runs: Any) -> Any:
  """Trains what is missing and draws; returns a `reports.results.Result`."""
  figure = FIGURES[name]
  return getattr(figure.load(), figure.function)(chosen, runs)


def expected(names: list[str], preset: str, jobs: int) -> str:
  """The time that figures are expected to take, in words."""
  times = {name: FIGURES[name].minutes.get(preset) for name in names}
  known = {name: time for name, time in times.items() if time is not None}
  words = progress.counted(len(names), "figure")
  if known:
    # No job is faster than the longest figure.
    total = max(sum(known.values()) / jobs, *known.values())
    each = ", ".join(f"{name} {time:g}" for name, time in known.items())
    some = f"about {total:.0f} minutes" if total >= 1 else "less than a minute"
    words += f", {some} on two CPU cores ({each})"
  unknown = [name for name in names if name not in known]
  if unknown:
    words += f"; not timed with preset {preset}: {', '.join(unknown)}"
  return words
