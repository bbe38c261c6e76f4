"""Figure 1: the weight that objectives give to a prompt of pass rate p."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.reports.results import Claim, Drawing, Result
from maxrl_jax import estimators, evaluation, objectives, plotting


class Settings(NamedTuple):
  """Choices of the figure; `groups` of rollouts per pass rate."""

  orders: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128)
  rollouts: int = 129  # Order N − 1 is the largest centred one.
  groups: int = 2**14


PRESETS = {"quick": Settings(), "full": Settings(groups=2**18)}


def figure(settings: Settings, runs) -> Result:
  """w(p) on log axes, and mean estimates of MaxRL."""
  del runs
  measured = _measured_weights(settings)
  caption = (
    "Population weights w(p), lines, and the mean gradient estimate of"
    f" MaxRL divided by ∇p, dots: N = {settings.rollouts} rollouts of a"
    f" two-armed policy, {settings.groups:,} groups per dot. The claim is about"
    f" all orders, {', '.join(map(str, settings.orders))}."
  )
  return Result(
    "Weight functions (paper, figure 1)",
    [Drawing("weights", _draw(measured), caption)],
    [_claim(measured)],
    [],
  )


def _draw(measured):
  p = np.geomspace(1e-3, 1, 400)[:-1]
  p = np.append(p, 1 - np.geomspace(1e-2, 1e-4, 40)).astype(np.float32)
  p.sort()
  drawing, ax = plotting.axes(width=5.6, height=4.2)
  shown = plotting.few([*measured.items()], 4)
  for i, (order, points) in enumerate(shown):
    colour = plotting.shade(i, len(shown) - 1)
    weight = objectives.maxrl(order).weight(p)
    label = "RL (T = 1)" if order == 1 else f"MaxRL T = {order}"
    plotting.curve(ax, p, weight, colour=colour, label=label)
    pass_rates, means, *_ = zip(*points, strict=True)
    ax.plot(pass_rates, means, "o", ms=3.5, color=colour)
  for name, objective, label in (
    ("maximum_likelihood", objectives.maximum_likelihood(), "ML (1/p)"),
    ("grpo", objectives.grpo(), "GRPO"),
  ):
    look = {"colour": plotting.COLOURS[name], "label": label}
    plotting.curve(ax, p, objective.weight(p), **look)
  ax.set(
    xscale="log",
    yscale="log",
    xlabel="pass rate p",
    ylabel="weight w(p) of ∇p",
    xlim=(1e-3, 1.02),
    ylim=(0.8, 1.2e3),
  )
  ax.legend(loc="upper right", ncols=2)
  return drawing


def _measured_weights(settings: Settings):
  """{order: [(p, mean weight, standard error, exact weight)]}."""
  measured: dict[int, list] = {}
  for order in settings.orders:
    estimator = functools.partial(estimators.maxrl, order=order)
    exact = objectives.maxrl(order).weight
    measured[order] = []
    for i, p in enumerate(np.geomspace(2e-3, 0.8, 8).astype(np.float32)):
      moments = evaluation.sampled_moments(
        jax.random.key(1000 * order + i),
        estimator,
        jnp.log(jnp.array([p, 1 - p])),
        jnp.array([True, False]),
        settings.rollouts,
        settings.groups,
      )
      slope = p * (1 - p)  # ∂p/∂logit of the successful arm
      mean, error = moments.mean[0] / slope, moments.standard_error[0] / slope
      measured[order].append((p, float(mean), float(error), float(exact(p))))
  return measured


def _claim(measured) -> Claim:
  points = np.array([point for row in measured.values() for point in row])
  _, means, errors, exact = points.T
  # Python's max would drop a NaN.
  worst = np.max(np.abs(means - exact) / errors)
  precision = np.max(errors / exact)
  return Claim(
    "weights.unbiased",
    "figure 1, theorem 2",
    "The estimator's mean weight is w_T(p) at every order and pass rate.",
    f"{len(points)} points, worst {worst:.2f} standard errors off"
    f" (largest standard error {precision:.1%} of w)",
    "≤ 4 standard errors, each ≤ 10 % of w",
    bool(worst <= 4 and precision <= 0.10),
  )
