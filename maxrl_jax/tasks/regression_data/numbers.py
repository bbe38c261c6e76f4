"""In-context regression from noisy pairs, written as digits of tokens."""

import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import linalg, special

from maxrl_jax import ranges
from maxrl_jax.numerals import Numerals, numerals
from maxrl_jax.tasks.base import Prompts
from maxrl_jax.tasks.regression import Data, Target, generated

Array = jax.Array

# Tokens after the digits: the start, the first and the later coordinates of x,
# y, the end of a pair, the query, σ of the prompt, and the end of an answer.
MARKERS = ("bos", "x", "sep", "y", "eoo", "query", "noise", "eos")

_CLIPPED = 0.05  # Largest share of clipped targets without a warning.
_LEVELS = 32  # Of σ, in the reference of prompts that do not show a varying σ.
_OUTLIER = 10.0  # The noise of an outlier, in σ.


class Pairs(NamedTuple):
  """A prompt in numbers: n pairs and the query, whose y is the target.

  Attributes:
    x: [n + 1, d], the query last.
    y: [n + 1].
    clean: w·x of the query.
    sigma: σ of the prompt.
    rule: index of the w that y follows, [n + 1].
    noise_factor: noise of y in σ, 1 or that of an outlier, [n + 1].
  """

  x: Array
  y: Array
  clean: Array
  sigma: Array
  rule: Array
  noise_factor: Array


def noisy_regression(
  *,
  dim: int = 1,
  context: int = 12,
  noise: float | jax.Array = 0.3,
  max_noise: float | None = None,
  show_noise: bool = False,
  rules: int = 1,
  outliers: float = 0.0,
  positive: float = 0.0,
  base: int = 8,
  num_values: int = 64,
  limit: float = 4.0,
  train_size: int | None = None,
  eval_size: int = 1000,
  task_seed: int = 0,
) -> Data:
  """Linear regression within the prompt, in digits: n pairs, then a query.

  y = w·x + σ ε with w ~ N(0, I/dim) drawn for every prompt, x ~ N(0, I).
  Numbers are rounded to K centres of [−A, A]; the target is the rounded y of
  the query, and `clean` is w·x. Tokens, with m digits of each number:

      bos [x]…[sep]…[y]…[eoo]  [x]…[sep]…[y]…[eoo]  …  [query][x]…[sep]…[y]

  The reference is the probability of the target's bin over the bin's width
  under the posterior predictive of the numbers before rounding, which the
  policy does not see: N(μ·x, √(σ² + xᵀΣx)) as in `in_context`. If σ varies and
  is not shown, it is a mixture over 32 levels of σ, weighted by their evidence.
  With several rules or outliers it is that of an observer who knows the rule
  and the noise of every pair, but not of the query.

  Args:
    dim: length of x.
    context: n pairs.
    noise: σ, or the smallest σ if `max_noise` is set.
    max_noise: the largest σ; σ is log-uniform from `noise` to it.
    show_noise: whether the prompt begins with [noise] and the digits of σ.
    rules: number of hidden w; each pair, and the query, follows one of them at
      random.
    outliers: probability that the noise of a y is 10 times as large.
    positive: probability with which each number of x is replaced by its
      absolute value. A transformer learns the sign of y much sooner then:
      training may begin with 1 and end with 0.
    base: of the digits.
    num_values: K, a power of the base.
    limit: A.
    train_size: number of training prompts; None: every batch is fresh.
    eval_size: prompts in each other split.
    task_seed: the fixed splits.

  Raises:
    ValueError: an option is out of range, or K is not a power of the base.
  """
  ranges.at_least(1, dim=dim, context=context, rules=rules)
  ranges.above_zero(noise=noise)
  ranges.unit_interval(outliers=outliers, positive=positive)
  if train_size is not None:
    ranges.at_least(1, train_size=train_size)
  if max_noise is not None:
    ranges.above_zero(max_noise=max_noise)
    ranges.at_least(ranges.on_host(noise), max_noise=max_noise)
  written = numerals(base, num_values, limit)
  hidden = max_noise is not None and not show_noise
  quantiles = (np.arange(_LEVELS) + 0.5) / _LEVELS

  def sample(key: Array, batch: int, noise: Any) -> Prompts:
    def one(key: Array) -> Prompts:
      pairs = draw_pairs(
        key, dim, context, noise, max_noise, rules, outliers, positive
      )
      levels = pairs.sigma[None]
      if hidden:
        levels = _noise_level(noise, max_noise, quantiles)
      tokens = write(written, pairs, show_noise)
      target = _target(written, pairs, levels, rules, outliers)
      return Prompts(tokens, target)

    return jax.vmap(one)(jax.random.split(key, batch))

  options = {"numerals": written, "vocab_size": base + len(MARKERS)}
  data = generated(
    sample,
    eval_size,
    task_seed,
    train_size=train_size,
    fields={"policies": ("digit_transformer",), "policy_options": options},
    noise=noise,
  )
  _warn_if_clipped(dim, float(noise), max_noise, outliers, limit)
  return data


