"""Leave-one-out weights against direct implementations of the formulas."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from maxrl_jax import symmetric

_PROMPTS = 256


def comparisons():
  """(name, library call, baseline call, target ratio, larger is better)."""
  rng = np.random.default_rng(0)

  def draw(num):
    return rng.uniform(size=(_PROMPTS, num)).astype(np.float32)

  l = draw(1024)
  full = _library(l, 1024)
  yield (
    "weights T = N = 1024: plain quadrature, JAX",
    full,
    _jax(plain_quadrature, l),
    15,
    True,
  )
  torch_weights = torch_functions(l)
  if torch_weights:
    yield (
      "weights T = N = 1024: plain quadrature, PyTorch",
      full,
      torch_weights[0],
      200,
      True,
    )
  l = draw(64)
  yield (
    "weights T = N = 64: a scan for each left-out rollout, JAX",
    _library(l, 64),
    _jax(lambda x: pass_per_rollout(x, 64), l),
    50,
    True,
  )
  for num, order in ((256, 64), (1024, 256)) if torch_weights else ():
    l = draw(num)
    scans = torch_functions(l)[1]
    yield (
      f"weights N = {num}, T = {order}: two scans, PyTorch",
      _library(l, order),
      functools.partial(scans, order),
      3,
      True,
    )
  l = draw(1024)
  yield (
    "N = 1024, T = 256: with the centred baseline against weights alone",
    _jax(lambda x: symmetric.leave_one_out(x, 256), l),
    _library(l, 256),
    1.5,
    False,
  )


def _jax(function, l):
  compiled = jax.jit(jax.vmap(function))
  x = jnp.asarray(l)
  return lambda: jax.block_until_ready(compiled(x))


def _library(l, order: int):
  return _jax(lambda x: symmetric.loo_weights(x, order), l)


def plain_quadrature(l):
  """T = N: ⌈N/2⌉ nodes, products by sums of logs, log-sum-exp."""
  num = l.shape[0]
  nodes, weights = np.polynomial.legendre.leggauss(-(-num // 2))
  t, w = jnp.asarray((nodes + 1) / 2), jnp.log(num * jnp.asarray(weights / 2))
  logs = jnp.log1p(-t[None] * l[:, None])
  total = jnp.sum(logs, 0)
  return jnp.exp(jax.nn.logsumexp((w + total)[None] - logs, axis=1))


def pass_per_rollout(l, order: int):
  """The pseudocode, vmapped: recomputes ē_k for every rollout."""
  num = l.shape[0]
  others = np.array([np.delete(np.arange(num), j) for j in range(num)])
  k = jnp.arange(order, dtype=l.dtype)

  def weight(rest):
    def insert(means, x):
      m, l = x
      share = jnp.minimum(k / m, 1)
      shifted = jnp.concatenate([jnp.zeros(1), means[:-1]])
      return (1 - share) * means + share * (1 - l) * shifted, None

    start = jnp.zeros(order).at[0].set(1)
    means, _ = lax.scan(insert, start, (jnp.arange(1.0, num), rest))
    return jnp.sum(means)

  return jax.vmap(weight)(l[others])


def torch_functions(likelihoods, device: str = "cpu"):
  """(quadrature(), scans(order)) in eager PyTorch, or None without it."""
  try:
    import torch
  except ImportError:
    return None
  l = torch.tensor(np.asarray(likelihoods), device=device)
  like = {"device": device, "dtype": torch.float32}
  nodes, areas = np.polynomial.legendre.leggauss(-(-l.shape[1] // 2))
  t = torch.tensor((nodes + 1) / 2, **like)
  w = torch.tensor(np.log(l.shape[1] * areas / 2), **like)

  def quadrature():
    logs = torch.log1p(-t * l[:, :, None])
    total = logs.sum(1, keepdim=True)
    return torch.logsumexp(w + total - logs, dim=2).exp()

  def scans(order):
    q = 1 - l
    prompts, num = q.shape
    k = torch.arange(order, **like)
    zero = torch.zeros(prompts, 1, **like)
    means = torch.zeros(prompts, order, **like)
    means[:, 0] = 1
    before = []
    for j in range(num):
      before.append(means)
      share = (k / (j + 1)).clamp(max=1)
      shifted = torch.cat([zero, means[:, :-1]], 1)
      means = (1 - share) * means + share * q[:, j, None] * shifted
    covector = torch.ones(prompts, order, **like)
    weights = torch.empty(prompts, num, **like)
    for j in reversed(range(num)):
      weights[:, j] = (covector * before[j]).sum(1)
      m = max(j, 1)
      stay = 1 - (k / m).clamp(max=1)
      move = ((k + 1) / m).clamp(max=1)
      shifted = torch.cat([covector[:, 1:], zero], 1)
      covector = stay * covector + move * q[:, j, None] * shifted
    return weights

  return quadrature, scans
