"""What a rollout is worth: the density it gives to the target, within [0, 1].

A rollout z predicts ŷ(z), and its noise model f says how likely the target y is
about that prediction. The likelihood is

    l(y, z) = f(y − ŷ(z); σ) / c,    c = f(0; smallest σ)

The ceiling c does not depend on the policy and is the largest that the density
can be, so that 0 ≤ l ≤ 1. Maximum likelihood does not see it; J_T of a finite
order does, which is why `log_ceiling` is reported: log f = log l + log c.

Everything is computed in log space: a log-likelihood of −1e4 stays what it is,
and its likelihood is 0.
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
from scipy import stats

from maxrl_jax import ranges

Array = jax.Array


class Likelihood(NamedTuple):
  """A noise model f(y − ŷ; σ) = f₁((y − ŷ)/σ)/σ and the ceiling that scales it.

  Attributes:
    log_shape: u → log f₁(u)/f₁(0) ≤ 0, elementwise.
    cdf: u → the chance of standard noise at or below u.
    log_peak: log f₁(0).
    scale: σ where neither the prompt nor the policy has its own.
    smallest_scale: σ is never below it; this is where the ceiling comes from.
    log_under_normal: (y − m, σ, s) → log f averaged over ŷ ~ N(m, s), in closed
      form or close to it; None sums slices of the normal, which needs a noise
      that is not much narrower than the policy.
  """

  log_shape: Callable[[Array], Array]
  cdf: Callable[[Array], Array]
  log_peak: float
  scale: float | Array
  smallest_scale: float | Array
  log_under_normal: Callable[[Array, Any, Array], Array] | None = None

  @property
  def log_ceiling(self) -> float | Array:
    """log c: what is to be added to log l for a density, in nats."""
    if isinstance(self.smallest_scale, jax.core.Tracer):
      return self.log_peak - jnp.log(self.smallest_scale)
    return self.log_peak - math.log(self.smallest_scale)

  def log_likelihoods(
    self, residuals: Array, scale: ArrayLike | None = None
  ) -> Array:
    """log l = log f(y − ŷ; σ) − log c ≤ 0, elementwise."""
    scale = self.scale if scale is None else scale
    # No density is formed: at a residual of 0 and the smallest σ, l is 1.
    relative = jnp.log(self.smallest_scale / scale)
    return self.log_shape(residuals / scale) + relative


def gaussian(
  *, scale: float | Array, smallest_scale: float | Array | None = None
) -> Likelihood:
  """f = exp(−(y−ŷ)²/2σ²) / (σ √2π).

  Args:
    scale: σ > 0, in units of the target.
    smallest_scale: where σ is per prompt or learned, its lower bound; None is
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
  *, scale: float | Array, smallest_scale: float | Array | None = None
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
  # Where b is far below s, s²/2b² is far above what is left in the end: each
  # side is −r²/2s² and the logarithm of Mills' ratio instead.
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
  smallest_scale: float | Array | None = None,
) -> Likelihood:
  """f ∝ (1 + (y−ŷ)²/νσ²)^{−(ν+1)/2}: tails that forgive outliers.

  Args:
    scale: σ > 0.
    degrees: ν > 0; 1 is Cauchy, large is Gaussian.
    smallest_scale: as in `gaussian`.
  """
  ranges.above_zero(degrees=degrees)

  def cdf(u: Array) -> Array:
    tail = special.betainc(degrees / 2, 0.5, degrees / (degrees + u * u)) / 2
    return jnp.where(u > 0, 1 - tail, tail)

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
  """log g and their log weights: t is normals of precision g/σ² mixed by these.

  g ~ Gamma(ν/2, ν/2). Its quantiles would leave out the smallest g, which alone
  explain a far residual u, near ν/(ν + u²). In log g all integrands are smooth
  bumps, hardly narrower than √(2/(ν+1)), of which even steps of half of that
  miss nothing that float32 sees. They reach u = 500 for every ν, and 10¹² for
  ν ≤ 30; beyond that the density falls like a normal one.
  """
  # Beyond 1e9, t is normal, and this density a difference of large numbers.
  shape = min(degrees, 1e9) / 2
  # P(g > highest) ≤ e⁻⁴⁰ (Laurent and Massart 2000, lemma 1).
  highest = math.log1p(40 / shape + math.sqrt(2 * 40 / shape))
  step = math.sqrt(2 / (2 * shape + 1)) / 2
  log_g = highest - step * np.arange(512)
  log_g = log_g[log_g > -60]
  density = stats.loggamma.logpdf(log_g, shape, loc=-math.log(shape))
  return log_g, density + math.log(step)


