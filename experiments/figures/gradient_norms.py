"""Figure 6: which prompts push hardest (paper, figure 8)."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.reports.results import Claim, Drawing, Result, Table
from experiments.runs import digit_runs
from maxrl_jax import (
  configuration,
  evaluation,
  plotting,
  rollouts,
  training,
)
from maxrl_jax.tasks import Prompts

_METHODS = tuple(
  method
  for method in digit_runs.METHODS
  if method.rollouts == 1024 or method.estimator == "cross_entropy"
)
_STEPS = {"quick": 2400, "full": 3000}
_ROLLOUTS = {"quick": 2**13, "full": 2**17}
_PAPER_OPTIMIZER = {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9}
_BINS = np.append(np.geomspace(1e-3, 0.5, 8), (0.75, 0.95, 1.0))


def figure(preset: str, workdir) -> Result:
  """Gradient norm of single held-out strings against their pass rate."""
  del workdir
  num = _ROLLOUTS[preset]
  points = {
    method: _norms(method, digit_runs.PRESETS[preset], _STEPS[preset], num)
    for method in _METHODS
  }
  drawing, axes = plotting.axes(columns=len(_METHODS), width=2.9, height=3.2)
  for ax, (method, (p, norms)) in zip(axes, points.items(), strict=True):
    colour = plotting.COLOURS[method.estimator]
    some = norms > 0
    ax.plot(p[some], norms[some], ".", ms=2, alpha=0.35, color=colour)
    centres, medians = _medians(p, norms)
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
    f"1000 held-out digit strings after {_STEPS[preset]} steps of SGD (0.1,"
    " momentum 0.9) with each method,"
    f" {num:,} rollouts a string (cross-entropy: exact); large dots are medians"
    " by pass rate."
  )
  return Result(
    "Gradient norm against pass rate (paper, figure 8)",
    [Drawing("gradient_norms", drawing, caption)],
    _claims(points),
    [_table(points)],
  )


def _norms(method, preset, steps: int, num: int):
  """Pass rate and gradient norm [1000] after training by the same method."""
  settings = preset._replace(
    steps=steps, warmup=preset.warmup // 5, eval_every=steps // 4
  )
  config = digit_runs.config_of(method, settings, steps, **_PAPER_OPTIMIZER)
  made = training.make_train(config)
  *_, (_, states, _) = training.chunks(made, config)
  params = jax.tree.map(lambda x: x[0], states.params)
  prompts = Prompts(*(x[:1000] for x in made.task.splits["test"]))
  more = digit_runs.config_of(method._replace(rollouts=num), settings, steps)
  measure = configuration.make_loss(more, made.task, made.policy)

  def loss(params, key, prompts):
    return measure(params, key, prompts)[0]

  @jax.jit
  def run(params, key):
    keys = jax.random.split(key, 1000)
    norms = evaluation.gradient_norms(loss, params, keys, prompts)
    log_p = rollouts.log_pass_rates(made.policy, params, prompts, made.task)
    return jnp.exp(log_p), norms

  return jax.tree.map(np.asarray, run(params, jax.random.key(2)))


def _medians(p, norms, least: int = 5):
  """Median norm in bins of pass rate that hold enough strings."""
  which = np.digitize(p, _BINS)
  found = [
    (np.median(p[which == b]), np.median(norms[which == b]))
    for b in range(1, len(_BINS))
    if (which == b).sum() >= least
  ]
  return np.array(found).reshape(-1, 2).T


def _between(points, low: float, high: float) -> float:
  """Median norm of the strings with low ≤ p < high; NaN below five of them."""
  p, norms = points
  some = (p >= low) & (p < high)
  return float(np.median(norms[some])) if some.sum() >= 5 else float("nan")


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
