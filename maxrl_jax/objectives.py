"""Exact objectives J(p) of one prompt, their weights w(p) and series.

A method that sees only the pass rate p = E[l] of a prompt maximizes some
J(p), and its gradient is w(p) ∇p with w = J'. RL and maximum likelihood
differ only in how w weights hard prompts:

    name                J(p)                   w(p)           a_k
    rl                  p                      1              1, 0, 0, …
    maxrl(T)            −Σ_{k=1..T} (1−p)^k/k  (1−(1−p)^T)/p  1 for k < T
    maximum_likelihood  log p                  1/p            1 for all k
    pass_at_k(K)        1−(1−p)^K              K(1−p)^{K−1}   K at k = K−1
    power(α)            (p^α−1)/α              p^{α−1}        C(k−α, k)
    grpo                2 arcsin √p            1/√(p(1−p))    (not a series)

A series objective has w(p) = Σ_k a_k (1−p)^k with a_k ≥ 0; rollouts can
estimate its gradient without bias (`symmetric`). All functions are accurate to
rounding for p from 1e-12 to 1: (1−p)^k is computed as exp(k log1p(−p)), and
differences of nearly equal numbers are replaced by their series.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from maxrl_jax import ranges

Array = jax.Array
_Function = Callable[[Array], Array]


class Objective(NamedTuple):
  """J(p) and w(p) = J'(p), elementwise on arrays of pass rates in [0, 1].

  `coefficients(length)` returns a_0 … a_{length−1} of w(p) = Σ_k a_k (1−p)^k;
  it is None if the objective is not a series. The derivative of `value` is
  `weight`, and that of `weight` is exact, at every p including 0 and 1.
  """

  value: Callable[[ArrayLike], Array]
  weight: Callable[[ArrayLike], Array]
  coefficients: Callable[[int], Array] | None


def _objective(
  value: _Function,
  weight: _Function,
  slope: _Function,
  coefficients: Callable[[int], Array] | None,
) -> Objective:
  """Sets w = J' and w' as custom derivatives, which avoids cancellation."""
  w = _with_derivative(weight, slope)
  return Objective(_with_derivative(value, w), w, coefficients)


def _with_derivative(
  function: _Function, derivative: Callable[..., Array]
) -> Callable[[ArrayLike], Array]:
  @jax.custom_jvp
  def f(p: Array) -> Array:
    return function(p)

  @f.defjvp
  def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (p,), (dp,) = primals, tangents
    return f(p), derivative(p) * dp

  def call(p: ArrayLike) -> Array:
    p = _as_float(p)
    # Half precision would lose digits on the way.
    full = p.dtype if jnp.finfo(p.dtype).bits >= 32 else jnp.float32
    return f(p.astype(full)).astype(p.dtype)

  return call


def _as_float(x: ArrayLike) -> Array:
  x = jnp.asarray(x)
  return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(float)


def _numbers(length: int) -> Array:
  return jnp.arange(length, dtype=float)


def _log_failure(p: Array) -> Array:
  """log(1−p) within two roundings; XLA's log1p loses six bits near 0.4."""
  q = 1 - p
  return jnp.where(q == 1, -p, jnp.log(q) * (p / jnp.where(q == 1, 1, 1 - q)))


def _log_failure_power(k: ArrayLike, p: Array) -> Array:
  """k log(1−p); 0 for k = 0, even at p = 1."""
  return jnp.where(k == 0, 0, jnp.where(k == 0, 1, k) * _log_failure(p))


def _failure_power(k: ArrayLike, p: Array) -> Array:
  """(1−p)^k without rounding 1−p first; 0^0 = 1."""
  return jnp.exp(_log_failure_power(k, p))


def rl() -> Objective:
  """Pass rate: J(p) = p, w(p) = 1; `maxrl` of order 1 up to a constant."""
  return _objective(
    lambda p: p,
    jnp.ones_like,
    jnp.zeros_like,
    lambda length: jnp.zeros(length).at[0].set(1.0),
  )


def maxrl(order: float | Array) -> Objective:
  """Truncated log p: J_T(p) = −Σ_{k=1..T} (1−p)^k/k (arXiv 2602.02710, eq. 7).

  Args:
    order: T ≥ 1, a number or a traced scalar; `jnp.inf` gives log p.
  """
  order = _require(order, "order", lambda t: t >= 1, "at least 1")
  of = lambda f: lambda p: f(p, jnp.asarray(order).astype(p.dtype))  # noqa: E731
  return _objective(
    of(_truncated_log),
    of(_truncated_inverse),
    of(_truncated_inverse_slope),
    lambda length: (_numbers(length) < jnp.asarray(order, float)).astype(float),
  )


