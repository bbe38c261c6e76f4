"""Mazes: the paper's figures 5, 7, 12 and 17, and its table 3 (figure 18)."""

import itertools

import numpy as np

from experiments import maze_runs
from experiments.maze_runs import COLOURS, KS, PRESETS, Run
from experiments.results import Claim, Drawing, Result, Table, spread
from maxrl_jax import plotting, stats

_MAIN = ("MaxRL", "GRPO", "RLOO")
_SHOWN = (1, 32, 128, 256)  # k of pass@k over steps.


def figure(preset: str, workdir) -> Result:
  """MaxRL, GRPO and RLOO: pass@k over steps, coverage, prompts solved."""
  settings = PRESETS[preset]
  rates, tuning = maze_runs.tuned(preset, _MAIN, workdir / "runs")
  runs = reported(preset, rates, workdir)
  what = describe(settings)
  drawings = [
    Drawing(
      "maze_pass_at_k",
      draw_pass_at_k(runs, _SHOWN),
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
      f" among its {rollouts_of(settings)} rollouts, and of held-out mazes,"
      f" among {KS[-1]}; and what goes with it. Running means over a twentieth"
      " of training.",
    ),
  ]
  return Result(
    "Mazes (paper, figures 5, 7, 12, 17)",
    drawings,
    _claims(runs),
    [results_table(runs), *tuning_tables(settings, tuning, rates)],
  )


def baselines(preset: str, workdir) -> Result:
  """Table 3: GRPO with entropy, pass@16, power, TailRL and lower orders."""
  settings = PRESETS[preset]
  labels = tuple(maze_runs.METHODS)
  rates, tuning = maze_runs.tuned(preset, labels, workdir / "runs")
  runs = reported(preset, rates, workdir)
  claims = [
    ends_above(runs, "MaxRL", other, k, "table 3", "baselines")
    for other in labels[1:]
    for k in (1, 256)
  ]
  return Result(
    "Mazes: other baselines (paper, table 3 and figure 18)",
    [
      Drawing(
        "maze_baselines",
        draw_pass_at_k(runs, (1, 256)),
        f"pass@k of held-out mazes over steps of RL. {describe(settings)}",
      )
    ],
    claims,
    [results_table(runs), *tuning_tables(settings, tuning, rates)],
  )


def reported(preset: str, rates: dict[str, float], workdir, **changes):
  """{method: [arrays a seed]} at the rates chosen."""
  settings = PRESETS[preset]
  steps = changes.pop("steps", settings.steps)
  more = tuple(sorted(changes.items()))
  wanted = [
    Run(label, rate, seed, steps, more)
    for seed, (label, rate) in itertools.product(settings.seeds, rates.items())
  ]
  found = maze_runs.train(preset, wanted, workdir / "runs")
  runs = {label: [] for label in rates}
  for run, arrays in zip(wanted, found, strict=True):
    runs[run.label].append(arrays)
  return runs


def rollouts_of(settings) -> int:
  return maze_runs.config_of(settings, "rl").rollouts


def describe(settings) -> str:
  """The setting in a sentence or two, for captions."""
  config = maze_runs.config_of(settings, "rl")
  size, policy = config.task.size, config.policy
  tuned = (
    f"learning rate chosen for every method from"
    f" {', '.join(f'{rate:g}' for rate in settings.rates)} by the validation"
    " pass@1 of another seed"
    if len(settings.rates) > 1
    else f"learning rate {settings.rates[0]:g}"
  )
  return (
    f"Mazes of {size} × {size}, fresh ones in every step; transformer of"
    f" {policy.num_layers} layers, {policy.hidden_size} wide; all runs start"
    f" from one supervised warm-up of {settings.warmup} steps. Batches of"
    f" {config.batch_size} mazes with {config.rollouts} rollouts,"
    f" {config.optimizer.name}, {tuned}. {settings.mazes} held-out mazes,"
    f" {KS[-1]} rollouts each. Mean and 95 % interval over"
    f" {len(settings.seeds)} seeds."
  )


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
  axes[0].set_ylabel("held-out mazes")
  legend_below(drawing, axes[0])
  return drawing


def legend_below(drawing, ax, most: int = 5) -> None:
  handles, labels = ax.get_legend_handles_labels()
  drawing.legend(
    handles,
    labels,
    loc="outside lower center",
    ncols=min(len(labels), most),
  )


def coverage(found) -> np.ndarray:
  """pass@k for each of KS after training, [seeds, len(KS)]."""
  final = maze_runs.stacked(found, "correct")[:, -1]
  return np.stack([maze_runs.pass_at_k(final, k) for k in KS], -1)


