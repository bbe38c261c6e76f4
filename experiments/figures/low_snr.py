"""Low signal-to-noise: does the likelihood help where all noise is alike?"""

import numpy as np

from experiments.figures import regression_looks
from experiments.reports.results import (
  Claim,
  Drawing,
  Result,
  Table,
  firm,
  in_words,
  spread,
)
from experiments.runs import regression_runs
from experiments.shell import output
from maxrl_jax import plotting, stats
from maxrl_jax.config import default

_RHOS = {"quick": (0.1, 0.3, 0.7), "full": (0.05, 0.1, 0.2, 0.4, 0.7)}
_ROLLOUTS = {"quick": (8, 64), "full": (8, 32, 128)}
_SEEDS = {"quick": 5, "full": 10}
_STEPS = {"quick": 1000, "full": 2000}
_RATES = {"quick": (), "full": (1e-3, 3e-3, 1e-2)}
_EXACT = ("MSE", "exact ML", "exact RL")
_SAMPLED = tuple(m for m in regression_runs.METHODS if m not in _EXACT)
# Without a baseline the average reward moves with every rollout: not held to
# the claims of the others.
_WITHOUT_BASELINE = ("REINFORCE on l", "REINFORCE on −MSE")
_NOISE, _WIDTH = 1.0, 0.5  # σ of the likelihood, deviation of the policy.


def figure(preset: str, workdir) -> Result:
  """Correlation with the clean signal by ρ, and what each method loses."""
  rollouts = _ROLLOUTS[preset]
  found = _correlations(preset, workdir)
  drawing, (left, right) = plotting.axes(columns=2, width=5.4, height=3.9)
  for label in _EXACT:
    _line(left, found, label, None, linestyle="--")
  for label in _SAMPLED:
    _line(left, found, label, max(rollouts))
  left.set(
    title=f"N = {max(rollouts)} rollouts",
    xlabel="ρ = corr(y, signal)",
    ylabel="1 − corr(prediction, clean signal)",
    yscale="log",
  )
  plotting.every_tick(left, _rhos(found))
  drawing.legend(
    *left.get_legend_handles_labels(), loc="outside lower center", ncols=7
  )
  _draw_gaps(right, found, rollouts)
  rate = regression_looks.rate_in_words("3e-3", _RATES[preset], "MSE")
  caption = (
    "Bag of words: y = ρ × standardized sum of token values + noise. Linear"
    f" policy N(w·x, {_WIDTH:g}) under Gaussian noise of scale {_NOISE:g},"
    f" Adam, {rate}, {_STEPS[preset]} steps of 64 fresh prompts; mean over"
    f" {_SEEDS[preset]} seeds (intervals in the table). Right: at the smallest"
    " ρ, what each method falls behind exact ML, seed by seed, with 95 %"
    " intervals. As N grows, MaxRL, IWAE,"
    " VIMCO and RLOO on −MSE follow the residual itself; RL on l follows"
    " r exp(−r²/2τ²), τ² the noise's and the policy's variance together, which"
    f" forgives outliers and makes {_efficiency():.2f} of the data's"
    " information of it, however many the rollouts (exact RL is N → ∞)."
  )
  return Result(
    "Low signal-to-noise: correlation with the clean signal",
    [Drawing("low_snr", drawing, caption)],
    _claims(found, rollouts),
    [_table(found, rollouts)],
  )


def _efficiency() -> float:
  """(E ψ')²/E ψ² of ψ(r) = r exp(−r²/2τ²) under unit normal noise."""
  tau = _NOISE**2 + _WIDTH**2
  slope = (1 + 1 / tau) ** -1.5
  return slope**2 * (1 + 2 / tau) ** 1.5


def _config(steps: int):
  config = default()
  config.task.name = "bag_of_words"
  config.likelihood.scale = _NOISE
  config.policy.name, config.policy.policy_scale = "normal", _WIDTH
  config.policy.hidden = ()
  config.batch_size, config.steps = 64, steps
  config.log_every = config.eval_every = steps // 4
  config.optimizer.name, config.optimizer.learning_rate = "adam", 3e-3
  return config


def _correlations(preset: str, workdir):
  """{(label, N or None, ρ): final correlations [seeds]}."""
  programs: list[tuple[str, int | None]] = [(label, None) for label in _EXACT]
  programs += [(label, n) for label in _SAMPLED for n in _ROLLOUTS[preset]]
  found, rhos = {}, _RHOS[preset]
  for label, num in output.bar(programs, desc="low SNR", unit="program"):
    config = regression_runs.with_method(_config(_STEPS[preset]), label)
    config.rollouts = num or 2
    runs = regression_runs.train(
      config,
      _SEEDS[preset],
      workdir / "runs",
      f"low-snr {label} {num}",
      points=[{"task.rho": rho} for rho in rhos],
      rates=_RATES[preset],
      score="mse",
    )
    for i, rho in enumerate(rhos):
      found[label, num, rho] = runs["correlation"][i, :, -1]
  return found


