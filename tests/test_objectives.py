"""Objectives against sixty-digit arithmetic and against each other."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxrl_jax import objectives
from tests.support import oracles

# log1p(−p) in double precision is least accurate between 0.29 and 0.41; the
# last rates are the float32 and float64 numbers closest to 1.
PASS_RATES = np.concatenate(
  [
    np.logspace(-12, -1, 45),
    [0.125, 0.2, 0.25, 0.3, 0.4, 0.414, 0.5, 0.7, 0.9, 0.99, 0.999],
    [1 - 1e-6, 1 - 6e-8, 1 - 1e-10, 1 - 3e-15, 1],
  ]
)
ORDERS = [1, 2, 3, 16, 128, 4096]
COEFFICIENTS = np.random.default_rng(0).random(9).astype(np.float32)


def series(_):
  return objectives.series(COEFFICIENTS)


# name: (make, parameter, exact value, weight and slope of make(parameter)).
CASES = {
  "rl": (lambda _: objectives.rl(), 0, oracles.rl()),
  "ml": (
    lambda _: objectives.maximum_likelihood(),
    0,
    oracles.maximum_likelihood(),
  ),
  "grpo": (lambda _: objectives.grpo(), 0, oracles.grpo()),
  "series": (series, 0, oracles.series(COEFFICIENTS)),
  "maxrl inf": (objectives.maxrl, math.inf, oracles.maximum_likelihood()),
  "power 0.0": (objectives.power, 0.0, oracles.maximum_likelihood()),
}
for name, parameters in {
  "maxrl": ORDERS,
  "pass_at_k": ORDERS,
  "power": [0.25, 0.5, 1.0],
}.items():
  make, oracle = getattr(objectives, name), getattr(oracles, name)
  CASES |= {f"{name} {x}": (make, x, oracle(x)) for x in parameters}


def evaluate(make, parameter, p):
  """J, w and w' of make(parameter)."""
  objective = make(parameter)
  slope = jax.vmap(jax.grad(objective.weight))
  return objective.value(p), objective.weight(p), slope(p)


# Compiled once for all parameters and pass rates, or once for each.
_traced = jax.jit(evaluate, static_argnums=0)
static = jax.jit(evaluate, static_argnums=(0, 1))


def traced(make, parameter, p):
  p, parameter = np.asarray(p), np.asarray(parameter, float)
  dtype = jax.dtypes.canonicalize_dtype(p.dtype)
  padded = np.resize(p, len(PASS_RATES)).astype(dtype)
  computed = _traced(make, parameter.astype(dtype), padded)
  return [x[: len(p)] for x in map(np.asarray, computed)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES)
def test_value_weight_and_slope_are_accurate_to_rounding(case, dtype):
  make, parameter, exact = CASES[case]
  p = PASS_RATES.astype(dtype)
  if case == "grpo":  # infinite at 1
    p = p[p < 1]
  with jax.enable_x64(dtype == np.float64):
    actual = traced(make, parameter, p)
  wanted = np.array([exact(x) for x in p]).T
  eps, tiny = np.finfo(dtype).eps, np.finfo(dtype).tiny
  bounds, floor = (20, 20, 40), tiny
  # w' is computed as (T(1−p)^{T−1} − w)/p: at worst, for T p = ¼ and T = 2,
  # one rounding of w is 16 roundings of the slope.
  if case.startswith("pass_at_k"):
    # (1−p)^K = exp(K log(1−p)) is as accurate as its exponent, one or two
    # roundings, and underflows to zero before the multiplication by K².
    exponent = np.log1p(-np.minimum(p.astype(float), 1 - eps)) * -parameter
    bounds, floor = (20, *[20 + 2 * exponent] * 2), tiny * parameter**2
  for got, expected, bound in zip(actual, wanted, bounds, strict=True):
    assert got.dtype == dtype
    allowed = bound * eps * np.where(expected == 0, 1, np.abs(expected))
    error = np.abs(np.asarray(got, float) - expected)
    worst = np.argmax(error / (allowed + floor))
    assert error[worst] <= (allowed + floor)[worst], (
      f"p = {p[worst]!r}: {got[worst]}, not {expected[worst]}"
    )


@pytest.mark.parametrize(
  ("case", "value", "weight", "slope"),
  [
    ("rl", 0, 1, 0),
    ("ml", -math.inf, math.inf, -math.inf),
    ("maxrl inf", -math.inf, math.inf, -math.inf),
    ("maxrl 1", -1, 1, 0),
    ("maxrl 3", -11 / 6, 3, -3),
    ("pass_at_k 1", 0, 1, 0),
    ("pass_at_k 3", 0, 3, -6),
    ("power 0.5", -2, math.inf, -math.inf),
    ("power 1.0", -1, 1, 0),
    ("grpo", 0, math.inf, -math.inf),
  ],
)
def test_pass_rate_of_zero(case, value, weight, slope):
  make, parameter, _ = CASES[case]
  computed = np.ravel(traced(make, parameter, np.zeros(1)))
  np.testing.assert_allclose(computed, [value, weight, slope], rtol=1e-6)


