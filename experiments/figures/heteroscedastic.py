"""Heteroscedastic noise: which prompts get the gradient."""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats as scipy_stats

from experiments.figures import regression_methods as methods
from experiments.figures import set_steps
from experiments.reports.results import (
  Claim,
  Drawing,
  Result,
  Table,
  bounded,
  in_words,
  larger,
  mean_plus_minus,
)
from maxrl_jax import evaluation, objectives, plotting, stats
from maxrl_jax.config import default
from maxrl_jax.learning import rollouts
from maxrl_jax.learning.build_loss import make_loss
from maxrl_jax.runs import dataset, study
from maxrl_jax.runs.measure import Measure

_FIXED = ("exact ML", "MaxRL", "IWAE", "RLOO on l", "GRPO on l", "RLOO on −MSE")
# Noise models of the studies in which MaxRL does not have a fixed σ.
_SIGMAS = {
  "learned": {"learned": "input", "scale": 0.5, "smallest_scale": 0.1},
  "known": {"per_prompt": True, "smallest_scale": 0.1},
}
_LABELS = (*_FIXED, *(f"MaxRL, σ {name}" for name in _SIGMAS))
_KINDS = {True: "x reveals σ", False: "x does not reveal σ"}
_GRADIENTS = ("exact ML", "MaxRL", "RLOO on l", "RLOO on −MSE")
_EDGES = np.geomspace(0.1, 2.0, 11)  # Of the bins of noise levels.


class Settings(NamedTuple):
  """Choices of the figure; without rates, every method has the config's."""

  rollouts: int = 64
  rates: tuple[float, ...] = ()
  steps: int = 2000
  seeds: int = 5


PRESETS = {
  "quick": Settings(),
  "full": Settings(rates=(1e-3, 3e-3, 1e-2), steps=6000, seeds=10),
}


def _config(num: int, steps: int, evaluations: int = 4):
  config = default(task="heteroscedastic")
  config.task.dim = 4
  config.likelihood.scale = 0.1
  config.policy.name, config.policy.hidden = "normal", (64,)
  config.rollouts, config.batch_size = num, 64
  set_steps(config, steps, evaluations)
  config.optimizer.name, config.optimizer.learning_rate = "adam", 3e-3
  return config