def tolerance(*, width: float) -> Likelihood:
  """Right or wrong: l = 1[|y − ŷ| ≤ width], as a density 1/(2 width)."""
  ranges.above_zero(width=width)
  return Likelihood(
    lambda u: jnp.where(jnp.abs(u) <= 1, 0.0, -jnp.inf),
    lambda u: jnp.clip((u + 1) / 2, 0.0, 1.0),
    -math.log(2),
    width,
    width,
    log_under_normal=_window_under_normal,
  )


def _window_under_normal(r: Array, width: Array, s: Array) -> Array:
  """log of (Φ((w−|r|)/s) − Φ((−w−|r|)/s)) / 2w, by logarithms of tails."""
  r = jnp.abs(r)
  # Where both tails are one number in float32, the window sees one density.
  narrow = width < jnp.maximum(1e-3 * s, 1e-6 * r)
  w, at = jnp.where(narrow, s, width), jnp.where(narrow, 0.0, r)
  upper = special.log_ndtr((w - at) / s)
  lower = special.log_ndtr((-w - at) / s)
  wide = upper + jnp.log1p(-jnp.exp(lower - upper)) - jnp.log(2.0 * w)
  return jnp.where(narrow, densities.norm.logpdf(r, 0.0, s), wide)


def exact_match() -> Likelihood:
  """l = 1[y = ŷ]: for targets that are values of a grid, to float equality."""
  return Likelihood(
    lambda u: jnp.where(u == 0, 0.0, -jnp.inf),
    lambda u: (u >= 0).astype(u.dtype),
    0.0,
    1.0,
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
  """l = exp(log l' − log c) for a log-likelihood of your own, [B, N] or [N].

  Args:
    log_likelihoods: log l'; −inf is a likelihood of 0.
    log_ceiling: log c, the largest that log l' can be, whatever the policy.

  Raises:
    ValueError: NaN, or above the ceiling; names the prompt, value and ceiling.
      Under `jit` nothing can be raised: training watches for l > 1 instead.
  """
  log_l = jnp.asarray(log_likelihoods)
  traced = any(isinstance(x, jax.core.Tracer) for x in (log_l, log_ceiling))
  if not traced:
    above = np.argwhere(~(np.asarray(log_l) <= np.asarray(log_ceiling)))
    if above.size:
      at = tuple(int(i) for i in above[0])
      ceiling = float(np.broadcast_to(log_ceiling, log_l.shape)[at])
      prompt = f" (prompt {at[0]})" if log_l.ndim > 1 else ""
      raise ValueError(
        f"log_likelihoods{list(at)}{prompt} = {float(log_l[at]):.6g}, above"
        f" log_ceiling = {ceiling:.6g}: raise the ceiling to the"
        " largest value that a log-likelihood can take"
      )
  return jnp.exp(log_l - log_ceiling)


def _scales(
  scale: float | Array, smallest_scale: float | Array | None
) -> tuple[float | Array, float | Array]:
  smallest = scale if smallest_scale is None else smallest_scale
  if ranges.is_traced(scale):
    return scale, smallest
  ranges.above_zero(scale=scale)
  if not 0 < smallest <= scale:
    raise ValueError(
      f"smallest_scale = {smallest}: must be above 0 and at most scale ="
      f" {scale}"
    )
  return scale, smallest