def maximum_likelihood() -> Objective:
  """Log-likelihood: J(p) = log p, w(p) = 1/p; −inf and inf at p = 0."""
  return _objective(jnp.log, lambda p: 1 / p, lambda p: -1 / (p * p), jnp.ones)


def pass_at_k(k: int | Array) -> Objective:
  """P(a success in K rollouts): J(p) = 1−(1−p)^K (PKPO, arXiv 2505.15201).

  Args:
    k: K ≥ 1, a number or a traced scalar.
  """
  k = _require(k, "k", lambda k: k >= 1, "at least 1")

  def slope(p: Array) -> Array:
    # k² may exceed the range of integers.
    return (1.0 - k) * k * _failure_power(jnp.maximum(k - 2, 0), p)

  return _objective(
    lambda p: -jnp.expm1(_log_failure_power(k, p)),
    lambda p: k * _failure_power(k - 1, p),
    slope,
    lambda length: jnp.where(jnp.arange(length) == k - 1, 1.0 * k, 0.0),
  )


def power(alpha: float | Array) -> Objective:
  """Box–Cox pass rate: J(p) = (p^α−1)/α, w(p) = p^{α−1}.

  α = 1 is RL, α → 0 is log p, α = ½ is the series closest to GRPO. The
  coefficients are a_k = C(k−α, k) = Π_{i≤k} (i−α)/i.

  Args:
    alpha: α in [0, 1], a number or a traced scalar.
  """
  _require(alpha, "alpha", lambda a: 0 <= a <= 1, "in [0, 1]")

  def value(p: Array) -> Array:
    log_p = jnp.log(p)
    small = jnp.abs(alpha) < jnp.finfo(log_p.dtype).tiny
    safe = jnp.where(small, 1.0, alpha)
    return jnp.where(small, log_p, jnp.expm1(safe * log_p) / safe)

  def coefficients(length: int) -> Array:
    i = _numbers(length)
    factors = (i - jnp.asarray(alpha, i.dtype)) / jnp.maximum(i, 1)
    return jnp.cumprod(jnp.where(i == 0, 1, factors))

  return _objective(
    value,
    lambda p: p ** (alpha - 1.0),
    lambda p: jnp.where(alpha == 1, 0.0, (alpha - 1.0) * p ** (alpha - 2.0)),
    coefficients,
  )


def grpo() -> Objective:
  """Objective of GRPO, which divides by the group's σ: J(p) = 2 arcsin √p.

  w(p) = 1/√(p(1−p)) is infinite at p = 0 and p = 1. It is not a series in 1−p
  that is finite at p = 1, so no finite group estimates ∇J without bias.
  """

  def value(p: Array) -> Array:
    return 2 * jnp.arctan2(jnp.sqrt(p), jnp.sqrt(1 - p))

  def slope(p: Array) -> Array:
    return (2 * p - 1) / 2 * (p * (1 - p)) ** -1.5

  return _objective(value, lambda p: (p * (1 - p)) ** -0.5, slope, None)


def series(coefficients: Array) -> Objective:
  """Any series: w(p) = Σ_k a_k (1−p)^k and J(p) = −Σ_k a_k (1−p)^{k+1}/(k+1).

  The exact counterpart of `symmetric.series_weights`, for a series truncated
  to T terms, such as `power(α).coefficients(T)`.

  Args:
    coefficients: a [T], a_k ≥ 0.
  """
  a = jnp.asarray(coefficients)
  k = _numbers(a.shape[0])

  def weighted(p: Array, exponents: Array, factors: ArrayLike) -> Array:
    of_p = jax.vmap(_failure_power, (0, None), -1)
    powers = of_p(exponents.astype(p.dtype), p)
    terms = a.astype(p.dtype) * jnp.asarray(factors, p.dtype)
    return jnp.dot(powers, terms, precision="highest")

  return _objective(
    lambda p: weighted(p, k + 1, -1 / (k + 1)),
    lambda p: weighted(p, k, 1),
    lambda p: weighted(p, jnp.maximum(k - 1, 0), -k),
    lambda length: jnp.zeros(length, a.dtype).at[: a.shape[0]].set(a[:length]),
  )