def test_grpo_by_hand():
  p = jnp.array([0, 0.25, 0.5, 0.75, 1])
  value, weight, _ = traced(*CASES["grpo"][:2], p)
  thirds = np.array([0, 1 / 3, 1 / 2, 2 / 3, 1])
  np.testing.assert_allclose(value, np.pi * thirds, rtol=1e-6)
  inside = [4 / math.sqrt(3), 2, 4 / math.sqrt(3)]
  np.testing.assert_allclose(weight, [np.inf, *inside, np.inf], rtol=1e-6)


@pytest.mark.parametrize(
  "case",
  ["rl", "ml", "grpo", "series", "maxrl 16", "pass_at_k 16", "power 0.5"],
)
def test_gradient_of_value_follows_the_chain_rule(case):
  make, parameter, _ = CASES[case]
  objective = make(parameter)
  logit = jnp.linspace(-5, 2, 8)

  @jax.jit
  def both(logit):
    p = jax.nn.sigmoid(logit)
    slope = jax.grad(lambda x: objective.value(jax.nn.sigmoid(x)).sum())
    return slope(logit), objective.weight(p) * p * jax.nn.sigmoid(-logit)

  np.testing.assert_allclose(*both(logit), rtol=2e-6)


@pytest.mark.parametrize(
  "case", ["grpo", "maxrl 16", "maxrl inf", "pass_at_k 16", "power 0.5"]
)
def test_jit_and_vmap_change_nothing(case):
  make, parameter, _ = CASES[case]
  objective = make(parameter)
  # More than 12 rates, for which XLA miscompiled the integral of J_T.
  p = jnp.linspace(0.01, 0.99, 40).reshape(2, 20)
  for f in (objective.value, objective.weight):
    eager = f(p)
    assert eager.shape == p.shape
    one_by_one = jax.jit(jax.vmap(jax.vmap(f)))(p)
    np.testing.assert_allclose(one_by_one, eager, rtol=3e-6)


@pytest.mark.parametrize(
  ("make", "parameters"),
  [
    (objectives.maxrl, [1, 2, 16, 4096, math.inf]),
    (objectives.pass_at_k, [1, 2, 16, 128]),
    (objectives.power, [0, 0.25, 0.5, 1]),
  ],
)
def test_traced_parameters_equal_static_ones(make, parameters):
  p = jnp.array([1e-6, 0.01, 0.2, 0.5, 1])
  sweep = jax.jit(jax.vmap(lambda x: evaluate(make, x, p)))
  actual = zip(*sweep(jnp.array(parameters, float)), strict=True)
  for parameter, swept in zip(parameters, actual, strict=True):
    for x, y in zip(swept, static(make, parameter, p), strict=True):
      np.testing.assert_allclose(x, y, rtol=5e-6, atol=1e-6)


