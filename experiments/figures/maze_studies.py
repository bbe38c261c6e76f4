"""Mazes: numbers of rollouts (figure 3), scarce data (4), gradients (6)."""

import itertools

import jax
import numpy as np

from experiments.figures import maze_runs, maze_settings
from experiments.figures import maze_summaries as summaries
from experiments.figures.maze_settings import (
  COLOURS,
  KS,
  METHODS,
  Settings,
  look,
)
from experiments.reports.results import (
  Claim,
  Drawing,
  Result,
  Table,
  bounded,
  in_words,
  larger,
)
from maxrl_jax import config as configs
from maxrl_jax import evaluation, plotting, stats
from maxrl_jax.learning.build_loss import make_loss
from maxrl_jax.runs.study import Study

PRESETS = maze_settings.PRESETS
_GROUPS = 4  # Groups of rollouts whose gradient norms are averaged.


def rollouts_studies(settings: Settings, runs) -> dict[str, Study]:
  """The methods with every number of rollouts, at the same learning rates."""
  fields = {"rollouts": settings.rollout_numbers}
  what = maze_runs.at_best_rates(settings, runs, settings.rollout_steps, fields)
  return {"rollouts": what}


def rollouts(settings: Settings, runs) -> Result:
  """−log pass@k after training against the rollouts per maze."""
  what = rollouts_studies(settings, runs)["rollouts"]
  numbers = settings.rollout_numbers
  labels = itertools.product(numbers, settings.compared)
  trained = maze_runs.train(what, runs, labels)
  points = {
    num: {label: trained[num, label] for label in settings.compared}
    for num in numbers
  }
  rollouts = f"{min(numbers)} to {max(numbers)} rollouts"
  caption = (
    "How much is left to learn after"
    f" {settings.rollout_steps} steps, against the rollouts per maze; learning"
    f" rates are those chosen with {settings.rollouts} rollouts."
    f" {summaries.describe(settings, rollouts=rollouts)}"
  )
  return Result(
    "Mazes: more rollouts (paper, figure 3)",
    [Drawing("maze_rollouts", _draw_rollouts(points), caption)],
    _rollout_claims(points),
    [_rollout_table(points)],
  )


def _draw_rollouts(points):
  """A panel for each k; points are {rollouts: {method: metrics}}."""
  drawing, axes = plotting.axes(columns=4, width=2.8, height=3.0)
  for ax, k in zip(axes, (1, 32, 128, 256), strict=True):
    for label in next(iter(points.values())):
      values = [-np.log(summaries.final(p[label], k)) for p in points.values()]
      plotting.mean_curve(ax, list(points), values, **look(label))
    plotting.every_tick(ax, list(points), base=2)
    ax.set(title=f"−log pass@{k}", xlabel="rollouts per maze")
    ax.set_ylim(bottom=0)
  axes[0].set_ylabel("nats, held-out mazes")
  plotting.legend_below(drawing, axes[0])
  return drawing


def _rollout_claims(points) -> list[Claim]:
  fewest, most = min(points), max(points)
  return [
    larger(
      f"mazes.rollouts.pass_at_{k}.{summaries.plain(other)}",
      "figure 3",
      f"MaxRL with {fewest} rollouts ends above {other} with {most} in held-out"
      f" pass@{k} (the paper: with 4 above RLOO with 128).",
      summaries.final(points[fewest]["MaxRL"], k),
      summaries.final(points[most][other], k),
    )
    for other in summaries.others(points[most])
    for k in (1, 256)
  ]


def _rollout_table(points) -> Table:
  rows = [
    [num, label, *summaries.finals(run, (1, 32, 256))]
    for num, runs in points.items()
    for label, run in runs.items()
  ]
  header = ["rollouts", "method", "pass@1", "pass@32", "pass@256"]
  caption = (
    "Held-out mazes after training, mean ± half the 95 % interval over seeds."
  )
  return Table(caption, header, rows)


def scarce_studies(settings: Settings, runs) -> dict[str, Study]:
  """The methods on a small fixed training set."""
  fields = {"task.train_size": (settings.scarce,)}
  what = maze_runs.at_best_rates(settings, runs, settings.scarce_steps, fields)
  return {"scarce": what}


def scarce(settings: Settings, runs) -> Result:
  """pass@k of held-out mazes over epochs on a small fixed training set."""
  what = scarce_studies(settings, runs)["scarce"]
  by_method = maze_runs.train(what, runs, settings.compared)
  epochs = settings.batch_size / settings.scarce
  caption = (
    f"{settings.scarce} training mazes for"
    f" {settings.scarce_steps * epochs:.0f} epochs (drawn with replacement);"
    " otherwise as with fresh mazes, learning rates included."
  )
  return Result(
    "Mazes: scarce data (paper, figure 4)",
    [Drawing("maze_scarce", _draw_scarce(by_method, epochs), caption)],
    _scarce_claims(by_method),
    [summaries.results_table(settings, by_method)],
  )


