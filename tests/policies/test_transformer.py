"""Samples, scores and gradients of the transformer against NumPy."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from maxrl_jax.policies import Transformer
from tests.support import transformer_oracle as oracle
from tests.support.extent import long

EOS, PROMPTS, ROLLOUTS = 2, 3, 60
OPTIONS = {
  "vocab_size": 7,
  "max_length": 11,  # More than one decoder block of 8 tokens.
  "eos": EOS,
  "num_layers": 1,
  "hidden_size": 16,
  "intermediate_size": 24,
  "rope_theta": 30.0,
}


def _policy(seed=0, **options):
  """A policy, all its parameters perturbed, and prompts."""
  policy = Transformer(**(OPTIONS | options))
  policy.check()
  rng = np.random.default_rng(seed)
  prompts = rng.integers(policy.vocab_size, size=(PROMPTS, 6))
  prompts = jnp.asarray(prompts, jnp.int32)

  def leaf(path, shape):
    mean = 1 if path[-1].key == "scale" else 0
    value = mean + 0.3 * rng.normal(size=shape.shape)
    return jnp.asarray(value, shape.dtype)

  shapes = jax.eval_shape(policy.init, jax.random.key(0), prompts)
  return policy, jax.tree.map_with_path(leaf, shapes), prompts


def _keys(seed):
  return jax.random.split(jax.random.key(seed), PROMPTS)


@functools.partial(jax.jit, static_argnums=(0, 4))
def _generate(policy, params, prompts, keys, num=ROLLOUTS):
  outputs = policy.apply(params, prompts)
  return policy.apply(params, keys, outputs, num, method="generate")


@functools.partial(jax.jit, static_argnums=0)
def _score(policy, params, prompts, answers):
  outputs = policy.apply(params, prompts)
  return policy.apply(params, outputs, answers, method="score")


def _double(params):
  return jax.tree.map(np.float64, params)


def _reference(policy, params, prompts, answers):
  """Log-probabilities, entropies, lengths [3, B, N] from NumPy."""
  params = _double(params)
  shape = oracle.Shape(
    policy.num_heads, policy.num_kv_heads, policy.rope_theta, policy.epsilon
  )
  last = (policy.eos, shape, policy.temperature)
  actual = [
    [oracle.score(params, prompt, answer, *last) for answer in group]
    for prompt, group in zip(prompts.tolist(), answers.tolist(), strict=True)
  ]
  return np.moveaxis(np.array(actual), -1, 0)


@pytest.mark.parametrize(
  "options",
  [
    {"num_layers": 2},
    {"num_kv_heads": 4, "max_length": 8, "epsilon": 0.1, "temperature": 0.6},
    {"num_heads": 2, "num_kv_heads": 1, "max_length": 1, "eos": 7},
  ],
)
def test_scores_of_sampled_answers_equal_numpys(options):
  """The NumPy reference encodes the prompt again for every answer."""
  policy, params, prompts = _policy(**options)
  answers, drawn = _generate(policy, params, prompts, _keys(5))
  assert answers.dtype == jnp.int32
  assert answers.shape == (PROMPTS, ROLLOUTS, policy.max_length)
  scores = _score(policy, params, prompts, answers)
  exact = _reference(policy, params, prompts, answers)
  for of_draws, of_answers in zip(drawn, scores, strict=True):
    np.testing.assert_allclose(of_draws, of_answers, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(scores.log_probs, exact[0], rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(scores.entropies, exact[1], rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(scores.lengths, exact[2])
  if policy.eos == policy.vocab_size:  # No answer ends.
    assert (scores.lengths == policy.max_length).all()


def test_tokens_after_eos_are_padding():
  policy, params, prompts = _policy(num_layers=2)
  answers, _ = _generate(policy, params, prompts, _keys(0))
  lengths = _score(policy, params, prompts, answers).lengths.ravel().tolist()
  for answer, length in zip(
    answers.reshape(-1, policy.max_length).tolist(), lengths, strict=True
  ):
    if EOS in answer:
      assert length == answer.index(EOS) + 1
      assert not any(answer[length:])
    else:
      assert length == policy.max_length
  assert {1, 7, 8, 9, 10, 11} <= set(lengths)


def test_tokens_after_eos_do_not_change_the_score():
  policy, params, prompts = _policy(num_layers=2)
  answers, _ = _generate(policy, params, prompts, _keys(0))
  is_end = np.asarray(answers) == EOS
  other = np.random.default_rng(0).integers(7, size=answers.shape)
  changed = np.where(is_end.cumsum(-1) > is_end, other, answers)
  assert (changed != np.asarray(answers)).any()
  for a, b in zip(
    _score(policy, params, prompts, answers),
    _score(policy, params, prompts, jnp.asarray(changed, jnp.int32)),
    strict=True,
  ):
    np.testing.assert_allclose(a, b, rtol=1e-6)


def test_answer_frequencies_match_their_probabilities():
  """All answers of two tokens: 1 with eos first, and 3 × 4 others."""
  policy, params, prompts = _policy(vocab_size=4, max_length=2, seed=3)
  num = 40_000
  answers, _ = _generate(policy, params, prompts, _keys(7), num)
  everything = [(EOS, 0), *itertools.product((0, 1, 3), range(4))]
  log_probs = _reference(
    policy, params, prompts, np.array([everything] * PROMPTS)
  )[0]
  for group, expected in zip(
    np.asarray(answers), np.exp(log_probs), strict=True
  ):
    assert expected.sum() == pytest.approx(1, abs=1e-9)
    counts = [(group == answer).all(1).sum() for answer in everything]
    assert sum(counts) == num
    assert stats.chisquare(counts, expected * num).pvalue > 1e-4


def test_rollouts_are_independent():
  """Frequencies of adjacent pairs are products of NumPy's probabilities."""
  policy, params, prompts = _policy(vocab_size=4, max_length=2, seed=3)
  num = 40_000
  answers, _ = _generate(policy, params, prompts, _keys(8), num)
  first = np.asarray(answers)[..., 0]
  everything = np.arange(4)[None, :, None].repeat(PROMPTS, 0)
  p = np.exp(_reference(policy, params, prompts, everything)[0])
  for row in range(PROMPTS):
    pairs = np.bincount(first[row, ::2] * 4 + first[row, 1::2], minlength=16)
    expected = np.outer(p[row], p[row]).ravel() * num / 2
    assert stats.chisquare(pairs, expected).pvalue > 1e-4
  pairs = np.bincount(first[0] * 4 + first[1], minlength=16)
  expected = np.outer(p[0], p[1]).ravel() * num
  assert stats.chisquare(pairs, expected).pvalue > 1e-4


