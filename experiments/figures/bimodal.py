"""Bimodal regression: how each order fits targets with two modes."""

import itertools
from typing import NamedTuple

import numpy as np
import xarray as xr
from scipy import stats as scipy_stats

from configs import bimodal
from experiments.figures import jensen, set_steps
from experiments.figures import regression_methods as methods
from experiments.reports.results import (
  Claim,
  Drawing,
  Result,
  Table,
  bounded,
  in_words,
  nan_if_zero_width,
)
from maxrl_jax import plotting, stats
from maxrl_jax.config import make_task
from maxrl_jax.runs import dataset, study
from maxrl_jax.runs.measure import Measure

_ALWAYS = ("exact ML", "GRPO on l", "RLOO on −MSE")  # Drawn, or in claims.


class Settings(NamedTuple):
  """Choices of the figure; without rates, every method has the config's."""

  orders: tuple[int, ...] = (1, 2, 4, 8, 16, 31)
  others: tuple[str, ...] = ("MSE", "GRPO on −MSE", "TailRL", "IWAE", "VIMCO")
  rollouts: int = 32
  rates: tuple[float, ...] = ()
  steps: int = 3000
  seeds: int = 5


_REINFORCE = ("REINFORCE on l", "REINFORCE on −MSE")
PRESETS = {
  "quick": Settings(),
  "full": Settings(
    others=(*Settings().others, *_REINFORCE),
    rates=(3e-4, 1e-3, 3e-3, 1e-2),
    steps=6000,
    seeds=10,
  ),
}


def _config(settings: Settings):
  config = bimodal.get_config()
  set_steps(config, settings.steps, evaluations=10)
  config.rollouts = settings.rollouts
  return config


def studies(settings: Settings, runs) -> dict[str, study.Study]:
  """MaxRL of every order, and the other methods."""
  del runs
  others = methods.methods_axis([*_ALWAYS, *settings.others])[methods.FIELDS]
  rows = [(*methods.METHODS["MaxRL"], t) for t in sorted(settings.orders)]
  rows += [(*row, None) for row in others]
  grid = {(*methods.FIELDS, "estimator.order"): rows}
  measure = Measure(ks=(1,), probe=methods.two_modes)
  seeds = methods.seeds(settings)
  return {"methods": study.study(_config(settings), grid, seeds, measure)}


def _all_runs(settings: Settings, runs) -> dict[str, xr.Dataset]:
  """Runs by label: 'T = 1' …, 'exact ML' and the other methods."""
  what = studies(settings, runs)["methods"]
  orders = [f"T = {order}" for order in sorted(settings.orders)]
  labels = [*orders, *_ALWAYS, *settings.others]
  return methods.at_best_rates(what, labels, settings.rates, runs)


def colours(settings: Settings) -> dict[str, str]:
  """Colours by label, of the smallest and the largest order too."""
  low, high = methods.ends(settings)
  return methods.COLOURS | {
    low: methods.COLOURS["RLOO on l"],
    high: methods.COLOURS["MaxRL"],
  }


def figure(settings: Settings, runs) -> Result:
  """NLL, E[l] and entropy against T; predictive densities at three inputs."""
  data, config = _all_runs(settings, runs), _config(settings)
  nll = {k: dataset.final(run, "test_nll") for k, run in data.items()}
  mass = {k: dataset.final(run, "probe_minor_mass") for k, run in data.items()}
  caption = (
    f"y = ± f(x) + noise, P(+) = {config.task.positive_probability:g}, σ ="
    f" {config.task.noise:g}; a {config.policy.bins}-bin categorical policy,"
    f" N = {settings.rollouts} rollouts, Adam,"
    f" {methods.rate_in_words(config, settings.rates)}, {settings.steps} steps,"
    f" {settings.seeds} seeds with 95 % intervals. Above: scores on the test"
    " split by order; the dashed line is exact maximum likelihood. Below: the"
    " predictive density (policy and noise) of one seed at three inputs, the"
    " truth in grey."
  )
  fewest, most = methods.ends(settings)
  averaged = {x: data[x] for x in (most, fewest, "RLOO on −MSE")}
  gaps = {x: jensen.gaps_of(r)[:, -1].mean(-1) for x, r in averaged.items()}
  return Result(
    "Bimodal regression: order T against exact maximum likelihood",
    [
      Drawing("bimodal", _draw(data, settings), caption),
      jensen.drawing(averaged, colours(settings)),
    ],
    [*_claims(nll, mass, settings), jensen.claim(gaps, most)],
    [_table(data)],
  )


def _draw(runs, settings):
  drawing, axes = plotting.axes(columns=3, rows=2, width=3.7, height=2.9)
  panels = (
    ("test_nll", "NLL, nats"),
    ("test_pass_rate", "mean likelihood E[l]"),
    ("test_entropy", "policy entropy, nats"),
  )
  for ax, (name, label) in zip(axes[0], panels, strict=True):
    _by_order(ax, runs, settings, name)
    ax.set(title=label, xlabel="order T")
  axes[0, 0].legend(loc="center right")
  for i, ax in enumerate(axes[1]):
    _densities(ax, runs, settings, i)
  axes[1, 0].set_ylabel("predictive density")
  plotting.legend_below(drawing, axes[1, 0])
  return drawing


