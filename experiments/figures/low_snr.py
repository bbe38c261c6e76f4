"""Low signal-to-noise: does the likelihood help where all noise is alike?"""

import numpy as np
from tqdm import tqdm

from configs import default
from experiments import regression_runs
from experiments.results import Claim, Drawing, Result, Table
from maxrl_jax import plotting, stats

_RHOS = {"quick": (0.1, 0.3, 0.7), "full": (0.05, 0.1, 0.2, 0.4, 0.7)}
_ROLLOUTS = {"quick": (8, 64), "full": (4, 16, 64, 256)}
_SEEDS = {"quick": 5, "full": 10}
_STEPS = {"quick": 1000, "full": 4000}
_EXACT = ("MSE", "exact ML")
_QUICK = ("MaxRL", "RLOO on −MSE", "GRPO on −MSE", "IWAE")
_SAMPLED = {
  "quick": _QUICK,
  "full": (*_QUICK, "RLOO on l", "GRPO on l", "TailRL", "VIMCO"),
}


def figure(preset: str, workdir) -> Result:
  """Correlation with the clean signal against ρ, method by method."""
  rollouts = _ROLLOUTS[preset]
  found = _correlations(preset, workdir)
  drawing, axes = plotting.axes(
    columns=len(rollouts) + 1, width=3.6, height=3.2
  )
  for ax, num in zip(axes, rollouts, strict=False):
    for label in _EXACT:
      _line(ax, found, label, None, "--")
    for label in _sampled(found):
      _line(ax, found, label, num, "-")
    ax.set(
      title=f"N = {num} rollouts",
      xlabel="ρ = corr(y, signal)",
      xscale="log",
      ylim=(None, 1.01),
    )
    rhos = _rhos(found)
    ax.set_xticks(rhos, [f"{rho:g}" for rho in rhos])
    ax.minorticks_off()
  axes[0].set_ylabel("corr(prediction, clean signal)")
  _draw_gaps(axes[-1], found, rollouts)
  drawing.legend(
    *axes[0].get_legend_handles_labels(),
    loc="outside lower center",
    ncols=6,
  )
  caption = (
    "Bag of words: y = ρ × standardized sum of token values + noise. Linear"
    " policy N(w·x, ½) under Gaussian noise of scale 1, Adam 3e-3 for every"
    f" method, {_STEPS[preset]} steps of 64 fresh prompts; mean and 95 %"
    f" interval over {_SEEDS[preset]} seeds. Right: at the smallest ρ, what"
    " each method falls behind exact ML, seed by seed, as rollouts are added."
  )
  return Result(
    "Low signal-to-noise: correlation with the clean signal",
    [Drawing("low_snr", drawing, caption)],
    _claims(found, rollouts),
    [_table(found, rollouts)],
  )


def _config(rho: float, steps: int):
  config = default.get_config()
  config.task.name, config.task.rho = "bag_of_words", rho
  config.likelihood.scale = 1.0
  config.policy.name, config.policy.policy_scale = "normal", 0.5
  config.policy.hidden = ()
  config.batch_size, config.steps = 64, steps
  config.log_every = config.eval_every = steps // 4
  config.optimizer.name, config.optimizer.learning_rate = "adam", 3e-3
  return config


def _correlations(preset: str, workdir):
  """{(label, N or None, ρ): final correlations [seeds]}."""
  settings = []
  for rho in _RHOS[preset]:
    settings += [(label, None, rho) for label in _EXACT]
    settings += [
      (label, num, rho)
      for label in _SAMPLED[preset]
      for num in _ROLLOUTS[preset]
    ]
  found = {}
  for label, num, rho in tqdm(settings, desc="low SNR", unit="run"):
    config = regression_runs.with_method(_config(rho, _STEPS[preset]), label)
    config.rollouts = num or 2
    run = regression_runs.train(
      config,
      _SEEDS[preset],
      workdir / "runs",
      f"low-snr {label} {num} rho{rho:g}",
    )
    found[label, num, rho] = run["correlation"][:, -1]
  return found


