"""Heteroscedastic noise: who spends gradient on which prompts."""

import numpy as np
from scipy import stats as scipy_stats

from experiments.figures import regression_looks
from experiments.reports.results import (
  Claim,
  Drawing,
  Result,
  Table,
  firm,
  in_words,
  larger,
  spread,
)
from experiments.runs import regression_runs
from experiments.runs.heteroscedastic_runs import (
  NUM,
  SIGMAS,
  config_of,
  gradient_spent,
)
from experiments.shell import output
from maxrl_jax import plotting, stats

_METHODS = (
  "exact ML",
  "MaxRL",
  "IWAE",
  "RLOO on l",
  "GRPO on l",
  "RLOO on −MSE",
  *SIGMAS,
)
_STEPS = {"quick": 2000, "full": 6000}
_SEEDS = {"quick": 5, "full": 10}
_RATES = {"quick": (), "full": (1e-3, 3e-3, 1e-2)}
_KINDS = {True: "x tells σ", False: "x does not tell σ"}
_EDGES = np.geomspace(0.1, 2.0, 11)  # Of the bins of noise levels.


def figure(preset: str, workdir) -> Result:
  """Scores by method, and gradient norm and weight against noise level."""
  runs = _runs(preset, workdir / "runs")
  early = _STEPS[preset] // 4
  spent = gradient_spent(early, _SEEDS[preset], workdir / "runs")
  caption = (
    "Linear signal, noise σ log-uniform from 0.1 to 2, told by x or not. Normal"
    " policy that learns mean and scale, under Gaussian noise of scale 0.1"
    f" unless the method says otherwise; N = {NUM}, Adam,"
    f" {regression_looks.rate_in_words('3e-3', _RATES[preset])},"
    f" {_STEPS[preset]} steps, {_SEEDS[preset]} seeds with 95 % intervals."
    " Above: NLL under policy and noise, over that of the best that x allows"
    " (a method that is shown σ may beat it); squared error of the policy's"
    f" mean. Below: policies after {early} steps of exact ML, x telling σ;"
    " median gradient norm of single prompts, and weight w(p) of ∇p, by noise"
    " level, each divided by its mean over prompts."
  )
  return Result(
    "Heteroscedastic noise: excess NLL, and where gradient is spent",
    [Drawing("heteroscedastic", _draw(runs, spent), caption)],
    _claims(runs, spent),
    _tables(runs),
  )


def _runs(preset: str, folder):
  """{(method, whether x tells σ): final scores by name, each [S]}."""
  runs = {}
  settings = [(label, kind) for kind in _KINDS for label in _METHODS]
  for label, kind in output.bar(settings, desc="heteroscedastic", unit="run"):
    found = regression_runs.train(
      config_of(label, kind, _STEPS[preset]),
      _SEEDS[preset],
      folder,
      f"heteroscedastic {label} {kind}",
      rates=_RATES[preset],
    )
    found = regression_runs.at_point(found, 0)
    runs[label, kind] = {
      name: values[:, -1]
      for name, values in found.items()
      if np.ndim(values) == 2
    }
  return runs


def _as_point(run) -> np.ndarray:
  """½ log 2πe MSE, less the reference's NLL."""
  reference = run["nll"] - run["excess_nll"]
  return np.log(2 * np.pi * np.e * run["mse"]) / 2 - reference


def _draw(runs, spent):
  drawing, axes = plotting.axes(columns=2, rows=2, width=5.2, height=3.3)
  _draw_scores(axes[0, 0], runs, "excess_nll")
  axes[0, 0].set_yscale("symlog", linthresh=0.1)
  axes[0, 0].set(
    ylabel="excess NLL, nats",
    title="after training, test split",
    ylim=(-1.2, 100),
  )
  axes[0, 0].legend(loc="upper left")
  _draw_scores(axes[0, 1], runs, "mse_clean")
  axes[0, 1].set(
    yscale="log",
    ylabel="squared error to clean signal",
    ylim=(3e-5, 5e-2),
    title="after training, test split",
  )
  sigma, norms, weights = spent
  _draw_by_noise(axes[1, 0], sigma, norms, "gradient norm")
  _draw_by_noise(axes[1, 1], sigma, weights, "weight w(p)")
  return drawing


