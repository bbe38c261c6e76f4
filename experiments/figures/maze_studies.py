"""Mazes: numbers of rollouts (figure 3), scarce data (4), gradients (6)."""

import itertools

import numpy as np

from experiments.figures import maze_summaries as summaries
from experiments.reports.results import (
  Claim,
  Drawing,
  Result,
  Table,
  firm,
  in_words,
  larger,
  spread,
)
from experiments.runs import maze_runs
from experiments.runs.maze_measures import COMPARED, REPEATS, gradient_norms
from experiments.runs.maze_presets import COLOURS, PRESETS, config_of
from experiments.runs.maze_runs import KS
from maxrl_jax import plotting, stats


def rollouts(preset: str, workdir) -> Result:
  """−log pass@k after training against the rollouts of a prompt."""
  settings = PRESETS[preset]
  rates = maze_runs.rates_of(settings, COMPARED, workdir / "runs")
  points = {}
  for num in settings.rollouts:
    changes = (
      {} if num == summaries.rollouts_of(settings) else {"rollouts": num}
    )
    points[num] = summaries.reported(
      settings, rates, workdir, steps=settings.rollout_steps, **changes
    )
  caption = (
    "How much is left to learn after"
    f" {settings.rollout_steps} steps, against the rollouts of a maze; learning"
    " rates are those chosen with the most rollouts."
    f" {summaries.describe(settings)}"
  )
  return Result(
    "Mazes: more rollouts (paper, figure 3)",
    [Drawing("maze_rollouts", _draw_rollouts(points), caption)],
    _rollout_claims(points, settings),
    [_rollout_table(points)],
  )


def _draw_rollouts(points):
  """A panel for each k; points are {rollouts: {method: [arrays a seed]}}."""
  drawing, axes = plotting.axes(columns=4, width=2.8, height=3.0)
  for ax, k in zip(axes, (1, 32, 128, 256), strict=True):
    for label in COMPARED:
      values = [
        -np.log(summaries.final(runs[label], k)) for runs in points.values()
      ]
      plotting.interval_curve(
        ax,
        list(points),
        stats.mean_interval(np.stack(values, -1)),
        colour=COLOURS[label],
        label=label,
      )
    plotting.every_tick(ax, list(points), base=2)
    ax.set(title=f"−log pass@{k}", xlabel="rollouts a maze")
    ax.set_ylim(bottom=0)
  axes[0].set_ylabel("nats, held-out mazes")
  summaries.legend_below(drawing, axes[0])
  return drawing


def _rollout_claims(points, settings) -> list[Claim]:
  fewest, most = settings.rollouts[0], settings.rollouts[-1]
  return [
    larger(
      f"mazes.rollouts.pass_at_{k}.{other.lower()}",
      "figure 3",
      f"MaxRL with {fewest} rollouts ends above {other} with {most} in held-out"
      f" pass@{k} (the paper: with 4 above RLOO with 128).",
      summaries.final(points[fewest]["MaxRL"], k),
      summaries.final(points[most][other], k),
    )
    for other, k in itertools.product(("RLOO", "GRPO"), (1, 256))
  ]


def _rollout_table(points) -> Table:
  rows = [
    [num, label, *(spread(summaries.final(found, k)) for k in (1, 32, 256))]
    for num, runs in points.items()
    for label, found in runs.items()
  ]
  header = ["rollouts", "method", "pass@1", "pass@32", "pass@256"]
  return Table("Held-out mazes after training.", header, rows)


def scarce(preset: str, workdir) -> Result:
  """pass@k of held-out mazes over epochs on a small fixed training set."""
  settings = PRESETS[preset]
  rates = maze_runs.rates_of(settings, COMPARED, workdir / "runs")
  changes = {"task.train_size": settings.scarce}
  runs = summaries.reported(
    settings, rates, workdir, steps=settings.scarce_steps, **changes
  )
  config = config_of(settings, "rl")
  epochs = config.batch_size / settings.scarce
  caption = (
    f"{settings.scarce} training mazes for"
    f" {settings.scarce_steps * epochs:.0f} epochs (drawn with replacement);"
    " otherwise as with fresh mazes, learning rates included."
  )
  return Result(
    "Mazes: scarce data (paper, figure 4)",
    [Drawing("maze_scarce", _draw_scarce(runs, epochs), caption)],
    _scarce_claims(runs),
    [summaries.results_table(runs)],
  )


