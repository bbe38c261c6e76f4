"""Every series objective: order T, power α and pass@K on one axis."""

import numpy as np

from configs import budget, family
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
from maxrl_jax import objectives, plotting, stats
from maxrl_jax.runs import grid

_NUM = 32
_STEPS = {"quick": 1000, "full": 4000}
_SEEDS = {"quick": 6, "full": 12}
_RATES = {"bandit": (3.0, 10.0, 30.0), "digits": (1e-3, 3e-3, 1e-2)}
_TITLES = {"bandit": "bandit", "digits": "strings of two digits"}
_FAMILIES = {
  "maxrl": ("MaxRL of order T", "estimator.order"),
  "power": ("power α", "estimator.alpha"),
  "pass_at_k": ("pass@K", "estimator.k"),
}
_SCORES = ("pass@1", "pass@16")


def figure(preset: str, workdir) -> Result:
  """Test scores against w(0), how many times a hopeless prompt counts."""
  sweeps = {name: _sweep(name, preset, workdir) for name in _TITLES}
  drawing, panels = plotting.axes(columns=4, width=3.3, height=3.2)
  places = [(name, score) for name in sweeps for score in _SCORES]
  for ax, (name, score) in zip(panels, places, strict=True):
    _draw(ax, sweeps[name], score)
    ax.set(title=_TITLES[name], ylabel=f"test {score}")
  drawing.legend(
    *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3
  )
  one = sweeps["bandit"]
  rates = {
    name: ", ".join(f"{rate:g}" for rate in rates)
    for name, rates in _RATES.items()
  }
  caption = (
    "All objectives J(p) = −Σ a_k (1−p)^{k+1}/(k+1) that N = 32 rollouts reach:"
    " MaxRL of order T = 1 to 31, power α = 0.75, 0.5, 0.25 (cut at 31) and"
    " pass@K of K = 2 to 16, by the weight w(0) = Σ a_k that they give to a"
    " prompt of pass rate 0. RL, with w = 1, is where all three start. Each"
    " task is one compiled program. On the bandit, whose prompts share nothing,"
    " a larger rate always helps, and all chose the largest. Learning rates"
    " chosen for every objective"
    f" (bandit, SGD: {rates['bandit']}; digits, Adam: {rates['digits']}) on"
    f" {len(one.tuning)} seeds by the validation split; {_STEPS[preset]} steps,"
    f" mean and 95 % interval of {len(one.methods[0].runs)} other seeds on the"
    " test split."
  )
  return Result(
    "The family: order, power and pass@K",
    [Drawing("family", drawing, caption)],
    [_claim(sweeps["digits"])],
    [_table(name, sweep) for name, sweep in sweeps.items()],
  )


def _sweep(name: str, preset: str, workdir):
  config = family.get_config() if name == "bandit" else budget.get_config()
  config.steps, config.rollouts, config.batch_size = _STEPS[preset], _NUM, 64
  config.log_every = config.eval_every = config.steps // 4
  if name == "digits":
    config.optimizer.warmup = config.steps // 20
  axes = grid.parse(family.get_sweep() | {RATE: _RATES[name]}, config)
  data = sweep_runs.kept(config, axes, range(_SEEDS[preset]), workdir / "runs")
  return analyse(data, axes)


def _weight_at_zero(method) -> float:
  """Σ a_k of the series that N rollouts reach."""
  kind = method.fields["estimator.name"]
  option = method.fields[_FAMILIES[kind][1]]
  objective = objectives.OBJECTIVES[kind](option)
  terms = {"maxrl": option, "pass_at_k": option, "power": _NUM - 1}[kind]
  assert objective.coefficients is not None
  return float(np.sum(objective.coefficients(terms)))


def _lines(sweep):
  """{family: methods by w(0)}, RL at the head of each."""
  rl = next(m for m in sweep.methods if m.fields["estimator.order"] == 1)
  for kind in _FAMILIES:
    own = [
      m
      for m in sweep.methods
      if m.fields["estimator.name"] == kind and m is not rl
    ]
    yield kind, sorted([rl, *own], key=_weight_at_zero)


def _draw(ax, sweep, score: str) -> None:
  for kind, methods in _lines(sweep):
    values = np.stack([sweep.test(m, score) for m in methods], 1)
    plotting.interval_curve(
      ax,
      [_weight_at_zero(m) for m in methods],
      stats.mean_interval(values),
      colour=plotting.COLOURS[kind],
      label=_FAMILIES[kind][0],
    )
  plotting.every_tick(ax, (1, 2, 4, 8, 16, 31), base=2)
  ax.set_xlabel("w(0)")


def _claim(sweep) -> Claim:
  by_order = {m.fields["estimator.order"]: m for m in sweep.methods}
  return larger(
    "family.order",
    "paper, section 4",
    "On digit strings, the largest order ends above RL, each at its best rate.",
    sweep.test(by_order[31]),
    sweep.test(by_order[1]),
  )


def _table(name: str, sweep) -> Table:
  rows = [
    [
      m.label,
      f"{_weight_at_zero(m):.2f}",
      marked(m.rate, m.edge),
      *(spread(sweep.test(m, score)) for score in _SCORES),
    ]
    for m in sweep.methods
  ]
  return Table(
    f"{_TITLES[name]}: test split, mean ± half the 95 % interval over seeds.",
    ["objective", "w(0)", "rate", *_SCORES],
    rows,
  )
