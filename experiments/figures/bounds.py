"""Figure 2: J_T bounds log p from above; weights within a prompt by T."""

from typing import NamedTuple

import jax
import numpy as np

from experiments.reports.results import Claim, Drawing, Result
from maxrl_jax import objectives, plotting, symmetric


class Settings(NamedTuple):
  """Choices of the figure: orders of bounds, rollouts of prompts."""

  orders: tuple[int, ...] = (1, 2, 4, 8, 16, 64, 256)
  rollouts: int = 64


PRESETS = {"quick": Settings(), "full": Settings()}


def figure(settings: Settings, runs) -> Result:
  """Bounds, and the weights within an easy and a hard prompt."""
  del runs
  p = np.geomspace(1e-4, 1, 600)
  log_p = np.log(p)
  with jax.enable_x64(True):
    values = {
      t: np.asarray(objectives.maxrl(t).value(p))
      for t in sorted(settings.orders)
    }
  drawing, (left, easy, hard) = plotting.axes(columns=3, width=3.9, height=3.4)
  _draw_bounds(left, p, values)
  distances = _draw_prompts(easy, hard, settings.rollouts)
  caption = (
    "Left: the truncated objective against log p. Middle and right: weights"
    f" ω l / N of N = {settings.rollouts} rollouts with Gaussian likelihoods"
    " l = exp(−error²/2). At order 1 rollouts of a hard prompt have almost no"
    " weight; at order N weights are nearly proportional to the soft-max of the"
    " rewards −error²/2 on every prompt (they sum to 1 − Π(1 − l_i), not to 1)."
  )
  return Result(
    "Bounds on the log-likelihood, and soft-max within a prompt",
    [Drawing("bounds", drawing, caption)],
    [_bound_claim(values, log_p), _softmax_claim(distances)],
    [],
  )


def _draw_bounds(ax, p, values) -> None:
  shown = plotting.few([*values.items()], 5)
  for i, (order, value) in enumerate(shown):
    colour = plotting.shade(i, len(shown) - 1)
    label = "T = 1 (RL)" if order == 1 else f"T = {order}"
    plotting.curve(ax, p, value, colour=colour, label=label)
  plotting.curve(
    ax, p, np.log(p), colour="black", label="log p", linestyle="--"
  )
  ax.set(
    xscale="log",
    xlabel="pass rate p",
    ylabel="objective, nats",
    title="J_T(p), an upper bound on log p",
  )
  ax.legend(loc="lower right")


def _draw_prompts(easy, hard, num: int) -> list[float]:
  """Draws weights within two prompts; returns distances from the soft-max."""
  distances = []
  for ax, centre, name in ((easy, 0.0, "easy"), (hard, 3.5, "hard")):
    distances.append(_one_prompt(ax, centre, num))
    ax.set(
      xlabel="squared error of a rollout, (y − ŷ)²/σ²",
      ylabel="weight of the rollout",
      yscale="log",
      title=f"{name} prompt: errors about {centre:g} σ",
    )
  limits = easy.get_ylim(), hard.get_ylim()
  for ax in (easy, hard):
    ax.set_ylim(1e-6, 2 * max(high for _, high in limits))
  easy.legend(loc="lower left")
  return distances


def _one_prompt(ax, centre: float, num: int) -> float:
  """Draws ω_j l_j / N; returns the distance of order N from the soft-max."""
  errors = centre + np.random.default_rng(7).normal(size=num)
  reward = np.sort(-(errors**2) / 2)[::-1].astype(np.float32)
  likelihoods = np.exp(reward)
  orders = (*(t for t in (1, 4, 16) if t < num), num)
  for i, order in enumerate(orders):
    weights = symmetric.loo_weights(likelihoods, order) * likelihoods / num
    ax.plot(
      -2 * reward,
      weights,
      "o-",
      ms=2.5,
      lw=0.8,
      color=plotting.shade(i, len(orders) - 1),
      label=f"T = {order}",
    )
  softmax = np.asarray(jax.nn.softmax(reward))
  ax.plot(-2 * reward, softmax, "k--", lw=1, label="soft-max of rewards")
  shares = np.asarray(weights) / np.sum(weights)
  return float(np.abs(shares - softmax).sum() / 2)


def _bound_claim(values, log_p) -> Claim:
  stack = np.stack([*values.values(), log_p])
  # `value` is accurate to 20 roundings.
  rounding = 20 * np.finfo(np.float64).eps * np.abs(log_p)
  falls = np.diff(stack, axis=0) <= rounding[None]
  at = int(np.argmin(np.abs(log_p - np.log(0.01))))
  gaps = [f"{v[at] - log_p[at]:.3f} (T = {t})" for t, v in values.items()]
  return Claim(
    "bounds.tighten",
    "section 3, equation 7",
    "J_T(p) ≥ log p, and the bound falls with every increase of T.",
    f"{falls.mean():.1%} of {falls.size} comparisons; gap at p = 0.01: "
    + ", ".join(gaps[::2]),
    "100 %, to float64 rounding",
    bool(falls.all()),
  )


def _softmax_claim(distances) -> Claim:
  return Claim(
    "bounds.softmax",
    "blog post, remark 1",
    "At order N a prompt's weights are nearly the soft-max of its rewards,"
    " on an easy prompt and on a hard one.",
    "total variation "
    + " and ".join(f"{distance:.3f}" for distance in distances),
    "≤ 0.10 each",
    bool(np.max(distances) <= 0.10),
  )
