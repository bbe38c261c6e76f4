"""Figure 4: a contextual bandit learns its hard prompts as T grows."""

import functools

import jax
import numpy as np
from ml_collections import config_dict

from configs import bandit
from experiments.reports.results import Claim, Drawing, Result, Table, larger
from maxrl_jax import plotting, rollouts, stats, training

_NUM = 32
_ORDERS = (1, 2, 4, 8, 16, 31)
_RATE = 30.0  # Common to all orders: see the caption.
_STEPS = {"quick": 1000, "full": 4000}
_SEEDS = {"quick": 5, "full": 20}
_BANDS = ((1e-4, 1e-3), (1e-3, 1e-2), (1e-2, 1e-1), (1e-1, 0.51))


def figure(preset: str, workdir) -> Result:
  """Mean pass rate over steps by decade of difficulty, one line an order."""
  del workdir
  steps, count = _STEPS[preset], _SEEDS[preset]
  names = [*_ORDERS, "cross_entropy"]
  curves = {name: _curves(name, steps, count) for name in names}
  caption = (
    f"64 prompts, 16 arms, N = {_NUM} rollouts; mean and 95 % interval over"
    f" {count} seeds, all with SGD at rate {_RATE:g}. Here the rate does what"
    " the order does elsewhere: the prompts share no parameters, so that at a"
    " rate of 1000 every order, RL too, solves every prompt. What T changes is"
    " how hard prompts fare at a rate that easy ones can live with."
  )
  table = Table(
    "Final mean pass rate of the prompts that started below 1e-3.",
    ["order", "pass rate"],
    [[name, f"{curves[name][:, -1, 0].mean():.3f}"] for name in names],
  )
  return Result(
    "Bandit: pass rates by difficulty as the order grows",
    [Drawing("bandit", _draw(curves, steps), caption)],
    _claims(curves),
    [table],
  )


def _draw(curves, steps: int):
  drawing, axes = plotting.axes(columns=4, width=2.9, height=3.1)
  every = np.linspace(0, steps, next(iter(curves.values())).shape[1])
  for band, (ax, (low, high)) in enumerate(zip(axes, _BANDS, strict=True)):
    for i, name in enumerate(curves):
      mean, lower, upper = stats.mean_interval(curves[name][:, :, band])
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
    ncols=len(curves),
  )
  return drawing


def _config(name, steps: int):
  config = bandit.get_config()
  config.steps = steps
  config.log_every = config.eval_every = steps // 40
  config.rollouts = _NUM
  config.optimizer.learning_rate = _RATE
  if name == "cross_entropy":
    config.estimator.name = name
  else:
    config.estimator.order = name
  return config_dict.FrozenConfigDict(config)


def _pass_rates_by_band(made: training.Train):
  """(params of all runs) → mean pass rate in each band, [runs, bands]."""
  prompts = made.task.splits["train"]

  @jax.jit
  @functools.partial(jax.vmap, in_axes=0)
  def log_rates(params):
    return rollouts.log_pass_rates(made.policy, params, prompts, made.task)

  start = made.init(jax.random.key(0)).params
  alone = jax.tree.map(lambda x: x[None], start)
  initial = np.exp(log_rates(alone)[0])
  members = [(initial >= 0.99 * a) & (initial < 0.99 * b) for a, b in _BANDS]

  def by_band(params):
    rates = np.exp(np.asarray(log_rates(params)))
    return np.stack([rates[:, m].mean(1) for m in members], 1)

  return by_band


def _curves(name, steps: int, count: int) -> np.ndarray:
  """Mean pass rates [seeds, times, bands], from the start on."""
  config = _config(name, steps)
  made = training.make_train(config)
  by_band = _pass_rates_by_band(made)
  initial = made.init(jax.random.key(0)).params
  points = [by_band(jax.tree.map(lambda x: np.stack([x] * count), initial))]
  for _, states, _ in training.chunks(made, config, np.arange(count)):
    points.append(by_band(states.params))
  return np.stack(points, 1)


def _claims(curves) -> list[Claim]:
  hardest = {name: c[:, -1, 0] for name, c in curves.items()}
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
