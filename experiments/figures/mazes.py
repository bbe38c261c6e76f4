"""Mazes: the paper's figures 5, 7, 12 and 17, and its table 3 (figure 18)."""

import numpy as np

from experiments.figures import maze_runs, maze_settings
from experiments.figures import maze_summaries as summaries
from experiments.figures.maze_settings import (
  COLOURS,
  DRAWN,
  KS,
  METHODS,
  Settings,
  look,
)
from experiments.reports.results import (
  Claim,
  Drawing,
  Result,
  bounded,
  in_words,
  larger,
)
from maxrl_jax import evaluation, plotting, stats
from maxrl_jax.runs.study import Study

PRESETS = maze_settings.PRESETS
_PUBLISHED = ("GRPO", "RLOO", "GRPO + entropy", "pass@16")  # In table 3.
_SHOWN = (1, 32, 128, 256)  # k of pass@k over steps.


def studies(settings: Settings, runs) -> dict[str, Study]:
  """MaxRL and the methods that it is compared with."""
  return {"methods": maze_runs.at_best_rates(settings, runs, settings.steps)}


def figure(settings: Settings, runs) -> Result:
  """MaxRL, GRPO and RLOO: pass@k over steps, coverage, prompts solved."""
  what = studies(settings, runs)["methods"]
  by_method = maze_runs.train(what, runs, settings.compared)
  rollouts = settings.batch_size * settings.rollouts  # Of a step.
  drawings = [
    Drawing(
      "maze_pass_at_k",
      summaries.draw_pass_at_k(by_method, _SHOWN),
      "pass@k of held-out mazes over steps of RL."
      f" {summaries.describe(settings)}",
    ),
    Drawing(
      "maze_coverage",
      _draw_coverage(by_method),
      "Left: coverage of held-out mazes after training against k. Right:"
      " test-time scaling efficiency, how many times fewer samples MaxRL needs"
      " for the coverage that the other method has with k; k, a lower bound,"
      " where it has more with one. Median and range of seeds, drawn where all"
      f" of them reach that coverage with {KS[-1]} samples.",
    ),
    Drawing(
      "maze_tokens",
      summaries.draw_pass_at_k(
        by_method,
        (1, 32, 256),
        lambda run: summaries.tokens(run, rollouts) / 1e6,
        "million tokens generated",
      ),
      "pass@k of held-out mazes over the tokens of all answers generated so"
      " far.",
    ),
    Drawing(
      "maze_solved",
      _draw_solved(by_method),
      "Share of mazes with at least one success: of a step's training batch,"
      f" among its {settings.rollouts} rollouts, and of held-out mazes, among"
      f" {KS[-1]}; and training metrics beside it. Running means over a"
      " twentieth of training.",
    ),
  ]
  return Result(
    "Mazes (paper, figures 5, 7, 12, 17)",
    drawings,
    _claims(by_method),
    [summaries.results_table(settings, by_method)],
  )


def baselines_studies(settings: Settings, runs) -> dict[str, Study]:
  """All methods."""
  what = maze_runs.at_best_rates(
    settings, runs, settings.steps, methods=list(METHODS)
  )
  return {"methods": what}


def baselines(settings: Settings, runs) -> Result:
  """Table 3: GRPO with entropy, pass@16, power and lower orders."""
  what = baselines_studies(settings, runs)["methods"]
  by_method = maze_runs.train(what, runs, METHODS)
  return Result(
    "Mazes: other baselines (paper, table 3 and figure 18)",
    [
      Drawing(
        "maze_baselines",
        summaries.draw_pass_at_k({m: by_method[m] for m in DRAWN}, (1, 256)),
        "pass@k of held-out mazes over steps of RL; the table has the others."
        f" {summaries.describe(settings)}",
      )
    ],
    _baseline_claims(by_method),
    [summaries.results_table(settings, by_method)],
  )


def _baseline_claims(runs) -> list[Claim]:
  return [
    summaries.ends_above(runs, other, k, "table 3", "baselines")
    for other in _PUBLISHED
    for k in (1, 256)
  ]


