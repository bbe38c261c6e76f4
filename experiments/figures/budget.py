"""A fixed budget of rollouts: many prompts, or many rollouts per prompt."""

from typing import NamedTuple

from configs import budget
from experiments.figures import set_steps
from experiments.reports.results import Claim, Drawing, Result, Table, larger
from experiments.reports.sweep_analysis import analyse
from maxrl_jax import plotting
from maxrl_jax.config import RATE
from maxrl_jax.runs import study
from maxrl_jax.runs.choose import rate_text
from maxrl_jax.runs.progress import counted, listed

_LABELS = {"maxrl": "MaxRL of order N − 1", "grpo": "GRPO", "rloo": "RLOO"}


class Settings(NamedTuple):
  """Choices of the figure; `budget` rollouts are drawn in every step."""

  methods: tuple[str, ...] = ("maxrl", "grpo")
  budget: int = 2048
  rollouts: tuple[int, ...] = (8, 16, 32, 64, 128)
  rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
  steps: int = 600
  seeds: int = 6


PRESETS = {
  "quick": Settings(),
  "full": Settings(methods=tuple(_LABELS), steps=4000, seeds=12),
}


def studies(settings: Settings, runs) -> dict[str, study.Study]:
  """Every method, split of the budget and learning rate."""
  del runs
  config = budget.get_config()
  set_steps(config, settings.steps, evaluations=10)
  config.optimizer.warmup = settings.steps // 20
  splits = [(settings.budget // n, n) for n in settings.rollouts]
  if any(size * n != settings.budget for size, n in splits):
    raise ValueError(
      f"rollouts = {settings.rollouts}: each must divide budget ="
      f" {settings.budget}"
    )
  grid = {
    "estimator.name": settings.methods,
    ("batch_size", "rollouts"): splits,
    RATE: settings.rates,
  }
  return {"budget": study.study(config, grid, range(settings.seeds))}


def figure(settings: Settings, runs) -> Result:
  """Test pass@1 and pass@16 by how B × N is split."""
  what = studies(settings, runs)["budget"]
  sweep = analyse(study.run(what, runs), what.axes)
  caption = (
    f"Strings of two digits (100 classes). Every step draws {settings.budget}"
    f" rollouts, for few prompts or for many; {settings.steps} steps of Adam."
    f" The rate of every point is chosen from {listed(settings.rates)} on"
    f" {counted(len(sweep.tuning), 'seed')} by the validation split; mean and"
    " 95 % interval of"
    f" {len(sweep.methods[0].runs)} other seeds on the test split."
  )
  return Result(
    "One budget: many prompts or many rollouts",
    [Drawing("budget", _draw(sweep, settings), caption)],
    _claims(sweep),
    [_table(sweep)],
  )


def _draw(sweep, settings: Settings):
  drawing, panels = plotting.axes(columns=2, width=4.4, height=3.3)
  for ax, score in zip(panels, ("pass@1", "pass@16"), strict=True):
    for name in settings.methods:
      methods = _of(sweep, name)
      sizes = [m.fields["rollouts"] for m in methods]
      values = [sweep.test(m, score) for m in methods]
      look = {"colour": plotting.COLOURS[name], "label": _LABELS[name]}
      plotting.mean_curve(ax, sizes, values, **look)
    plotting.every_tick(ax, settings.rollouts, base=2)
    ax.set(
      xlabel=f"rollouts N per prompt, {settings.budget}/N prompts per step",
      ylabel=f"test {score}",
    )
  panels[0].legend()
  return drawing


def _of(sweep, name: str) -> list:
  return [m for m in sweep.methods if m.fields["estimator.name"] == name]


def _claims(sweep) -> list[Claim]:
  splits = sorted(_of(sweep, "maxrl"), key=lambda m: m.fields["rollouts"])
  if len(splits) < 2:
    return []
  few, *_, many = splits
  return [
    larger(
      "budget.rollouts",
      "own, from equation 7",
      "MaxRL buys order with rollouts: with one budget, many rollouts of few"
      f" prompts (N = {many.fields['rollouts']}) end above few of many (N ="
      f" {few.fields['rollouts']}).",
      sweep.test(many),
      sweep.test(few),
    )
  ]


def _table(sweep) -> Table:
  rows = [
    [
      _LABELS[m.fields["estimator.name"]],
      m.fields["batch_size"],
      m.fields["rollouts"],
      rate_text(m.choice),
      sweep.test(m),
      sweep.test(m, "pass@16"),
    ]
    for m in sweep.methods
  ]
  return Table(
    "Test split after training: mean ± half the 95 % interval over seeds.",
    ["method", "prompts B", "rollouts N", "rate", "pass@1", "pass@16"],
    rows,
  )
