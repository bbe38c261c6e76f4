"""Every series objective: order T, power α and pass@K on one axis."""

import functools
from typing import NamedTuple

import numpy as np

from configs import budget, family
from experiments.figures import set_steps
from experiments.reports.results import Claim, Drawing, Result, Table, larger
from experiments.reports.sweep_analysis import SYMBOLS, analyse
from maxrl_jax import objectives, plotting
from maxrl_jax.config import RATE
from maxrl_jax.runs import study
from maxrl_jax.runs.choose import rate_text
from maxrl_jax.runs.progress import counted, listed

_TITLES = {"bandit": "bandit", "digits": "strings of two digits"}
_FAMILIES = {
  "maxrl": ("MaxRL of order T", "estimator.order"),
  "power": ("power α", "estimator.alpha"),
  "pass_at_k": ("pass@K", "estimator.k"),
}
_SCORES = ("pass@1", "pass@16")


class Settings(NamedTuple):
  """Choices of the figure; the series of power α is cut at N − 1.

  The smallest order is 1, which is RL.
  """

  orders: tuple[int, ...] = family.ORDERS
  alphas: tuple[float, ...] = family.ALPHAS
  ks: tuple[int, ...] = family.KS
  rollouts: int = 32
  bandit_rates: tuple[float, ...] = (3.0, 10.0, 30.0)
  digit_rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
  steps: int = 1000
  seeds: int = 6


PRESETS = {"quick": Settings(), "full": Settings(steps=4000, seeds=12)}


def studies(settings: Settings, runs) -> dict[str, study.Study]:
  """Every objective and learning rate, on each task."""
  del runs
  if 1 not in settings.orders or len(settings.orders) < 2:
    raise ValueError(
      f"orders = {settings.orders}: must have 1, which is RL, and another one"
    )
  values = zip(
    _FAMILIES.items(),
    (settings.orders, settings.alphas, settings.ks),
    strict=True,
  )
  fields = [field for _, field in _FAMILIES.values()]
  methods = [
    (name, *(value if field == option else None for field in fields))
    for (name, (_, option)), options in values
    for value in options
  ]
  configs = {"bandit": family.get_config(), "digits": budget.get_config()}
  rates = {"bandit": settings.bandit_rates, "digits": settings.digit_rates}
  configs["digits"].optimizer.warmup = settings.steps // 20
  planned = {}
  for name, config in configs.items():
    set_steps(config, settings.steps, evaluations=4)
    config.batch_size, config.rollouts = 64, settings.rollouts
    grid = {("estimator.name", *fields): methods, RATE: rates[name]}
    planned[name] = study.study(config, grid, range(settings.seeds))
  return planned


def figure(settings: Settings, runs) -> Result:
  """Test scores by w(0), the weight of a prompt with pass rate 0."""
  sweeps = {
    name: analyse(study.run(what, runs), what.axes)
    for name, what in studies(settings, runs).items()
  }
  weight = functools.partial(_weight_at_zero, terms=settings.rollouts - 1)
  return Result(
    "The family: order, power and pass@K",
    [
      Drawing(
        "family",
        _draw(sweeps, weight, settings.orders),
        _caption(settings, **sweeps),
      )
    ],
    _claims(sweeps["digits"]),
    [_table(name, sweep, weight) for name, sweep in sweeps.items()],
  )


def _caption(settings: Settings, bandit, digits) -> str:
  largest = max(settings.bandit_rates)
  edge = sum(m.choice.rate == largest for m in bandit.methods)
  return (
    "Objectives J(p) = −Σ a_k (1−p)^{k+1}/(k+1) that"
    f" N = {settings.rollouts} rollouts reach: MaxRL of order T ="
    f" {min(settings.orders)} to {max(settings.orders)}, power α ="
    f" {listed(settings.alphas)} (cut at {settings.rollouts - 1}) and pass@K of"
    f" K = {min(settings.ks)} to {max(settings.ks)}, by the weight"
    " w(0) = Σ a_k that they give to a prompt of pass rate 0. RL, with w = 1,"
    " is where all three start. Each task is one compiled program. Prompts of"
    f" the bandit share no parameters: {edge} of {len(bandit.methods)}"
    " objectives choose its largest rate. Learning rates are chosen for every"
    " objective (bandit, SGD:"
    f" {listed(settings.bandit_rates)}; digits, Adam:"
    f" {listed(settings.digit_rates)}) on {counted(len(digits.tuning), 'seed')}"
    f" by the validation split; {settings.steps} steps, mean and 95 % interval"
    f" of {len(digits.methods[0].runs)} other seeds on the test split."
  )


def _weight_at_zero(method, terms: int) -> float:
  """Σ a_k of the method's series; that of power α has `terms` terms."""
  kind = method.fields["estimator.name"]
  option = method.fields[_FAMILIES[kind][1]]
  objective = objectives.OBJECTIVES[kind](option)
  assert objective.coefficients is not None
  count = terms if kind == "power" else option
  return float(np.sum(objective.coefficients(count)))


def _lines(sweep, weight):
  """(family, methods by w(0)); the smallest order, RL, begins each family."""
  rl = _by_order(sweep)[0]
  for kind in _FAMILIES:
    members = [
      m
      for m in sweep.methods
      if m.fields["estimator.name"] == kind and m is not rl
    ]
    yield kind, sorted([rl, *members], key=weight)


def _draw(sweeps, weight, orders):
  drawing, panels = plotting.axes(columns=4, width=3.3, height=3.2)
  pairs = [(name, score) for name in sweeps for score in _SCORES]
  for ax, (name, score) in zip(panels, pairs, strict=True):
    for kind, methods in _lines(sweeps[name], weight):
      values = [sweeps[name].test(m, score) for m in methods]
      look = {"colour": plotting.COLOURS[kind], "label": _FAMILIES[kind][0]}
      plotting.mean_curve(ax, [*map(weight, methods)], values, **look)
    plotting.every_tick(ax, orders, base=2)
    ax.set(title=_TITLES[name], xlabel="w(0)", ylabel=f"test {score}")
  plotting.legend_below(drawing, panels[0])
  return drawing


def _by_order(sweep) -> list:
  methods = [m for m in sweep.methods if m.fields["estimator.order"]]
  return sorted(methods, key=lambda m: m.fields["estimator.order"])


def _claims(sweep) -> list[Claim]:
  rl, *_, largest = _by_order(sweep)
  return [
    larger(
      "family.order",
      "paper, section 4",
      "On digit strings, the largest order ends above RL, each at its best"
      " rate.",
      sweep.test(largest),
      sweep.test(rl),
    )
  ]


def _label(method) -> str:
  family, field = _FAMILIES[method.fields["estimator.name"]]
  return f"{family.split()[0]}, {SYMBOLS[field]} = {method.fields[field]}"


def _table(name: str, sweep, weight) -> Table:
  rows = [
    [
      _label(m),
      f"{weight(m):.2f}",
      rate_text(m.choice),
      *(sweep.test(m, score) for score in _SCORES),
    ]
    for m in sweep.methods
  ]
  return Table(
    f"{_TITLES[name]}: test split, mean ± half the 95 % interval over seeds.",
    ["objective", "w(0)", "rate", *_SCORES],
    rows,
  )