def _draw_scarce(runs, epochs: float):
  """Over `epochs` a step: pass@k of held-out mazes, pass rate in training."""
  drawing, axes = plotting.axes(columns=4, width=2.8, height=3.0)
  for ax, k in zip(axes[:3], (1, 32, 256), strict=True):
    for label, found in runs.items():
      values = maze_runs.pass_at_k(maze_runs.stacked(found, "correct"), k)
      plotting.interval_curve(
        ax,
        found[0]["step"] * epochs,
        stats.mean_interval(values),
        colour=COLOURS[label],
        label=label,
      )
    ax.set(title=f"pass@{k}, held-out mazes", xlabel="epochs")
    summaries.cap(ax)
  for label, found in runs.items():
    rate = maze_runs.stacked(found, "pass_rate")
    window = max(rate.shape[1] // 20, 1)
    values = summaries.running_mean(rate, window)
    mean, low, high = stats.mean_interval(values)
    x = (window / 2 + np.arange(values.shape[1])) * epochs
    plotting.curve(axes[3], x, mean, low=low, high=high, colour=COLOURS[label])
  axes[3].set(title="pass rate, training mazes", xlabel="epochs")
  summaries.cap(axes[3])
  summaries.legend_below(drawing, axes[0])
  return drawing


def _scarce_claims(runs) -> list[Claim]:
  claims = [
    summaries.ends_above(runs, "MaxRL", other, 256, "figure 4", "scarce")
    for other in ("GRPO", "RLOO")
  ]
  for label in ("GRPO", "RLOO"):
    correct = maze_runs.stacked(runs[label], "correct")
    before = maze_runs.pass_at_k(correct[0, 0], 256)
    after = maze_runs.pass_at_k(correct[:, -1], 256)
    fall = stats.mean_interval(after - before)
    claims.append(
      Claim(
        f"mazes.scarce.falls.{label.lower()}",
        "figure 4",
        f"{label} ends below the warm-up in held-out pass@256.",
        f"{after.mean():.3f} against {before:.3f}, difference {in_words(fall)}",
        "95 % interval below 0",
        bool(firm(fall).high < 0),
      )
    )
  return claims


def gradients(preset: str, workdir) -> Result:
  """Norm of a maze's own gradient against its pass rate, at the warm-up."""
  settings = PRESETS[preset]
  config = config_of(settings, "rl")
  found = maze_runs.measured(
    settings, workdir / "runs", "maze gradients", gradient_norms
  )
  drawing, ax = plotting.axes(width=5.0, height=3.4)
  rate = found["pass_rate"]
  eighths = np.array_split(np.argsort(rate), 8)
  middles = [rate[rows].mean() for rows in eighths]
  for label in COMPARED:
    norms = found[label]
    ax.scatter(rate, norms, s=5, alpha=0.25, color=COLOURS[label], linewidths=0)
    means = [norms[rows].mean() for rows in eighths]
    plotting.marked_curve(
      ax, middles, means, colour=COLOURS[label], label=label
    )
  ax.set(
    xlabel=f"pass rate of the maze ({KS[-1]} rollouts)",
    ylabel="norm of its gradient",
    yscale="symlog",
  )
  ax.legend()
  caption = (
    f"Norm of the gradient from one maze's {config.rollouts} rollouts against"
    f" its pass rate, {len(rate)} mazes after the warm-up; a point a maze, mean"
    f" of {REPEATS} groups; lines: means of an eighth of the mazes each."
  )
  return Result(
    "Mazes: gradient norm against pass rate (paper, figure 6)",
    [Drawing("maze_gradients", drawing, caption)],
    _gradient_claims(found),
    [],
  )


def _gradient_claims(found) -> list[Claim]:
  rate = found["pass_rate"]
  order = np.argsort(rate)
  hard, easy = order[: len(order) // 4], order[len(order) // 2 :]
  # Where the easier half has no gradient at all there is no ratio.
  with np.errstate(divide="ignore", invalid="ignore"):
    ratio = {m: found[m][hard].mean() / found[m][easy].mean() for m in COMPARED}
  return [
    Claim(
      f"mazes.gradients.{other.lower()}",
      "figure 6",
      "The hardest quarter of mazes has a larger share of MaxRL's gradient than"
      f" of {other}'s.",
      f"norm over that of the easier half: {ratio['MaxRL']:.2f} against"
      f" {ratio[other]:.2f}",
      "larger",
      bool(ratio["MaxRL"] > ratio[other]),
    )
    for other in ("GRPO", "RLOO")
  ]
