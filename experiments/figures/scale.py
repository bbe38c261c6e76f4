"""The scale σ of the likelihood: from cross-entropy to RLOO on −MSE."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.figures.regression_methods import COLOURS
from experiments.reports.results import Claim, Drawing, Result
from maxrl_jax import likelihoods, objectives, plotting

_SIGMAS = np.geomspace(0.02, 64, 60)
_LARGE = 16.0  # The smallest σ in the fit of the expansion's slopes.
_COLOURS = {
  "cross-entropy": COLOURS["exact ML"],
  "RLOO on −MSE": COLOURS["RLOO on −MSE"],
  "MaxRL": COLOURS["MaxRL"],
  "RL on l (T = 1)": COLOURS["RLOO on l"],
}


class Settings(NamedTuple):
  """Choices of the figure: MaxRL's order, and the sizes of the problem."""

  order: int = 31
  prompts: int = 64
  features: int = 8
  bins: int = 64


PRESETS = {"quick": Settings(), "full": Settings()}


def figure(settings: Settings, runs) -> Result:
  """Directions of the whole gradient and errors of the expansion, by σ."""
  del runs
  with jax.enable_x64(True):
    cosines, errors = _measure(settings)
  caption = (
    f"Gradient of a linear policy over {settings.bins} grid values,"
    f" {settings.prompts} prompts, exact. Left: with a small σ only the right"
    " value has a likelihood above 0, and maximum likelihood is cross-entropy;"
    " with a large one it is RLOO on the average squared error. Right:"
    " −E[e²]/2σ² alone, and with the second term Var(e²)/8σ⁴; slopes −2 and −4."
  )
  return Result(
    "Scale: from cross-entropy to RLOO",
    [Drawing("scale", _draw(cosines, errors, settings.order), caption)],
    _claims(cosines, errors),
    [],
  )


class _Problem(NamedTuple):
  """A linear policy, and the squared error of each of its values."""

  features: jax.Array  # [prompts, features].
  weights: jax.Array  # [features, bins], where gradients are taken.
  right: jax.Array  # [prompts], index of the right value.
  squares: jax.Array  # [prompts, bins].


def _problem(settings: Settings) -> _Problem:
  _, prompts, size, bins = settings
  rng = np.random.default_rng(0)
  features = jnp.asarray(rng.normal(size=(prompts, size)))
  weights = jnp.asarray(rng.normal(size=(size, bins)) / 2)
  values = jnp.linspace(-4, 4, bins)
  right = jnp.asarray(rng.integers(bins, size=prompts))
  squares = (values[right][:, None] - values[None]) ** 2
  return _Problem(features, weights, right, squares)


def _objectives(problem: _Problem, sigma, order: int):
  """{name: weights → objective}, summed over prompts."""
  squares = problem.squares
  likelihood = likelihoods.gaussian(scale=1.0)
  log_l = likelihood.log_shape(jnp.sqrt(squares) / sigma)

  def log_policy(weights):
    logits = jnp.dot(problem.features, weights, precision="highest")
    return jax.nn.log_softmax(logits)

  def log_p(weights):
    return jax.nn.logsumexp(log_policy(weights) + log_l, axis=-1)

  def moments(weights):
    policy = jnp.exp(log_policy(weights))
    mean = jnp.sum(policy * squares, -1)
    return mean, jnp.sum(policy * squares**2, -1) - mean**2

  def of_order(order):
    value = objectives.maxrl(order).value
    return lambda w: jnp.sum(value(jnp.exp(log_p(w))))

  def first(weights):
    return jnp.sum(-moments(weights)[0] / (2 * sigma**2))

  def second(weights):
    return first(weights) + jnp.sum(moments(weights)[1] / (8 * sigma**4))

  rows = jnp.arange(len(problem.right))
  return {
    "exact": lambda w: jnp.sum(log_p(w)),
    "cross-entropy": lambda w: jnp.sum(log_policy(w)[rows, problem.right]),
    "RLOO on −MSE": first,
    "MaxRL": of_order(order),
    "RL on l (T = 1)": of_order(1),
    "second": second,
  }


