"""Figure 4: a contextual bandit learns its hard prompts as T grows."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from configs import bandit
from experiments.figures import set_steps
from experiments.reports.results import Claim, Drawing, Result, Table, larger
from maxrl_jax import plotting
from maxrl_jax.learning import rollouts
from maxrl_jax.runs import dataset, study
from maxrl_jax.runs.measure import Measure

# Initial pass rates of the prompts that a panel averages over.
_BANDS = ((1e-4, 1e-3), (1e-3, 1e-2), (1e-2, 1e-1), (1e-1, 0.51))


class Settings(NamedTuple):
  """Choices of the figure; `rate` is the learning rate of every order."""

  orders: tuple[int, ...] = (1, 2, 4, 8, 16, 31)
  rollouts: int = 32
  rate: float = 30.0
  steps: int = 1000
  seeds: int = 5


PRESETS = {"quick": Settings(), "full": Settings(steps=4000, seeds=20)}


def studies(settings: Settings, runs) -> dict[str, study.Study]:
  """MaxRL of every order, and exact maximum likelihood."""
  del runs
  config = bandit.get_config()
  set_steps(config, settings.steps, evaluations=40)
  config.rollouts = settings.rollouts
  config.optimizer.learning_rate = settings.rate
  seeds = range(settings.seeds)
  measure = Measure(probe=pass_rates_by_band, at_start=True)
  orders = {"estimator.order": settings.orders}
  exact = {"estimator.name": ["cross_entropy"]}
  return {
    "orders": study.study(config, orders, seeds, measure),
    "exact": study.study(config, exact, seeds, measure),
  }


def pass_rates_by_band(trainer):
  """params → mean pass rate of the prompts in each band, [bands]."""
  prompts = trainer.task.splits["train"]

  def pass_rates(params):
    log_p = rollouts.log_pass_rates(
      trainer.policy, params, prompts, trainer.task
    )
    return jnp.exp(log_p)

  initial = np.asarray(pass_rates(trainer.init(jax.random.key(0)).params))
  members = [(initial >= 0.99 * a) & (initial < 0.99 * b) for a, b in _BANDS]
  return lambda params: {
    "bands": jnp.stack([pass_rates(params)[m].mean() for m in members])
  }


def figure(settings: Settings, runs) -> Result:
  """Mean pass rate over steps by decade of difficulty, one line per order."""
  every = studies(settings, runs)
  data = {name: study.run(what, runs) for name, what in every.items()}
  by_order = dataset.by_point(data["orders"], settings.orders)
  curves: dict[int | str, np.ndarray] = {  # [seeds, times, bands].
    label: runs_of["probe_bands"].values
    for label, runs_of in (by_order | {"cross_entropy": data["exact"]}).items()
  }
  steps = data["orders"]["eval_step"].values
  caption = (
    f"64 prompts, 16 arms, N = {settings.rollouts} rollouts;"
    f" {plotting.seeds_in_words(settings.seeds)}, all with SGD at learning rate"
    f" {settings.rate:g}. The prompts share no parameters, so that at a rate of"
    " 1000 every order, RL too, solves every prompt. What T changes is how hard"
    " prompts fare at a rate that easy ones tolerate."
  )
  table = Table(
    "Final mean pass rate of the prompts that started below 1e-3, ± half the"
    " 95 % interval over seeds.",
    ["order", "pass rate"],
    [
      ["exact ML" if name == "cross_entropy" else name, values[:, -1, 0]]
      for name, values in curves.items()
    ],
  )
  return Result(
    "Bandit: pass rates by difficulty as the order grows",
    [Drawing("bandit", _draw(curves, steps), caption)],
    _claims(curves, settings.orders),
    [table],
  )


def _draw(curves, steps):
  drawing, axes = plotting.axes(columns=4, width=2.9, height=3.1)
  *orders, exact = curves.items()
  shown = [*plotting.few(orders, 5), exact]
  for band, (ax, (low, high)) in enumerate(zip(axes, _BANDS, strict=True)):
    for i, (name, values) in enumerate(shown):
      exact = name == "cross_entropy"
      colour = plotting.shade(i, len(shown) - 2)
      plotting.seed_curves(
        ax,
        steps,
        values[:, :, band],
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
  plotting.legend_below(drawing, axes[0])
  return drawing


def _claims(curves, orders) -> list[Claim]:
  if len(orders) < 2:
    return []
  hardest = {order: curves[order][:, -1, 0] for order in sorted(orders)}
  means = [values.mean() for values in hardest.values()]
  most, fewest = max(orders), min(orders)
  return [
    larger(
      "bandit.hard_prompts",
      "section 4, own bandit",
      f"At the same learning rate, order {most} ends with a higher pass rate"
      f" than order {fewest} on prompts that started below 1e-3.",
      hardest[most],
      hardest[fewest],
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