def _draw_scores(ax, runs, name: str) -> None:
  places = np.arange(len(_METHODS))
  for shift, (kind, words) in zip((-0.15, 0.15), _KINDS.items(), strict=False):
    values = np.stack([runs[m, kind][name] for m in _METHODS], 1)
    mean, low, high = stats.mean_interval(values)
    ax.errorbar(
      places + shift,
      mean,
      yerr=np.maximum([mean - low, high - mean], 0),
      fmt="o",
      ms=4,
      capsize=2,
      color="#332288" if kind else "#882255",
      label=words,
    )
  names = [label.replace(" ", "\n") for label in _METHODS]
  ax.set_xticks(places, names, fontsize=8)


def _draw_by_noise(ax, sigma, values, what: str) -> None:
  which = np.digitize(sigma, _EDGES[1:-1])
  centres = np.sqrt(_EDGES[1:] * _EDGES[:-1])
  for label, of_seed in values.items():
    medians = [np.median(of_seed[:, which == b], 1) for b in range(10)]
    medians = np.stack(medians, 1) / of_seed.mean(1, keepdims=True)
    plotting.interval_curve(
      ax,
      centres,
      stats.mean_interval(medians),
      colour=regression_looks.COLOURS[label],
      label=label,
    )
  ax.set(
    yscale="log",
    xlabel="noise level σ of the prompt",
    ylabel=f"{what} / mean",
    title=f"{what} by noise level",
  )
  plotting.every_tick(ax, (0.1, 0.3, 1, 2))
  ax.legend(loc="best")


def _claims(runs, spent) -> list[Claim]:
  gap = stats.difference_interval(
    runs["MaxRL", True]["excess_nll"], runs["exact ML", True]["excess_nll"]
  )
  sigma, norms, _ = spent
  return [
    Claim(
      "heteroscedastic.close",
      "own",
      "Where x tells σ, MaxRL of order N − 1 is within 0.1 nats of exact ML.",
      f"difference {in_words(gap)}",
      "95 % interval below 0.1",
      bool(firm(gap).high <= 0.1),
    ),
    larger(
      "heteroscedastic.rewards",
      "own",
      "Where x tells σ, RLOO on −MSE, which weighs all noise alike, ends with a"
      " larger squared error to the clean signal than MaxRL.",
      runs["RLOO on −MSE", True]["mse_clean"],
      runs["MaxRL", True]["mse_clean"],
      digits=4,
    ),
    _where(sigma, norms),
  ]


def _where(sigma, norms) -> Claim:
  """Whether norms [S, M] of a method rise or fall with σ [M]."""
  ranks = {
    label: stats.mean_interval(
      np.array([scipy_stats.spearmanr(sigma, n).statistic for n in of_seed])
    )
    for label, of_seed in norms.items()
  }
  return Claim(
    "heteroscedastic.where",
    "own",
    "RLOO on −MSE spends more gradient on noisier prompts, exact ML and MaxRL"
    " on quieter ones.",
    "rank correlation of norm and σ: "
    + ", ".join(f"{label} {in_words(r, '.2f')}" for label, r in ranks.items()),
    "95 % interval above 0 for RLOO on −MSE, below 0 for exact ML and MaxRL",
    bool(
      firm(ranks["RLOO on −MSE"]).low > 0
      and firm(ranks["exact ML"]).high < 0
      and firm(ranks["MaxRL"]).high < 0
    ),
  )


def _tables(runs) -> list[Table]:
  return [
    _table(runs, "excess_nll", "Excess NLL over the reference, nats."),
    _table(
      runs,
      _as_point,
      "The same of the policy's mean with normal noise"
      " of the one σ that suits it best in hindsight: a score that asks for"
      " no width.",
    ),
    _table(
      runs,
      "mse_clean",
      "Squared error of the policy's mean to the clean signal.",
      4,
    ),
  ]


def _table(runs, score, caption: str, digits: int = 3) -> Table:
  """A row a method; `score` is a metric's name, or a function of the run."""
  of = score if callable(score) else lambda run: run[score]
  rows = [
    [label, *(spread(of(runs[label, kind]), digits) for kind in _KINDS)]
    for label in _METHODS
  ]
  return Table(caption, ["method", *_KINDS.values()], rows)