def _by_order(ax, runs, settings, name: str) -> None:
  orders = sorted(settings.orders)
  finals = [dataset.final(runs[f"T = {order}"], name) for order in orders]
  look = {"colour": plotting.COLOURS["maxrl"], "label": "MaxRL of order T"}
  plotting.mean_curve(ax, orders, finals, **look)
  exact = dataset.final(runs["exact ML"], name).mean()
  ax.axhline(exact, color="black", ls="--", lw=1.2, label="exact ML")
  for label in ("GRPO on l", "RLOO on −MSE"):
    value = dataset.final(runs[label], name).mean()
    colour = methods.COLOURS[label]
    ax.axhline(
      value, color=colour, ls=plotting.dashes(colour), lw=1.2, label=label
    )
  plotting.every_tick(ax, orders, base=2)


def _densities(ax, runs, settings, row: int) -> None:
  """Policy and noise together, at one test input."""
  config = _config(settings)
  prompts = make_task(config).splits["test"]
  shown = methods.shown_rows(prompts)[row]
  p, sigma = config.task.positive_probability, config.task.noise
  f = float(prompts.targets.clean[shown, 0]) / (2 * p - 1)
  low, high = config.policy.low, config.policy.high
  y = np.linspace(low, high, 400)
  values = np.linspace(low, high, config.policy.bins)

  def noise(residuals):
    return scipy_stats.norm.pdf(residuals, 0, sigma)

  truth = p * noise(y - f) + (1 - p) * noise(y + f)
  ax.fill_between(y, truth, color="0.85", label="truth")
  fewest, most = methods.ends(settings)
  for label in dict.fromkeys(("exact ML", most, fewest, "GRPO on l")):
    policy = dataset.final(runs[label], "probe_policies")[0, row]
    density = noise(y[:, None] - values) @ policy
    look = {"colour": colours(settings)[label], "label": label}
    plotting.curve(ax, y, density, linewidth=1.3, **look)
  ax.set(
    xlabel="y", title=f"input {row + 1}: modes at ± {f:.2f}", ylim=(0, 1.1)
  )


def _claims(nll, mass, settings) -> list[Claim]:
  """From NLL and mass on the rarer side by label, [S] each."""
  fewest, most = methods.ends(settings)
  orders = [nll[f"T = {order}"] for order in sorted(settings.orders)]
  steps = [
    stats.difference_interval(a, b) for a, b in itertools.pairwise(orders)
  ]
  gap = stats.difference_interval(nll[most], nll["exact ML"])
  return [
    Claim(
      "bimodal.monotone",
      "own, from equation 7",
      f"NLL falls as the order grows, from {fewest} to {most}.",
      ", ".join(f"{x.mean():.3f}" for x in orders),
      "no step up by more than its 95 % interval, and the largest order below"
      " the smallest",
      bool(
        all(nan_if_zero_width(s).high > 0 for s in steps)
        and orders[-1].mean() < orders[0].mean()
      ),
    ),
    bounded(
      "bimodal.exact",
      "own, from equation 7",
      f"At {most} with N = {settings.rollouts} rollouts, NLL is within 0.05"
      " nats of exact maximum likelihood.",
      gap,
      below=0.05,
      measured=f"difference {in_words(gap, '.4f')}",
    ),
    _collapse(mass, fewest, most),
  ]


def _collapse(mass, fewest: str, most: str) -> Claim:
  means = {k: float(mass[k].mean()) for k in (fewest, "GRPO on l", most)}
  smallest = "RL (T = 1)" if fewest == "T = 1" else fewest
  return Claim(
    "bimodal.collapse",
    "own",
    f"{smallest} and GRPO drop the rarer mode (chance 0.3); {most} keeps it.",
    "policy mass on its side: "
    + ", ".join(f"{label} {value:.3f}" for label, value in means.items()),
    f"below 0.03 for the first two, 0.25 to 0.35 for {most}",
    means[fewest] < 0.03
    and means["GRPO on l"] < 0.03
    and 0.25 <= means[most] <= 0.35,
  )


def _table(runs) -> Table:
  columns = ("nll", "excess_nll", "pass_rate", "entropy", "mse", "pit_distance")
  names = ["NLL", "excess NLL", "E[l]", "entropy", "MSE", "PIT distance"]
  rows = [
    [
      label + " (RLOO on l)" * (label == "T = 1"),
      f"{run['optimizer_learning_rate'].values[0]:g}",
      *(dataset.final(run, f"test_{name}") for name in columns),
    ]
    for label, run in runs.items()
  ]
  return Table(
    "Test split after training: mean ± half the 95 % interval over seeds.",
    ["method", "learning rate", *names],
    rows,
  )
