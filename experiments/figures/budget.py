"""A fixed budget of rollouts: many prompts, or many rollouts a prompt."""

import numpy as np

from configs import budget
from experiments.reports.results import (
  Claim,
  Drawing,
  Result,
  Table,
  larger,
  spread,
)
from experiments.reports.sweep_analysis import RATE, analyse
from experiments.runs import sweep_runs
from experiments.runs.rates import marked
from maxrl_jax import plotting, stats
from maxrl_jax.runs import grid

_STEPS = {"quick": 600, "full": 4000}
_SEEDS = {"quick": 6, "full": 12}
_LABELS = {"maxrl": "MaxRL of order N − 1", "grpo": "GRPO", "rloo": "RLOO"}
_BUDGET = budget.PAIRS[0][0] * budget.PAIRS[0][1]  # Rollouts of a step.
_METHODS = {"quick": ("maxrl", "grpo"), "full": tuple(_LABELS)}


def figure(preset: str, workdir) -> Result:
  """Test pass@1 and pass@16 by how B × N is split."""
  config = budget.get_config()
  config.steps = _STEPS[preset]
  config.log_every = config.eval_every = config.steps // 10
  config.optimizer.warmup = config.steps // 20
  swept = {"estimator.name": _METHODS[preset]} | budget.get_sweep()
  axes = grid.parse(swept, config)
  data = sweep_runs.kept(config, axes, range(_SEEDS[preset]), workdir / "runs")
  sweep = analyse(data, axes)
  reported = len(sweep.methods[0].runs)
  rates = ", ".join(f"{rate:g}" for rate in budget.get_sweep()[RATE])
  caption = (
    f"Strings of two digits (100 classes). Every step draws {_BUDGET} rollouts,"
    f" from few prompts or from many; {_STEPS[preset]} steps of Adam, the rate"
    f" of every point chosen from {rates} on {len(sweep.tuning)} seeds by the"
    f" validation split, mean and 95 % interval of {reported} other"
    " seeds on the test split."
  )
  return Result(
    "One budget: many prompts or many rollouts",
    [Drawing("budget", _draw(sweep, _METHODS[preset]), caption)],
    [_claim(sweep)],
    [_table(sweep)],
  )


def _draw(sweep, names):
  drawing, panels = plotting.axes(columns=2, width=4.4, height=3.3)
  for ax, score in zip(panels, ("pass@1", "pass@16"), strict=True):
    for name in names:
      methods = _of(sweep, name)
      values = np.stack([sweep.test(m, score) for m in methods], 1)
      plotting.interval_curve(
        ax,
        [m.fields["rollouts"] for m in methods],
        stats.mean_interval(values),
        colour=plotting.COLOURS[name],
        label=_LABELS[name],
      )
    plotting.every_tick(ax, [n for _, n in budget.PAIRS], base=2)
    ax.set(
      xlabel=f"rollouts N a prompt, {_BUDGET}/N prompts a step",
      ylabel=f"test {score}",
    )
  panels[0].legend()
  return drawing


def _of(sweep, name: str) -> list:
  return [m for m in sweep.methods if m.fields["estimator.name"] == name]


def _claim(sweep) -> Claim:
  few, *_, many = sorted(
    _of(sweep, "maxrl"), key=lambda m: m.fields["rollouts"]
  )
  return larger(
    "budget.rollouts",
    "own, from equation 7",
    "MaxRL buys order with rollouts: with one budget, many rollouts of few"
    f" prompts (N = {many.fields['rollouts']}) end above few of many (N ="
    f" {few.fields['rollouts']}).",
    sweep.test(many),
    sweep.test(few),
  )


def _table(sweep) -> Table:
  rows = [
    [
      _LABELS[m.fields["estimator.name"]],
      m.fields["batch_size"],
      m.fields["rollouts"],
      marked(m.rate, m.edge),
      spread(sweep.test(m)),
      spread(sweep.test(m, "pass@16")),
    ]
    for m in sweep.methods
  ]
  return Table(
    "Test split after training: mean ± half the 95 % interval over seeds.",
    ["method", "prompts B", "rollouts N", "rate", "pass@1", "pass@16"],
    rows,
  )
