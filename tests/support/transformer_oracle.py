"""Qwen2 in NumPy and double precision, one text at a time.

Nothing here imports the package; parameters are named as its modules are.
"""

from typing import NamedTuple

import numpy as np


class Shape(NamedTuple):
  """What parameters do not tell."""

  heads: int
  kv_heads: int
  theta: float
  epsilon: float = 1e-6


def logits(params, text, shape):
  """Of the token that follows each token of a text [T]: [T, V]."""
  params = params["params"]
  embedding = params["embedding"]["embedding"]
  x = embedding[np.asarray(text)]
  for i in range(sum(name.startswith("blocks_") for name in params)):
    x = _layer(params[f"blocks_{i}"], x, shape)
  return _norm(x, params["norm"], shape) @ embedding.T


def _layer(block, x, shape):
  y = _norm(x, block["input_norm"], shape)
  query, key, value = (_dense(block[n], y) for n in ("query", "key", "value"))
  size = query.shape[1] // shape.heads
  future = np.triu(np.ones((len(x), len(x)), bool), 1)
  attended = []
  for head in range(shape.heads):
    mine = slice(head * size, (head + 1) * size)
    shared = head * shape.kv_heads // shape.heads
    theirs = slice(shared * size, (shared + 1) * size)
    scores = _turn(query[:, mine], shape) @ _turn(key[:, theirs], shape).T
    weights = np.exp(np.where(future, -np.inf, scores / np.sqrt(size)))
    weights /= weights.sum(1, keepdims=True)
    attended.append(weights @ value[:, theirs])
  x = x + _dense(block["output"], np.concatenate(attended, 1))
  y = _norm(x, block["output_norm"], shape)
  gate = _dense(block["gate"], y)
  hidden = gate / (1 + np.exp(-gate)) * _dense(block["up"], y)
  return x + _dense(block["down"], hidden)


def _dense(module, x):
  return x @ module["kernel"] + module.get("bias", 0)


def _norm(x, module, shape):
  mean = np.mean(x**2, 1, keepdims=True)
  return x / np.sqrt(mean + shape.epsilon) * module["scale"]


def _turn(x, shape):
  """Pairs (i, i + D/2) as complex numbers, turned by their position."""
  half = x.shape[1] // 2
  rates = shape.theta ** (-2 * np.arange(half) / x.shape[1])
  angles = np.arange(len(x))[:, None] * rates
  turned = (x[:, :half] + 1j * x[:, half:]) * np.exp(1j * angles)
  return np.concatenate([turned.real, turned.imag], 1)


def score(params, prompt, answer, eos, shape, temperature=1.0):
  """log m(z|x), entropies of its tokens and their number, to eos."""
  text = [*prompt, *answer]
  after = logits(params, text, shape) / temperature
  after = after[len(prompt) - 1 :]
  log_prob = entropy = length = 0
  for token, row in zip(answer, after, strict=False):
    log_p = row - np.log(np.exp(row - row.max()).sum()) - row.max()
    log_prob += log_p[token]
    entropy -= np.exp(log_p) @ log_p
    length += 1
    if token == eos:
      break
  return log_prob, entropy, length


def slopes(function, params, seed=0, step=1e-5):
  """Of a function along a random direction in each tensor of the parameters.

  Returns:
    (names of the tensor, direction, slope) of each.
  """
  rng = np.random.default_rng(seed)
  quotients = []
  for names, leaf in _leaves(params):
    direction = rng.normal(size=leaf.shape)
    direction /= np.linalg.norm(direction)
    values = []
    for sign in (1, -1):
      moved = _replaced(params, names, leaf + sign * step * direction)
      values.append(function(moved))
    quotients.append((names, direction, (values[0] - values[1]) / 2 / step))
  return quotients


def _leaves(tree, names=()):
  for name, value in tree.items():
    if isinstance(value, dict):
      yield from _leaves(value, (*names, name))
    else:
      yield (*names, name), value


def _replaced(tree, names, leaf):
  if not names:
    return leaf
  return tree | {names[0]: _replaced(tree[names[0]], names[1:], leaf)}