def _warn_if_clipped(
  dim: int,
  noise: float,
  max_noise: float | None,
  outliers: float,
  limit: float,
) -> None:
  rng = np.random.default_rng(0)
  w, x = rng.normal(size=(2, 4096, dim))
  sigma: Any = noise
  if max_noise is not None:
    sigma = _noise_level(noise, max_noise, rng.uniform(size=4096))
  sigma = sigma * np.where(rng.uniform(size=4096) < outliers, _OUTLIER, 1)
  y = (w * x).sum(-1) / dim**0.5 + sigma * rng.normal(size=4096)
  share = float(np.mean(np.abs(y) > limit))
  if share > _CLIPPED:
    warnings.warn(
      f"task.limit = {limit}: {share:.1%} of targets are beyond it and are"
      " clipped; a larger limit clips fewer",
      stacklevel=3,
    )


def draw_pairs(
  key: Array,
  dim: int,
  context: int,
  noise: Any,
  max_noise: float | None,
  rules: int = 1,
  outliers: float = 0.0,
  positive: float = 0.0,
) -> Pairs:
  """One prompt in numbers; arguments as in `noisy_regression`."""
  w_key, x_key, noise_key, sigma_key = jax.random.split(key, 4)
  rule_key, outlier_key = jax.random.split(jax.random.fold_in(noise_key, 1))
  shape = (context + 1,)
  w = jax.random.normal(w_key, (rules, dim)) / dim**0.5
  x = jax.random.normal(x_key, (*shape, dim))
  if positive:
    sign_key = jax.random.fold_in(x_key, 1)
    chosen = jax.random.bernoulli(sign_key, positive, x.shape)
    x = jnp.where(chosen, jnp.abs(x), x)
  sigma = jnp.asarray(noise, x.dtype)
  if max_noise is not None:
    sigma = _noise_level(noise, max_noise, jax.random.uniform(sigma_key))
  rule = jax.random.randint(rule_key, shape, 0, rules)
  far = jax.random.bernoulli(outlier_key, outliers, shape)
  noise_factor = jnp.where(far, _OUTLIER, 1.0)
  every = jnp.dot(x, w.T, precision="highest")
  clean = jnp.take_along_axis(every, rule[:, None], 1)[:, 0]
  y = clean + sigma * noise_factor * jax.random.normal(noise_key, shape)
  return Pairs(x, y, clean[-1], sigma, rule, noise_factor)


def _noise_level(noise: Any, max_noise: Any, quantile: Any) -> Array:
  return noise * (max_noise / noise) ** quantile


def write(written: Numerals, pairs: Pairs, show_noise: bool = False) -> Array:
  """The tokens of a prompt, int32 [P]."""
  ids = {name: written.base + i for i, name in enumerate(MARKERS)}
  dim, count = pairs.x.shape[1], pairs.x.shape[0] - 1
  before_x = [ids["x"], *[ids["sep"]] * (dim - 1)]
  x = _marked(written, before_x, pairs.x)
  y = _marked(written, [ids["y"]], pairs.y[:, None])
  ends = jnp.full((count, 1), ids["eoo"])
  shown = jnp.concatenate([x[:-1], y[:-1], ends], -1)
  parts = [jnp.array([ids["bos"]]), shown.ravel()]
  if show_noise:
    parts.insert(
      1, _marked(written, [ids["noise"]], pairs.sigma[None, None])[0]
    )
  query = [jnp.array([ids["query"]]), x[-1], jnp.array([ids["y"]])]
  return jnp.concatenate([*parts, *query]).astype(jnp.int32)


def _marked(written: Numerals, markers: list[int], numbers: Array) -> Array:
  """Numbers [n, c] as [n, c (1 + m)], each after its marker."""
  digits = written.digits(written.nearest(numbers))
  lead = jnp.broadcast_to(jnp.array(markers)[:, None], (*digits.shape[:-1], 1))
  return jnp.concatenate([lead, digits], -1).reshape(len(numbers), -1)


