"""What the figures of mazes share: captions, panels, tables and claims.

`runs` are {method: {metric: [seeds, …]}}.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.figures.maze_settings import KS, Settings, config_of, look
from experiments.reports.results import Claim, Table, larger, mean_plus_minus
from maxrl_jax import plotting
from maxrl_jax.runs.progress import listed


def describe(settings: Settings, start: str = "", rollouts: str = "") -> str:
  """The setting in a few sentences, for captions.

  Args:
    settings: of the figure.
    start: of the runs, unless it is one warm-up of `settings.warmup` steps.
    rollouts: of a maze, unless they are `settings.rollouts`.
  """
  config = config_of(settings, "rl")
  start = start or f"one supervised warm-up of {settings.warmup} steps"
  rollouts = rollouts or f"{settings.rollouts} rollouts"
  rate = (
    f"learning rate {settings.rates[0]:g}"
    if len(settings.rates) == 1
    else "a learning rate chosen for each method from " + listed(settings.rates)
  )
  return (
    f"Mazes of {settings.size} × {settings.size}, fresh ones in every step;"
    f" transformer of {settings.layers} layers, {settings.width} wide; all runs"
    f" start from {start}. Batches of {settings.batch_size} mazes with"
    f" {rollouts}, {config.optimizer.name}, {rate}. {settings.mazes} held-out"
    f" mazes, {KS[-1]} rollouts each. Over steps:"
    f" {plotting.seeds_in_words(settings.seeds)}; other bands are 95 %"
    " intervals."
  )


def pass_at(run, k: int) -> np.ndarray:
  """pass@k of held-out mazes, [seeds, evaluations]."""
  return run[f"test_pass@{k}"]


def final(run, k: int) -> np.ndarray:
  """pass@k of held-out mazes after training, [seeds]."""
  return pass_at(run, k)[:, -1]


def others(runs) -> list[str]:
  """The methods that MaxRL is compared with."""
  return [label for label in runs if label != "MaxRL"]


def finals(run, ks: Iterable[int]) -> list[np.ndarray]:
  """pass@k of held-out mazes after training, [seeds] for each k."""
  return [final(run, k) for k in ks]


def at_start(runs, k: int) -> float:
  """pass@k of held-out mazes after the warm-up, from which all runs start."""
  return float(pass_at(next(iter(runs.values())), k)[0, 0])


def coverage(run) -> np.ndarray:
  """pass@k for each of KS after training, [seeds, len(KS)]."""
  return np.stack(finals(run, KS), -1)


def ends_above(runs, other, k, source, figure) -> Claim:
  """Whether MaxRL ends above another method in held-out pass@k."""
  return larger(
    f"mazes.{figure}.pass_at_{k}.{plain(other)}",
    source,
    f"MaxRL ends above {other} in held-out pass@{k}.",
    final(runs["MaxRL"], k),
    final(runs[other], k),
  )


def plain(label: str) -> str:
  """A method's label in the id of a claim."""
  return label.lower().replace(" ", "_")


def draw_training(ax, run, name: str, scale: float = 1.0, **style) -> None:
  """Running means of a training metric over a twentieth of all steps.

  Args:
    ax: to draw on.
    run: of a method.
    name: of the metric.
    scale: of a step on the x axis.
    **style: as in `plotting.curve`.
  """
  values = run[f"train_{name}"]
  window = max(values.shape[1] // 20, 1)
  means = running_mean(values, window)
  x = (window / 2 + np.arange(means.shape[1])) * scale
  plotting.seed_curves(ax, x, means, **style)


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
  """Means over `window` neighbours along the last axis, without the ends."""
  total = np.cumsum(np.pad(values, ((0, 0), (1, 0))), -1)
  return (total[:, window:] - total[:, :-window]) / window


def tokens(run, rollouts: int) -> np.ndarray:
  """Tokens generated before each evaluation, [seeds, evaluations].

  `rollouts` of a step, of all its mazes; without effect where they vary.
  """
  each = run.get("train_tokens")
  if each is None:
    each = run["train_length"] * rollouts
  total = np.cumsum(np.pad(each, ((0, 0), (1, 0))), 1)
  return total[:, run["eval_step"]]


def steps(run) -> np.ndarray:
  """Steps before each evaluation."""
  return run["eval_step"]


def draw_pass_at_k(
  runs, ks, x: Callable = steps, xlabel: str = "steps of RL"
) -> Figure:
  """A panel for each k: pass@k over x(run)."""
  drawing, axes = plotting.axes(columns=len(ks), width=2.8, height=3.0)
  for ax, k in zip(axes, ks, strict=True):
    draw_evaluations(ax, runs, k, x)
    ax.set(title=f"pass@{k}", xlabel=xlabel)
  axes[0].set_ylabel("held-out mazes")
  plotting.legend_below(drawing, axes[0], 5)
  return drawing


def draw_evaluations(ax, runs, k: int, x: Callable = steps) -> None:
  """pass@k of held-out mazes over x(run)."""
  for label, run in runs.items():
    plotting.seed_curves(ax, x(run), pass_at(run, k), **look(label))
  cap(ax)


def cap(ax) -> None:
  """Ends the axis at 1, which intervals of shares may exceed."""
  ax.set_ylim(top=min(ax.get_ylim()[1], 1.003))


def results_table(settings: Settings, runs) -> Table:
  """pass@k, length and entropy of every method after training; its costs."""
  ks = (1, 8, 32, 128, 256)
  rows: list[list[Any]] = [
    ["after warm-up", *(f"{at_start(runs, k):.3f}" for k in ks), *4 * [""]]
  ]
  rollouts = settings.batch_size * settings.rollouts  # Of a step.
  costs = ("tokens", "entropy", "million tokens", "minutes")
  for label, run in runs.items():
    last = [run[f"train_{x}"][:, -20:].mean(-1) for x in ("length", "entropy")]
    rows.append(
      [
        label,
        *finals(run, ks),
        *(mean_plus_minus(values, 2) for values in last),
        f"{tokens(run, rollouts)[:, -1].mean() / 1e6:.1f}",
        f"{np.median(run['seconds']) / 60:.1f}",
      ]
    )
  return Table(
    "Held-out mazes after training; tokens of an answer and entropy of a token"
    " (nats) in the last 20 batches. Mean ± half the 95 % interval over seeds."
    " Million tokens generated, mean, and minutes of a run, median, with its"
    " evaluations; on a CPU each run has one core.",
    ["method", *(f"pass@{k}" for k in ks), *costs],
    rows,
  )
