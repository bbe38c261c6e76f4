"""Likelihoods in [0, 1]: densities of the target given a rollout's prediction.

A rollout z predicts ŷ(z), and a noise model f is the density of the target y
around that prediction. The likelihood is

    l(y, z) = f(y − ŷ(z); σ) / c,    c = f(0; smallest σ)

The ceiling c is the maximum of the density and does not depend on the policy,
so that 0 ≤ l ≤ 1. It has no effect on maximum likelihood but affects J_T of
finite order, so `log_ceiling` is reported: log f = log l + log c.

All computation is in log space: a log-likelihood of −1e4 is exact, although its
likelihood is 0.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import special
from jax.scipy import stats as densities
from jax.typing import ArrayLike

from maxrl_jax import ranges

Array = jax.Array


class Likelihood(NamedTuple):
  """A noise model f(y − ŷ; σ) = f₁((y − ŷ)/σ)/σ and its ceiling.

  Attributes:
    log_shape: u → log f₁(u)/f₁(0) ≤ 0, elementwise.
    cdf: u → P(U ≤ u) of standard noise U.
    log_peak: log f₁(0).
    scale: default σ, if neither the prompt nor the policy has one.
    smallest_scale: lower bound of σ, which determines the ceiling; None is
      `scale`.
    log_under_normal: (y − m, σ, s) → log E[f] over ŷ ~ N(m, s), in closed form
      or nearly so; None averages over slices of the normal, which requires
      noise that is not much narrower than the policy.
  """

  log_shape: Callable[[Array], Array]
  cdf: Callable[[Array], Array]
  log_peak: float
  scale: float | Array
  smallest_scale: float | None = None
  log_under_normal: Callable[[Array, Any, Array], Array] | None = None

  def at(self, scale: float | Array) -> "Likelihood":
    """The same noise model with another σ, which may be traced."""
    return self._replace(scale=scale)

  @property
  def smallest(self) -> float | Array:
    """The smallest possible σ."""
    return self.scale if self.smallest_scale is None else self.smallest_scale

  @property
  def log_ceiling(self) -> float | Array:
    """log c in nats; log l + log c is a log-density."""
    if isinstance(self.smallest, jax.core.Tracer):
      return self.log_peak - jnp.log(self.smallest)
    return self.log_peak - math.log(self.smallest)

  def log_likelihoods(
    self, residuals: Array, scale: ArrayLike | None = None
  ) -> Array:
    """log l = log f(y − ŷ; σ) − log c ≤ 0, elementwise."""
    scale = self.scale if scale is None else scale
    # Not via the density, so that l = 1 at residual 0 and the smallest σ.
    relative = jnp.log(self.smallest / scale)
    return self.log_shape(residuals / scale) + relative


def gaussian(
  *, scale: float | Array, smallest_scale: float | None = None
) -> Likelihood:
  """f = exp(−(y−ŷ)²/2σ²) / (σ √2π).

  Args:
    scale: σ > 0, in units of the target.
    smallest_scale: lower bound of a per-prompt or learned σ; None means
      `scale`.

  Raises:
    ValueError: σ not above 0, or below its lower bound.
  """
  return Likelihood(
    lambda u: -u * u / 2,
    special.ndtr,
    -math.log(2 * math.pi) / 2,
    *_scales(scale, smallest_scale),
    log_under_normal=lambda r, noise, s: densities.norm.logpdf(
      r, 0.0, jnp.sqrt(noise**2 + s**2)
    ),
  )


def laplace(
  *, scale: float | Array, smallest_scale: float | None = None
) -> Likelihood:
  """f = exp(−|y−ŷ|/b) / 2b, with b = `scale`; arguments as in `gaussian`."""
  return Likelihood(
    lambda u: -jnp.abs(u),
    densities.laplace.cdf,
    -math.log(2),
    *_scales(scale, smallest_scale),
    log_under_normal=_laplace_under_normal,
  )


def _laplace_under_normal(r: Array, b: Array, s: Array) -> Array:
  """log of e^{s²/2b²} (e^{−r/b} Φ(r/s − s/b) + e^{r/b} Φ(−r/s − s/b)) / 2b."""
  # If b is far below s, s²/2b² nearly cancels: each side is then computed as
  # −r²/2s² plus the logarithm of Mills' ratio.
  ratio, normal = s / b, densities.norm.logpdf(r / s)

  def side(u: Array) -> Array:
    x = ratio - u
    near = ratio * (ratio / 2 - u) + special.log_ndtr(-jnp.minimum(x, 5.0))
    return jnp.where(x > 5.0, normal + _log_mills(jnp.maximum(x, 5.0)), near)

  return jnp.logaddexp(side(r / s), side(-r / s)) - jnp.log(2 * b)


def _log_mills(x: Array) -> Array:
  """log of (1 − Φ(x))/φ(x) for x ≥ 5, by Laplace's continued fraction."""
  below = x
  for k in range(16, 0, -1):
    below = x + k / below
  return -jnp.log(below)


