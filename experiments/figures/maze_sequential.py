"""Mazes with sequential rollouts: pass rates by generated tokens."""

import numpy as np

from experiments.figures import maze_runs, maze_settings, set_steps
from experiments.figures import maze_summaries as summaries
from experiments.figures.maze_settings import Settings
from experiments.figures.sequential_digits import Method, look
from experiments.reports.results import (
  Claim,
  Drawing,
  Result,
  Table,
  bounded,
  larger,
)
from maxrl_jax import plotting, stats
from maxrl_jax.config import RATE
from maxrl_jax.runs.study import Study, study

PRESETS = maze_settings.PRESETS
_SHOWN = (1, 64)  # k of pass@k.


def studies(settings: Settings, runs) -> dict[str, Study]:
  """Fixed groups, and waves, each at its own rate."""
  groups = maze_runs.rl_config(settings, runs)
  steps = settings.sequential_steps
  set_steps(groups, steps, min(settings.evaluations, steps))
  waves = groups.copy_and_resolve_references()
  waves.estimator.name, waves.rollouts = "sequential", settings.wave
  waves.estimator.cap = settings.caps[0]
  known = _recorded(settings)
  seeds, measure = range(1, settings.sequential_seeds + 1), maze_runs.MEASURE

  def at_rates(name, config, field, values) -> Study:
    what = study(config, {field: values}, seeds, measure)
    rates = known.get(name) or maze_runs.chosen(what, settings, runs)[0]
    rows = list(zip(values, rates, strict=True))
    return study(config, {(field, RATE): rows}, seeds, measure)

  return {
    "fixed": at_rates("fixed", groups, "rollouts", settings.fixed),
    "waves": at_rates("waves", waves, "estimator.cap", settings.caps),
  }


def _recorded(settings: Settings) -> dict[str, tuple[float, ...]]:
  """The recorded rates of fixed groups and of waves; {} if there are none."""
  rates, count = settings.sequential_recorded, len(settings.fixed)
  if not rates:
    return {}
  if len(rates) != count + len(settings.caps):
    raise ValueError(
      f"sequential_recorded = {rates}: must be empty, or a rate for each of"
      f" fixed = {settings.fixed} and caps = {settings.caps}"
    )
  return {"fixed": rates[:count], "waves": rates[count:]}


def figure(settings: Settings, runs) -> Result:
  """pass@1 and pass@64 by steps, and by the tokens generated so far."""
  planned = studies(settings, runs)
  methods = {
    "fixed": [Method(n, None) for n in settings.fixed],
    "waves": [Method(settings.wave, cap) for cap in settings.caps],
  }
  trained: dict = {}
  for name, what in planned.items():
    trained |= maze_runs.train(what, runs, methods[name])
  tokens = {
    method: summaries.tokens(run, method.rollouts * settings.batch_size)
    for method, run in trained.items()
  }
  few = settings._replace(seeds=settings.sequential_seeds)
  setting = summaries.describe(few, rollouts="these rollouts")
  caption = (
    f"Waves of {settings.wave} until a maze is solved, and fixed groups;"
    f" {settings.sequential_steps} steps. Tokens are all that were generated."
    f" {setting}"
  )
  return Result(
    "Mazes with sequential rollouts",
    [Drawing("maze_sequential", _draw(settings, trained, tokens), caption)],
    _claims(settings, trained, tokens),
    [_table(settings, planned, trained, tokens)],
  )


def _draw(settings: Settings, trained, tokens):
  drawing, axes = plotting.axes(columns=4, width=3.1, height=3.2)
  for method, run in trained.items():
    for index, ax in enumerate(axes):
      values = summaries.pass_at(run, _SHOWN[index % 2])
      x = run["eval_step"] if index < 2 else tokens[method] / 1e6
      plotting.seed_curves(ax, x, values, **look(method, settings))
  for index, ax in enumerate(axes):
    ax.set(
      title=f"pass@{_SHOWN[index % 2]}",
      xlabel="steps of RL" if index < 2 else "million tokens generated so far",
    )
    summaries.cap(ax)
  axes[0].set_ylabel("held-out mazes")
  plotting.legend_below(drawing, axes[0], 5)
  return drawing