def activity(p: ArrayLike, num: int | Array) -> Array:
  """E[mean_j |A_j|] of MaxRL of order N−1, binary rewards, N = `num` rollouts.

      2 (pass@N − pass@1) = 2 q (1 − q^{N−1}),  q = 1−p

  How much a prompt can change the policy: largest at p = 1 − N^{−1/(N−1)}, and
  0 at p = 0 and p = 1. Elementwise; `allocation.allocate` maximizes its sum.
  """
  num = _require(num, "num", lambda n: n >= 1, "at least 1")
  p = _as_float(p)
  return 2 * (1 - p) * -jnp.expm1(_log_failure_power(num - 1, p))


OBJECTIVES: dict[str, Callable[..., Objective]] = {
  "rl": rl,
  "maxrl": maxrl,
  "maximum_likelihood": maximum_likelihood,
  "pass_at_k": pass_at_k,
  "power": power,
  "grpo": grpo,
}


def _require(
  value: Any, name: str, is_valid: Callable[[Any], Any], requirement: str
) -> Any:
  """The value, a float if it is too large for JAX's integers."""
  if ranges.is_traced(value):
    return value
  if isinstance(value, int) and abs(value) >= 2**31:
    value = float(value)
  host = np.asarray(value)
  real = jnp.issubdtype(host.dtype, jnp.number) and host.dtype.kind != "c"
  if host.ndim or not real:
    raise ValueError(
      f"{name} = {value!r}: must be a number {requirement}, not a"
      f" {type(value).__name__}"
    )
  if not is_valid(host):
    raise ValueError(f"{name} = {value}: must be {requirement}")
  return value


@functools.partial(jax.jit, inline=True)
def _truncated_log(p: Array, order: Array) -> Array:
  """J_T(p) = −∫_a^∞ (1−e^{−Ts})/(e^s−1) ds with a = −log(1−p).

  Summing over k inside the integral makes the cost independent of T, which may
  be traced or infinite. With s = a + e^x the integrand is analytic in a strip,
  so the trapezoidal rule with steps of about ¼ is accurate to rounding (400
  steps cover p ≥ 1e-38).
  """
  eps = jnp.finfo(p.dtype).eps
  start = -_log_failure(p)
  # Constant below min(max(a, 1/T), 1), negligible above 40.
  knee = jnp.clip(jnp.maximum(start, 1 / order), 1e-37, 1.0)
  low = jnp.log(eps * knee)
  low = jnp.where(jnp.isfinite(low), low, 0.0)
  step = (jnp.log(40.0).astype(p.dtype) - low) / 400

  # A loop, because XLA (jaxlib 0.10.2, CPU) miscompiles the sum over an array
  # of nodes for about a dozen or more pass rates.
  def add(i: Array, area: Array) -> Array:
    v = jnp.exp(low + step * i)
    s = start + v
    # Divided by e^s, so that large s underflows to 0; e^{−s} = (1−p) e^{−v}.
    density = (1 - p) * jnp.exp(-v) * jnp.expm1(-order * s) / -jnp.expm1(-s)
    return area + step * density * v

  area = lax.fori_loop(0, 401, add, jnp.zeros_like(p))
  return jnp.where((p == 0) & jnp.isinf(order), -jnp.inf, area)


def _truncated_inverse(p: Array, order: Array) -> Array:
  """w_T(p) = (1−(1−p)^T)/p; T at p = 0."""
  safe = jnp.where(p == 0, 1.0, p)
  return jnp.where(p == 0, order, -jnp.expm1(order * _log_failure(safe)) / safe)


def _truncated_inverse_slope(p: Array, order: Array) -> Array:
  """w_T'(p) = (T(1−p)^{T−1} − w_T)/p, by its binomial series where T p < ¼."""
  finite = jnp.where(jnp.isinf(order), 1.0, order)
  last = finite * _failure_power(finite - 1, p)
  last = jnp.where(jnp.isinf(order), 0.0, last)
  small = order * p < 0.25
  safe = jnp.where(p == 0, 1.0, p)
  closed = (last - _truncated_inverse(safe, order)) / safe
  # −Σ_m (m+1) C(T, m+2) (−p)^m
  term = finite * (finite - 1) / 2
  total = jnp.zeros_like(p)
  for m in range(12):
    total = total - (m + 1) * term
    term = term * -p * (finite - m - 2) / (m + 3)
  slope = jnp.where(small, total, closed)
  return jnp.where((p == 0) & jnp.isinf(order), -jnp.inf, slope)