def student_t(
  *,
  scale: float | Array,
  degrees: float = 3.0,
  smallest_scale: float | None = None,
) -> Likelihood:
  """f ∝ (1 + (y−ŷ)²/νσ²)^{−(ν+1)/2}: heavy tails, robust to outliers.

  Args:
    scale: σ > 0.
    degrees: ν > 0; 1 is Cauchy, large is Gaussian.
    smallest_scale: as in `gaussian`.
  """
  ranges.above_zero(degrees=degrees)
  degrees = min(degrees, 1e9)  # Normal; above it, formulas of ν cancel.

  def cdf(u: Array) -> Array:
    if degrees > 100:  # Wallace (1959), within 1.2e-6; betainc loses digits.
      z = jnp.sqrt(degrees * jnp.log1p(u * u / degrees))
      factor = (8 * degrees + 1) / (8 * degrees + 3)
      return special.ndtr(jnp.sign(u) * factor * z)
    # P(0 < U < |u|) near 0 and P(U > |u|) further out: each keeps its digits.
    near, half = jnp.abs(u) < 1, degrees / 2
    a, b = jnp.where(near, 0.5, half), jnp.where(near, half, 0.5)
    x = jnp.where(near, u * u, degrees) / (degrees + u * u)
    chance = special.betainc(a, b, x) / 2
    outside = jnp.where(u > 0, 1 - chance, chance)
    return jnp.where(near, 0.5 + jnp.sign(u) * chance, outside)

  log_g, log_weights = _log_precisions(degrees)

  def log_under_normal(r: Array, noise: ArrayLike, s: Array) -> Array:
    column = (-1,) + (1,) * jnp.ndim(r)
    wider = jnp.exp(-log_g.astype(r.dtype) / 2).reshape(column)
    total = jnp.sqrt(jnp.square(noise * wider) + jnp.square(s)[None])
    terms = densities.norm.logpdf(r[None], 0.0, total)
    terms = terms + log_weights.astype(r.dtype).reshape(column)
    return special.logsumexp(terms, axis=0)

  return Likelihood(
    lambda u: -(degrees + 1) / 2 * jnp.log1p(u * u / degrees),
    cdf,
    math.lgamma((degrees + 1) / 2)
    - math.lgamma(degrees / 2)
    - math.log(degrees * math.pi) / 2,
    *_scales(scale, smallest_scale),
    log_under_normal=log_under_normal,
  )


def _log_precisions(degrees: float) -> tuple[np.ndarray, np.ndarray]:
  """log g and log weights of t as a mixture of normals of precision g/σ².

  g ~ Gamma(ν/2, ν/2). Quantiles of g would omit the small g near ν/(ν + u²),
  which alone explain a large residual u. As functions of log g the integrands
  are smooth bumps of width √(2/(ν+1)) or slightly less, so even steps of half
  that width are exact in float32. The nodes reach u = 500 for every ν, and 10¹²
  for ν ≤ 30; beyond that the density decays like a normal one.
  """
  shape = degrees / 2
  # P(g > highest) ≤ e⁻⁴⁰ (Laurent and Massart 2000, lemma 1).
  highest = math.log1p(40 / shape + math.sqrt(2 * 40 / shape))
  step = math.sqrt(2 / (2 * shape + 1)) / 2
  log_g = highest - step * np.arange(512)
  log_g = log_g[log_g > -60]
  # The log-density at its mode, log g = 0, plus the change from there.
  peak = shape * (math.log(shape) - 1) - math.lgamma(shape)
  density = peak + shape * (log_g - np.expm1(log_g))
  return log_g, density + math.log(step)