def read(
  written: Numerals, tokens: np.ndarray, dim: int, show_noise: bool = False
) -> tuple[np.ndarray, np.ndarray]:
  """The rounded numbers in prompts [B, P]: x [B, n + 1, d], y [B, n]."""
  number = 1 + written.length
  pair, query = (dim + 1) * number + 1, dim * number + 2
  tokens = np.asarray(tokens)[:, 1 + show_noise * number :]
  pairs = tokens[:, :-query].reshape(len(tokens), -1, pair)[..., :-1]
  pairs = pairs.reshape(*pairs.shape[:2], dim + 1, number)
  last = tokens[:, None, -query + 1 : -1].reshape(len(tokens), 1, dim, number)
  x = np.concatenate([pairs[:, :, :-1], last], 1)[..., 1:]
  values = written.values()
  return values[written.read(x)], values[written.read(pairs[:, :, -1, 1:])]


def _target(
  written: Numerals, pairs: Pairs, levels: Array, rules: int, outliers: float
) -> Target:
  """The target of a prompt whose σ is one of equally likely levels [L]."""
  index = written.nearest(pairs.y[-1])
  kinds = [(1 - outliers, 1.0), (outliers, _OUTLIER)]  # Of the query's y.
  shares, factors = np.array([k for k in kinds if k[0]], np.float32).T

  def at(sigma: Array) -> tuple[Array, Array]:
    """log P of the query's bin given σ, and log p(y_1 … y_n | σ)."""
    means, variances, log_evidence = jax.vmap(
      lambda rule: posterior(pairs, sigma, rule)
    )(jnp.arange(rules))
    noise = (sigma * factors[:, None]) ** 2
    scales = jnp.sqrt(noise + variances[None])  # [factors, rules]
    log_bins = _log_bin(written, index, means[None], scales)
    log_shares = jnp.log(shares[:, None] / rules)
    return special.logsumexp(log_bins + log_shares), jnp.sum(log_evidence)

  log_bins, log_evidence = jax.vmap(at)(levels)
  log_p = special.logsumexp(log_bins + jax.nn.log_softmax(log_evidence))
  return Target(
    jnp.asarray(written.values())[index][None],
    pairs.clean[None],
    pairs.sigma[None],
    log_p - jnp.log(written.spacing),
  )


def _log_bin(
  written: Numerals, index: Array, mean: Array, scale: Array
) -> Array:
  """log P of a bin under N(mean, scale); the outermost extend to ±∞."""
  edge = index * written.spacing - written.limit
  low = jnp.where(index == 0, -jnp.inf, edge)
  last = index == written.num_values - 1
  high = jnp.where(last, jnp.inf, edge + written.spacing)
  a, b = (low - mean) / scale, (high - mean) / scale
  # Mirrored into the lower tail, where float32 does not cancel.
  a, b = jnp.where(a > 0, -b, a), jnp.where(a > 0, -a, b)
  above, below = special.log_ndtr(b), special.log_ndtr(a)
  return above + jnp.log1p(-jnp.exp(below - above))


def posterior(
  pairs: Pairs, sigma: Array, rule: Any = 0
) -> tuple[Array, Array, Array]:
  """Mean and variance of w·x of the query, and log p(y_1 … y_n | σ).

  Of the w of one rule, from the pairs that follow it.
  """
  dim = pairs.x.shape[1]
  x, y, query = pairs.x[:-1], pairs.y[:-1], pairs.x[-1]
  dot = lambda a, b: jnp.dot(a, b, precision="highest")  # noqa: E731
  follows = pairs.rule[:-1] == rule
  noise = (sigma * pairs.noise_factor[:-1]) ** 2
  weights = jnp.where(follows, 1 / noise, 0)
  precision = dim * jnp.eye(dim) + dot(x.T * weights[None], x)
  factor = jnp.linalg.cholesky(precision)
  sides = jnp.stack([dot(x.T, weights * y), query], 1)
  mean, of_query = linalg.cho_solve((factor, True), sides).T
  # The exponent at the mode, as sums of squares, which do not cancel.
  square = dot(weights, (y - dot(x, mean)) ** 2) + dim * dot(mean, mean)
  log_det = 2 * jnp.sum(jnp.log(jnp.diag(factor) / dim**0.5))
  log_det += jnp.sum(jnp.where(follows, jnp.log(2 * jnp.pi * noise), 0))
  return dot(mean, query), dot(query, of_query), -(square + log_det) / 2