def _measure(settings: Settings):
  """Cosines with the exact ML gradient, and the expansion's errors, by σ."""
  problem = _problem(settings)

  @jax.jit
  def gradients(sigma):
    return {
      name: jnp.ravel(jax.grad(f)(problem.weights))
      for name, f in _objectives(problem, sigma, settings.order).items()
    }

  each = [jax.tree.map(np.asarray, gradients(sigma)) for sigma in _SIGMAS]
  stacked = {name: np.stack([g[name] for g in each]) for name in each[0]}
  exact = stacked.pop("exact")
  length = np.linalg.norm(exact, axis=1)

  def error(gradient):
    return np.linalg.norm(gradient - exact, axis=1) / length

  errors = {
    "first order": error(stacked["RLOO on −MSE"]),
    "second order": error(stacked.pop("second")),
  }
  cosines = {
    name: np.sum(g * exact, 1) / np.linalg.norm(g, axis=1) / length
    for name, g in stacked.items()
  }
  return cosines, errors


def _draw(cosines, errors, order: int):
  drawing, (left, right) = plotting.axes(columns=2, width=5.0, height=3.4)
  _draw_cosines(left, cosines, order)
  _draw_errors(right, errors)
  plotting.legend_below(drawing, left)
  return drawing


def _draw_cosines(ax, cosines, order: int) -> None:
  for name, colour in _COLOURS.items():
    label = name + f" T = {order}" * (name == "MaxRL")
    plotting.curve(ax, _SIGMAS, cosines[name], colour=colour, label=label)
  ax.set(
    xscale="log",
    xlabel="scale σ of the likelihood",
    ylabel="cosine with ∇ log E[l]",
    title="direction of maximum likelihood",
    ylim=(-0.05, 1.05),
  )


def _draw_errors(ax, errors) -> None:
  colours = {"first order": COLOURS["RLOO on −MSE"], "second order": "#332288"}
  for label, colour in colours.items():
    plotting.curve(ax, _SIGMAS, errors[label], colour=colour, label=label)
  ax.set(
    xscale="log",
    yscale="log",
    xlabel="scale σ of the likelihood",
    ylabel="relative error of the gradient",
    title="expansion of log E[l] in 1/σ²",
    ylim=(1e-8, 1e2),
    xlim=(1, _SIGMAS[-1]),
  )
  ax.legend(loc="lower left")


def _claims(cosines, errors) -> list[Claim]:
  large = _SIGMAS >= _LARGE
  slopes = {
    name: np.polyfit(np.log(_SIGMAS[large]), np.log(error[large]), 1)[0]
    for name, error in errors.items()
  }
  ends = cosines["cross-entropy"][0], cosines["RLOO on −MSE"][-1]
  return [
    Claim(
      "scale.ends",
      "blog post, Taylor; own",
      "At the smallest σ the gradients of maximum likelihood and cross-entropy"
      " have one direction, at the largest those of maximum likelihood and RLOO"
      " on −MSE.",
      f"cosines {ends[0]:.4f} at σ = {_SIGMAS[0]:g} and {ends[1]:.4f} at"
      f" σ = {_SIGMAS[-1]:g}",
      "≥ 0.99 both",
      bool(np.min(ends) >= 0.99),
    ),
    Claim(
      "scale.expansion",
      "own",
      "The expansion's errors fall as σ⁻² (first order) and σ⁻⁴ (second).",
      ", ".join(f"{name}: slope {slope:.2f}" for name, slope in slopes.items()),
      "−2 ± 0.1 and −4 ± 0.2",
      bool(
        abs(slopes["first order"] + 2) <= 0.1
        and abs(slopes["second order"] + 4) <= 0.2
      ),
    ),
  ]