def _rhos(found) -> list[float]:
  return sorted({rho for _, _, rho in found})


def _sampled(found) -> list[str]:
  """Labels of the methods that draw rollouts, in order."""
  return list(dict.fromkeys(label for label, num, _ in found if num))


def _line(ax, found, label, num, style) -> None:
  rhos = _rhos(found)
  values = np.stack([found[label, num, rho] for rho in rhos], 1)
  mean, low, high = stats.mean_interval(values)
  plotting.curve(
    ax,
    rhos,
    mean,
    low=low,
    high=high,
    colour=regression_runs.COLOURS[label],
    label=label,
    linestyle=style,
    marker="o",
    markersize=3,
  )


def _draw_gaps(ax, found, rollouts) -> None:
  rho = _rhos(found)[0]
  for label in _sampled(found):
    gaps = [_gap(found, label, num, rho) for num in rollouts]
    plotting.curve(
      ax,
      rollouts,
      [gap.mean for gap in gaps],
      low=np.array([gap.low for gap in gaps]),
      high=np.array([gap.high for gap in gaps]),
      colour=regression_runs.COLOURS[label],
      marker="o",
      markersize=3,
    )
  ax.axhline(0, color="0.5", lw=0.8, ls="--")
  ax.set_xscale("log", base=2)
  ax.set_xticks(rollouts, [str(num) for num in rollouts])
  ax.minorticks_off()
  ax.set(
    title=f"ρ = {rho:g}: behind exact ML", xlabel="rollouts N", ylabel="gap"
  )


def _gap(found, label, num, rho):
  """Exact ML's correlation less the method's, seed by seed."""
  return stats.mean_interval(
    found["exact ML", None, rho] - found[label, num, rho]
  )


def _claims(found, rollouts) -> list[Claim]:
  most = max(rollouts)
  worst_label, worst = max(
    (
      (f"{label} at ρ = {rho:g}", _gap(found, label, most, rho))
      for label in _sampled(found)
      for rho in _rhos(found)
    ),
    key=lambda pair: pair[1].high,
  )
  rewards = [
    stats.mean_interval(
      found["MaxRL", most, rho] - found["RLOO on −MSE", most, rho]
    )
    for rho in _rhos(found)
  ]
  return [
    Claim(
      "low_snr.one_direction",
      "own: homoscedastic Gaussian theory",
      f"With N = {most} rollouts no method falls behind exact ML by more than"
      " 0.02 in correlation.",
      f"worst: {worst_label}, {worst.mean:.3f}"
      f" [{worst.low:.3f}, {worst.high:.3f}]",
      "95 % interval below 0.02",
      bool(worst.high <= 0.02),
    ),
    Claim(
      "low_snr.null",
      "own: homoscedastic Gaussian theory",
      f"With N = {most}, MaxRL and RLOO on −MSE end alike (a null result: the"
      " noise is the same everywhere, and both follow one direction).",
      ", ".join(f"{d.mean:+.3f} [{d.low:+.3f}, {d.high:+.3f}]" for d in rewards)
      + " for ρ = "
      + ", ".join(f"{rho:g}" for rho in _rhos(found)),
      "each 95 % interval within ± 0.02",
      all(d.low >= -0.02 and d.high <= 0.02 for d in rewards),
    ),
  ]


def _table(found, rollouts) -> Table:
  rhos = _rhos(found)
  pairs = [(label, None) for label in _EXACT]
  pairs += [(label, num) for label in _sampled(found) for num in rollouts]
  rows = []
  for label, num in pairs:
    cells = []
    for rho in rhos:
      mean, low, _ = stats.mean_interval(found[label, num, rho])
      cells.append(f"{mean:.3f} ± {mean - low:.3f}")
    rows.append([label, "" if num is None else num, *cells])
  return Table(
    "Correlation of the policy's mean with the clean signal, test split.",
    ["method", "N", *(f"ρ = {rho:g}" for rho in rhos)],
    rows,
  )
