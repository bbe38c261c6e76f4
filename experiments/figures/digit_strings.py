"""Figure 5: classification as RL on real digits (paper, figures 2 and 9)."""

import itertools

import numpy as np

from experiments.reports.results import (
  Claim,
  Drawing,
  Result,
  Table,
  larger,
  spread,
)
from experiments.runs import digit_runs
from experiments.runs.digit_runs import KS, METHODS, PRESETS
from experiments.runs.rates import marked
from maxrl_jax import plotting, stats

# From best to worst: each is claimed to beat the next.
_ORDERING = (
  "cross-entropy",
  "MaxRL 1024",
  "GRPO 1024",
  "MaxRL 128",
  "GRPO 128",
)


def figure(preset: str, workdir) -> Result:
  """pass@1, pass@128 and majority vote over steps; coverage at the end."""
  settings = PRESETS[preset]
  chosen, tuning, runs = digit_runs.all_runs(settings, workdir / "runs")
  drawing = _draw(runs)
  caption = (
    "Strings of three real digits (1000 classes, initial pass rate 0.1 %),"
    f" held-out strings of held-out images; MLP {settings.hidden}, batch"
    f" {settings.batch_size}, Adam with cosine, {settings.steps} steps. Mean"
    f" and 95 % interval over {len(settings.seeds)} seeds. The number is the"
    " rollouts a prompt; REINFORCE subtracts the leave-one-out mean."
  )
  return Result(
    "Digit strings: classification as RL (paper, figures 2 and 9)",
    [Drawing("digits", drawing, caption)],
    _claims(runs, preset),
    [_results_table(runs), _tuning_table(tuning, chosen, settings)],
  )


def _stack(runs, name: str) -> np.ndarray:
  return np.stack([run[name] for run in runs])


def _look(method) -> dict:
  """One colour a method, dotted with fewer rollouts."""
  dotted = {128: {"linestyle": (0, (1, 1))}, 16: {"linestyle": (0, (1, 3))}}
  look = {"colour": plotting.COLOURS[method.estimator], "label": method.label}
  return look | dotted.get(method.rollouts, {})


def _draw(runs):
  drawing, axes = plotting.axes(columns=4, width=3.1, height=3.4)
  panels = (
    ("pass@1", "pass@1"),
    ("pass@128", "pass@128"),
    ("majority", "majority vote"),
  )
  for method in METHODS:
    look = _look(method)
    steps = runs[method][0]["step"]
    for ax, (name, _) in zip(axes[:3], panels, strict=True):
      mean, low, high = stats.mean_interval(
        _stack(runs[method], f"test/{name}")
      )
      plotting.curve(ax, steps, mean, low=low, high=high, **look)
    final = np.stack(
      [_stack(runs[method], f"test/pass@{k}")[:, -1] for k in KS], 1
    )
    mean, low, high = stats.mean_interval(final)
    plotting.curve(axes[3], KS, mean, low=low, high=high, **look)
  for ax, (_, title) in zip(axes[:3], panels, strict=True):
    ax.set(title=title, xlabel="steps", ylim=(-0.02, 1.02))
  axes[3].set(
    title="coverage after training",
    xlabel="k",
    xscale="log",
    ylim=(-0.02, 1.02),
  )
  axes[3].set_xticks([1, 4, 16, 64, 256], ["1", "4", "16", "64", "256"])
  axes[3].minorticks_off()
  axes[0].set_ylabel("held-out score")
  drawing.legend(
    *axes[0].get_legend_handles_labels(),
    loc="outside lower center",
    ncols=len(METHODS),
  )
  return drawing


def _final(runs, name: str = "test/pass@1") -> dict[str, np.ndarray]:
  return {
    method.label: _stack(found, name)[:, -1] for method, found in runs.items()
  }


def _claims(runs, preset: str) -> list[Claim]:
  final = _final(runs)
  claims = []
  for better, worse in itertools.pairwise(_ORDERING):
    claims.append(_beats(final, better, worse))
  for worse in ("REINFORCE 1024", "MaxRL 16"):
    claims.append(_beats(final, "MaxRL 128", worse))
  share = final["MaxRL 1024"].mean() / final["cross-entropy"].mean()
  wanted = {"quick": 0.6, "full": 0.9}[preset]
  claims.append(
    Claim(
      "digits.close_to_cross_entropy",
      "figure 2",
      f"MaxRL with 1024 rollouts reaches {wanted:.0%} of cross-entropy's"
      " pass@1.",
      f"{share:.1%} of cross-entropy's",
      f"≥ {wanted:.0%} ({preset} preset)",
      bool(share >= wanted),
    )
  )
  return claims


def _beats(final, better: str, worse: str) -> Claim:
  name = f"{better} > {worse}".lower().replace(" ", "_").replace("_>_", ".")
  return larger(
    f"digits.{name}",
    "figure 2",
    f"{better} ends above {worse} in held-out pass@1.",
    final[better],
    final[worse],
  )


def _results_table(runs) -> Table:
  columns = ("test/pass@1", "test/pass@128", "test/majority", "test/nll")
  rows = [
    [method.label, *(spread(_stack(found, name)[:, -1]) for name in columns)]
    for method, found in runs.items()
  ]
  return Table(
    "Test split after training: mean ± half the 95 % interval over seeds.",
    ["method", "pass@1", "pass@128", "majority vote", "−log p, nats"],
    rows,
  )


def _score(value: float) -> str:
  return "diverged" if np.isnan(value) else f"{value:.3f}"


def _tuning_table(tuning, chosen, settings) -> Table:
  rates = settings.learning_rates
  rows = [
    [
      method.label,
      *(_score(found[rate]) for rate in rates),
      marked(*chosen[method]),
    ]
    for method, found in tuning.items()
  ]
  return Table(
    f"Tuning: validation pass@1 after {settings.tuning_steps} steps with one"
    " seed that is not reported; the same grid for every method. At an edge of"
    " the grid, a rate beyond it might do better still.",
    ["method", *(f"Adam {rate:g}" for rate in rates), "chosen"],
    rows,
  )