def _rhos(found) -> list[float]:
  return sorted({rho for _, _, rho in found})


def _line(ax, found, label, num, **style) -> None:
  rhos = _rhos(found)
  means = [1 - found[label, num, rho].mean() for rho in rhos]
  colour = regression_looks.COLOURS[label]
  plotting.curve(
    ax, rhos, means, colour=colour, label=label, marker=".", **style
  )


def _draw_gaps(ax, found, rollouts) -> None:
  """A row a method, a marker for each N."""
  rho = _rhos(found)[0]
  rows = [*_SAMPLED, "MSE", "exact RL"]
  for i, label in enumerate(rows):
    numbers = rollouts if label in _SAMPLED else (None,)
    for k, num in enumerate(numbers):
      gap = _gap(found, label, num, rho)
      ax.errorbar(
        gap.mean,
        i + 0.5 * ((k + 1) / (len(numbers) + 1) - 0.5),
        xerr=[[gap.mean - gap.low], [gap.high - gap.mean]],
        fmt="os^"[k] if num else "D",
        ms=4,
        capsize=2,
        lw=1,
        color=regression_looks.COLOURS[label],
      )
  for k, num in enumerate(rollouts):
    ax.plot([], [], "os^"[k], color="0.4", ms=4, label=f"N = {num}")
  ax.plot([], [], "D", color="0.4", ms=4, label="exact gradient")
  ax.axvline(0, color="0.5", lw=0.8, ls="--")
  ax.set_yticks(range(len(rows)), rows)
  ax.invert_yaxis()
  ax.set(title=f"ρ = {rho:g}", xlabel="correlation behind exact ML")
  ax.legend(loc="lower right")


def _gap(found, label, num, rho):
  """Exact ML's correlation less the method's, seed by seed."""
  return stats.mean_interval(
    found["exact ML", None, rho] - found[label, num, rho]
  )


def _claims(found, rollouts) -> list[Claim]:
  most = max(rollouts)
  return [_one_direction(found, most), _forgives(found), _null(found, most)]


def _one_direction(found, most: int) -> Claim:
  gaps = {
    f"{label} at ρ = {rho:g}": _gap(found, label, most, rho)
    for label in _SAMPLED
    if label not in _WITHOUT_BASELINE
    for rho in _rhos(found)
  }
  # The first NaN, if there is one: Python's max would drop it.
  worst = list(gaps)[np.argmax([gap.high for gap in gaps.values()])]
  return Claim(
    "low_snr.one_direction",
    "own: homoscedastic Gaussian theory",
    f"With N = {most} rollouts no method that has a baseline falls behind"
    " exact ML by more than 0.02 in correlation.",
    f"worst: {worst}, {in_words(gaps[worst])}",
    "95 % interval below 0.02",
    all(firm(gap).high <= 0.02 for gap in gaps.values()),
  )


def _forgives(found) -> Claim:
  lost = _gap(found, "exact RL", None, min(_rhos(found)))
  return Claim(
    "low_snr.efficiency",
    "own: M-estimation",
    "RL on l falls behind exact ML at the smallest ρ even with exact"
    " gradients: it forgives outliers that Gaussian noise does not have.",
    in_words(lost),
    "95 % interval above 0",
    bool(firm(lost).low > 0),
  )


def _null(found, most: int) -> Claim:
  rhos = _rhos(found)
  rewards = [
    stats.mean_interval(
      found["MaxRL", most, rho] - found["RLOO on −MSE", most, rho]
    )
    for rho in rhos
  ]
  return Claim(
    "low_snr.null",
    "own: homoscedastic Gaussian theory",
    f"With N = {most}, MaxRL and RLOO on −MSE end alike (a null result: the"
    " noise is the same everywhere, and both follow one direction).",
    ", ".join(in_words(d, "+.3f") for d in rewards)
    + " for ρ = "
    + ", ".join(f"{rho:g}" for rho in rhos),
    "each 95 % interval within ± 0.02",
    all(d.low >= -0.02 and d.high <= 0.02 for d in map(firm, rewards)),
  )


def _table(found, rollouts) -> Table:
  rhos = _rhos(found)
  pairs = [(label, None) for label in _EXACT]
  pairs += [(label, num) for label in _SAMPLED for num in rollouts]
  rows = []
  for label, num in pairs:
    cells = [spread(found[label, num, rho]) for rho in rhos]
    rows.append([label, "" if num is None else num, *cells])
  return Table(
    "Correlation of the policy's mean with the clean signal, test split.",
    ["method", "N", *(f"ρ = {rho:g}" for rho in rhos)],
    rows,
  )
