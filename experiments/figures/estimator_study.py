"""Figure 3: estimators against the exact gradient; variance by baseline."""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.reports.results import Claim, Drawing, Result, Table
from maxrl_jax import estimators, evaluation, objectives, plotting

# A four-armed softmax policy and the likelihoods of its arms.
CASES = {
  "two arms right, p = 0.05": ((0.02, 0.03, 0.55, 0.4), (1.0, 1.0, 0.0, 0.0)),
  "two arms right, p = 0.5": ((0.3, 0.2, 0.3, 0.2), (1.0, 1.0, 0.0, 0.0)),
  "one arm right, p = 0.5": ((0.5, 0.2, 0.2, 0.1), (1.0, 0.0, 0.0, 0.0)),
  "continuous, p = 0.2": ((0.1, 0.3, 0.4, 0.2), (0.9, 0.2, 0.05, 0.15)),
  "continuous, p = 0.8": ((0.4, 0.3, 0.2, 0.1), (0.95, 0.8, 0.7, 0.4)),
}
# Colours that no method has, line styles and labels.
_BASELINES = {
  "centred": ("#332288", "-", "centred (the default)"),
  "loo_mean": ("#882255", "--", "mean of the other rollouts"),
  "average_score": ("#117733", "-.", "mean score of the group"),
  "1/N": ("#AA8800", ":", "constant 1/N"),
}


class Settings(NamedTuple):
  """Choices of the figure.

  Outcomes of up to `rollouts` rollouts are enumerated; of more, `groups` are
  sampled.
  """

  rollouts: int = 6
  groups: int = 2**13


PRESETS = {"quick": Settings(), "full": Settings(rollouts=8, groups=2**17)}


def figure(settings: Settings, runs) -> Result:
  """Bias, exactly and by sampling, and variance relative to no baseline."""
  del runs
  largest = settings.rollouts
  biases = _relative_biases(largest)
  sampled = _sampled_deviations(settings.groups)
  variances = _variances(largest)
  caption = (
    "Trace of the gradient's covariance by order and baseline, relative to the"
    f" same order without a baseline; exact, over all 4^{largest} outcomes of"
    f" N = {largest} rollouts of a four-armed softmax policy. With one right"
    " arm all successes share one score, and a baseline mostly adds variance."
  )
  return Result(
    "Estimators against the exact gradient",
    [Drawing("estimators", _draw(variances, largest), caption)],
    _claims(biases, sampled, variances, largest),
    [_table(variances, largest)],
  )


def _draw(variances, largest: int):
  drawing, axes = plotting.axes(columns=len(CASES), width=2.6, height=3.0)
  orders = range(1, largest + 1)
  for ax, (case, rows) in zip(axes, variances.items(), strict=True):
    for name, (colour, dashes, label) in _BASELINES.items():
      look = {"color": colour, "ls": dashes, "label": label}
      ax.plot(orders, rows[name], marker="o", ms=3, **look)
    ax.axhline(1, color="0.5", lw=0.8, ls="--")
    ax.set(title=case, xlabel="order T", yscale="log", xticks=list(orders))
  for ax in axes:
    ax.set_ylim(0.04, 40)
  for ax in axes[1:]:
    ax.tick_params(labelleft=False)
  axes[0].set_ylabel("variance, relative to no baseline")
  plotting.legend_below(drawing, axes[0])
  return drawing


@functools.partial(jax.jit, static_argnums=(0, 1))
def _moments(num: int, baseline: str, order, logits, likelihoods):
  """Enumerated moments; orders are traced, and share a program."""
  b = 1 / num if baseline == "1/N" else baseline

  def estimator(l):
    return estimators.maxrl(l, order=order, baseline=b)

  return evaluation.enumerated_moments(estimator, logits, likelihoods, num)


