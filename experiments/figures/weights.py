"""Figure 1: the weight each objective gives a prompt of pass rate p."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.reports.results import Claim, Drawing, Result
from maxrl_jax import estimators, evaluation, objectives, plotting

ORDERS = (1, 2, 4, 8, 16, 32, 64, 128)
_NUM = 129  # Rollouts a group: order N − 1 is the largest centred one.
_GROUPS = {"quick": 2**14, "full": 2**18}


def figure(preset: str, workdir) -> Result:
  """w(p) on log axes, with what the estimator gives on average on top."""
  del workdir
  measured = _measured_weights(_GROUPS[preset])
  caption = (
    "Population weights w(p), lines, and the mean gradient estimate of"
    f" MaxRL divided by ∇p, dots: N = {_NUM} rollouts of a two-armed policy,"
    f" {_GROUPS[preset]:,} groups a dot."
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
  for i, order in enumerate(ORDERS):
    colour = plotting.shade(i / (len(ORDERS) - 1))
    weight = objectives.maxrl(order).weight(p)
    label = "RL (T = 1)" if order == 1 else f"MaxRL T = {order}"
    plotting.curve(ax, p, weight, colour=colour, label=label)
    means = [m[1] for m in measured[order]]
    ax.plot([m[0] for m in measured[order]], means, "o", ms=3.5, color=colour)
  for name, make in (
    ("maximum_likelihood", objectives.maximum_likelihood),
    ("grpo", objectives.grpo),
  ):
    label = {"grpo": "GRPO", "maximum_likelihood": "ML (1/p)"}[name]
    plotting.curve(
      ax,
      p,
      make().weight(p),
      colour=plotting.COLOURS[name],
      label=label,
    )
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


def _measured_weights(groups: int):
  """{order: [(p, mean weight, standard error, exact weight)]}."""
  measured: dict[int, list] = {}
  for order in ORDERS:
    estimator = functools.partial(estimators.maxrl, order=order)
    exact = objectives.maxrl(order).weight
    measured[order] = []
    for i, p in enumerate(np.geomspace(2e-3, 0.8, 8).astype(np.float32)):
      moments = evaluation.sampled_moments(
        jax.random.key(1000 * order + i),
        estimator,
        jnp.log(jnp.array([p, 1 - p])),
        jnp.array([True, False]),
        _NUM,
        groups,
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
