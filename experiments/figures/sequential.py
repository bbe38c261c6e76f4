"""Sequential rollouts: the price of a prompt is its weight."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from configs import bandit
from experiments.reports.results import Claim, Drawing, Result
from maxrl_jax import losses, plotting
from maxrl_jax.learning import rollouts, sequential, training
from maxrl_jax.learning.waves import draw_until_solved


class Settings(NamedTuple):
  """Choices of the figure; `batches` of one prompt per pass rate."""

  waves: tuple[int, ...] = (1, 4, 16, 64)
  cap: int = 1024
  pass_rates: int = 10
  batches: int = 2**12


PRESETS = {"quick": Settings(), "full": Settings(batches=2**15)}


def figure(settings: Settings, runs) -> Result:
  """Rollouts and weight by pass rate, measured; variance × cost, exact."""
  del runs  # The policy is not trained.
  p, costs, weights = _measure(settings)
  products = {
    name: _product(size, settings.cap)
    for name, size in _groups(settings).items()
  }
  caption = (
    f"Waves of m rollouts until one is right, at most T = {settings.cap}. Left"
    " and middle: lines are m (1 − q^T)/(1 − q^m) rollouts and the weight"
    f" w_T(p); marks are means over {settings.batches:,} batches with one"
    " prompt of each pass rate, whose rollouts share a pool (16 arms, one"
    " right). One by one, both are the same curve. Right: what differences"
    " between right answers add to the variance of the estimate without a"
    " baseline, times its cost; exact, relative to one by one."
  )
  return Result(
    "Sequential rollouts: the price is the weight",
    [Drawing("sequential", _draw(settings, p, costs, weights), caption)],
    _claims(costs, weights, products),
    [],
  )


def _groups(settings: Settings) -> dict[str, int]:
  """Sizes of the waves, and the fixed group."""
  waves = {f"waves of {m}": m for m in settings.waves if m > 1}
  return waves | {f"fixed {settings.cap}": settings.cap}


def _cost(p: np.ndarray, wave: int, cap: int) -> np.ndarray:
  """m (1 − q^T)/(1 − q^m), theorem 14, without cancellation at small p."""
  log_q = np.log1p(-p)
  return wave * np.expm1(cap * log_q) / np.expm1(wave * log_q)


def _product(wave: int, cap: int) -> tuple[np.ndarray, np.ndarray]:
  """p, and the factor of s₁ in variance × cost relative to waves of one.

  Theorem 16: E_W E[1/K; K ≥ 1] times m E_W, with E_W waves and K ~ Bin(m, p).
  """
  p = np.geomspace(1e-4, 0.99, 200)
  k = np.arange(1, wave + 1)
  inverse = stats.binom.pmf(k, wave, p[:, None]) @ (1 / k)
  waves = _cost(p, wave, cap) / wave
  one = _cost(p, 1, cap)
  # Waves of one: E_W p times E_W.
  return p, waves**2 * wave * inverse / (one**2 * p)


def _measure(settings: Settings):
  """Pass rates [P], and the means of cost and weight by wave."""
  config = bandit.get_config()
  config.task.num_prompts = settings.pass_rates
  config.task.easiest = 0.9
  trainer = training.make_train(config)
  params = trainer.init(jax.random.key(0)).params
  prompts = jax.tree.map(jnp.asarray, trainer.task.splits["train"])
  p = np.geomspace(config.task.hardest, 0.9, settings.pass_rates)
  costs, weights = {}, {}
  for wave in settings.waves:
    needed, weight = _batches(settings, trainer, params, prompts, wave)
    costs[wave] = _means(needed, _cost(p, wave, settings.cap))
    weights[wave] = _means(weight, _cost(p, 1, settings.cap))
  return p, costs, weights


def _batches(settings: Settings, trainer, params, prompts, wave: int):
  """Rollouts needed and estimated weights of every batch, [batches, P]."""
  policy, task = trainer.policy, trainer.task
  outputs = policy.apply(params, prompts.inputs)

  def draw(key, owner):
    some, theirs = jax.tree.map(lambda x: x[owner], (prompts, outputs))
    return rollouts.sample_batch(key, policy, params, some, task, wave, theirs)

  def weight(logits, target, actions, solved):
    """The estimate along the logit of the right arm, over that of ∇p."""

    def surrogate(logits):
      last = rollouts.score(actions, policy, params, logits, target, task)
      advantages = sequential.last_wave_advantages(
        last.likelihoods, solved, "none"
      )
      return -losses.surrogate(last.log_probs, advantages)

    right = jnp.argmax(target)
    p = jax.nn.softmax(logits)[right]
    return jax.grad(surrogate)(logits)[right] / (p * (1 - p))

  @jax.jit
  @jax.vmap
  def batch(key):
    waves = draw_until_solved(
      key, draw, settings.pass_rates, wave, settings.cap
    )
    weights = jax.vmap(weight)(
      outputs, prompts.targets, waves.actions, waves.solved
    )
    return waves.needed, weights

  keys = jax.random.split(jax.random.key(wave), settings.batches)
  return (np.asarray(x, np.float64) for x in batch(keys))


def _means(values: np.ndarray, exact: np.ndarray) -> np.ndarray:
  """Means over batches, their standard errors, exact values: [3, P]."""
  errors = values.std(0, ddof=1) / np.sqrt(len(values))
  return np.stack([values.mean(0), errors, exact])


def _look(settings: Settings, size: int) -> dict:
  """Blue and dashed by the size of a wave; black for a fixed group."""
  if size not in settings.waves:
    return {"colour": "black", "linestyle": (0, (6, 2))}
  place = settings.waves.index(size)
  dashes = ("-", (0, (8, 2)), (0, (4, 1, 1, 1)), (0, (1.5, 1)))
  return {
    "colour": plotting.shade(place, len(settings.waves) - 1),
    "linestyle": dashes[place % len(dashes)],
  }


def _draw(settings: Settings, p, costs, weights):
  drawing, axes = plotting.axes(columns=3, width=3.9, height=3.6)
  fine, cap = np.geomspace(1e-4, 0.9, 200), settings.cap
  one = np.ones_like(fine)
  first = settings.waves[0]
  for place, m in enumerate(settings.waves):
    look = _look(settings, m)
    label = "one by one" if m == 1 else f"waves of {m}"
    plotting.curve(axes[0], fine, _cost(fine, m, cap), label=label, **look)
    dots = look | {"linestyle": "", "marker": "osD^"[place % 4]}
    for ax, means in ((axes[0], costs), (axes[1], weights)):
      plotting.curve(ax, p, means[m][0], **dots, markersize=4.5)
    points = _product(m, cap) if m > 1 else (fine, one)
    plotting.curve(axes[2], *points, **look)
  look = _look(settings, cap)
  label = f"fixed group of {cap}"
  plotting.curve(axes[0], fine, cap * one, label=label, **look)
  plotting.curve(axes[2], *_product(cap, cap), **look)
  weight = _cost(fine, 1, cap)
  plotting.curve(axes[1], fine, weight, **_look(settings, first), zorder=1)
  titles = ("rollouts per prompt", "weight of ∇p", "variance × cost")
  for ax, title in zip(axes, titles, strict=True):
    ax.set(xscale="log", title=title, xlabel="pass rate p")
  axes[0].set(yscale="log", ylabel="mean")
  axes[1].set(yscale="log")
  axes[2].set(ylabel="relative to one by one", ylim=(0.98, None))
  plotting.legend_below(drawing, axes[0])
  return drawing


def _claims(costs, weights, products) -> list[Claim]:
  cheapest = np.min([ratio for _, ratio in products.values()])
  return [
    _on_the_line(
      "sequential.cost",
      "theorem 14",
      "Waves of m up to T take m (1 − q^T)/(1 − q^m) rollouts on average.",
      costs,
    ),
    _on_the_line(
      "sequential.weight",
      "theorem 13",
      "Their mean gradient is w_T(p) ∇p, whatever the size of the waves.",
      weights,
    ),
    Claim(
      "sequential.variance",
      "theorem 17",
      "At equal cost, larger waves and fixed groups have no less variance than"
      " waves of one, as far as right answers differ.",
      f"smallest ratio {cheapest:.4f}",
      "≥ 1, up to rounding",
      bool(cheapest >= 1 - 1e-9),
    ),
  ]


def _on_the_line(id: str, source: str, statement: str, means) -> Claim:
  values, errors, exact = np.concatenate([*means.values()], 1)
  off = np.abs(values - exact)
  # Where all batches are alike there is no standard error, only rounding.
  rounding = off <= 1e-5 * exact
  worst = np.max(np.where(rounding, 0, off / np.maximum(errors, 1e-300)))
  precision = np.max(errors / exact)
  return Claim(
    id,
    source,
    statement,
    f"{len(values)} means, worst {worst:.2f} standard errors off (largest"
    f" standard error {precision:.1%} of the mean)",
    "≤ 4 standard errors, each ≤ 10 % of the mean",
    bool(worst <= 4 and precision <= 0.1),
  )
