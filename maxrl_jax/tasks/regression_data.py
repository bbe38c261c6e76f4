"""Noisy regression data, each with the best that can be known of it.

Each data set knows the density p*(y|x) that it was drawn from, or the best that
can be inferred from what the prompt shows: its targets carry log p*(y|x), and
excess NLL over it is how far a policy is from the truth.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import special
from jax.scipy import stats as densities
from sklearn.datasets import load_diabetes
from sklearn.linear_model import BayesianRidge

from maxrl_jax.tasks import base
from maxrl_jax.tasks.base import Prompts
from maxrl_jax.tasks.regression import Data, Target

Array = jax.Array


def teacher(
  *,
  kind: str = "linear",
  dim: int = 8,
  num_dims: int = 1,
  snr: float = 4.0,
  eval_size: int = 2000,
  task_seed: int = 0,
) -> Data:
  """y = f(x) + σ ε with f of unit variance: σ² = 1/SNR, everywhere the same.

  The reference is N(f(x), σ) itself.

  Args:
    kind: 'linear' or 'mlp' (two layers of tanh).
    dim: length of x ~ N(0, I).
    num_dims: D, each with a teacher of its own.
    snr: variance of f over variance of the noise, above 0.
    eval_size: prompts in each fixed split.
    task_seed: the teacher and the fixed splits.
  """
  base.check_positive(dim=dim, num_dims=num_dims)
  _check_above_zero(snr=snr)
  f = _teacher(kind, dim, num_dims, task_seed)
  sigma = snr**-0.5

  def draw(key, batch):
    x_key, noise_key = jax.random.split(key)
    x = jax.random.normal(x_key, (batch, dim))
    clean = f(x)
    y = clean + sigma * jax.random.normal(noise_key, clean.shape)
    return _normal_prompts(x, y, clean, jnp.full(y.shape, sigma))

  return _drawn(draw, eval_size, task_seed, num_dims)


def heteroscedastic(
  *,
  learnable: bool = True,
  kind: str = "linear",
  dim: int = 8,
  quietest: float = 0.1,
  loudest: float = 2.0,
  eval_size: int = 2000,
  task_seed: int = 0,
) -> Data:
  """y = f(x) + σ ε, σ log-uniform between `quietest` and `loudest`.

  Learnable: σ is a function of x, along a direction of its own, and the
  reference is N(f(x), σ(x)). Unlearnable: σ is drawn anew for every prompt, and
  the reference is the mixture over all σ, the best that x allows.

  Args:
    learnable: whether x tells σ.
    kind: of the teacher f, 'linear' or 'mlp'.
    dim: length of x.
    quietest: smallest σ.
    loudest: largest σ.
    eval_size: prompts in each fixed split.
    task_seed: the teacher and the fixed splits.
  """
  base.check_at_least(2, dim=dim)
  if not 0 < quietest <= loudest:
    raise ValueError(
      f"quietest = {quietest}, loudest = {loudest}: need"
      " 0 < quietest <= loudest"
    )
  f = _teacher(kind, dim, 1, task_seed)
  direction = np.random.default_rng([task_seed, 1]).normal(size=dim)
  direction = (direction / np.linalg.norm(direction)).astype(np.float32)

  def sigma_at(quantile):
    return quietest * (loudest / quietest) ** quantile

  def draw(key, batch):
    x_key, noise_key, scale_key = jax.random.split(key, 3)
    x = jax.random.normal(x_key, (batch, dim))
    clean = f(x)
    if learnable:
      share = special.ndtr(jnp.dot(x, direction, precision="highest"))
    else:
      share = jax.random.uniform(scale_key, (batch,))
    sigma = sigma_at(share)[:, None]
    y = clean + sigma * jax.random.normal(noise_key, clean.shape)
    prompts = _normal_prompts(x, y, clean, sigma)
    if learnable:
      return prompts
    levels = sigma_at((jnp.arange(64) + 0.5) / 64)[None]
    terms = densities.norm.logpdf(y, clean, levels)
    reference = special.logsumexp(terms, axis=-1) - np.log(64)
    return prompts._replace(
      targets=prompts.targets._replace(log_reference=reference)
    )

  return _drawn(draw, eval_size, task_seed, 1)


def bimodal(
  *,
  dim: int = 4,
  noise: float = 0.4,
  plus: float = 0.7,
  eval_size: int = 2000,
  task_seed: int = 0,
) -> Data:
  """y = ± f(x) + σ ε with P(+) = 0.7: what a single prediction cannot say.

  f(x) = 2 + tanh(w·x)/2 keeps the modes apart. The reference is the mixture of
  both; `clean` is E[y|x] = (2 P(+) − 1) f(x), which lies at neither mode.

  Args:
    dim: length of x ~ N(0, I).
    noise: σ.
    plus: P(+), in (0, 1).
    eval_size: prompts in each fixed split.
    task_seed: w and the fixed splits.
  """
  base.check_positive(dim=dim)
  _check_above_zero(noise=noise)
  if not 0 < plus < 1:
    raise ValueError(f"plus = {plus}: must be between 0 and 1")
  slope = _teacher("linear", dim, 1, task_seed)

  def draw(key, batch):
    x_key, sign_key, noise_key = jax.random.split(key, 3)
    x = jax.random.normal(x_key, (batch, dim))
    f = 2 + jnp.tanh(slope(x)) / 2
    sign = 2.0 * jax.random.bernoulli(sign_key, plus, f.shape) - 1
    y = sign * f + noise * jax.random.normal(noise_key, f.shape)
    modes = jnp.stack([y - f, y + f])
    chances = jnp.log(jnp.array([plus, 1 - plus]))[:, None, None]
    terms = chances + densities.norm.logpdf(modes, 0.0, noise)
    reference = special.logsumexp(terms, axis=0).sum(-1)
    clean = (2 * plus - 1) * f
    return Prompts(x, Target(y, clean, jnp.full(y.shape, noise), reference))

  return _drawn(draw, eval_size, task_seed, 1)


def bag_of_words(
  *,
  vocabulary: int = 64,
  length: int = 16,
  rho: float = 0.3,
  eval_size: int = 2000,
  task_seed: int = 0,
) -> Data:
  """y = ρ s + √(1−ρ²) ε, s the standardized sum of the values of L tokens.

  x is how often each token occurs. corr(y, s) = ρ: the signal-to-noise ratio of
  a hard forecasting problem at ρ = 0.1. The reference is N(ρ s, √(1−ρ²)).

  Args:
    vocabulary: V ≥ 2.
    length: L tokens, drawn uniformly.
    rho: ρ in (0, 1).
    eval_size: prompts in each fixed split.
    task_seed: the tokens' values and the fixed splits.
  """
  base.check_at_least(2, vocabulary=vocabulary)
  base.check_positive(length=length)
  if not 0 < rho < 1:
    raise ValueError(f"rho = {rho}: must be between 0 and 1")
  values = np.random.default_rng(task_seed).normal(size=vocabulary)
  values = (values - values.mean()) / values.std() / length**0.5
  sigma = (1 - rho**2) ** 0.5

  def draw(key, batch):
    token_key, noise_key = jax.random.split(key)
    tokens = jax.random.randint(token_key, (batch, length), 0, vocabulary)
    counts = jax.nn.one_hot(tokens, vocabulary).sum(1)
    signal = jnp.asarray(values, jnp.float32)[tokens].sum(1, keepdims=True)
    y = rho * signal + sigma * jax.random.normal(noise_key, signal.shape)
    return _normal_prompts(counts, y, rho * signal, jnp.full(y.shape, sigma))

  return _drawn(draw, eval_size, task_seed, 1)


def in_context(
  *,
  dim: int = 2,
  context: int = 6,
  noise: float = 0.3,
  eval_size: int = 2000,
  task_seed: int = 0,
) -> Data:
  """Linear regression within the prompt: C pairs (x_i, y_i), then a query.

  y = w·x + σ ε with w ~ N(0, I/dim) drawn anew for every prompt. The reference
  is the posterior predictive N(μ·x, √(σ² + xᵀΣx)), in closed form:
  Σ⁻¹ = dim·I + XᵀX/σ², μ = Σ Xᵀy/σ². `clean` is w·x.

  Args:
    dim: length of x ~ N(0, I).
    context: C pairs.
    noise: σ.
    eval_size: prompts in each fixed split.
    task_seed: the fixed splits.
  """
  base.check_positive(dim=dim, context=context)
  _check_above_zero(noise=noise)

  def one(key):
    w_key, x_key, noise_key = jax.random.split(key, 3)
    w = jax.random.normal(w_key, (dim,)) / dim**0.5
    x = jax.random.normal(x_key, (context + 1, dim))
    clean = jnp.dot(x, w, precision="highest")
    y = clean + noise * jax.random.normal(noise_key, clean.shape)
    mean, scale = _posterior_predictive(x[:-1], y[:-1], x[-1], noise)
    reference = densities.norm.logpdf(y[-1], mean, scale)
    shown = jnp.concatenate([x[:-1].ravel(), y[:-1], x[-1]])
    target = Target(y[-1:], clean[-1:], jnp.full(1, noise), reference)
    return Prompts(shown, target)

  def draw(key, batch):
    return jax.vmap(one)(jax.random.split(key, batch))

  return _drawn(draw, eval_size, task_seed, 1)


def diabetes(*, task_seed: int = 0) -> Data:
  """Real data: 442 patients, ten measurements, progression after a year.

  Inputs and target are standardized by the training rows; 242 train, 80
  validate, 120 test. The truth is not known: the reference is a Bayesian ridge
  regression fitted to the training rows (scikit-learn), and so are `clean` and
  `noise_scale`, its predictive mean and deviation.

  Args:
    task_seed: which rows are in which split.
  """
  data = load_diabetes(scaled=False)
  rows = np.random.default_rng(task_seed).permutation(len(data.target))
  parts = dict(
    zip(
      ("train", "validation", "test"),
      np.split(rows, [242, 322]),
      strict=True,
    )
  )
  columns = np.column_stack([data.data, data.target])
  kept = columns[parts["train"]]
  columns = (columns - kept.mean(0)) / kept.std(0)
  x, y = columns[:, :-1].astype(np.float32), columns[:, -1:].astype(np.float32)
  fit = BayesianRidge().fit(x[parts["train"]], y[parts["train"], 0])
  mean, scale = fit.predict(x, return_std=True)
  mean = mean[:, None].astype(np.float32)
  scale = scale[:, None].astype(np.float32)
  everything = _normal_prompts(x, y, mean, scale)
  splits = {
    name: jax.tree.map(lambda a, part=part: a[part], everything)
    for name, part in parts.items()
  }

  def draw(key, batch):
    return base.uniform_rows(key, splits["train"], batch)

  return Data(draw, splits)


REGRESSION: dict[str, Callable[..., Data]] = {
  "teacher": teacher,
  "heteroscedastic": heteroscedastic,
  "bimodal": bimodal,
  "bag_of_words": bag_of_words,
  "in_context": in_context,
  "diabetes": diabetes,
}


def _teacher(kind: str, dim: int, num_dims: int, seed: int):
  """x [B, dim] → f(x) [B, D], each column of mean 0 and variance 1."""
  rng = np.random.default_rng([seed, 0])
  if kind == "linear":
    weights = rng.normal(size=(dim, num_dims))
    weights = (weights / np.linalg.norm(weights, axis=0)).astype(np.float32)
    return lambda x: jnp.dot(x, weights, precision="highest")
  if kind != "mlp":
    raise ValueError(f"kind = {kind!r}: choose from ['linear', 'mlp']")
  first = (rng.normal(size=(dim, 32)) * 1.5 / dim**0.5).astype(np.float32)
  second = (rng.normal(size=(32, num_dims)) / 32**0.5).astype(np.float32)

  def raw(xp, x):
    return xp.tanh(x @ first) @ second

  sample = raw(np, rng.normal(size=(2**16, dim)).astype(np.float32))
  mean, deviation = sample.mean(0, keepdims=True), sample.std(0, keepdims=True)
  return lambda x: (raw(jnp, x) - mean) / deviation


def _posterior_predictive(x, y, query, noise: float):
  """Mean and standard deviation of the query's y, prior w ~ N(0, I/dim)."""
  dim = x.shape[1]
  dot = lambda a, b: jnp.dot(a, b, precision="highest")  # noqa: E731
  precision = dim * jnp.eye(dim) + dot(x.T, x) / noise**2
  mean = jnp.linalg.solve(precision, dot(x.T, y) / noise**2)
  spread = dot(query, jnp.linalg.solve(precision, query))
  return dot(mean, query), jnp.sqrt(noise**2 + spread)


def _normal_prompts(x, y, clean, sigma) -> Prompts:
  reference = densities.norm.logpdf(y, clean, sigma).sum(-1)
  return Prompts(x, Target(y, clean, sigma, reference))


def _drawn(draw, eval_size: int, task_seed: int, num_dims: int) -> Data:
  """Fixed splits from the same stream that training draws from."""
  base.check_positive(eval_size=eval_size)
  keys = jax.random.split(jax.random.key(task_seed), 3)
  names = ("train", "validation", "test")
  splits = {
    name: jax.jit(draw, static_argnums=1)(key, eval_size)
    for name, key in zip(names, keys, strict=True)
  }
  return Data(draw, splits, num_dims)


def _check_above_zero(**fields) -> None:
  for name, value in fields.items():
    if not 0 < value < float("inf"):
      raise ValueError(f"{name} = {value}: must be above 0 and finite")
