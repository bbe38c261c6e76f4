"""What the figures of mazes share: runs, summaries, tables and claims."""

import itertools

import numpy as np

from experiments.reports.results import Claim, Table, larger, spread
from experiments.runs import maze_runs
from experiments.runs.maze_presets import COLOURS, config_of
from experiments.runs.maze_runs import KS, Run
from maxrl_jax import plotting, stats


def reported(settings, rates: dict[str, float], workdir, **changes):
  """{method: [arrays a seed]} at the rates chosen."""
  steps = changes.pop("steps", settings.steps)
  more = tuple(sorted(changes.items()))
  wanted = [
    Run(label, rate, seed, steps, more)
    for seed, (label, rate) in itertools.product(settings.seeds, rates.items())
  ]
  found = maze_runs.train(settings, wanted, workdir / "runs")
  runs: dict[str, list] = {label: [] for label in rates}
  for run, arrays in zip(wanted, found, strict=True):
    runs[run.label].append(arrays)
  return runs


def rollouts_of(settings) -> int:
  return config_of(settings, "rl").rollouts


def describe(settings) -> str:
  """The setting in a sentence or two, for captions."""
  config = config_of(settings, "rl")
  size, policy = config.task.size, config.policy
  return (
    f"Mazes of {size} × {size}, fresh ones in every step; transformer of"
    f" {policy.num_layers} layers, {policy.hidden_size} wide; all runs start"
    f" from one supervised warm-up of {settings.warmup} steps. Batches of"
    f" {config.batch_size} mazes with {config.rollouts} rollouts,"
    f" {config.optimizer.name}, a learning rate chosen for each method from"
    f" {', '.join(f'{rate:g}' for rate in settings.rates)}."
    f" {settings.mazes} held-out mazes, {KS[-1]} rollouts each. Mean and 95 %"
    f" interval over {len(settings.seeds)} seeds."
  )


def final(found, k: int) -> np.ndarray:
  """pass@k of held-out mazes after training, [seeds]."""
  return maze_runs.pass_at_k(maze_runs.stacked(found, "correct")[:, -1], k)


def ends_above(runs, ours, theirs, k, source, figure) -> Claim:
  """Whether one method ends above another in held-out pass@k."""
  name = theirs.lower().replace(" ", "_")
  return larger(
    f"mazes.{figure}.pass_at_{k}.{name}",
    source,
    f"{ours} ends above {theirs} in held-out pass@{k}.",
    final(runs[ours], k),
    final(runs[theirs], k),
  )


def coverage(found) -> np.ndarray:
  """pass@k for each of KS after training, [seeds, len(KS)]."""
  final = maze_runs.stacked(found, "correct")[:, -1]
  return np.stack([maze_runs.pass_at_k(final, k) for k in KS], -1)


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
  """Means over `window` neighbours along the last axis, ends left out."""
  total = np.cumsum(np.pad(values, ((0, 0), (1, 0))), -1)
  return (total[:, window:] - total[:, :-window]) / window


def draw_pass_at_k(runs, ks):
  """A panel for each k: pass@k over steps."""
  drawing, axes = plotting.axes(columns=len(ks), width=2.8, height=3.0)
  for ax, k in zip(axes, ks, strict=True):
    for label, found in runs.items():
      values = maze_runs.pass_at_k(maze_runs.stacked(found, "correct"), k)
      plotting.interval_curve(
        ax,
        found[0]["step"],
        stats.mean_interval(values),
        colour=COLOURS[label],
        label=label,
      )
    ax.set(title=f"pass@{k}", xlabel="steps of RL")
    cap(ax)
  axes[0].set_ylabel("held-out mazes")
  legend_below(drawing, axes[0])
  return drawing


def cap(ax) -> None:
  """Intervals of shares may reach beyond 1, but axes need not."""
  ax.set_ylim(top=min(ax.get_ylim()[1], 1.003))


def legend_below(drawing, ax, most: int = 5) -> None:
  handles, labels = ax.get_legend_handles_labels()
  drawing.legend(
    handles,
    labels,
    loc="outside lower center",
    ncols=min(len(labels), most),
  )


def results_table(runs) -> Table:
  """pass@k, solved and length of every method after training."""
  ks = (1, 8, 32, 128, 256)

  def row(label, correct, length, entropy):
    passes = [spread(maze_runs.pass_at_k(correct, k)) for k in ks]
    return [label, *passes, length, entropy]

  rows = []
  for label, found in runs.items():
    last = [
      spread(maze_runs.stacked(found, name)[:, -20:].mean(-1), 2)
      for name in ("length", "entropy")
    ]
    correct = maze_runs.stacked(found, "correct")[:, -1]
    rows.append(row(label, correct, *last))
  start = next(iter(runs.values()))[0]["correct"][0]
  before = [f"{maze_runs.pass_at_k(start, k):.3f}" for k in ks]
  rows.insert(0, ["after warm-up", *before, "", ""])
  return Table(
    "Held-out mazes after training; tokens of an answer and entropy of a token"
    " (nats) in the last 20 batches. Mean ± half the 95 % interval over seeds.",
    ["method", *(f"pass@{k}" for k in ks), "tokens", "entropy"],
    rows,
  )
