"""Mazes: the paper's figures 5, 7, 12 and 17, and its table 3 (figure 18)."""

import numpy as np

from experiments.figures import maze_summaries as summaries
from experiments.reports.results import (
  Claim,
  Drawing,
  Result,
  firm,
  in_words,
  larger,
)
from experiments.runs import maze_runs
from experiments.runs.maze_presets import COLOURS, METHODS, PRESETS
from experiments.runs.maze_runs import KS
from maxrl_jax import evaluation, plotting, stats

_MAIN = ("MaxRL", "GRPO", "RLOO")
_PUBLISHED = ("GRPO", "RLOO", "GRPO + entropy", "pass@16")  # In table 3.
_SHOWN = (1, 32, 128, 256)  # k of pass@k over steps.


def figure(preset: str, workdir) -> Result:
  """MaxRL, GRPO and RLOO: pass@k over steps, coverage, prompts solved."""
  settings = PRESETS[preset]
  rates = maze_runs.rates_of(settings, _MAIN, workdir / "runs")
  runs = summaries.reported(settings, rates, workdir)
  what = summaries.describe(settings)
  drawings = [
    Drawing(
      "maze_pass_at_k",
      summaries.draw_pass_at_k(runs, _SHOWN),
      f"pass@k of held-out mazes over steps of RL. {what}",
    ),
    Drawing(
      "maze_coverage",
      _draw_coverage(runs),
      "Left: coverage of held-out mazes after training against k, mean and"
      " 95 % interval over seeds. Right: test-time scaling efficiency, how many"
      " fewer samples MaxRL needs for the coverage that the other method has"
      " with k; median and range of seeds, drawn where all of them reach that"
      f" coverage with 1 to {KS[-1]} samples.",
    ),
    Drawing(
      "maze_solved",
      _draw_solved(runs, settings),
      "Share of mazes with at least one success: of a step's training batch,"
      f" among its {summaries.rollouts_of(settings)} rollouts, and of held-out"
      f" mazes, among {KS[-1]}; and what goes with it. Running means over a"
      " twentieth of training.",
    ),
  ]
  return Result(
    "Mazes (paper, figures 5, 7, 12, 17)",
    drawings,
    _claims(runs),
    [summaries.results_table(runs)],
  )


def baselines(preset: str, workdir) -> Result:
  """Table 3: GRPO with entropy, pass@16, power, TailRL and lower orders."""
  settings = PRESETS[preset]
  rates = maze_runs.rates_of(settings, tuple(METHODS), workdir / "runs")
  runs = summaries.reported(settings, rates, workdir)
  return Result(
    "Mazes: other baselines (paper, table 3 and figure 18)",
    [
      Drawing(
        "maze_baselines",
        summaries.draw_pass_at_k(runs, (1, 256)),
        "pass@k of held-out mazes over steps of RL."
        f" {summaries.describe(settings)}",
      )
    ],
    _baseline_claims(runs),
    [summaries.results_table(runs)],
  )


def _baseline_claims(runs) -> list[Claim]:
  return [
    summaries.ends_above(runs, "MaxRL", other, k, "table 3", "baselines")
    for other in _PUBLISHED
    for k in (1, 256)
  ]


def _factors(runs, label: str) -> np.ndarray:
  """The efficiency of MaxRL over another method, [seeds, len(KS)]."""
  pairs = zip(
    summaries.coverage(runs["MaxRL"]),
    summaries.coverage(runs[label]),
    strict=True,
  )
  return np.stack(
    [evaluation.sampling_efficiency(KS, ours, theirs) for ours, theirs in pairs]
  )