def _factors(runs, label: str) -> np.ndarray:
  """The efficiency of MaxRL over another method, [seeds, len(KS)]."""
  first, second = (summaries.coverage(runs[m]) for m in ("MaxRL", label))
  pairs = zip(first, second, strict=True)
  return np.stack([evaluation.sampling_efficiency(KS, *pair) for pair in pairs])


def _draw_coverage(runs):
  drawing, (left, right) = plotting.axes(columns=2, width=3.9, height=3.2)
  for label, run in runs.items():
    style = look(label) | {"marker": "o", "markersize": 3}
    plotting.seed_curves(left, KS, summaries.coverage(run), **style)
  before = [summaries.at_start(runs, k) for k in KS]
  style = {"colour": "#666666", "linestyle": "--"}
  plotting.curve(left, KS, before, label="after warm-up", **style)
  for label in summaries.others(runs):
    factors = _factors(runs, label)
    # An interval of few seeds would claim more than their range does.
    band = {"low": factors.min(0), "high": factors.max(0)}
    style = {"colour": COLOURS[label], "label": f"against {label}"}
    plotting.marked_curve(right, KS, np.median(factors, 0), **band, **style)
  for ax in (left, right):
    plotting.every_tick(ax, KS)
    ax.set(xlabel="k")
    ax.legend()
  left.set(ylabel="coverage (pass@k)")
  right.axhline(1, color="#666666", linewidth=0.8)
  right.set(ylabel="times fewer samples", yscale="log")
  right.yaxis.set_major_formatter("{x:g}")
  return drawing


def _draw_solved(runs):
  panels = {
    "solved": "training mazes solved",
    "test_solved": "held-out mazes solved",
    "pass_rate": "training pass rate",
    "entropy": "entropy of a token, nats",
    "length": "tokens of an answer",
  }
  drawing, axes = plotting.axes(columns=len(panels), width=2.5, height=3.0)
  for ax, (name, title) in zip(axes, panels.items(), strict=True):
    for label, run in runs.items():
      if name == "test_solved":
        plotting.seed_curves(ax, run["eval_step"], run[name], **look(label))
      else:
        summaries.draw_training(ax, run, name, **look(label))
    ax.set(title=title, xlabel="steps of RL")
  for ax in axes[:3]:
    summaries.cap(ax)
  axes[3].set_ylim(bottom=0)
  plotting.legend_below(drawing, axes[0])
  return drawing


def _claims(runs) -> list[Claim]:
  claims = [
    summaries.ends_above(runs, other, k, "figure 17", "main")
    for other in summaries.others(runs)
    for k in _SHOWN
  ]
  late = {
    label: run["train_solved"][:, -run["train_solved"].shape[1] // 4 :].mean(-1)
    for label, run in runs.items()
  }
  for other in summaries.others(runs):
    claims.append(_fewer_samples(runs, other))
    claims.append(
      larger(
        f"mazes.main.solved.{summaries.plain(other)}",
        "figures 7 and 12",
        f"In the last quarter of training MaxRL solves more of its training"
        f" mazes at least once than {other}.",
        late["MaxRL"],
        late[other],
      )
    )
  return claims


def _fewer_samples(runs, other: str) -> Claim:
  """At one k, the largest: the best of many k would flatter MaxRL."""
  factors = _factors(runs, other)[:, -1]
  # Of logarithms: twice and half as many samples are equally far from as many.
  mean = stats.mean_interval(np.log(factors))
  interval = stats.Interval(*map(np.exp, mean))
  return bounded(
    f"mazes.main.efficiency.{summaries.plain(other)}",
    "figure 5",
    f"For the coverage that {other} has with {KS[-1]} samples MaxRL needs at"
    " most half as many (the paper: 2.3 to 19.2 times fewer than GRPO, of an"
    " LLM).",
    interval,
    above=2,
    measured=f"{in_words(interval, '.1f')} times fewer, geometric mean of seeds"
    " (nan: one does not reach it)",
  )
