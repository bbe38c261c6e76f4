"""The transformer against NumPy: what it draws, scores and learns from."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import transformer_oracle as oracle
from scipy import stats

from maxrl_jax import distributions
from maxrl_jax.policies import Transformer

EOS, PROMPTS, ROLLOUTS = 2, 3, 20
OPTIONS = {
  "vocab_size": 7,
  "max_length": 11,  # More than one block of the decoder.
  "eos": EOS,
  "num_layers": 1,
  "hidden_size": 16,
  "intermediate_size": 24,
  "rope_theta": 30.0,
}
SHAPE = oracle.Shape(heads=4, kv_heads=2, theta=30.0)


def _policy(seed=0, spread=0.3, **options):
  """A policy away from its start, biases and norms too, and prompts for it."""
  policy = Transformer(**(OPTIONS | options))
  policy.check()
  prompts = jax.random.randint(
    jax.random.key(seed), (PROMPTS, 6), 0, policy.vocab_size
  )
  params = policy.init(jax.random.key(1), prompts)
  rng = np.random.default_rng(seed)
  params = jax.tree.map(
    lambda p: p + spread * rng.normal(size=p.shape).astype(p.dtype), params
  )
  return policy, params, prompts


@functools.partial(jax.jit, static_argnums=(0, 4))
def _generate(policy, params, prompts, key, num=ROLLOUTS):
  outputs = policy.apply(params, prompts)
  keys = jax.random.split(key, prompts.shape[0])
  return policy.apply(params, keys, outputs, num, method="generate")


@functools.partial(jax.jit, static_argnums=0)
def _score(policy, params, prompts, answers):
  outputs = policy.apply(params, prompts)
  return policy.apply(params, outputs, answers, method="score")


def _double(params):
  return jax.tree.map(np.float64, params)


def _known(params, prompts, answers, shape=SHAPE, **options):
  """log-probabilities, entropies, lengths [3, B, N] of the NumPy reference."""
  params = _double(params)
  found = [
    [oracle.score(params, prompt, z, EOS, shape, **options) for z in group]
    for prompt, group in zip(prompts.tolist(), answers.tolist(), strict=True)
  ]
  return np.moveaxis(np.array(found), -1, 0)


@pytest.mark.parametrize(
  "options",
  [
    {"num_layers": 2},
    {"num_heads": 4, "num_kv_heads": 4, "epsilon": 0.1},
    {"num_heads": 2, "num_kv_heads": 1, "max_length": 8},
    {"temperature": 0.6, "max_length": 1},
  ],
)
def test_answers_are_drawn_and_scored_as_numpy_would(options):
  """It is given the prompt before every answer, rather than read once."""
  policy, params, prompts = _policy(**options)
  answers, drawn = _generate(policy, params, prompts, jax.random.key(5))
  assert answers.dtype == jnp.int32
  assert answers.shape == (PROMPTS, ROLLOUTS, policy.max_length)
  scores = _score(policy, params, prompts, answers)
  shape = oracle.Shape(
    policy.num_heads, policy.num_kv_heads, policy.rope_theta, policy.epsilon
  )
  temperature = policy.temperature
  known = _known(params, prompts, answers, shape, temperature=temperature)
  np.testing.assert_allclose(drawn, scores.log_probs, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(scores.log_probs, known[0], rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(scores.entropies, known[1], rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(scores.lengths, known[2])


def test_nothing_follows_the_end():
  policy, params, prompts = _policy()
  answers, _ = _generate(policy, params, prompts, jax.random.key(0), 100)
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


def test_what_follows_the_end_is_worth_nothing():
  policy, params, prompts = _policy()
  answers = [[3, EOS, 0, 0], [3, EOS, 5, EOS], [4, 6, 5, 3]]
  answers = jnp.array([answers] * PROMPTS)
  found = _score(policy, params, prompts, answers)
  for values in found:
    np.testing.assert_allclose(values[:, 0], values[:, 1], rtol=1e-6)
  np.testing.assert_array_equal(found.lengths[0], [2, 2, 4])


def test_an_answer_that_never_ends_has_full_length():
  policy, params, prompts = _policy()
  never = policy.clone(eos=policy.vocab_size)
  answers, log_probs = _generate(never, params, prompts, jax.random.key(0))
  scores = _score(never, params, prompts, answers)
  assert (scores.lengths == 11).all()
  np.testing.assert_allclose(log_probs, scores.log_probs, rtol=1e-5)


def test_answers_occur_as_often_as_their_probability_says():
  """All answers of two tokens: 1 that ends at once, and 3 × 4 others."""
  policy, params, prompts = _policy(vocab_size=4, max_length=2, seed=3)
  num = 40_000
  answers, _ = _generate(policy, params, prompts, jax.random.key(7), num)
  everything = [(EOS, 0), *itertools.product((0, 1, 3), range(4))]
  log_probs = _known(params, prompts, np.array([everything] * PROMPTS))[0]
  for own, expected in zip(np.asarray(answers), np.exp(log_probs), strict=True):
    assert expected.sum() == pytest.approx(1, abs=1e-9)
    counts = [(own == answer).all(1).sum() for answer in everything]
    assert sum(counts) == num
    assert stats.chisquare(counts, expected * num).pvalue > 1e-4


def test_rollouts_are_independent():
  """Neighbours agree as often as two draws of the NumPy reference would."""
  policy, params, prompts = _policy(vocab_size=4, max_length=2, seed=3)
  num = 40_000
  answers, _ = _generate(policy, params, prompts, jax.random.key(8), num)
  first = np.asarray(answers)[..., 0]
  texts = [oracle.logits(_double(params), x, SHAPE)[-1] for x in prompts]
  p = np.exp(texts) / np.exp(texts).sum(1, keepdims=True)
  for row in range(PROMPTS):
    pairs = np.bincount(first[row, ::2] * 4 + first[row, 1::2], minlength=16)
    expected = np.outer(p[row], p[row]).ravel() * num / 2
    assert stats.chisquare(pairs, expected).pvalue > 1e-4
  pairs = np.bincount(first[0] * 4 + first[1], minlength=16)
  expected = np.outer(p[0], p[1]).ravel() * num
  assert stats.chisquare(pairs, expected).pvalue > 1e-4


@pytest.mark.parametrize("remat", [False, True])
def test_gradients_are_slopes_of_the_numpy_reference(remat):
  policy, params, prompts = _policy(num_layers=2, max_length=4, remat=remat)
  answers, _ = _generate(policy, params, prompts, jax.random.key(2), 3)
  weights = np.random.default_rng(0).normal(size=(2, PROMPTS, 3))

  def total(params):
    found = _score(policy, params, prompts, answers)
    both = jnp.stack([found.log_probs, found.entropies])
    return jnp.sum(both * jnp.asarray(weights, jnp.float32))

  def known(params):
    return np.sum(_known(params, prompts, answers)[:2] * weights)

  gradient = jax.jit(jax.grad(total))(params)
  size = float(np.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient))))
  slopes = oracle.slopes(known, _double(params))
  assert len(slopes) == len(jax.tree.leaves(params)) == 2 + 2 * 12
  for names, direction, slope in slopes:
    leaf = gradient
    for name in names:
      leaf = leaf[name]
    found = np.sum(np.float64(leaf) * direction)
    assert found == pytest.approx(slope, rel=1e-3, abs=1e-5 * size), names
  # A shift of all keys shifts all scores alike, less so once they are turned.
  steep = [abs(slope) > 1e-4 * size for _, _, slope in slopes]
  assert sum(steep) > 20


def test_rollouts_do_not_depend_on_other_prompts():
  policy, params, prompts = _policy()
  keys = jax.random.split(jax.random.key(4), PROMPTS)

  @jax.jit
  def generate(keys, prompts):
    outputs = policy.apply(params, prompts)
    return policy.apply(params, keys, outputs, 10, method="generate")

  answers, log_probs = generate(keys, prompts)
  others = prompts.at[0].set(0).at[2].set(5)
  among_others = generate(keys, others)
  np.testing.assert_array_equal(answers[1], among_others[0][1])
  alone = generate(keys[1:2], prompts[1:2])
  np.testing.assert_array_equal(answers[1], alone[0][0])
  np.testing.assert_allclose(log_probs[1], alone[1][0], rtol=1e-5)
  assert (answers[0] != among_others[0][0]).any()


def test_a_run_alone_is_a_run_among_others():
  """They decode together until the last has ended."""
  policy, params, prompts = _policy(max_length=30)
  several = jax.tree.map(lambda p: jnp.stack([p, -p, 0.5 * p]), params)
  keys = jax.random.split(jax.random.key(4), 3)

  @jax.jit
  def generate(params, key):
    return _generate(policy, params, prompts, key, 2)

  together = jax.jit(jax.vmap(generate))(several, keys)
  blocks = set()
  for run in range(3):
    alone = generate(jax.tree.map(lambda p, i=run: p[i], several), keys[run])
    np.testing.assert_array_equal(together[0][run], alone[0])
    np.testing.assert_allclose(together[1][run], alone[1], rtol=1e-5)
    lengths = (np.asarray(alone[0]) == EOS).argmax(-1)
    blocks.add(lengths.max() // 8)
  assert len(blocks) > 1


def test_bfloat16_is_near_float32():
  policy, params, prompts = _policy(max_length=5)
  half = policy.clone(dtype="bfloat16")
  half.check()
  answers, drawn = _generate(half, params, prompts, jax.random.key(0))
  ours = _score(half, params, prompts, answers)
  exact = _score(policy, params, prompts, answers)
  assert ours.log_probs.dtype == drawn.dtype == jnp.float32
  np.testing.assert_allclose(drawn, ours.log_probs, atol=0.15)
  np.testing.assert_allclose(ours.log_probs, exact.log_probs, atol=0.15)
  assert (ours.log_probs != exact.log_probs).any()
  total = lambda p, m: _score(m, p, prompts, answers).log_probs.sum()  # noqa: E731
  gradients = [jax.grad(total)(params, m) for m in (policy, half)]
  a, b = (
    np.concatenate([x.ravel() for x in jax.tree.leaves(g)]) for g in gradients
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
    ({"dtype": "float16"}, "policy.dtype = 'float16': choose from"),
  ],
)
def test_wrong_options_are_named(options, message):
  with pytest.raises(ValueError, match=message):
    Transformer(**(OPTIONS | options)).check()


def test_a_text_beyond_the_positions_is_refused():
  prompts = jnp.zeros((1, 6), jnp.int32)
  init = lambda n: jax.eval_shape(  # noqa: E731
    Transformer(**OPTIONS, max_positions=n).init, jax.random.key(0), prompts
  )
  init(17)
  with pytest.raises(ValueError, match=r"max_positions = 16: .* need 17"):
    init(16)


# What draws each token


def test_inverse_cdf_draws_the_classes_by_hand():
  logits = jnp.log(jnp.array([0.25, 0.0, 0.5, 0.25, 0.0])) + 3.0
  uniforms = jnp.array([0.0, 0.125, 0.2499, 0.2501, 0.7, 0.7499, 0.7501])
  uniforms = jnp.append(uniforms, 1 - 2.0**-24)
  many = jnp.broadcast_to(logits, (8, 5))
  drawn, log_probs = distributions.inverse_cdf(uniforms, many)
  assert drawn.dtype == jnp.int32
  assert drawn.tolist() == [0, 0, 0, 2, 2, 2, 3, 3]
  p = np.array([0.25, 0, 0.5, 0.25, 0])[drawn]
  np.testing.assert_allclose(log_probs, np.log(p), rtol=1e-5)


def test_inverse_cdf_never_draws_what_cannot_be():
  """At the ends, and at each boundary and a rounding to either side."""
  rng = np.random.default_rng(0)
  p = rng.dirichlet(np.full(32, 0.3), size=500).astype(np.float32)
  p[rng.uniform(size=p.shape) < 0.5] = 0
  p[np.arange(500), rng.integers(32, size=500)] += 1e-3
  p /= p.sum(1, keepdims=True)
  with np.errstate(divide="ignore"):
    logits = np.log(p)
  edges = np.cumsum(p, 1)
  u = [edges, np.nextafter(edges, 0), np.nextafter(edges, 2)]
  u = np.concatenate([*u, np.zeros((500, 1))], 1)
  u = np.minimum(u, 1 - 2.0**-24).astype(np.float32)
  drawn, log_probs = jax.jit(distributions.inverse_cdf)(
    u, np.repeat(logits[:, None], u.shape[1], 1)
  )
  rows = np.arange(500)[:, None]
  assert (p[rows, drawn] > 0).all() and np.isfinite(log_probs).all()
  near = np.searchsorted  # Within a rounding, the class that NumPy finds.
  for row in range(500):
    double = np.cumsum(np.float64(p[row]))
    low = near(double, u[row] - 1e-6, side="right")
    high = np.minimum(near(double, u[row] + 1e-6, side="right"), 31)
    assert (low <= drawn[row]).all() and (drawn[row] <= high).all()


def test_inverse_cdf_has_the_distribution():
  logits = jnp.asarray(np.random.default_rng(1).normal(size=32), jnp.float32)
  num = 100_000
  u = distributions.uniforms(jax.random.key(0), num, jnp.float32)
  many = jnp.broadcast_to(logits, (num, 32))
  drawn, _ = jax.jit(distributions.inverse_cdf)(u, many)
  p = np.exp(np.float64(logits))
  counts = np.bincount(drawn, minlength=32)
  assert stats.chisquare(counts, p / p.sum() * num).pvalue > 1e-4
