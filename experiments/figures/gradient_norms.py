"""Figure 6: gradient norms of single prompts by pass rate (paper, figure 8)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from configs import digits
from experiments.figures import set_steps
from experiments.reports.results import Claim, Drawing, Result, Table
from maxrl_jax import evaluation, plotting
from maxrl_jax.learning import rollouts as rollout
from maxrl_jax.learning.build_loss import make_loss
from maxrl_jax.runs import dataset, study
from maxrl_jax.runs.measure import Measure
from maxrl_jax.tasks import Prompts

_LABELS = {
  "cross_entropy": "cross-entropy",
  "maxrl": "MaxRL",
  "grpo": "GRPO",
  "rloo": "REINFORCE",
}
_BINS = np.append(np.geomspace(1e-3, 0.5, 8), (0.75, 0.95, 1.01))
_LEAST = 5  # Strings of which a median is taken.


class Settings(NamedTuple):
  """Choices of the figure.

  Norms of `strings` held-out strings are measured with `norm_rollouts` each.
  """

  rollouts: int = 1024
  norm_rollouts: int = 2**13
  strings: int = 1000
  rate: float = 0.1
  steps: int = 2400
  batch_size: int = 64
  hidden: tuple[int, ...] = (256, 256)
  warmup: int = 10


PRESETS = {
  "quick": Settings(),
  "full": Settings(
    norm_rollouts=2**17,
    steps=3000,
    batch_size=128,
    hidden=(512, 512),
    warmup=100,
  ),
}


def studies(settings: Settings, runs) -> dict[str, study.Study]:
  """Each estimator: trains with its loss, and measures that loss's norms."""
  del runs
  config = digits.get_config()
  set_steps(config, settings.steps, evaluations=4)
  config.eval_every = settings.steps
  config.batch_size, config.rollouts = settings.batch_size, settings.rollouts
  config.policy.hidden = settings.hidden
  config.optimizer.update(
    name="sgd",
    learning_rate=settings.rate,
    momentum=0.9,
    warmup=settings.warmup,
  )
  options = (
    ("rollouts", settings.norm_rollouts),
    ("strings", settings.strings),
  )
  return {
    name: study.study(
      config,
      {"estimator.name": [name]},
      measure=Measure(probe=norms, options=(("estimator", name), *options)),
    )
    for name in _LABELS
  }


def norms(trainer, estimator: str, rollouts: int, strings: int):
  """params → pass rate and gradient norm of held-out strings, [strings]."""
  config = digits.get_config()
  config.estimator.name, config.rollouts = estimator, rollouts
  loss = make_loss(config, trainer.task, trainer.policy)
  every = trainer.task.splits["test"]
  if strings > len(every.inputs):
    raise ValueError(
      f"strings = {strings}: must be at most {len(every.inputs)}, the held-out"
      " strings"
    )
  prompts = Prompts(*(x[:strings] for x in every))
  keys = jax.random.split(jax.random.key(2), strings)

  def measure(params):
    log_p = rollout.log_pass_rates(
      trainer.policy, params, prompts, trainer.task
    )
    norm = evaluation.gradient_norms(loss, params, keys, prompts)
    return {"pass_rate": jnp.exp(log_p), "norm": norm}

  return measure


def figure(settings: Settings, runs) -> Result:
  """Gradient norm of single held-out strings against their pass rate."""
  points = {}
  for name, what in studies(settings, runs).items():
    data = study.run(what, runs)
    points[name] = tuple(
      dataset.final(data, f"probe_{each}")[0] for each in ("pass_rate", "norm")
    )
  caption = (
    f"{settings.strings} held-out digit strings after {settings.steps} steps of"
    f" SGD ({settings.rate:g}, momentum 0.9) with each method and"
    f" {settings.rollouts} rollouts per string. Norms are of"
    f" {settings.norm_rollouts:,} rollouts per string (cross-entropy: exact);"
    " large dots are medians by pass rate."
  )
  return Result(
    "Gradient norm against pass rate (paper, figure 8)",
    [Drawing("gradient_norms", _draw(points), caption)],
    _claims(points),
    [_table(points)],
  )


def _draw(points):
  drawing, axes = plotting.axes(columns=len(points), width=2.9, height=3.2)
  for ax, (name, (p, norm)) in zip(axes, points.items(), strict=True):
    colour = plotting.COLOURS[name]
    positive = norm > 0
    ax.plot(p[positive], norm[positive], ".", ms=2, alpha=0.35, color=colour)
    centres, medians = _medians(p, norm)
    ax.plot(centres, medians, "o-", ms=4, color=colour, mec="white", mew=0.6)
    ax.set(
      title=f"{_LABELS[name]} ({(~positive).mean():.0%} are zero)",
      xscale="log",
      yscale="log",
      xlabel="pass rate p",
      xlim=(1e-4, 1.2),
      ylim=(1e-3, 1e2),
    )
  axes[0].set_ylabel("‖∇ loss‖₂ of one string")
  return drawing


def _medians(p, norm):
  """Median pass rate and norm in bins that have enough strings."""
  which = np.digitize(p, _BINS)
  medians = [
    (np.median(p[which == b]), np.median(norm[which == b]))
    for b in range(1, len(_BINS))
    if (which == b).sum() >= _LEAST
  ]
  return np.array(medians).reshape(-1, 2).T


def _between(points, low: float, high: float) -> float:
  """Median norm of the strings with low ≤ p < high.

  NaN if these are fewer than five, or if any pass rate is NaN.
  """
  p, norm = points
  inside = (p >= low) & (p < high)
  known = inside.sum() >= _LEAST and not np.isnan(p).any()
  return float(np.median(norm[inside])) if known else float("nan")


def _claims(points) -> list[Claim]:
  claims = []
  for name, hard_wins in (
    ("cross_entropy", True),
    ("maxrl", True),
    ("grpo", False),
  ):
    hard = _between(points[name], 0.01, 0.2)
    even = _between(points[name], 0.35, 0.65)
    label = _LABELS[name]
    claims.append(
      Claim(
        f"gradient_norms.{label.lower()}",
        "figure 8",
        f"{label}: strings with p in [0.01, 0.2) have a"
        f" {'larger' if hard_wins else 'smaller'} gradient than those near ½.",
        f"median {hard:.2f} against {even:.2f}",
        "ratio above 1" if hard_wins else "ratio below 1",
        bool(hard > even if hard_wins else hard < even),
      )
    )
  stuck = np.median(points["rloo"][0])
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
      _LABELS[name],
      f"{np.median(each[0]):.4f}",
      *(f"{_between(each, low, high):.3g}" for low, high in bands),
    ]
    for name, each in points.items()
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