def studies(settings: Settings, runs) -> dict[str, study.Study]:
  """Methods at a fixed σ, MaxRL at others, and exact ML early in training."""
  del runs
  num, seeds = settings.rollouts, methods.seeds(settings)
  kinds, measure = {"task.learnable": list(_KINDS)}, Measure(ks=(1,))
  config = _config(num, settings.steps)
  grid = methods.methods_axis(_FIXED) | kinds
  every = {"methods": study.study(config, grid, seeds, measure)}
  for name, noise in _SIGMAS.items():
    config = _config(num, settings.steps)
    config.likelihood.update(noise)
    every[name] = study.study(config, kinds, seeds, measure)
  config = methods.with_method(_config(num, settings.steps // 4, 1), "exact ML")
  measure = Measure(ks=(1,), probe=gradients, options=(("num", num),))
  return every | {"gradients": study.study(config, None, seeds, measure)}


def gradients(trainer, num: int):
  """Gradient norm of single prompts under each method, log p and σ, [M]."""
  prompts = jax.tree.map(lambda x: x[:500], trainer.task.splits["test"])
  keys = jax.random.split(jax.random.key(1), 500)
  losses = [
    make_loss(
      methods.with_method(_config(num, 4), label), trainer.task, trainer.policy
    )
    for label in _GRADIENTS
  ]

  def probe(params) -> dict[str, jax.Array]:
    norms = [
      evaluation.gradient_norms(loss, params, keys, prompts) for loss in losses
    ]
    log_p = rollouts.log_pass_rates(
      trainer.policy, params, prompts, trainer.task
    )
    sigma = jnp.asarray(prompts.targets.noise_scale[:, 0])
    return {"norms": jnp.stack(norms), "log_p": log_p[:, 0], "sigma": sigma}

  return probe


def figure(settings: Settings, runs) -> Result:
  """Scores by method, and gradient norm and weight against noise level."""
  every = studies(settings, runs)
  early = _gradients(study.run(every.pop("gradients"), runs), settings)
  data: dict = {}
  for name, what in every.items():
    labels = _FIXED if name == "methods" else (f"MaxRL, σ {name}",)
    keys = itertools.product(labels, _KINDS)
    trained = methods.at_best_rates(what, keys, settings.rates, runs)
    data |= {key: _scores(run) for key, run in trained.items()}
  config = _config(settings.rollouts, settings.steps)
  caption = (
    "Linear signal, noise σ log-uniform from 0.1 to 2, which x reveals or not."
    " Normal policy that learns mean and scale, under Gaussian noise of scale"
    f" 0.1 unless stated otherwise; N = {settings.rollouts}, Adam,"
    f" {methods.rate_in_words(config, settings.rates)}, {settings.steps} steps,"
    f" {settings.seeds} seeds with 95 % intervals. Above: NLL under policy and"
    " noise, minus that of the best that x allows (a method with access to σ"
    " may beat it); squared error of the policy's mean. Below: policies after"
    f" {settings.steps // 4} steps of exact ML, where x reveals σ; median"
    " gradient norm of single prompts, and weight w(p) of ∇p, by noise level,"
    " each divided by its mean over prompts."
  )
  return Result(
    "Heteroscedastic noise: excess NLL, and where gradient is spent",
    [Drawing("heteroscedastic", _draw(data, early), caption)],
    _claims(data, early),
    [
      _table(
        data,
        "excess_nll",
        "Excess NLL over the reference, nats; here and below, mean ± half the"
        " 95 % interval over seeds.",
      ),
      _table(
        data,
        "of_mean",
        "The same of the policy's mean with normal noise of the one σ that fits"
        " it best in hindsight: a score without the policy's width.",
      ),
      _table(data, "mse_clean", "Squared error to the clean signal.", 4),
    ],
  )


def _gradients(data, settings: Settings):
  """σ [M], norms and w(p) [S, M] of exact ML's policies early in training."""
  norms = dataset.final(data, "probe_norms")
  p = np.exp(np.float64(dataset.final(data, "probe_log_p")))
  weights = {
    "exact ML": 1 / p,
    "MaxRL": np.asarray(objectives.maxrl(settings.rollouts - 1).weight(p)),
    "RLOO on l": np.ones_like(p),
  }
  by_label = {label: norms[:, i] for i, label in enumerate(_GRADIENTS)}
  return dataset.final(data, "probe_sigma")[0], by_label, weights


def _scores(run) -> dict[str, np.ndarray]:
  """Scores of a point after training, each [S]."""
  nll, excess, mse, clean = (
    dataset.final(run, f"test_{name}")
    for name in ("nll", "excess_nll", "mse", "mse_clean")
  )
  # ½ log 2πe MSE, less the reference's NLL.
  of_mean = np.log(2 * np.pi * np.e * mse) / 2 - (nll - excess)
  return {"excess_nll": excess, "of_mean": of_mean, "mse_clean": clean}


def _draw(runs, spent):
  drawing, axes = plotting.axes(columns=2, rows=2, width=5.2, height=3.3)
  _draw_scores(axes[0, 0], runs, "excess_nll")
  axes[0, 0].set_yscale("symlog", linthresh=0.1)
  axes[0, 0].set(
    ylabel="excess NLL, nats",
    title="after training, test split",
    ylim=(-1.2, 100),
  )
  axes[0, 0].legend(loc="lower left")
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
  places = np.arange(len(_LABELS))
  for shift, (kind, words) in zip((-0.15, 0.15), _KINDS.items(), strict=False):
    values = np.stack([runs[m, kind][name] for m in _LABELS], 1)
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
  names = [label.replace(" ", "\n") for label in _LABELS]
  ax.set_xticks(places, names, fontsize=8)


def _draw_by_noise(ax, sigma, values, what: str) -> None:
  which = np.digitize(sigma, _EDGES[1:-1])
  centres = np.sqrt(_EDGES[1:] * _EDGES[:-1])
  for label, of_seed in values.items():
    mean = of_seed.mean(1)
    medians = [np.median(of_seed[:, which == b], 1) / mean for b in range(10)]
    look = {"colour": methods.COLOURS[label], "label": label}
    plotting.mean_curve(ax, centres, medians, **look)
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
    bounded(
      "heteroscedastic.close",
      "own",
      "Where x reveals σ, MaxRL of order N − 1 is within 0.1 nats of exact ML.",
      gap,
      below=0.1,
    ),
    larger(
      "heteroscedastic.rewards",
      "own",
      "Where x reveals σ, RLOO on −MSE, which gives all noise the same"
      " weight, ends with a larger squared error to the clean signal than"
      " MaxRL.",
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
  words = [f"{label} {in_words(rank, '.2f')}" for label, rank in ranks.items()]
  rank, low, high = ranks["RLOO on −MSE"]
  return bounded(
    "heteroscedastic.where",
    "own",
    "RLOO on −MSE spends more gradient on noisier prompts, exact ML and MaxRL"
    " on quieter ones.",
    ranks | {"RLOO on −MSE": stats.Interval(-rank, -high, -low)},
    below=0,
    measured=f"rank correlation of norm and σ: {', '.join(words)}",
  )._replace(
    threshold="95 % interval above 0 for RLOO on −MSE, below 0 for the others"
  )


def _table(runs, name: str, caption: str, digits: int = 3) -> Table:
  """One row per method."""
  rows = []
  for label in _LABELS:
    scores = [runs[label, kind][name] for kind in _KINDS]
    rows.append([label, *(mean_plus_minus(x, digits) for x in scores)])
  return Table(caption, ["method", *_KINDS.values()], rows)