def _draw_scarce(runs, epochs: float):
  """pass@k of held-out mazes and pass rate in training; `epochs` per step."""
  drawing, axes = plotting.axes(columns=4, width=2.8, height=3.0)
  for ax, k in zip(axes[:3], (1, 32, 256), strict=True):
    summaries.draw_evaluations(
      ax, runs, k, lambda run: run["eval_step"] * epochs
    )
    ax.set(title=f"pass@{k}, held-out mazes", xlabel="epochs")
  for label, run in runs.items():
    summaries.draw_training(
      axes[3], run, "pass_rate", epochs, colour=COLOURS[label]
    )
  axes[3].set(title="pass rate, training mazes", xlabel="epochs")
  summaries.cap(axes[3])
  plotting.legend_below(drawing, axes[0])
  return drawing


def _scarce_claims(runs) -> list[Claim]:
  others = summaries.others(runs)
  claims = [
    summaries.ends_above(runs, other, 256, "figure 4", "scarce")
    for other in others
  ]
  before = summaries.at_start(runs, 256)
  for label in others:
    after = summaries.final(runs[label], 256)
    fall = stats.mean_interval(after - before)
    means = f"{after.mean():.3f} against {before:.3f}"
    claims.append(
      bounded(
        f"mazes.scarce.falls.{summaries.plain(label)}",
        "figure 4",
        f"{label} ends below the warm-up in held-out pass@256.",
        fall,
        below=0,
        measured=f"{means}, difference {in_words(fall)}",
      )
    )
  return claims


def gradients(settings: Settings, runs) -> Result:
  """Norm of a single maze's gradient against its pass rate, at the warm-up."""
  measured = maze_runs.at_warm_up(
    settings, runs, gradient_norms, methods=settings.compared, groups=_GROUPS
  )
  drawing, ax = plotting.axes(width=5.0, height=3.4)
  rate = measured["pass_rate"]
  order = np.argsort(rate)
  unsolved, solved = np.split(order, [np.sum(rate == 0)])
  parts = [x for x in (unsolved, *np.array_split(solved, 8)) if len(x)]
  middles = [rate[rows].mean() for rows in parts]
  for label in settings.compared:
    norms = measured[label]
    ax.scatter(rate, norms, s=5, alpha=0.25, color=COLOURS[label], linewidths=0)
    means = [norms[rows].mean() for rows in parts]
    plotting.marked_curve(ax, middles, means, **look(label))
  ax.set(
    xlabel=f"pass rate of the maze ({KS[-1]} rollouts)",
    ylabel="norm of its gradient",
    yscale="symlog",
  )
  # Logarithmic, except between 0 and the smallest pass rate above it.
  ax.set_xscale("symlog", linthresh=1 / KS[-1])
  ax.set_xticks(
    [0, 1 / KS[-1], 0.03, 0.1, 0.3, 1],
    ["0", f"1/{KS[-1]}", ".03", ".1", ".3", "1"],
  )
  ax.legend()
  caption = (
    f"Norm of the gradient from one maze's {settings.rollouts} rollouts against"
    f" its pass rate, {len(rate)} mazes after the warm-up; one point per maze,"
    f" mean of {_GROUPS} groups; lines: means of mazes with pass rate 0, and of"
    " an eighth of the others each."
  )
  return Result(
    "Mazes: gradient norm against pass rate (paper, figure 6)",
    [Drawing("maze_gradients", drawing, caption)],
    _gradient_claims(measured),
    [],
  )


def gradient_norms(
  config, trainer, params, methods: tuple[str, ...], groups: int
) -> dict[str, np.ndarray]:
  """Norms of every maze's gradient by method, and pass rates."""
  prompts = trainer.task.splits["validation"]
  measured: dict[str, np.ndarray] = {}
  for label in methods:
    fields = {f"estimator.{k}": value for k, value in METHODS[label].items()}
    of_method = configs.overlay(config, fields)
    loss = make_loss(of_method, trainer.task, trainer.policy)

    @jax.jit
    def norms(params, key, loss=loss):
      keys = jax.random.split(key, prompts.size)
      return evaluation.gradient_norms(loss, params, keys, prompts)

    keys = jax.random.split(jax.random.key(2), groups)
    measured[label] = np.mean([norms(params, key) for key in keys], 0)
  rates = maze_runs.pass_rates(config, trainer, params)["pass_rates"]
  return measured | {"pass_rate": rates}


def _gradient_claims(measured) -> list[Claim]:
  rate = measured["pass_rate"]
  order = np.argsort(rate)
  hard, easy = order[: len(order) // 4], order[len(order) // 2 :]
  # Where the easier half has no gradient at all there is no ratio.
  with np.errstate(divide="ignore", invalid="ignore"):
    ratio = {
      label: norms[hard].mean() / norms[easy].mean()
      for label, norms in measured.items()
      if label != "pass_rate"
    }
  return [
    Claim(
      f"mazes.gradients.{summaries.plain(other)}",
      "figure 6",
      "The hardest quarter of mazes has a larger share of MaxRL's gradient than"
      f" of {other}'s.",
      f"norm over that of the easier half: {ratio['MaxRL']:.2f} against"
      f" {ratio[other]:.2f}",
      "larger",
      bool(ratio["MaxRL"] > ratio[other]),
    )
    for other in ratio
    if other != "MaxRL"
  ]
