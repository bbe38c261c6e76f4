"""Mazes: when MaxRL helps, by the pass rates that RL starts from."""

import numpy as np

from experiments.figures import maze_runs, maze_settings
from experiments.figures import maze_summaries as summaries
from experiments.figures.maze_settings import KS, Settings, look
from experiments.reports.results import Claim, Drawing, Result, Table, larger
from maxrl_jax import plotting
from maxrl_jax.runs.study import Study

PRESETS = maze_settings.PRESETS
_SHOWN = (1, 32, 256)  # k of pass@k.


def studies(settings: Settings, runs) -> dict[str, Study]:
  """The methods from every warm-up, at the rates chosen for `warmup`."""
  known = maze_runs.rates_of(settings, runs, settings.compared)
  few = settings._replace(seeds=settings.when_seeds)
  return {
    f"warm-up of {steps}": maze_runs.study_of(
      few._replace(warmup=steps),
      runs,
      settings.compared,
      settings.when_steps,
      known,
    )
    for steps in settings.warmups
  }


def figure(settings: Settings, runs) -> Result:
  """Pass rates after each warm-up, and pass@k after RL against their mean."""
  rates = {
    steps: maze_runs.at_warm_up(
      settings._replace(warmup=steps), runs, maze_runs.pass_rates
    )["pass_rates"]
    for steps in settings.warmups
  }
  trained = {
    steps: maze_runs.train(what, runs, settings.compared)
    for steps, what in zip(
      settings.warmups, studies(settings, runs).values(), strict=True
    )
  }
  few = settings._replace(seeds=settings.when_seeds)
  caption = (
    f"Left: pass rates of {settings.mazes} validation mazes after warm-ups of"
    f" different length, {KS[-1]} rollouts each; the vertical line is 1/N."
    f" Others: held-out pass@k after {settings.when_steps} steps of RL against"
    " the mean pass rate after the warm-up. Learning rates are those chosen"
    f" after {settings.warmup} steps of warm-up."
    f" {summaries.describe(few, start='one of these warm-ups')}"
  )
  return Result(
    "Mazes: when does MaxRL help",
    [Drawing("maze_when", _draw(settings, rates, trained), caption)],
    _claims(settings, rates, trained),
    [_table(settings, rates, trained)],
  )


def _starts(rates) -> list[float]:
  return [float(np.mean(x)) for x in rates.values()]


def _draw(settings: Settings, rates, trained):
  drawing, axes = plotting.axes(columns=4, width=3.1, height=3.2)
  _draw_rates(axes[0], settings, rates)
  starts = _starts(rates)
  for ax, k in zip(axes[1:], _SHOWN, strict=True):
    for label in settings.compared:
      finals = np.stack(
        [summaries.final(of[label], k) for of in trained.values()], -1
      )
      style = look(label) | {"marker": "o", "markersize": 3}
      plotting.seed_curves(ax, starts, finals, **style)
    before = [summaries.at_start(of, k) for of in trained.values()]
    plotting.curve(
      ax, starts, before, colour="#666666", label="before RL", linestyle="--"
    )
    plotting.every_tick(ax, (0.03, 0.1, 0.3))
    ax.set(title=f"pass@{k}", xlabel="mean pass rate before RL")
    ax.set_ylim(-0.02, 1.02)
  axes[1].set_ylabel("held-out mazes, after RL")
  plotting.legend_below(drawing, axes[1])
  return drawing


def _draw_rates(ax, settings: Settings, rates) -> None:
  """Shares of mazes by pass rate, in bins of equal width on its logarithm."""
  bins = np.append(0, np.geomspace(1 / KS[-1], 1, 9) * (1 - 1e-9))
  places = np.arange(len(bins))
  for steps, p in rates.items():
    shares = np.histogram(p, np.append(bins, 1.01))[0] / len(p)
    look = plotting.by_rank(steps, [*rates]) | {"label": f"{steps} steps"}
    plotting.marked_curve(ax, places, shares, **look)
  edges = np.log(np.maximum(bins[1:], 1e-9))
  at = 1 + np.interp(
    np.log(1 / settings.rollouts), edges, np.arange(len(edges))
  )
  ax.axvline(at, color="#666666", linewidth=0.8)
  names = ["0", *(f"{x:.2g}" for x in bins[1:])]
  ax.set_xticks(places[::2], names[::2])
  ax.set(xlabel="pass rate, from", ylabel="share of mazes", title="before RL")
  ax.set_ylim(bottom=0)
  ax.legend(title="warm-up")


def _claims(settings: Settings, rates, trained) -> list[Claim]:
  """Compares leads after the weakest and the strongest warm-up."""
  p = rates.get(settings.warmup)
  claims = []
  if p is not None:
    below = np.where(np.isnan(p), np.nan, p < 1 / settings.rollouts)
    share = float(np.mean(below))
    claims.append(
      Claim(
        "mazes.when.hard",
        "section 5",
        "Before RL most mazes are solved less than once in N rollouts"
        f" (warm-up of {settings.warmup} steps, N = {settings.rollouts}).",
        f"{share:.0%} of mazes",
        "> 50 %",
        share > 0.5,
      )
    )
  weak, strong = min(rates), max(rates)
  for other in settings.compared[1:]:
    for k in (1, 256):
      leads = {
        steps: summaries.final(trained[steps]["MaxRL"], k)
        - summaries.final(trained[steps][other], k)
        for steps in (weak, strong)
      }
      claims.append(
        larger(
          f"mazes.when.pass_at_{k}.{summaries.plain(other)}",
          "own",
          f"MaxRL's lead over {other} in pass@{k} is larger after the weakest"
          " warm-up than after the strongest.",
          leads[weak],
          leads[strong],
        )
      )
  return claims


def _table(settings: Settings, rates, trained) -> Table:
  rows = []
  for steps, start in zip(rates, _starts(rates), strict=True):
    p = rates[steps]
    rows += [
      [
        steps,
        f"{start:.3f}",
        f"{np.mean(p < 1 / settings.rollouts):.0%}",
        label,
        *summaries.finals(run, _SHOWN),
      ]
      for label, run in trained[steps].items()
    ]
  return Table(
    "Before RL: steps of warm-up, mean pass rate, mazes solved less than once"
    " in N rollouts. After RL: mean ± half the 95 % interval over seeds.",
    ["warm-up", "pass rate", "below 1/N", "method"]
    + [f"pass@{k}" for k in _SHOWN],
    rows,
  )
