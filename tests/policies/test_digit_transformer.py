"""All numbers at once against drawing digit by digit, in NumPy."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from maxrl_jax.numerals import Numerals
from maxrl_jax.policies import DigitTransformer, SequencePolicy
from tests.support import transformer_oracle as oracle
from tests.support.extent import long

OPTIONS = {
  "vocab_size": 7,
  "num_layers": 2,
  "hidden_size": 8,
  "intermediate_size": 12,
  "num_heads": 2,
  "num_kv_heads": 1,
  "max_positions": 20,
}
SHAPE = oracle.Shape(heads=2, kv_heads=1, theta=1e6)


def _policy(base, length, dtype=np.float32, **options):
  """A policy, all its parameters perturbed, and two prompts."""
  written = Numerals(base, length, 2.0)
  policy = DigitTransformer(numerals=written, **(OPTIONS | options))
  policy.check()
  rng = np.random.default_rng(0)
  prompts = rng.integers(policy.vocab_size, size=(2, 5)).astype(np.int32)

  def leaf(path, shape):
    mean = 1 if path[-1].key == "scale" else 0
    return np.asarray(mean + 0.3 * rng.normal(size=shape.shape), dtype)

  shapes = jax.eval_shape(policy.init, jax.random.key(0), prompts)
  return policy, jax.tree.map_with_path(leaf, shapes), prompts


def _digit_by_digit(params, prompt, base, length):
  """log π of every number: the prompt and earlier digits are read anew."""
  inner = {"params": params["params"]["transformer"]}
  numbers = itertools.product(range(base), repeat=length)
  log_p = []
  for number in numbers:
    after = oracle.logits(inner, [*prompt, *number], SHAPE)
    after = after[len(prompt) - 1 : -1, :base]
    rows = after - np.log(np.exp(after).sum(1, keepdims=True))
    log_p.append(rows[np.arange(length), number].sum())
  return np.array(log_p)


@pytest.mark.parametrize(("base", "length"), [(3, 1), (3, 2), (2, 3), (2, 4)])
def test_all_numbers_have_the_probability_of_their_digits(base, length):
  policy, params, prompts = _policy(base, length)
  outputs = jax.jit(policy.apply)(params, prompts)
  assert outputs.head.shape == (2, 1, base**length)
  double = jax.tree.map(np.float64, params)
  expected = [_digit_by_digit(double, p, base, length) for p in prompts]
  np.testing.assert_allclose(outputs.head[:, 0], expected, atol=2e-5)
  np.testing.assert_allclose(np.exp(outputs.head).sum(-1), 1, rtol=1e-5)
  assert np.ptp(expected[0]) > 0.5  # The first digit moves the second.


def test_gradients_are_those_of_the_digits(x64):
  """Of log π of one number, along a direction in each tensor."""
  policy, params, prompts = _policy(2, 3, np.float64)
  prompt, number = prompts[0], 5

  def log_prob(params):
    return policy.apply(params, prompts).head[0, 0, number]

  gradient = jax.jit(jax.grad(log_prob))(params)
  actual = oracle.slopes(
    lambda p: _digit_by_digit(p, prompt, 2, 3)[number], params
  )
  assert len(actual) == len(jax.tree.leaves(params))
  for names, direction, slope in actual:
    ours = functools.reduce(lambda tree, name: tree[name], names, gradient)
    assert np.sum(ours * direction) == pytest.approx(slope, abs=1e-5)


def test_draws_are_numbers_with_these_probabilities():
  policy, params, prompts = _policy(3, 2)
  outputs = jax.jit(policy.apply)(params, prompts)
  one = jax.tree.map(lambda x: x[0], outputs)
  num = 20_000
  actions = policy.apply(params, jax.random.key(1), one, num, method="sample")
  expected = _digit_by_digit(jax.tree.map(np.float64, params), prompts[0], 3, 2)
  counts = np.bincount(actions[0], minlength=9)
  p = np.exp(expected) / np.exp(expected).sum()
  assert stats.chisquare(counts, p * num).pvalue > 1e-4
  log_probs = policy.apply(params, one, actions, method="log_prob")
  np.testing.assert_allclose(log_probs[0], expected[actions[0]], atol=2e-5)
  predictions = policy.apply(params, actions, method="decode")
  # Nine bins of [−2, 2].
  centres = -2 + 4 / 9 * (np.arange(9) + 0.5)
  np.testing.assert_allclose(predictions[0], centres[actions[0]], rtol=1e-6)
  # Draws of single numbers: nothing is written token by token.
  assert not isinstance(policy, SequencePolicy)


@pytest.mark.parametrize("learned", ["global", long("input")])
def test_a_learned_scale_starts_near_the_initial_one(learned):
  policy = DigitTransformer(
    **OPTIONS,
    numerals=Numerals(3, 2, 2.0),
    learned_scale=learned,
    smallest_scale=0.1,
    initial_scale=0.7,
  )
  prompts = jnp.array([[3, 4, 5], [5, 0, 1]])
  params = jax.jit(policy.init)(jax.random.key(0), prompts)
  outputs = jax.jit(policy.apply)(params, prompts)
  assert outputs.noise_scale.shape == (2, 1)
  np.testing.assert_allclose(outputs.noise_scale, 0.7, rtol=0.2)
  apart = np.ptp(outputs.noise_scale)
  assert apart > 1e-4 if learned == "input" else apart == 0


def test_a_prompt_beyond_the_positions_is_refused():
  policy, params, _ = _policy(2, 3)
  with pytest.raises(ValueError, match=r"max_positions = 20: prompts of 18"):
    jax.eval_shape(policy.apply, params, np.zeros((1, 18), np.int32))


def test_sizes_that_cannot_be_are_refused():
  with pytest.raises(ValueError, match=r"policy.num_heads = 3: must be a mult"):
    _policy(2, 3, num_heads=3, num_kv_heads=2)
  with pytest.raises(ValueError, match=r"num_values = 8192: must be at most"):
    _policy(2, 13)