def efficiency(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
  """k over the samples with which `ours` covers what `theirs` does with k.

  Both are coverages at KS, [len(KS)]; log k is interpolated, and NaN stands
  where no number of samples from 1 to KS[-1] gives `ours` that coverage.
  """
  grid = np.log(KS)
  # Coverage rises with k, but may be level where nothing more is found.
  rising = np.maximum.accumulate(ours) + 1e-12 * np.arange(len(KS))
  needed = np.interp(theirs, rising, grid, left=np.nan, right=np.nan)
  return np.exp(grid - needed)


def _factors(runs, label: str) -> np.ndarray:
  """The efficiency of MaxRL over another method, [seeds, len(KS)]."""
  pairs = zip(coverage(runs["MaxRL"]), coverage(runs[label]), strict=True)
  return np.stack([efficiency(ours, theirs) for ours, theirs in pairs])


def _draw_coverage(runs):
  drawing, (left, right) = plotting.axes(columns=2, width=3.9, height=3.2)
  for label, found in runs.items():
    plotting.interval_curve(
      left,
      KS,
      stats.mean_interval(coverage(found)),
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
    plotting.curve(
      right,
      KS,
      np.median(factors, 0),
      low=factors.min(0),
      high=factors.max(0),
      colour=COLOURS[label],
      label=f"against {label}",
      marker="o",
      markersize=3,
    )
  for ax in (left, right):
    plotting.every_tick(ax, KS)
    ax.set(xlabel="k")
    ax.legend()
  left.set(ylabel="coverage (pass@k)")
  right.axhline(1, color="#666666", linewidth=0.8)
  right.set(ylabel="times fewer samples", yscale="log")
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
        values = running_mean(maze_runs.stacked(found, name), window)
        steps = window / 2 + np.arange(values.shape[1])
      mean, low, high = stats.mean_interval(values)
      plotting.curve(
        ax, steps, mean, low=low, high=high, colour=COLOURS[label], label=label
      )
  for ax, (_, title) in zip(axes, panels, strict=True):
    ax.set(title=title, xlabel="steps of RL")
  legend_below(drawing, axes[0])
  return drawing


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
  """Means over `window` neighbours along the last axis, ends left out."""
  total = np.cumsum(np.pad(values, ((0, 0), (1, 0))), -1)
  return (total[:, window:] - total[:, :-window]) / window


def _final(found, k: int) -> np.ndarray:
  return maze_runs.pass_at_k(maze_runs.stacked(found, "correct")[:, -1], k)


def ends_above(runs, ours, theirs, k, source, figure) -> Claim:
  """Whether one method ends above another in held-out pass@k."""
  a, b = _final(runs[ours], k), _final(runs[theirs], k)
  gap = stats.difference_interval(a, b)
  name = theirs.lower().replace(" ", "_")
  return Claim(
    f"mazes.{figure}.pass_at_{k}.{name}",
    source,
    f"{ours} ends above {theirs} in held-out pass@{k}.",
    f"{a.mean():.3f} against {b.mean():.3f}, difference {gap.mean:.3f}"
    f" [{gap.low:.3f}, {gap.high:.3f}]",
    "95 % interval above 0",
    bool(gap.low > 0),
  )


def _claims(runs) -> list[Claim]:
  claims = [
    ends_above(runs, "MaxRL", other, k, "figure 17", "main")
    for other in ("GRPO", "RLOO")
    for k in _SHOWN
  ]
  for other in ("GRPO", "RLOO"):
    factors = _factors(runs, other)
    known = np.isfinite(factors).all(0)
    best = np.median(factors[:, known], 0).max() if known.any() else np.nan
    claims.append(
      Claim(
        f"mazes.main.efficiency.{other.lower()}",
        "figure 5",
        f"For some coverage MaxRL needs at least twice fewer samples than"
        f" {other} (the paper: 2.3 to 19.2 times fewer than GRPO, of an LLM).",
        f"{best:.1f} times fewer, median of seeds, at the best k",
        "≥ 2",
        bool(best >= 2),
      )
    )
    late = {
      label: maze_runs.stacked(found, "solved")[
        :, -len(found[0]["solved"]) // 4 :
      ]
      for label, found in runs.items()
    }
    gap = stats.difference_interval(
      late["MaxRL"].mean(-1), late[other].mean(-1)
    )
    claims.append(
      Claim(
        f"mazes.main.solved.{other.lower()}",
        "figures 7 and 12",
        f"In the last quarter of training MaxRL solves more of its training"
        f" mazes at least once than {other}.",
        f"{late['MaxRL'].mean():.3f} against {late[other].mean():.3f},"
        f" difference {gap.mean:.3f} [{gap.low:.3f}, {gap.high:.3f}]",
        "95 % interval above 0",
        bool(gap.low > 0),
      )
    )
  return claims


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


def tuning_tables(settings, tuning, rates) -> list[Table]:
  """How the learning rates were chosen; none where there was no choice."""
  if not tuning:
    return []
  rows = [
    [label, *(f"{score:.3f}" for score in scores), f"{rates[label]:g}"]
    for label, scores in tuning.items()
  ]
  return [
    Table(
      f"Tuning: validation pass@1 after {settings.tuning_steps} steps of a seed"
      " that is not reported; the same rates for every method.",
      ["method", *(f"{rate:g}" for rate in settings.rates), "chosen"],
      rows,
    )
  ]
