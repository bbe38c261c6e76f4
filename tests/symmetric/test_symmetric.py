"""Leave-one-out weights against rational arithmetic and hand calculation."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxrl_jax import symmetric
from tests.support import oracles
from tests.support.extent import long

SIZES = [1, 2, 3, 8, 64, 256, 1000, 1024, 4096]
METHODS = sorted(symmetric.METHODS)
SERIES_METHODS = sorted(symmetric.SERIES_METHODS)
ALL_SIZES = [n for n in range(1, 41) if n not in (5, 12)]
RTOL = {np.float32: 1e-5, np.float64: 1e-12}

# Compiled once for all orders (traced), or once per order (static).
traced = jax.jit(symmetric.leave_one_out, static_argnames="method")
static = jax.jit(symmetric.leave_one_out, static_argnames=("order", "method"))
series = jax.jit(symmetric.series_leave_one_out, static_argnames="method")


@functools.cache
def draw(size):
  """Numerically hard groups of seven kinds [7, N], the last one binary.

  Large groups repeat eight levels in random order: equal likelihoods have equal
  rounding errors, and only eight exact values must be computed.
  """
  rng = np.random.default_rng(size)
  level = rng.random((3, size))
  if size > 64:
    level = np.stack([rng.choice(x[:8], size) for x in level])
  uniform, small, large = level
  # 1 − 3e-8 rounds to 1 in float32.
  equal = np.full((3, size), [[0.3], [2e-5], [3e-8]])
  few = rng.random(size) < 0.2
  groups = [uniform, 1 - 1e-6 * large, 1e-6 * small, *equal, few]
  return np.stack(groups).astype(np.float32)


@functools.cache
def truth(size, row):
  loo = oracles.exact_loo if size <= 64 else oracles.extended_loo
  return loo(draw(size)[row])


def orders(size):
  return sorted({1, min(2, size), max(size // 4, 1), max(size - 1, 1), size})


def compute(l, order, method, mask=None):
  # Of a masked group, the quadrature takes static orders only.
  masked_quadrature = method == "quadrature" and mask is not None
  run = static if order is None or masked_quadrature else traced
  return run(l, order, method=method, mask=mask)


def assert_close(actual, expected, rtol=RTOL[np.float32]):
  for got, exact in zip(actual, expected, strict=True):
    np.testing.assert_allclose(got, exact, rtol=rtol)


def test_oracles_agree():
  for l in draw(64):
    exact, extended = oracles.exact_loo(l), oracles.extended_loo(l)
    for x, y in zip(exact[:2], extended[:2], strict=True):
      np.testing.assert_allclose(y, x.astype(float), rtol=1e-14, atol=1e-300)
  # The last group is binary.
  others = np.sum(l) - l
  for order in orders(64):
    closed = [oracles.binary_loo(64, int(c), order) for c in others]
    assert_close(np.transpose(closed), exact.maxrl(order), 1e-14)
  # Enumeration of subsets.
  l = draw(8)[0].astype(float)
  for order in range(1, 9):
    weights, _ = oracles.exact_loo(l).maxrl(order)
    by_definition = [
      oracles.estimate_wT(np.delete(l, j), order) for j in (0, 5)
    ]
    np.testing.assert_allclose(by_definition, weights[[0, 5]], rtol=1e-14)


def in_short_suite(method, size, dtype):
  """Smaller groups, and a larger one, say the same."""
  if dtype == np.float64:
    return size == 8
  return size <= 64 or (method != "tree" and size == 1024)


@pytest.mark.parametrize(
  ("method", "size", "dtype"),
  [
    case if in_short_suite(*case) else long(*case)
    for case in itertools.product(METHODS, SIZES, RTOL)
    if case[2] == np.float32 or case[1] in (8, 64, 1024, 4096)
    if case != ("scan", 4096, np.float64)  # slow
  ],
)
def test_every_method_is_exact_to_rounding(method, size, dtype):
  rows = [6] if method == "binary" else range(7)
  if method == "scan" and size == 4096:
    rows = [2, 4]  # the hardest, to save time
  with jax.enable_x64(dtype == np.float64):
    for order, row in itertools.product(orders(size), rows):
      computed = compute(draw(size)[row].astype(dtype), order, method)
      assert computed.weights.dtype == computed.baselines.dtype == dtype
      exact = truth(size, row).maxrl(order)
      assert_close(computed, exact, RTOL[dtype])
      if method in ("quadrature", "tree") and dtype == np.float32:
        np.testing.assert_allclose(computed.weights, exact[0], rtol=2e-6)


@pytest.mark.parametrize("size", [5, 12, *map(long, ALL_SIZES)])
@pytest.mark.parametrize("method", ["quadrature", "tree"])
def test_every_order(size, method):
  for row in (0, 2, 6):
    for order in range(1, size + 1):
      weights, baselines = traced(draw(size)[row], order, method=method)
      exact = truth(size, row).maxrl(order)
      np.testing.assert_allclose(weights, exact[0], rtol=2e-6)
      np.testing.assert_allclose(baselines, exact[1], rtol=5e-6)


@pytest.mark.parametrize(
  ("size", "order"),
  [(9, 3), long(64, 20), long(1000, 256)],
)
@pytest.mark.parametrize("dtype", RTOL)
def test_quadrature_of_a_static_order(size, order, dtype):
  with jax.enable_x64(dtype == np.float64):
    for row in (0, 2, 6):
      computed = static(
        draw(size)[row].astype(dtype), order, method="quadrature"
      )
      assert_close(computed, truth(size, row).maxrl(order), RTOL[dtype])


@pytest.mark.parametrize("method", METHODS)
def test_a_traced_order_may_be_a_float(method):
  l = draw(64)[6]
  as_float = compute(l, np.float32(5), method)
  assert_close(as_float, compute(l, 5, method), 0)


def test_baseline_beside_two_dominant_rollouts():
  """Dividing one of them out of all but the other cancels, and is not done."""
  l = np.full(200, 1e-7, np.float32)
  l[:2] = 0.5, 0.4
  for order in (1, 20, 100, 197):
    actual = traced(l, order, method="quadrature")
    assert_close(actual, oracles.extended_loo(l).maxrl(order))
  l[1] = 1e-7
  actual = traced(l, 20, method="quadrature")
  assert_close(actual, oracles.extended_loo(l).maxrl(20))


# l = (1, 1/2, 0, 1/4), q = (0, 1/2, 1, 3/4). Without rollout
#   1: 1/2, 1, 3/4:  ē_1 = 3/4,  ē_2 = (1/2 + 3/8 + 3/4)/3 = 13/24,  ē_3 = 3/8
#   2: 0, 1, 3/4:    ē_1 = 7/12, ē_2 = (3/4)/3 = 1/4,                ē_3 = 0
#   3: 0, 1/2, 3/4:  ē_1 = 5/12, ē_2 = (3/8)/3 = 1/8,                ē_3 = 0
#   4: 0, 1/2, 1:    ē_1 = 1/2,  ē_2 = (1/2)/3 = 1/6,                ē_3 = 0
@pytest.mark.parametrize(
  ("order", "weights", "baselines"),
  [
    (1, [1, 1, 1, 1], [1 / 4, 5 / 12, 7 / 12, 1 / 2]),
    (2, [7 / 4, 19 / 12, 17 / 12, 3 / 2], [11 / 24, 3 / 4, 7 / 8, 5 / 6]),
    (3, [55 / 24, 11 / 6, 37 / 24, 5 / 3], [5 / 8, 1, 1, 1]),
    (4, [8 / 3, 11 / 6, 37 / 24, 5 / 3], [5 / 8, 1, 1, 1]),
  ],
)
def test_four_rollouts_by_hand(order, weights, baselines):
  l = np.array([1, 1 / 2, 0, 1 / 4], np.float32)
  for method in ("scan", "tree", "quadrature"):
    assert_close(compute(l, order, method), (weights, baselines), 1e-6)


# l = (1, 0, 0): a failure sees (1, 0), ē_1 = 1/2, ē_2 = 0; the success sees
# (0, 0), ē_1 = ē_2 = 1.
@pytest.mark.parametrize("dtype", [bool, int, float])
@pytest.mark.parametrize(
  ("order", "weights", "baselines"),
  [
    (1, [1, 1, 1], [0, 1 / 2, 1 / 2]),
    (2, [2, 3 / 2, 3 / 2], [0, 1, 1]),
    (3, [3, 3 / 2, 3 / 2], [0, 1, 1]),
  ],
)
def test_one_success_in_three_by_hand(order, weights, baselines, dtype):
  l = np.array([1, 0, 0], dtype)
  for method in (None, "binary", "scan", "tree"):
    assert_close(compute(l, order, method), (weights, baselines), 1e-6)


@pytest.mark.parametrize("method", ["binary", "quadrature"])
def test_binary_groups_of_thousands(method):
  N = 4096
  for K, order in itertools.product((0, 1, 2, N // 2, N - 1, N), orders(N)):
    actual = compute(np.arange(N) < K, order, method)
    for j in {min(K, N - 1), max(K - 1, 0)}:  # a failure and a success
      exact = oracles.binary_loo(N, K - (j < K), order)
      assert_close((actual.weights[j], actual.baselines[j]), exact)


@pytest.mark.parametrize("size", [1, 2, 5, 64])
@pytest.mark.parametrize("method", METHODS)
def test_all_failures_and_all_successes(method, size):
  for order in orders(size):
    failures, successes = (
      compute(np.full(size, l, np.float32), order, method) for l in (0, 1)
    )
    all_equal = np.ones(size)
    assert_close(failures, (order * all_equal, 0 * all_equal))
    # A group of one has no other rollout, so its baseline is 0.
    assert_close(successes, (all_equal, (size > 1) * all_equal))


def test_mean_weighted_likelihood_is_pass_at_T_of_the_group(x64):
  l = draw(8)[0].astype(float)
  # Leaving out the added ninth rollout gives ē_k of all eight.
  table = oracles.exact_loo([*l, 0])
  for order in range(1, 9):
    weights, _ = traced(l, order, method="scan")
    expected = float(table.passes[table.which[-1], order])
    np.testing.assert_allclose(np.mean(weights * l), expected, rtol=1e-13)


@pytest.mark.parametrize("method", METHODS)
def test_binary_weights_at_order_N_are_N_over_K(method):
  N = 5
  for K in range(N + 1):
    l = np.arange(N) < K
    weights = compute(1.0 * l, N, method).weights
    # N/K for a success, N/(K+1) for a failure.
    np.testing.assert_allclose(weights, N / np.where(l, K, K + 1), rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_masked_rollouts_change_nothing(method):
  rng = np.random.default_rng(0)
  group = rng.random(5).astype(np.float32)
  if method == "binary":
    group = (group < 0.5).astype(np.float32)
  mask = np.isin(np.arange(9), rng.permutation(9)[:5])
  table = oracles.exact_loo(group)
  # An order above the group size 5 acts as 5; None is 4.
  for garbage, order in itertools.product(
    (0.5, 1, np.nan, np.inf, -3), (None, *range(1, 10))
  ):
    l = np.full(9, garbage, np.float32)
    l[mask] = group
    actual = compute(l, order, method, mask)
    assert not any(np.any(x[~mask]) for x in actual)
    expected = table.maxrl(min(order or 4, 5))
    assert_close([x[mask] for x in actual], expected)


@pytest.mark.parametrize("method", SERIES_METHODS)
@pytest.mark.parametrize("size", [1, 2, 8, 64, long(1024)])
def test_series_with_any_coefficients(size, method):
  rng = np.random.default_rng(size)
  a = rng.random(size).astype(np.float32)
  for row in [6] if method == "binary" else range(7):
    computed = series(draw(size)[row], a, method=method)
    assert_close(computed, truth(size, row).series(a))


@pytest.mark.parametrize("terms", [long(1), 3, long(5)])
@pytest.mark.parametrize("method", SERIES_METHODS)
def test_short_and_masked_series(method, terms):
  group = draw(8)[-1 if method == "binary" else 0, :5]
  mask = np.array([1, 0, 1, 1, 0, 0, 1, 1], bool)
  l = np.full(8, np.nan, np.float32)
  l[mask] = group
  a = np.linspace(0, 2, terms, dtype=np.float32)
  expected = oracles.exact_loo(group).series(a)
  assert_close(series(group, a, method=method), expected)
  actual = series(l, a, mask=mask, method=method)
  assert_close([x[mask] for x in actual], expected)
  assert not any(np.any(x[~mask]) for x in actual)


def test_default_method_depends_on_dtype_order_and_platform():
  def program(function, *arguments, **options):
    def call(l):
      return function(l, *arguments, **options)

    return lambda l: str(jax.make_jaxpr(call)(l))

  graded, binary = np.zeros(16), np.zeros(16, bool)
  for l, order, method in (
    (graded, None, "quadrature"),
    (graded, 15, "quadrature"),
    (graded, 9, "quadrature"),
    (binary, 6, "binary"),
    (binary, 16, "binary"),
  ):
    chosen = program(symmetric.loo_weights, order)(l)
    named = program(symmetric.loo_weights, order, method=method)(l)
    assert chosen.replace(f"method={method}", "method=None") == (
      named.replace(f"method={method}", "method=None")
    )
  # The scan on a CPU, the quadrature elsewhere.
  assert "platform_index" in program(symmetric.loo_weights, 3)(graded)
  chosen = program(symmetric.series_weights, np.ones(3))(binary)
  named = program(symmetric.series_weights, np.ones(3), method="binary")(binary)
  assert chosen == named


@pytest.mark.parametrize(
  ("platform", "terms", "masked", "method"),
  [
    ("cpu", 63, False, "scan"),
    long("cpu", 64, False, "tree"),
    long("cpu", 64, True, "scan"),
    ("tpu", 3, False, "tree"),
    ("tpu", 64, True, "scan"),
    ("cuda", 3, False, "tree"),
    long("cuda", 64, True, "tree"),
  ],
)
def test_default_method_of_a_series(platform, terms, masked, method):
  def program(l, mask, method=None):
    mask = mask if masked else None
    return symmetric.series_leave_one_out(
      l, np.ones(terms, np.float32), mask=mask, method=method
    )

  l, mask = np.zeros(64, np.float32), np.ones(64, bool)
  loops = {}
  for name in (None, "scan", "tree"):
    lowered = jax.jit(program, static_argnums=2).trace(l, mask, name)
    text = lowered.lower(lowering_platforms=(platform,)).as_text()
    loops[name] = text.count("stablehlo.while")
  assert loops["scan"] != loops["tree"]
  assert loops[None] == loops[method]


def test_weight_functions_equal_the_full_results():
  @jax.jit
  def pairs(l):
    return [
      (symmetric.loo_weights(l, 8), symmetric.leave_one_out(l, 8)),
      (
        symmetric.series_weights(l, np.ones(3)),
        symmetric.series_leave_one_out(l, np.ones(3)),
      ),
    ]

  for weights, both in pairs(draw(8)[0]):
    np.testing.assert_array_equal(weights, both.weights)


@pytest.mark.parametrize(
  ("method", "order"), [("binary", 3), ("quadrature", 8), ("scan", 3)]
)
def test_jit_vmap_and_traced_orders_change_nothing(method, order):
  l = draw(8)[[-1, -1] if method == "binary" else [0, 1]]
  one = functools.partial(symmetric.leave_one_out, order=order, method=method)
  eager = [one(x) for x in l]
  batch = jax.jit(jax.vmap(one))(l)
  for i in range(2):
    assert_close([x[i] for x in batch], eager[i], 1e-6)
    assert_close(compute(l[i], order, method), eager[i], 1e-6)
    assert_close(static(l[i], order, method=method), eager[i], 1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("method", METHODS)
def test_half_precision_is_computed_in_single(method, dtype):
  l = draw(8)[-1 if method == "binary" else 0].astype(dtype)
  half = compute(l, 7, method)
  assert half.weights.dtype == half.baselines.dtype == np.float32
  assert_close(half, compute(l.astype(np.float32), 7, method), 0)
