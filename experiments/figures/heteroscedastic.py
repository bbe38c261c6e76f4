"""Heteroscedastic noise: who spends gradient on which prompts."""

import jax
import numpy as np
from ml_collections import config_dict
from scipy import stats as scipy_stats
from tqdm import tqdm

from configs import default
from experiments import regression_runs
from experiments.results import Claim, Drawing, Result, Table
from maxrl_jax import (
  configuration,
  evaluation,
  objectives,
  plotting,
  rollouts,
  stats,
  training,
)
from maxrl_jax.tasks import Prompts

_LEARNED = "MaxRL, σ learned"  # The noise model's own, by input.
_METHODS = (
  "exact ML",
  "MaxRL",
  "IWAE",
  "RLOO on l",
  "GRPO on l",
  "RLOO on −MSE",
  _LEARNED,
)
_MEASURED = ("exact ML", "MaxRL", "RLOO on l", "RLOO on −MSE")
_NUM = 64
_STEPS = {"quick": 2000, "full": 8000}
_SEEDS = {"quick": 5, "full": 10}
_KINDS = {True: "x tells σ", False: "x does not tell σ"}


def figure(preset: str, workdir) -> Result:
  """Excess NLL by method, and gradient norm against noise level."""
  excess, errors = {}, {}
  settings = [(label, kind) for kind in _KINDS for label in _METHODS]
  for label, kind in tqdm(settings, desc="heteroscedastic", unit="run"):
    run = regression_runs.train(
      _config(label, kind, _STEPS[preset]),
      _SEEDS[preset],
      workdir / "runs",
      f"heteroscedastic {label} {kind}",
    )
    excess[label, kind] = run["excess_nll"][:, -1]
    errors[label, kind] = run["mse_clean"][:, -1]
  sigma, norms, weights = _one_policy(_STEPS[preset] // 4)
  drawing, (left, middle, right) = plotting.axes(
    columns=3, width=4.4, height=3.5
  )
  _draw_excess(left, excess)
  _draw_by_noise(middle, sigma, norms, "gradient norm")
  _draw_by_noise(right, sigma, weights, "weight w(p)")
  caption = (
    "Linear signal, noise σ log-uniform from 0.1 to 2, told by x or not. Normal"
    " policy that learns mean and scale, under Gaussian noise of scale 0.1;"
    f" N = {_NUM}, Adam 3e-3, {_STEPS[preset]} steps, {_SEEDS[preset]} seeds"
    " with 95 % intervals. NLL is scored with that narrow noise, so that what"
    " a policy does not spread over is expensive; the table has squared errors"
    f" beside it. Middle and right: a policy after {_STEPS[preset] // 4} steps"
    " of exact ML; median gradient norm, and weight w(p) of ∇p, of single"
    " prompts by noise level, each divided by its mean."
  )
  return Result(
    "Heteroscedastic noise: excess NLL, and where gradient is spent",
    [Drawing("heteroscedastic", drawing, caption)],
    _claims(excess, errors, sigma, norms),
    [
      _table(excess, "Excess NLL over the reference, nats."),
      _table(errors, "Squared error of the policy's mean to the clean signal."),
    ],
  )


def _config(label: str, learnable: bool, steps: int):
  config = default.get_config()
  config.task.name, config.task.learnable = "heteroscedastic", learnable
  config.task.dim = 4
  config.likelihood.scale = 0.1
  config.policy.name, config.policy.hidden = "normal", (64,)
  config.rollouts, config.batch_size = _NUM, 64
  config.steps, config.log_every = steps, steps // 4
  config.eval_every = config.log_every
  config.optimizer.name, config.optimizer.learning_rate = "adam", 3e-3
  if label == _LEARNED:
    config.likelihood.learned = "input"
    config.likelihood.scale, config.likelihood.smallest_scale = 0.5, 0.1
    label = "MaxRL"
  return regression_runs.with_method(config, label)


def _one_policy(steps: int):
  """σ [M], {label: gradient norm [M]}, {label: w(p) [M]} of test prompts."""
  config = config_dict.FrozenConfigDict(_config("exact ML", True, steps))
  made = training.make_train(config)
  *_, (_, states, _) = training.chunks(made, config)
  params = jax.tree.map(lambda x: x[0], states.params)
  prompts = jax.tree.map(lambda x: x[:1000], made.task.splits["test"])
  keys = jax.random.split(jax.random.key(1), 1000)
  norms = {}
  for label in _MEASURED:
    loss = configuration.make_loss(
      _config(label, True, steps), made.task, made.policy
    )
    norms[label] = np.asarray(_gradient_norms(loss, params, keys, prompts))
  log_p = rollouts.log_pass_rates(made.policy, params, prompts, made.task)
  p = np.exp(np.float64(log_p[:, 0]))
  weights = {
    "exact ML": 1 / p,
    "MaxRL": np.asarray(objectives.maxrl(_NUM - 1).weight(p)),
    "RLOO on l": np.ones_like(p),
  }
  return np.asarray(prompts.targets.noise_scale)[:, 0], norms, weights


def _gradient_norms(loss, params, keys, prompts: Prompts):
  def value(params, key, prompts):
    return loss(params, key, prompts)[0]

  @jax.jit
  def run(params):
    return evaluation.gradient_norms(value, params, keys, prompts)

  return run(params)


def _draw_excess(ax, excess) -> None:
  places = np.arange(len(_METHODS))
  for shift, (kind, name) in zip((-0.15, 0.15), _KINDS.items(), strict=False):
    values = [stats.mean_interval(excess[m, kind]) for m in _METHODS]
    mean = np.array([v.mean for v in values])
    spread = [mean - [v.low for v in values], [v.high for v in values] - mean]
    colour = "#332288" if kind else "#999933"
    ax.errorbar(
      places + shift,
      mean,
      yerr=np.maximum(np.array(spread), 0),
      fmt="o",
      ms=4,
      capsize=2,
      color=colour,
      label=name,
    )
  names = [m.replace(" ", "\n", 1) for m in _METHODS]
  ax.set_xticks(places, names, fontsize=7.5)
  ax.set_yscale("symlog", linthresh=0.1)
  ax.set(
    ylabel="excess NLL, nats",
    title="after training, test split",
    ylim=(-0.02, 100),
  )
  ax.legend(loc="upper left")


def _draw_by_noise(ax, sigma, norms, what: str) -> None:
  edges = np.geomspace(0.1, 2.0, 11)
  which = np.digitize(sigma, edges[1:-1])
  centres = np.sqrt(edges[1:] * edges[:-1])
  for label, values in norms.items():
    medians = [np.median(values[which == b]) for b in range(10)]
    plotting.curve(
      ax,
      centres,
      np.array(medians) / values.mean(),
      colour=regression_runs.COLOURS[label],
      label=label,
      linestyle="--" if label == "exact ML" else "-",
      marker="o",
      markersize=3,
    )
  ax.set(
    xscale="log",
    yscale="log",
    xlabel="noise level σ of the prompt",
    ylabel=f"{what} / mean",
    title=f"{what} by noise level",
  )
  ax.set_xticks([0.1, 0.3, 1, 2], ["0.1", "0.3", "1", "2"])
  ax.minorticks_off()
  ax.legend(loc="best")


def _claims(excess, errors, sigma, norms) -> list[Claim]:
  gap = stats.difference_interval(
    excess["MaxRL", True], excess["exact ML", True]
  )
  below = stats.difference_interval(
    errors["RLOO on −MSE", True], errors["MaxRL", True]
  )
  rank = {
    label: scipy_stats.spearmanr(sigma, values).statistic
    for label, values in norms.items()
  }
  return [
    Claim(
      "heteroscedastic.close",
      "own",
      "Where x tells σ, MaxRL of order N − 1 is within 0.1 nats of exact ML.",
      f"difference {gap.mean:.3f} [{gap.low:.3f}, {gap.high:.3f}]",
      "95 % interval below 0.1",
      bool(gap.high <= 0.1),
    ),
    Claim(
      "heteroscedastic.rewards",
      "own",
      "Where x tells σ, RLOO on −MSE, which weighs all noise alike, ends with a"
      " larger squared error to the clean signal than MaxRL.",
      f"{errors['RLOO on −MSE', True].mean():.4f} against"
      f" {errors['MaxRL', True].mean():.4f}, difference {below.mean:.4f}"
      f" [{below.low:.4f}, {below.high:.4f}]",
      "95 % interval above 0",
      bool(below.low > 0),
    ),
    Claim(
      "heteroscedastic.where",
      "own",
      "RLOO on −MSE spends more gradient on noisier prompts, exact ML and MaxRL"
      " on quieter ones.",
      "rank correlation of norm and σ: "
      + ", ".join(f"{label} {value:.2f}" for label, value in rank.items()),
      "above 0 for RLOO on −MSE, below 0 for exact ML and MaxRL",
      bool(
        rank["RLOO on −MSE"] > 0 and rank["exact ML"] < 0 and rank["MaxRL"] < 0
      ),
    ),
  ]


def _table(scores, caption: str) -> Table:
  rows = []
  for label in _METHODS:
    row = [label]
    for kind in _KINDS:
      mean, low, _ = stats.mean_interval(scores[label, kind])
      row.append(f"{mean:.4f} ± {mean - low:.4f}")
    rows.append(row)
  return Table(caption, ["method", *_KINDS.values()], rows)