@functools.partial(jax.jit, static_argnums=0)
def _slope(policy, params, prompts, answers, weights):
  """Gradient of weighted log-probabilities and entropies; log-probabilities."""

  def total(params):
    actual = _score(policy, params, prompts, answers)
    both = jnp.stack([actual.log_probs, actual.entropies])
    return jnp.sum(both * weights), actual.log_probs

  return jax.grad(total, has_aux=True)(params)


def _case(seed=0):
  rng = np.random.default_rng(seed)
  answers = rng.integers(7, size=(PROMPTS, 3, 4))
  assert 0 < (answers[..., :3] == EOS).sum() < 9
  weights = rng.normal(size=(2, PROMPTS, 3))
  return jnp.asarray(answers), jnp.asarray(weights, jnp.float32)


@pytest.mark.parametrize(("layers", "remat"), [(1, False), long(2, True)])
def test_gradients_equal_finite_differences_of_numpy(layers, remat):
  policy, params, prompts = _policy(
    num_layers=layers, max_length=4, remat=remat
  )
  answers, weights = _case()

  def reference(params):
    actual = _reference(policy, params, prompts, answers)[:2]
    return np.sum(actual * np.float64(weights))

  gradient, _ = _slope(policy, params, prompts, answers, weights)
  size = float(np.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient))))
  slopes = oracle.slopes(reference, _double(params))
  assert len(slopes) == len(jax.tree.leaves(params)) == 2 + 12 * layers
  for names, direction, slope in slopes:
    leaf = gradient
    for name in names:
      leaf = leaf[name]
    actual = np.sum(np.float64(leaf) * direction)
    assert actual == pytest.approx(slope, rel=1e-3, abs=1e-5 * size), names
  assert min(abs(slope) for _, _, slope in slopes) > 1e-4 * size