def _draw_coverage(runs):
  drawing, (left, right) = plotting.axes(columns=2, width=3.9, height=3.2)
  for label, found in runs.items():
    plotting.interval_curve(
      left,
      KS,
      stats.mean_interval(summaries.coverage(found)),
      colour=COLOURS[label],
      label=label,
    )
  start = next(iter(runs.values()))[0]["correct"][0]
  plotting.curve(
    left,
    KS,
    np.array([maze_runs.pass_at_k(start, k) for k in KS]),
    colour="#666666",
    label="after warm-up",
    linestyle="--",
  )
  for label in (label for label in runs if label != "MaxRL"):
    factors = _factors(runs, label)
    # A range of few seeds says what an interval would only pretend to.
    plotting.marked_curve(
      right,
      KS,
      np.median(factors, 0),
      low=factors.min(0),
      high=factors.max(0),
      colour=COLOURS[label],
      label=f"against {label}",
    )
  for ax in (left, right):
    plotting.every_tick(ax, KS)
    ax.set(xlabel="k")
    ax.legend()
  left.set(ylabel="coverage (pass@k)")
  right.axhline(1, color="#666666", linewidth=0.8)
  right.set(ylabel="times fewer samples", yscale="log")
  right.yaxis.set_major_formatter("{x:g}")
  return drawing


def _draw_solved(runs, settings):
  panels = (
    ("solved", "training mazes solved"),
    ("test", "held-out mazes solved"),
    ("pass_rate", "training pass rate"),
    ("entropy", "entropy of a token, nats"),
    ("length", "tokens of an answer"),
  )
  drawing, axes = plotting.axes(columns=len(panels), width=2.5, height=3.0)
  window = max(settings.steps // 20, 1)
  for label, found in runs.items():
    for ax, (name, _) in zip(axes, panels, strict=True):
      if name == "test":
        steps = found[0]["step"]
        values = np.mean(maze_runs.stacked(found, "correct") > 0, -1)
      else:
        values = summaries.running_mean(maze_runs.stacked(found, name), window)
        steps = window / 2 + np.arange(values.shape[1])
      mean, low, high = stats.mean_interval(values)
      plotting.curve(
        ax, steps, mean, low=low, high=high, colour=COLOURS[label], label=label
      )
  for ax, (_, title) in zip(axes, panels, strict=True):
    ax.set(title=title, xlabel="steps of RL")
  for ax in axes[:3]:
    summaries.cap(ax)
  axes[3].set_ylim(bottom=0)
  summaries.legend_below(drawing, axes[0])
  return drawing


def _claims(runs) -> list[Claim]:
  claims = [
    summaries.ends_above(runs, "MaxRL", other, k, "figure 17", "main")
    for other in ("GRPO", "RLOO")
    for k in _SHOWN
  ]
  for other in ("GRPO", "RLOO"):
    claims.append(_fewer_samples(runs, other))
    late = {
      label: maze_runs.stacked(found, "solved")[
        :, -len(found[0]["solved"]) // 4 :
      ]
      for label, found in runs.items()
    }
    claims.append(
      larger(
        f"mazes.main.solved.{other.lower()}",
        "figures 7 and 12",
        f"In the last quarter of training MaxRL solves more of its training"
        f" mazes at least once than {other}.",
        late["MaxRL"].mean(-1),
        late[other].mean(-1),
      )
    )
  return claims


def _fewer_samples(runs, other: str) -> Claim:
  """At one k, the largest: the best of many k would flatter MaxRL."""
  factors = _factors(runs, other)[:, -1]
  # Of logarithms: twice and half as many samples are equally far from as many.
  mean = stats.mean_interval(np.log(factors))
  interval = stats.Interval(*map(np.exp, mean))
  return Claim(
    f"mazes.main.efficiency.{other.lower()}",
    "figure 5",
    f"For the coverage that {other} has with {KS[-1]} samples MaxRL needs at"
    " most half as many (the paper: 2.3 to 19.2 times fewer than GRPO, of an"
    " LLM).",
    f"{in_words(interval, '.1f')} times fewer, geometric mean of seeds (nan:"
    " one does not reach it)",
    "95 % interval above 2",
    bool(firm(interval).low >= 2),
  )