def _needed(run, tokens: np.ndarray, k: int, level: float) -> np.ndarray:
  """Tokens until pass@k reaches the level, [seeds]; inf if it does not."""
  needed = []
  for x, y in zip(tokens, summaries.pass_at(run, k), strict=True):
    best = np.maximum.accumulate(y)
    if not best[-1] >= level:
      needed.append(np.inf)
    else:
      place = int(np.argmax(best >= level))
      before = max(place - 1, 0)
      rise = best[place] - best[before]
      share = (level - best[before]) / rise if rise > 0 else 0.0
      needed.append(x[before] + share * (x[place] - x[before]))
  return np.array(needed)


def _claims(settings: Settings, trained, tokens) -> list[Claim]:
  """Waves against the largest fixed group: up to its size, and the most."""
  fixed = Method(max(settings.fixed), None)
  highest = Method(settings.wave, max(settings.caps))
  same = Method(settings.wave, fixed.rollouts)
  claims = _same(same, fixed, trained, tokens) if same in trained else []
  return claims + _highest(highest, fixed, trained, tokens)


def _same(waves: Method, fixed: Method, trained, tokens) -> list[Claim]:
  """Waves up to the size of the group."""
  gaps = {
    f"pass@{k}": stats.difference_interval(
      summaries.final(trained[waves], k), summaries.final(trained[fixed], k)
    )
    for k in _SHOWN
  }
  factor = tokens[fixed][:, -1].mean() / tokens[waves][:, -1].mean()
  return [
    bounded(
      "mazes.sequential.close",
      "own, theorem 13",
      f"After the same steps waves up to {waves.cap} end within .02 of fixed"
      f" groups of {fixed.rollouts} in held-out pass@k, or above them.",
      gaps,
      above=-0.02,
    ),
    Claim(
      "mazes.sequential.price",
      "own, theorem 14",
      "They generate at least two times fewer tokens.",
      f"{factor:.2f} times fewer",
      "≥ 2",
      bool(factor >= 2),
    ),
  ]


def _highest(waves: Method, fixed: Method, trained, tokens) -> list[Claim]:
  """Waves with the highest cap."""
  claims = []
  for k in _SHOWN:
    # Every fixed group reaches it: both pay until they first do.
    level = float(summaries.final(trained[fixed], k).min())
    needed, spent = (
      _needed(trained[method], tokens[method], k, level).mean()
      for method in (waves, fixed)
    )
    claims.append(
      Claim(
        f"mazes.sequential.tokens.pass_at_{k}",
        "own, theorem 14",
        f"Waves up to {waves.cap} reach the lowest held-out pass@{k}"
        f" of fixed groups of {fixed.rollouts} with at most half of the"
        " tokens that these need.",
        f"{needed / 1e6:.2f} against {spent / 1e6:.2f} million for {level:.3f}"
        " (inf: some seed does not reach it)",
        "at most half",
        bool(np.isfinite(needed) and needed <= spent / 2),
      )
    )
    claims.append(
      larger(
        f"mazes.sequential.pass_at_{k}",
        "own, theorem 13",
        f"After the same steps waves up to {waves.cap} end above fixed"
        f" groups of {fixed.rollouts} in held-out pass@{k}.",
        summaries.final(trained[waves], k),
        summaries.final(trained[fixed], k),
      )
    )
  return claims


def _table(settings: Settings, planned, trained, tokens) -> Table:
  ks = (1, 16, 64, 256)
  rates = [x[RATE] for what in planned.values() for x in what.points]
  rows = [
    [
      look(method, settings)["label"],
      f"{rate:g}",
      *summaries.finals(run, ks),
      f"{tokens[method][:, -1].mean() / 1e6:.2f}",
      f"{np.median(run['seconds']) / 60:.1f}",
    ]
    for rate, (method, run) in zip(rates, trained.items(), strict=True)
  ]
  return Table(
    "Held-out mazes after training, mean ± half the 95 % interval over seeds,"
    " million tokens generated, and minutes of a run (median).",
    ["method", "rate", *(f"pass@{k}" for k in ks), "tokens", "minutes"],
    rows,
  )