def test_rollouts_do_not_depend_on_other_prompts():
  policy, params, prompts = _policy(num_layers=2)
  keys = _keys(4)
  answers, drawn = _generate(policy, params, prompts, keys)
  others = prompts.at[0].set(0).at[2].set(5)
  among_others = _generate(policy, params, others, keys)
  np.testing.assert_array_equal(answers[1], among_others[0][1])
  for one, other in zip(drawn, among_others[1], strict=True):
    np.testing.assert_allclose(one[1], other[1], rtol=1e-5)
  assert (answers[0] != among_others[0][0]).any()


def _ending_early(params):
  """Parameters that give eos a probability of 0.998."""
  params = jax.tree.map(jnp.zeros_like, params)
  params["params"]["norm"]["scale"] += 1
  embedding = jnp.ones((7, 16)).at[EOS].set(1.5)
  params["params"]["embedding"]["embedding"] = embedding
  return params


def test_vmapped_runs_equal_single_runs():
  """Vmapped runs decode together until the last has ended."""
  policy, params, prompts = _policy(num_layers=2)
  runs = [params, _ending_early(params), jax.tree.map(jnp.negative, params)]
  stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *runs)
  keys = jnp.stack([_keys(seed) for seed in range(3)])
  generate = functools.partial(_generate, policy)
  answers, scores = jax.vmap(generate, (0, None, 0))(stacked, prompts, keys)
  for run in range(3):
    single = generate(runs[run], prompts, keys[run])
    np.testing.assert_array_equal(answers[run], single[0])
    for together, alone in zip(scores, single[1], strict=True):
      np.testing.assert_allclose(together[run], alone, rtol=1e-5, atol=1e-6)
  assert [bool(x[..., 8:].any()) for x in answers] == [True, False, True]


def test_bfloat16_is_near_float32():
  policy, params, prompts = _policy(max_length=4)
  half = policy.clone(dtype="bfloat16")
  half.check()
  answers, (drawn, *_) = _generate(half, params, prompts, _keys(0), 3)
  _, weights = _case()
  gradient, exact = _slope(policy, params, prompts, answers, weights)
  half_gradient, log_probs = _slope(half, params, prompts, answers, weights)
  assert log_probs.dtype == drawn.dtype == jnp.float32
  np.testing.assert_allclose(drawn, log_probs, atol=0.1)
  np.testing.assert_allclose(log_probs, exact, atol=0.1)
  assert (log_probs != exact).any()
  a, b = (
    np.concatenate([x.ravel() for x in jax.tree.leaves(g)])
    for g in (gradient, half_gradient)
  )
  assert a.dtype == b.dtype == np.float32
  assert np.linalg.norm(a - b) < 0.05 * np.linalg.norm(a)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"num_layers": 0}, "policy.num_layers = 0: must be at least 1"),
    ({"hidden_size": 0}, "policy.hidden_size = 0"),
    ({"intermediate_size": -1}, "policy.intermediate_size = -1"),
    ({"num_heads": 0}, "policy.num_heads = 0"),
    ({"num_kv_heads": 0}, "policy.num_kv_heads = 0"),
    ({"max_positions": 0}, "policy.max_positions = 0"),
    ({"max_length": 0}, "policy.max_length = 0"),
    (
      {"num_kv_heads": 3},
      "policy.num_heads = 4: must be a multiple of policy.num_kv_heads = 3",
    ),
    ({"hidden_size": 12}, r"policy.hidden_size = 12: .* 2 \* policy.num_heads"),
    ({"temperature": 0.0}, "policy.temperature = 0.0"),
    ({"temperature": float("inf")}, "policy.temperature = inf"),
    ({"temperature": float("nan")}, "policy.temperature = nan"),
    ({"dtype": "float16"}, "policy.dtype = 'float16': .*choose from"),
  ],
)
def test_error_names_an_invalid_option(options, message):
  with pytest.raises(ValueError, match=message):
    Transformer(**(OPTIONS | options)).check()


def test_too_long_a_prompt_raises():
  prompts = jnp.zeros((1, 6), jnp.int32)
  init = lambda n: jax.eval_shape(  # noqa: E731
    Transformer(**OPTIONS, max_positions=n).init, jax.random.key(0), prompts
  )
  init(17)
  with pytest.raises(ValueError, match=r"max_positions = 16: .* need 17"):
    init(16)
