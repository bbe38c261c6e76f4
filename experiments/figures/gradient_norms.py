"""Figure 6: which prompts push hardest (paper, figure 8)."""

import numpy as np

from experiments.reports.results import Claim, Drawing, Result, Table
from experiments.runs import digit_runs
from experiments.runs.digit_gradients import STRINGS, norms
from maxrl_jax import plotting

_METHODS = tuple(
  method
  for method in digit_runs.METHODS
  if method.rollouts == 1024 or method.estimator == "cross_entropy"
)
_STEPS = {"quick": 2400, "full": 3000}
_ROLLOUTS = {"quick": 2**13, "full": 2**17}
_BINS = np.append(np.geomspace(1e-3, 0.5, 8), (0.75, 0.95, 1.0))


def figure(preset: str, workdir) -> Result:
  """Gradient norm of single held-out strings against their pass rate."""
  num, settings = _ROLLOUTS[preset], digit_runs.PRESETS[preset]
  points = {
    method: norms(method, settings, _STEPS[preset], num, workdir / "runs")
    for method in _METHODS
  }
  drawing, axes = plotting.axes(columns=len(_METHODS), width=2.9, height=3.2)
  for ax, (method, (p, each)) in zip(axes, points.items(), strict=True):
    colour = plotting.COLOURS[method.estimator]
    some = each > 0
    ax.plot(p[some], each[some], ".", ms=2, alpha=0.35, color=colour)
    centres, medians = _medians(p, each)
    ax.plot(centres, medians, "o-", ms=4, color=colour, mec="white", mew=0.6)
    ax.set(
      title=f"{method.label.split()[0]} ({(~some).mean():.0%} are zero)",
      xscale="log",
      yscale="log",
      xlabel="pass rate p",
      xlim=(1e-4, 1.2),
      ylim=(1e-3, 1e2),
    )
  axes[0].set_ylabel("‖∇ loss‖₂ of one string")
  caption = (
    f"{STRINGS} held-out digit strings after {_STEPS[preset]} steps of SGD"
    " (0.1, momentum 0.9) with each method,"
    f" {num:,} rollouts a string (cross-entropy: exact); large dots are medians"
    " by pass rate."
  )
  return Result(
    "Gradient norm against pass rate (paper, figure 8)",
    [Drawing("gradient_norms", drawing, caption)],
    _claims(points),
    [_table(points)],
  )


def _medians(p, each, least: int = 5):
  """Median norm in bins of pass rate that hold enough strings."""
  which = np.digitize(p, _BINS)
  found = [
    (np.median(p[which == b]), np.median(each[which == b]))
    for b in range(1, len(_BINS))
    if (which == b).sum() >= least
  ]
  return np.array(found).reshape(-1, 2).T


def _between(points, low: float, high: float) -> float:
  """Median norm of the strings with low ≤ p < high; NaN below five of them."""
  p, each = points
  some = (p >= low) & (p < high)
  # Nor is there one where a pass rate is NaN, of a string of any band.
  known = some.sum() >= 5 and not np.isnan(p).any()
  return float(np.median(each[some])) if known else float("nan")


def _claims(points) -> list[Claim]:
  by_label = {method.label: found for method, found in points.items()}
  claims = []
  for label, hard_wins in (
    ("cross-entropy", True),
    ("MaxRL 1024", True),
    ("GRPO 1024", False),
  ):
    hard = _between(by_label[label], 0.01, 0.2)
    even = _between(by_label[label], 0.35, 0.65)
    claims.append(
      Claim(
        f"gradient_norms.{label.split()[0].lower()}",
        "figure 8",
        f"{label}: strings with p in [0.01, 0.2) have a"
        f" {'larger' if hard_wins else 'smaller'} gradient than those near ½.",
        f"median {hard:.2f} against {even:.2f}",
        "ratio above 1" if hard_wins else "ratio below 1",
        bool(hard > even if hard_wins else hard < even),
      )
    )
  stuck = np.median(by_label["REINFORCE 1024"][0])
  claims.append(
    Claim(
      "gradient_norms.reinforce_stuck",
      "figure 8",
      "REINFORCE's pass rates have hardly moved.",
      f"median pass rate {stuck:.4f} (0.001 at the start)",
      "below 0.003",
      bool(stuck < 0.003),
    )
  )
  return claims


def _table(points) -> Table:
  bands = ((0, 0.01), (0.01, 0.2), (0.2, 0.35), (0.35, 0.65), (0.65, 1.01))
  rows = [
    [
      method.label,
      f"{np.median(found[0]):.4f}",
      *(f"{_between(found, low, high):.3g}" for low, high in bands),
    ]
    for method, found in points.items()
  ]
  return Table(
    "Median gradient norm by pass rate (nan: fewer than five strings there).",
    [
      "method",
      "median p",
      *(f"p in [{low:g}, {min(high, 1):g})" for low, high in bands),
    ],
    rows,
  )
