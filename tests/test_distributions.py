"""Sampling from categorical distributions, and the uniforms it uses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from maxrl_jax import distributions

categorical = jax.jit(distributions.categorical, static_argnums=2)
uniforms = jax.jit(distributions.uniforms, static_argnums=(1, 2))


def _search(cdf, x):
  return distributions._search(cdf[None], 0, x)


@pytest.mark.parametrize("size", [1, 2, 3, 31, 32, 33, 1000])
def test_draws_have_the_distribution(size):
  rng = np.random.default_rng(size)
  logits = jnp.asarray(rng.normal(scale=2, size=size), jnp.float32)
  num = 200_000
  draws = categorical(jax.random.key(1), logits, num)
  assert draws.dtype == jnp.int32
  p = np.exp(np.float64(logits))
  p /= p.sum()
  counts = np.bincount(draws, minlength=size)
  assert counts.size == size
  common = p * num >= 5
  if common.sum() > 1:
    observed = np.append(counts[common], counts[~common].sum())
    expected = np.append(p[common], p[~common].sum()) * num
    possible = expected > 0
    test = stats.chisquare(observed[possible], expected[possible])
    assert test.pvalue > 1e-4


def test_impossible_classes_are_never_drawn():
  logits = jnp.array([-jnp.inf, 0.0, -jnp.inf, -jnp.inf, 1.0, -jnp.inf])
  draws = categorical(jax.random.key(0), logits, 100_000)
  assert set(np.unique(draws)) == {1, 4}


@pytest.mark.parametrize("size", [700, 3000])
def test_boundaries_of_many_prompts_stay_equal_at_impossible_classes(size):
  """Products of many rows are summed in another order than those of one."""
  rng = np.random.default_rng(0)
  p = rng.dirichlet(np.full(size, 0.3), size=64).astype(np.float32)
  p[rng.uniform(size=p.shape) < 0.5] = 0
  with np.errstate(divide="ignore"):
    logits = np.log(p)
  cdf = jax.jit(jax.vmap(distributions.boundaries))(logits)
  steps = np.diff(np.asarray(cdf))
  possible = np.asarray(jax.nn.softmax(logits))[:, 1:] > 0
  assert (steps >= 0).all() and not steps[~possible].any()


def test_rare_classes_are_drawn_at_their_rate():
  logits = np.log(np.float32([0.9999, 1e-4]))
  draws = categorical(jax.random.key(0), logits, 1_000_000)
  expected = 100
  assert abs(int(draws.sum()) - expected) < 5 * np.sqrt(expected)


def test_draws_are_independent():
  """Pairs of neighbours are as frequent as the product of their chances."""
  logits = np.log(np.float32([0.5, 0.3, 0.2]))
  draws = np.asarray(categorical(jax.random.key(3), logits, 90_000))
  pairs = np.bincount(draws[::2] * 3 + draws[1::2], minlength=9)
  p = np.array([0.5, 0.3, 0.2])
  assert stats.chisquare(pairs, np.outer(p, p).ravel() * 45_000).pvalue > 1e-4


def test_log_prob_by_hand():
  logits = jnp.log(jnp.array([1.0, 2.0, 5.0])) + 100.0
  actual = distributions.categorical_log_prob(logits, jnp.array([2, 0, 2]))
  np.testing.assert_allclose(actual, np.log([5 / 8, 1 / 8, 5 / 8]), rtol=1e-5)


def test_gradient_of_log_prob_is_the_score():
  logits = jnp.array([0.3, -1.0, 2.0])
  score = jax.grad(
    lambda x: distributions.categorical_log_prob(x, jnp.array([1]))[0]
  )(logits)
  expected = np.eye(3)[1] - np.exp(logits) / np.exp(logits).sum()
  np.testing.assert_allclose(score, expected, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("size", [1, 3])
def test_log_prob_in_half_precision(size, dtype):
  """Its gradient is rounded once; that of a single class is 0."""
  logits = jnp.linspace(0.3, 2.0, size).astype(dtype)
  actions = jnp.arange(50, dtype=jnp.uint8) % size

  def total(x):
    return jnp.sum(distributions.categorical_log_prob(x, actions))

  p = np.exp(np.asarray(logits, np.float64))
  p /= p.sum()
  counts = np.bincount(np.asarray(actions), minlength=size)
  value, gradient = jax.value_and_grad(total)(logits)
  assert value.dtype == jnp.float32 and gradient.dtype == dtype
  np.testing.assert_allclose(value, np.log(p) @ counts, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(
    np.float32(gradient), counts - 50 * p, rtol=4e-3, atol=1e-5
  )


def test_log_prob_beside_an_impossible_class():
  logits, actions = jnp.array([0.3, -jnp.inf, 2.0]), jnp.array([1, 2])
  log_probs = distributions.categorical_log_prob(logits, actions)
  np.testing.assert_allclose(
    log_probs, [-np.inf, -np.log1p(np.exp(-1.7))], rtol=1e-5
  )
  score = jax.grad(lambda x: distributions.categorical_log_prob(x, actions)[1])(
    logits
  )
  p = 1 / (1 + np.exp(-1.7))
  np.testing.assert_allclose(score, [p - 1, 0, 1 - p], atol=1e-6)


@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 16, 17, 64, 1000, 1025])
def test_search_equals_numpys(size):
  """At every boundary and one rounding to either side of it."""
  values = np.random.default_rng(size).uniform(size=size)
  cdf = np.cumsum(values / values.sum()).astype(np.float32)
  x = np.concatenate([cdf, np.nextafter(cdf, 0), np.nextafter(cdf, 2), [0]])
  expected = np.minimum(np.searchsorted(cdf, x, side="right"), size - 1)
  for search in (_search, distributions._search_twice):
    computed = jax.jit(search)(cdf, np.float32(x))
    np.testing.assert_array_equal(computed, expected)


@pytest.mark.parametrize("size", [1, 2, 7, 1000, 2048])
def test_comparing_and_bisecting_draw_the_same_classes(size):
  """Probabilities are multiples of 2⁻¹², so that no sum is rounded."""
  rng = np.random.default_rng(size)
  counts = rng.multinomial(4096, rng.dirichlet(np.full(size, 0.3)))
  boundaries = np.cumsum(counts) / 4096
  u = rng.integers(0, 4096, 500) / 4096
  expected = np.searchsorted(boundaries, u, side="right")
  assert (counts[expected] > 0).all()
  probs, x = np.float32(counts / 4096), np.float32(u)
  for sums, search in (
    (distributions._sums_of_blocks, distributions._count_passed),
    (distributions._sums_of_blocks, distributions._search_twice),
    (distributions._cumulative_sum, _search),
  ):
    cdf = jax.jit(sums)(probs)
    computed = jax.jit(search)(cdf, x * cdf[-1])
    np.testing.assert_array_equal(computed, expected)


def test_draws_from_boundaries_are_those_from_logits():
  logits = jax.random.normal(jax.random.key(1), (1000,), jnp.bfloat16)
  cdf = jax.jit(distributions.boundaries)(logits)
  drawn = jax.jit(distributions.draw, static_argnums=3)(
    jax.random.key(2), cdf[None], 0, 4096
  )
  expected = categorical(jax.random.key(2), logits, 4096)
  np.testing.assert_array_equal(drawn, expected)


@pytest.mark.parametrize("size", [1, 3, 8, 1000, 3000])
def test_draws_of_rows_are_those_of_each_alone(size):
  logits = 3 * jax.random.normal(jax.random.key(size), (5, size))
  cdfs = jax.vmap(distributions.boundaries)(logits)
  rows = jnp.array([4, 0, 0, 2])
  keys = jax.random.split(jax.random.key(1), len(rows))
  draw = functools.partial(distributions.draw, num=200)
  drawn = jax.jit(jax.vmap(draw, (0, None, 0)))(keys, cdfs, rows)
  for key, row, actions in zip(keys, rows, drawn, strict=True):
    cdf = np.asarray(cdfs[row])
    x = np.asarray(uniforms(key, 200, jnp.float32)) * cdf[-1]
    expected = np.minimum(np.searchsorted(cdf, x, side="right"), size - 1)
    np.testing.assert_array_equal(actions, expected)


@pytest.mark.parametrize("size", [3, 64, 999, 2048])
def test_comparing_never_draws_a_class_of_probability_0(size):
  """With a uniform at each boundary, where sums that round would differ."""
  probs = np.random.default_rng(0).exponential(size=size).astype(np.float32)
  probs[::3] = 0
  probs[size // 3 : size // 2] = 0  # More than a block.
  probs /= probs.sum()
  total = np.float32(probs).sum()
  u = np.cumsum(np.float32(probs)) / total
  u = np.concatenate([np.nextafter(u, 0), u, np.nextafter(u, 2)])
  cdf = jax.jit(distributions._sums_of_blocks)(probs)
  assert (np.diff(cdf) >= 0).all()
  assert (np.diff(cdf)[probs[1:] == 0] == 0).all()
  for search in (distributions._count_passed, distributions._search_twice):
    drawn = jax.jit(search)(cdf, np.float32(u) * cdf[-1])
    assert (probs[np.asarray(drawn)[u < 1]] > 0).all()


def test_no_impossible_class_of_a_large_vocabulary_is_drawn():
  """Rounding must not tell the ends of blocks of blocks apart."""
  rng = np.random.default_rng(0)
  logits = rng.normal(size=40_000).astype(np.float32) * 2
  logits[rng.random(40_000) < 0.5] = -np.inf
  cdf = np.asarray(distributions.boundaries(jnp.asarray(logits)))
  steps = np.diff(cdf, prepend=0)
  assert (steps >= 0).all()
  assert not steps[np.isinf(logits)].any()


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize(
  "look_up",
  [
    distributions._gathered,
    distributions._selected,
    distributions._looked_up,
    distributions._looked_up_twice,
  ],
)
def test_all_ways_to_look_up_have_the_same_values_and_gradients(look_up, size):
  rng = np.random.default_rng(size)
  table, tangent = rng.normal(size=(2, size)).astype(np.float32)
  index = rng.integers(0, size, 50)
  weights = rng.normal(size=50).astype(np.float32)

  def weighted(table):
    return weights @ look_up(table, jnp.asarray(index))

  value, gradient = jax.value_and_grad(weighted)(jnp.asarray(table))
  np.testing.assert_allclose(value, table[index] @ weights, rtol=1e-5)
  expected = np.zeros(size)
  np.add.at(expected, index, weights)
  np.testing.assert_allclose(gradient, expected, atol=1e-5)
  _, derivative = jax.jvp(weighted, (jnp.asarray(table),), (tangent,))
  np.testing.assert_allclose(derivative, tangent[index] @ weights, rtol=1e-5)


@pytest.mark.parametrize("size", [5, 1000, 32 * 1024 + 1, 100_000])
def test_cumulative_sum_equals_numpys(size):
  x = np.random.default_rng(size).exponential(size=size).astype(np.float32)
  computed = jax.jit(distributions._cumulative_sum)(x)
  np.testing.assert_allclose(computed, np.cumsum(np.float64(x)), rtol=1e-6)


def test_cumulative_sum_uses_no_large_triangular_matrix():
  """For 10⁵ classes it would have 3125 × 3125 entries."""
  sizes = jax.make_jaxpr(distributions._cumulative_sum)(jnp.ones(100_000))
  widest = max(
    np.prod(variable.aval.shape)
    for equation in sizes.eqns
    for variable in equation.outvars
  )
  assert widest <= 1024**2


@pytest.mark.parametrize("kind", ["threefry2x32", "rbg"])
@pytest.mark.parametrize("num", [1, 5, 100_000])
def test_uniforms_are_uniform(kind, num):
  key = jax.random.key(5, impl=kind)
  u = np.asarray(uniforms(key, num, jnp.float32))
  assert u.shape == (num,) and u.min() >= 0 and u.max() < 1
  other = np.asarray(uniforms(jax.random.key(6), num, u.dtype))
  assert (u != other).mean() > 0.9
  if num > 5:
    assert stats.kstest(u, "uniform").pvalue > 1e-4
    assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 5 / num**0.5
    assert abs(np.corrcoef(u[::2], u[1::2])[0, 1]) < 5 / (num / 2) ** 0.5
    # Threefry's two words of a counter would be half a group apart.
    assert abs(np.corrcoef(u[: num // 2], u[num // 2 :])[0, 1]) < 0.02


def test_inverse_cdf_by_hand():
  logits = jnp.log(jnp.array([0.25, 0.0, 0.5, 0.25, 0.0])) + 3.0
  uniforms = jnp.array([0.0, 0.125, 0.2499, 0.2501, 0.7, 0.7499, 0.7501])
  uniforms = jnp.append(uniforms, 1 - 2.0**-24)
  many = jnp.broadcast_to(logits, (8, 5))
  drawn, log_probs = distributions.inverse_cdf(uniforms, many)
  assert drawn.dtype == jnp.int32
  assert drawn.tolist() == [0, 0, 0, 2, 2, 2, 3, 3]
  p = np.array([0.25, 0, 0.5, 0.25, 0])[drawn]
  np.testing.assert_allclose(log_probs, np.log(p), rtol=1e-5)


@pytest.mark.parametrize(("size", "groups"), [(32, 500), (700, 20)])
def test_inverse_cdf_never_draws_impossible_classes(size, groups):
  """At the ends, at each boundary, and one rounding to either side."""
  rng = np.random.default_rng(0)
  p = rng.dirichlet(np.full(size, 0.3), size=groups).astype(np.float32)
  p[rng.uniform(size=p.shape) < 0.5] = 0
  p[np.arange(groups), rng.integers(size, size=groups)] += 1e-3
  p /= p.sum(1, keepdims=True)
  with np.errstate(divide="ignore"):
    logits = np.log(p)
  edges = np.cumsum(p, 1)
  u = [edges, np.nextafter(edges, 0), np.nextafter(edges, 2)]
  u = np.concatenate([*u, np.zeros((groups, 1))], 1)
  u = np.minimum(u, 1 - 2.0**-24).astype(np.float32)
  drawn, log_probs = jax.jit(distributions.inverse_cdf)(
    u, np.repeat(logits[:, None], u.shape[1], 1)
  )
  rows = np.arange(groups)[:, None]
  assert (p[rows, drawn] > 0).all() and np.isfinite(log_probs).all()
  near = np.searchsorted  # NumPy's class, up to a rounding of the uniform.
  for row in range(groups):
    double = np.cumsum(np.float64(p[row]))
    low = near(double, u[row] - 1e-6, side="right")
    high = np.minimum(near(double, u[row] + 1e-6, side="right"), size - 1)
    assert (low <= drawn[row]).all() and (drawn[row] <= high).all()


def test_a_large_vocabulary_puts_no_matrix_into_the_program():
  def lowered(size):
    shapes = jnp.zeros(3), jnp.zeros((3, size))
    return jax.jit(distributions.inverse_cdf).lower(*shapes).as_text()

  # In hexadecimal digits, 4096² numbers would have 134 million.
  assert len(lowered(4096)) < 1_000_000


def test_inverse_cdf_has_the_distribution():
  logits = jnp.asarray(np.random.default_rng(1).normal(size=32), jnp.float32)
  num = 100_000
  u = uniforms(jax.random.key(0), num, jnp.float32)
  many = jnp.broadcast_to(logits, (num, 32))
  drawn, _ = jax.jit(distributions.inverse_cdf)(u, many)
  p = np.exp(np.float64(logits))
  counts = np.bincount(drawn, minlength=32)
  assert stats.chisquare(counts, p / p.sum() * num).pvalue > 1e-4


def test_a_batch_raises():
  with pytest.raises(
    ValueError, match=r"logits: shape \(2, 3\), must have one"
  ):
    distributions.categorical(jax.random.key(0), jnp.zeros((2, 3)), 4)