def _variances(num: int):
  """{case: {baseline: [relative variance at order 1 … N]}}, exact."""
  variances = {}
  for case, (policy, likelihoods) in CASES.items():
    logits, l = jnp.log(jnp.array(policy)), jnp.array(likelihoods)
    variance = {
      baseline: np.array(
        [
          _moments(num, baseline, order, logits, l).variance
          for order in range(1, num + 1)
        ]
      )
      for baseline in ("none", *_BASELINES)
    }
    plain = variance.pop("none")
    variances[case] = {name: v / plain for name, v in variance.items()}
  return variances


def _relative_biases(largest: int) -> np.ndarray:
  """Relative errors of E[ĝ] for every N, T, baseline and case."""
  errors = []
  with jax.enable_x64(True):
    for (policy, likelihoods), num in itertools.product(
      CASES.values(), range(2, largest)
    ):
      logits, l = jnp.log(jnp.array(policy)), jnp.array(likelihoods)
      for order in range(1, num + 1):
        truth = evaluation.exact_gradient(objectives.maxrl(order), logits, l)
        for baseline in (*estimators.BASELINES, "1/N"):
          mean = _moments(num, baseline, order, logits, l).mean
          errors.append(jnp.abs(mean - truth).max() / jnp.abs(truth).max())
  return np.array(errors)


def _sampled_deviations(groups: int) -> list[float]:
  """|E[ĝ] − ∇J_T| in standard errors, for larger N, by sampling."""
  deviations = []
  policy, likelihoods = CASES["continuous, p = 0.2"]
  logits, l = jnp.log(jnp.array(policy)), jnp.array(likelihoods)
  for num, order in ((16, 4), (16, 15), (64, 16), (64, 64), (256, 255)):
    estimator = functools.partial(estimators.maxrl, order=order)
    moments = evaluation.sampled_moments(
      jax.random.key(num + order), estimator, logits, l, num, groups
    )
    truth = evaluation.exact_gradient(objectives.maxrl(order), logits, l)
    off = jnp.abs(moments.mean - truth) / moments.standard_error
    deviations.append(float(off.max()))
  return deviations


def _claims(biases, sampled, variances, num) -> list[Claim]:
  centred = [v for rows in variances.values() for v in rows["centred"]]
  # Python's max would drop a NaN.
  bias, furthest, worst = map(np.max, (biases, sampled, centred))
  return [
    Claim(
      "estimators.unbiased.enumerated",
      "theorem 2, generalized",
      "E[ĝ] = ∇J_T exactly for every order, baseline and case,"
      f" N = 2 … {num - 1}.",
      f"{len(biases)} combinations, largest relative error {bias:.1e}",
      "≤ 1e-10 in float64",
      bool(bias <= 1e-10),
    ),
    Claim(
      "estimators.unbiased.sampled",
      "theorem 2, generalized",
      "The same for N up to 256, by sampling.",
      f"worst of {len(sampled)} settings × 4 logits:"
      f" {furthest:.2f} standard errors",
      "≤ 4",
      bool(furthest <= 4),
    ),
    Claim(
      "estimators.variance.centred",
      "own",
      "The centred baseline never adds variance.",
      f"{np.min(centred):.2f} to {worst:.2f} times that of no baseline",
      "≤ 1.005 at every order and case",
      bool(worst <= 1.005),
      "Where one action alone is right all successes have the same score, and"
      " without a baseline the group's gradient hardly varies (proved in"
      " docs/theory/variance.md).",
    ),
  ]


def _table(variances, num: int) -> Table:
  orders = sorted({1, num // 2, num - 1, num})
  rows = [
    [case, _BASELINES[baseline][-1], *(f"{values[t - 1]:.2f}" for t in orders)]
    for case, by_baseline in variances.items()
    for baseline, values in by_baseline.items()
  ]
  return Table(
    f"Gradient variance relative to no baseline, N = {num}, exact.",
    ["case", "baseline", *(f"T = {t}" for t in orders)],
    rows,
  )
