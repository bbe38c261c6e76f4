"""Figure 4: a contextual bandit learns its hard prompts as T grows."""

import numpy as np

from experiments.reports.results import Claim, Drawing, Result, Table, larger
from experiments.runs.bandit_runs import BANDS, NUM, RATE, curves
from maxrl_jax import plotting, stats

_ORDERS = (1, 2, 4, 8, 16, 31)
_STEPS = {"quick": 1000, "full": 4000}
_SEEDS = {"quick": 5, "full": 20}


def figure(preset: str, workdir) -> Result:
  """Mean pass rate over steps by decade of difficulty, one line an order."""
  steps, count = _STEPS[preset], _SEEDS[preset]
  names = [*_ORDERS, "cross_entropy"]
  found = {name: curves(name, steps, count, workdir / "runs") for name in names}
  caption = (
    f"64 prompts, 16 arms, N = {NUM} rollouts; mean and 95 % interval over"
    f" {count} seeds, all with SGD at rate {RATE:g}. Here the rate does what"
    " the order does elsewhere: the prompts share no parameters, so that at a"
    " rate of 1000 every order, RL too, solves every prompt. What T changes is"
    " how hard prompts fare at a rate that easy ones can live with."
  )
  table = Table(
    "Final mean pass rate of the prompts that started below 1e-3.",
    ["order", "pass rate"],
    [[name, f"{found[name][:, -1, 0].mean():.3f}"] for name in names],
  )
  return Result(
    "Bandit: pass rates by difficulty as the order grows",
    [Drawing("bandit", _draw(found, steps), caption)],
    _claims(found),
    [table],
  )


def _draw(found, steps: int):
  drawing, axes = plotting.axes(columns=4, width=2.9, height=3.1)
  every = np.linspace(0, steps, next(iter(found.values())).shape[1])
  for band, (ax, (low, high)) in enumerate(zip(axes, BANDS, strict=True)):
    for i, name in enumerate(found):
      mean, lower, upper = stats.mean_interval(found[name][:, :, band])
      exact = name == "cross_entropy"
      colour = plotting.shade(i / (len(_ORDERS) - 1))
      plotting.curve(
        ax,
        every,
        mean,
        low=lower,
        high=upper,
        colour="black" if exact else colour,
        label="exact ML" if exact else f"T = {name}" + " (RL)" * (name == 1),
        linestyle="--" if exact else "-",
      )
    ax.set(
      title=f"initial pass rate {low:g} to {min(high, 0.5):g}",
      xlabel="steps",
      ylim=(-0.02, 1.02),
    )
  axes[0].set_ylabel("mean pass rate")
  drawing.legend(
    *axes[0].get_legend_handles_labels(),
    loc="outside lower center",
    ncols=len(found),
  )
  return drawing


def _claims(found) -> list[Claim]:
  hardest = {name: c[:, -1, 0] for name, c in found.items()}
  means = [hardest[order].mean() for order in _ORDERS]
  return [
    larger(
      "bandit.hard_prompts",
      "section 4, own bandit",
      "At the same learning rate, order 31 ends with a higher pass rate than RL"
      " on prompts that started below 1e-3.",
      hardest[31],
      hardest[1],
    ),
    Claim(
      "bandit.monotone",
      "section 4, own bandit",
      "That pass rate never falls as the order grows, and ends higher.",
      ", ".join(f"{m:.3f}" for m in means),
      "no fall by more than 0.01, a rise of 0.05 in all",
      bool(np.diff(means).min() >= -0.01 and means[-1] - means[0] >= 0.05),
    ),
  ]
