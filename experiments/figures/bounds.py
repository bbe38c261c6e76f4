"""Figure 2: J_T bounds log p from above; and what T does within one prompt."""

import jax
import numpy as np

from experiments.reports.results import Claim, Drawing, Result
from maxrl_jax import objectives, plotting, symmetric

_ORDERS = (1, 2, 4, 8, 16, 64, 256)
_NUM = 64


def figure(preset: str, workdir) -> Result:
  """Bounds on the left; an easy and a hard prompt's weights beside them."""
  del preset, workdir
  p = np.geomspace(1e-4, 1, 600)
  log_p = np.log(p)
  with jax.enable_x64(True):
    values = {t: np.asarray(objectives.maxrl(t).value(p)) for t in _ORDERS}
  drawing, (left, easy, hard) = plotting.axes(columns=3, width=3.9, height=3.4)
  _draw_bounds(left, p, values)
  distances = _draw_prompts(easy, hard)
  caption = (
    "Left: the truncated objective against log p. Middle and right: weights of"
    f" N = {_NUM} rollouts with Gaussian likelihoods l = exp(−error²/2). At"
    " order 1 a hard prompt's rollouts weigh next to nothing; at order N the"
    " weights have nearly the shape of the soft-max of the rewards −error²/2,"
    " whatever the prompt (they sum to 1 − Π(1 − l_i), not to 1)."
  )
  return Result(
    "Bounds on the log-likelihood, and soft-max within a prompt",
    [Drawing("bounds", drawing, caption)],
    [_bound_claim(values, log_p), _softmax_claim(distances)],
    [],
  )


def _draw_bounds(ax, p, values) -> None:
  for i, (order, value) in enumerate(values.items()):
    colour = plotting.shade(i / (len(_ORDERS) - 1))
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


def _draw_prompts(easy, hard) -> list[float]:
  """Weights within two prompts; their distances from the soft-max."""
  distances = []
  for ax, centre, name in ((easy, 0.0, "easy"), (hard, 3.5, "hard")):
    distances.append(_one_prompt(ax, centre))
    ax.set(
      xlabel="squared error of a rollout, (y − ŷ)²/σ²",
      ylabel="weight ω l / N",
      yscale="log",
      title=f"{name} prompt: errors about {centre:g} σ",
    )
  limits = easy.get_ylim(), hard.get_ylim()
  for ax in (easy, hard):
    ax.set_ylim(1e-6, 2 * max(high for _, high in limits))
  easy.legend(loc="lower left")
  return distances


def _one_prompt(ax, centre: float) -> float:
  """Draws ω_j l_j / N; returns how far order N is from the soft-max."""
  errors = centre + np.random.default_rng(7).normal(size=_NUM)
  reward = np.sort(-(errors**2) / 2)[::-1].astype(np.float32)
  likelihoods = np.exp(reward)
  orders = (1, 4, 16, _NUM)
  for i, order in enumerate(orders):
    weights = symmetric.loo_weights(likelihoods, order) * likelihoods / _NUM
    ax.plot(
      -2 * reward,
      weights,
      "o-",
      ms=2.5,
      lw=0.8,
      color=plotting.shade(i / (len(orders) - 1)),
      label=f"T = {order}",
    )
  softmax = np.asarray(jax.nn.softmax(reward))
  ax.plot(-2 * reward, softmax, "k--", lw=1, label="soft-max of rewards")
  shares = np.asarray(weights) / np.sum(weights)
  return float(np.abs(shares - softmax).sum() / 2)


def _bound_claim(values, log_p) -> Claim:
  stack = np.stack([*values.values(), log_p])
  # `value` is good to 20 roundings.
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