@pytest.mark.parametrize(
  ("make", "parameter"),
  [
    (objectives.maxrl, 3),
    (objectives.pass_at_k, 3),
    (objectives.power, 0.5),
    (objectives.series, [1.0, 0.5]),
  ],
)
def test_parameters_that_a_compiled_function_closes_over(make, parameter):
  p, array = jnp.array([0.2, 0.5]), jnp.array(parameter)
  actual = jax.jit(lambda p: make(array).value(p))(p)
  expected = make(np.array(parameter)).value(p)
  np.testing.assert_allclose(actual, expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("case", CASES)
def test_dtypes_promote_strictly(case, dtype):
  make, parameter, _ = CASES[case]
  with jax.numpy_dtype_promotion("strict"):
    outcome = jax.eval_shape(
      lambda p: evaluate(make, parameter, p), jnp.asarray([0.1, 0.5], dtype)
    )
    coefficients = make(parameter).coefficients
    assert coefficients is None or coefficients(4).dtype == "float32"
  assert {x.dtype for x in outcome} == {jnp.dtype(dtype)}


def test_slope_of_pass_at_k_beyond_the_range_of_integers():
  """−K (K−1) (1−p)^{K−2}, where K² does not fit into 32 bits."""
  k, p = 50_000, 1e-5
  actual = jax.grad(objectives.pass_at_k(jnp.int32(k)).weight)(p)
  expected = -k * (k - 1) * (1 - p) ** (k - 2)
  assert actual == pytest.approx(expected, 1e-5)


def test_higher_orders_tighten_the_bound_on_log_p():
  p = np.array([1e-6, 0.01, 0.3, 0.9], np.float32)
  ladder = jnp.array([*ORDERS, math.inf])
  values, weights, _ = map(
    np.asarray,
    jax.jit(jax.vmap(lambda T: evaluate(objectives.maxrl, T, jnp.array(p))))(
      ladder
    ),
  )
  rounding = 1 + 1e-6
  assert np.all(values[1:] <= values[:-1] / rounding)
  assert np.all(values >= np.log(p) * rounding)
  assert np.all(weights[1:] * rounding >= weights[:-1])
  assert np.all(weights <= rounding / p)
  # At p = 1e-6, consecutive orders differ clearly.
  assert np.all(values[1:, 0] < values[:-1, 0] - 0.1)
  assert np.all(weights[1:, 0] > weights[:-1, 0] + 0.9)


@pytest.mark.parametrize(
  "objective",
  [
    objectives.rl(),
    objectives.maxrl(1),
    objectives.maxrl(16),
    objectives.maxrl(math.inf),
    objectives.maximum_likelihood(),
    objectives.pass_at_k(5),
    objectives.power(0),
    objectives.power(0.5),
    objectives.power(1),
    objectives.series(COEFFICIENTS),
  ],
)
def test_coefficients_sum_to_the_weight(objective, x64):
  p = np.array([0.2, 0.5, 0.9, 1.0])
  a = np.asarray(objective.coefficients(200))  # 0.8^200 < 1e-19
  assert a.shape == (200,)
  assert np.all(a >= 0)
  total = (a * (1 - p[:, None]) ** np.arange(200)).sum(-1)
  np.testing.assert_allclose(total, objective.weight(p), rtol=1e-13)


def test_coefficients_by_hand():
  def coefficients(objective):
    return np.asarray(objective.coefficients(4))

  np.testing.assert_array_equal(coefficients(objectives.rl()), [1, 0, 0, 0])
  np.testing.assert_array_equal(coefficients(objectives.maxrl(3)), [1, 1, 1, 0])
  np.testing.assert_array_equal(
    coefficients(objectives.pass_at_k(3)), [0, 0, 3, 0]
  )
  # 1, 1/2, (1/2)(3/4), (1/2)(3/4)(5/6)
  np.testing.assert_allclose(
    coefficients(objectives.power(0.5)), [1, 1 / 2, 3 / 8, 5 / 16], rtol=1e-6
  )
  assert objectives.grpo().coefficients is None


@pytest.mark.parametrize(
  ("case", "same", "shift"),
  [
    ("maxrl 1", "rl", -1),
    ("pass_at_k 1", "rl", 0),
    ("power 1.0", "rl", -1),
    ("power 0.0", "ml", 0),
    ("maxrl inf", "ml", 0),
  ],
)
def test_special_cases_coincide(case, same, shift):
  p = jnp.array([0.01, 0.3, 0.8])
  value, *derivatives = traced(*CASES[case][:2], p)
  expected, *same_derivatives = traced(*CASES[same][:2], p)
  np.testing.assert_allclose(value, expected + shift, rtol=5e-6)
  for x, y in zip(derivatives, same_derivatives, strict=True):
    np.testing.assert_allclose(x, y, rtol=5e-6, atol=1e-6)


def test_a_series_of_ones_is_maxrl():
  p = jnp.array([0.01, 0.3, 0.8])
  actual = traced(objectives.series, np.ones(7), p)
  for x, y in zip(actual, traced(objectives.maxrl, 7, p), strict=True):
    np.testing.assert_allclose(x, y, rtol=5e-6)


@pytest.mark.parametrize(
  ("make", "name", "invalid"),
  [
    (objectives.maxrl, "order", [0, -1, 0.5, math.nan, (1, 2)]),
    (objectives.pass_at_k, "k", [0, -3, math.nan]),
    (objectives.power, "alpha", [-0.1, 1.1, math.nan]),
  ],
)
def test_error_names_a_parameter_out_of_range(make, name, invalid):
  for value in invalid:
    with pytest.raises(ValueError, match=rf"^{name} = ") as error:
      make(value)
    assert str(error.value).startswith(f"{name} = {value}:")


def test_objective_names_are_function_names():
  for name, make in objectives.OBJECTIVES.items():
    assert make is getattr(objectives, name)


@pytest.mark.parametrize("order", [np.int64(4), np.float64(4), np.float32(4)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_orders_of_numpy_are_those_of_python(order, dtype, x64):
  p = jnp.asarray(0.1, dtype)
  given, plain = (objectives.maxrl(t).value(p) for t in (order, 4))
  assert given == plain and given.dtype == dtype


def test_half_precision_loses_no_digits_on_the_way():
  value = objectives.maxrl(4).value(jnp.bfloat16(1e-3))
  exact = objectives.maxrl(4).value(jnp.float32(jnp.bfloat16(1e-3)))
  np.testing.assert_allclose(np.float32(value), exact, rtol=2**-8)


def test_a_second_eager_call_compiles_nothing(caplog):
  objectives.maxrl(3).value(0.25)
  with jax.log_compiles(True):
    objectives.maxrl(5).value(0.5)
  assert "Compiling" not in caplog.text


def test_orders_may_be_in_half_precision():
  order = jnp.asarray(4, jnp.bfloat16)
  half, whole = (objectives.maxrl(t).weight(0.25) for t in (order, 4))
  np.testing.assert_allclose(half, whole, 1e-2)


@pytest.mark.parametrize("order", [2**31, 10**20])
def test_orders_beyond_the_range_of_integers(order):
  p = 1e-3  # Far above 1/T: as at T = ∞.
  assert float(objectives.maxrl(order).value(p)) == pytest.approx(math.log(p))
  assert float(objectives.maxrl(order).weight(p)) == pytest.approx(1 / p)
  assert float(objectives.pass_at_k(order).value(p)) == 1
  assert float(objectives.activity(p, order)) == pytest.approx(2 * (1 - p))