def tolerance(*, width: float | Array) -> Likelihood:
  """Binary: l = 1[|y − ŷ| ≤ width], a uniform density 1/(2 width)."""
  ranges.above_zero(width=width)
  return Likelihood(
    lambda u: jnp.where(jnp.abs(u) <= 1, 0.0, -jnp.inf),
    lambda u: jnp.clip((u + 1) / 2, 0.0, 1.0),
    -math.log(2),
    width,
    log_under_normal=_window_under_normal,
  )


def _window_under_normal(r: Array, width: Array, s: Array) -> Array:
  """log of (Φ((w−|r|)/s) − Φ((−w−|r|)/s)) / 2w, by logarithms of tails."""
  r = jnp.abs(r)
  # If both tails are equal in float32, the density is constant in the window.
  narrow = width < jnp.maximum(1e-3 * s, 1e-6 * r)
  w, at = jnp.where(narrow, s, width), jnp.where(narrow, 0.0, r)
  upper = special.log_ndtr((w - at) / s)
  lower = special.log_ndtr((-w - at) / s)
  wide = upper + jnp.log1p(-jnp.exp(lower - upper)) - jnp.log(2.0 * w)
  return jnp.where(narrow, densities.norm.logpdf(r, 0.0, s), wide)


def exact_match() -> Likelihood:
  """l = 1[y = ŷ], by float equality, for targets on a grid."""
  return Likelihood(
    lambda u: jnp.where(u == 0, 0.0, -jnp.inf),
    lambda u: (u >= 0).astype(u.dtype),
    0.0,
    1.0,
  )


LIKELIHOODS: dict[str, Callable[..., Likelihood]] = {
  "gaussian": gaussian,
  "laplace": laplace,
  "student_t": student_t,
  "tolerance": tolerance,
  "exact_match": exact_match,
}


def from_log_likelihood(
  log_likelihoods: Array, log_ceiling: ArrayLike = 0.0
) -> Array:
  """l = exp(log l' − log c) for custom log-likelihoods, [B, N] or [N].

  Args:
    log_likelihoods: log l'; −inf is a likelihood of 0.
    log_ceiling: log c, the largest value of log l' under any policy.

  Raises:
    ValueError: NaN, or above the ceiling; names the prompt, value and ceiling.
      Not raised under `jit`, where training checks for l > 1 instead.
  """
  log_l = jnp.asarray(log_likelihoods)
  if not any(map(ranges.is_traced, (log_likelihoods, log_ceiling))):
    values = np.asarray(log_likelihoods)
    above = np.argwhere(~(values <= np.asarray(log_ceiling)))
    if above.size:
      at = tuple(int(i) for i in above[0])
      ceiling = float(
        np.broadcast_to(np.asarray(log_ceiling), values.shape)[at]
      )
      prompt = f" (prompt {at[0]})" if log_l.ndim > 1 else ""
      raise ValueError(
        f"log_likelihoods{list(at)}{prompt} = {float(values[at]):.6g}: must be"
        f" at most log_ceiling = {ceiling:.6g}, the largest value that a"
        " log-likelihood can take"
      )
  return jnp.exp(log_l - log_ceiling)


def _scales(
  scale: float | Array, smallest_scale: float | None
) -> tuple[float | Array, float | None]:
  if ranges.is_traced(scale):
    return scale, smallest_scale
  ranges.above_zero(scale=scale)
  largest = ranges.on_host(scale)
  if smallest_scale is not None and not 0 < smallest_scale <= largest:
    raise ValueError(
      f"smallest_scale = {smallest_scale}: must be above 0 and at most scale ="
      f" {scale}"
    )
  return scale, smallest_scale
