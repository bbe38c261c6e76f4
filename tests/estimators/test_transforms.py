"""Every estimator under every transform of JAX: same numbers, one trace."""

import functools
import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from maxrl_jax import estimators
from maxrl_jax.estimators import ESTIMATORS
from tests.support.extent import long

B, N = 4, 6
_SERIES = {"coefficients": np.array([1.0, 0.5, 2.0], np.float32)}
_WAVES = np.array([0, 0, 1, 2, 2, 2])
# Name, options; booleans take the closed form.
CASES = {
  **{name: (name, {}) for name in ESTIMATORS},
  **{
    f"log_{name}": (f"log_{name}", {}) for name in ("self_normalized", "vimco")
  },
  "order 2": ("maxrl", {"order": 2}),
  "order N": ("maxrl", {"order": N}),
  "no baseline": ("maxrl", {"baseline": "none"}),
  "pass_at_k": ("pass_at_k", {"k": 3}),
  "power": ("power", {"alpha": 0.3}),
  "series": ("series", _SERIES),
  "tail k": ("tail", {"k": 3}),
  "tail alpha": ("tail", {"alpha": 0.3, "baseline": "none"}),
  "tail coefficients": ("tail", {**_SERIES, "baseline": "loo_mean"}),
  "sequential": ("sequential", {"waves": _WAVES}),
  "sequential unsolved": (
    "sequential",
    {"waves": _WAVES, "baseline": 0.5, "solved": False},
  ),
}
_BOOLEAN = {
  "boolean " + name for name in ("maxrl", "order 2", "series", "sequential")
}


# Functions of l [N], mask [N] and a number: one of each for every group.
_OF_GROUPS = {
  "traced order": lambda l, mask, t: estimators.maxrl(l, order=t),
  "traced order, masked": lambda l, mask, t: estimators.maxrl(
    l, order=t, mask=mask
  ),
  "traced order, boolean": lambda l, mask, t: estimators.maxrl(
    l > 0.5, order=t, mask=mask
  ),
  "traced order of tail": lambda l, mask, t: estimators.tail(
    l, order=t, mask=mask
  ),
  "traced alpha": lambda l, mask, t: estimators.power(
    l, alpha=t / 8, mask=mask
  ),
  "given_success": lambda l, mask, t: estimators.given_success(
    l, l > 0.3, functools.partial(estimators.maxrl, order=2), mask=mask
  ),
  "combine": lambda l, mask, t: estimators.combine(
    [(1.0, l, estimators.maxrl), (-0.5, 1 - l, estimators.rloo)], mask=mask
  ),
}


def _case_of_groups(name):
  """A function of one [3, N]: likelihoods, mask and a number; groups [B, …]."""
  if name in _OF_GROUPS:
    f, (_, l) = _OF_GROUPS[name], _case("maxrl")
  else:
    estimator, l = _case(name.removeprefix("masked "))
    kind = l.dtype

    def f(l, mask, _):
      return estimator(l.astype(kind), mask=mask)

  mask = np.arange(N) < np.array([[N], [N - 1], [N - 2], [N - 1]])
  number = np.broadcast_to([[1], [2], [3], [N]], (B, N))
  packed = np.stack([l, mask, number], 1).astype(np.float32)
  return lambda x: f(x[0], x[1] > 0.5, x[2, 0].astype(int)), packed


def _case(name):
  """An estimator of one group, and groups [B, N] for it."""
  kind, options = CASES[name.removeprefix("boolean ")]
  l = np.random.default_rng(0).random((B, N)).astype(np.float32)
  l[1], l[2, 1:] = 0, 0
  if name in _BOOLEAN:
    l = l > 0.5
  if kind.startswith("log_"):
    l = np.log(np.maximum(l, 1e-3))
  return functools.partial(getattr(estimators, kind), **options), l


def _mesh(kind):
  return jax.make_mesh((1,), ("data",), axis_types=(kind,))


def _on_mesh(kind, f, l):
  mesh = _mesh(kind)
  with jax.set_mesh(mesh):
    l = jax.device_put(l, NamedSharding(mesh, P("data")))
    return jax.jit(jax.vmap(f))(l)


def _shard_mapped(f, l):
  by_group = jax.shard_map(
    jax.vmap(f),
    mesh=_mesh(AxisType.Auto),
    in_specs=P("data"),
    out_specs=P("data"),
  )
  return jax.jit(by_group)(l)


TRANSFORMS = {
  "jit": lambda f, l: jnp.stack([jax.jit(f)(x) for x in l]),
  "vmap": lambda f, l: jax.vmap(f)(l),
  "scan": lambda f, l: jax.lax.scan(lambda _, x: (None, f(x)), None, l)[1],
  "map in batches": lambda f, l: jax.lax.map(f, l, batch_size=3),
  "checkpoint": lambda f, l: jax.jit(jax.vmap(jax.checkpoint(f)))(l),
  "shard_map": _shard_mapped,
  "explicit mesh": functools.partial(_on_mesh, AxisType.Explicit),
  "automatic mesh": functools.partial(_on_mesh, AxisType.Auto),
}
ALL = [*CASES, *sorted(_BOOLEAN)]


# They run the same lines as another case of maxrl, tail or sequential.
_ALIKE = {
  *("order N", "no baseline", "boolean order 2", "sequential"),
  *("tail k", "tail alpha", "tail_rl"),
}
_MASKED = [f"masked {name}" for name in ALL if name not in _ALIKE]
_FAST = {
  *("traced order", "masked order 2", "masked series"),
  "masked sequential unsolved",
}
EACH = [long(name) if name in _ALIKE else name for name in ALL]


def _eager(f, l):
  return np.stack([f(x) for x in l])


@pytest.fixture
def older_objects_stay():
  """The search for leaked tracers collects garbage, of what a test leaves."""
  gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def none_stays_after_the_module():
  yield
  gc.unfreeze()
  jax.clear_caches()
  gc.collect()
  gc.freeze()


@pytest.mark.usefixtures("older_objects_stay")
@pytest.mark.parametrize("name", EACH)
def test_transforms_change_nothing(name):
  _change_nothing(*_case(name))


@pytest.mark.usefixtures("older_objects_stay")
@pytest.mark.parametrize(
  "name",
  [
    *_OF_GROUPS,
    *(name if name in _FAST else long(name) for name in _MASKED),
  ],
)
def test_transforms_of_masks_and_numbers_of_each_group(name):
  """Eager calls have the numbers, others trace them."""
  _change_nothing(*_case_of_groups(name))


def _change_nothing(f, l):
  expected = _eager(f, l)
  assert np.isfinite(expected).all() and np.ptp(expected) > 0
  for transform, apply in TRANSFORMS.items():
    traces = 0

    def counted(x):
      nonlocal traces
      traces += 1
      return f(x)

    with jax.checking_leaks(), jax.debug_nans(True):
      actual = apply(counted, jnp.asarray(l))
    np.testing.assert_allclose(
      actual, expected, rtol=2e-6, atol=2e-6, err_msg=transform
    )
    # lax.map in batches has a program of the rest.
    assert traces <= 1 + (transform == "map in batches"), transform


@pytest.mark.parametrize(
  "name",
  [name if name in _FAST else long(name) for name in (*_OF_GROUPS, *_MASKED)],
)
@pytest.mark.parametrize("platform", ["tpu", "default"])
def test_branches_of_other_platforms(name, platform, monkeypatch):
  """What GPUs and TPUs compute, on a CPU."""
  f, l = _case_of_groups(name)
  expected = _eager(f, l)

  def chosen(*arguments, default=None, **branches):
    return branches.get(platform, default)(*arguments)

  monkeypatch.setattr(jax.lax, "platform_dependent", chosen)
  jax.clear_caches()
  actual = jax.jit(jax.vmap(f))(jnp.asarray(l))
  jax.clear_caches()
  np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("name", EACH)
def test_memory_is_donated(name):
  f, l = _case(name)
  if l.dtype == bool:
    pytest.skip("advantages do not fit into the memory of booleans")
  given = jnp.array(l)
  actual = jax.jit(jax.vmap(f), donate_argnums=0)(given)
  assert given.is_deleted()
  np.testing.assert_allclose(actual, _eager(f, l), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize(
  "dtype", ["float16", long("bfloat16"), long("float32"), "float64"]
)
@pytest.mark.parametrize("name", EACH)
def test_dtypes_promote_strictly(name, dtype):
  f, l = _case(name)
  if l.dtype == bool:
    pytest.skip("a boolean has one dtype")
  with jax.enable_x64(dtype == "float64"):
    l = jnp.asarray(l, dtype)
    computed = dtype if dtype == "float64" else "float32"
    expected = _eager(f, np.asarray(l, computed))
    mask = jnp.arange(N) < N - 1
    with jax.numpy_dtype_promotion("strict"):
      actual = jax.vmap(f)(l)
      masked = jax.eval_shape(jax.vmap(lambda x: f(x, mask=mask)), l)
    assert actual.dtype == masked.dtype == computed
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("number", [np.int32, np.float32])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("name", _OF_GROUPS)
def test_numbers_of_groups_promote_strictly(name, dtype, number):
  f, packed = _case_of_groups(name)
  expected = _eager(f, packed)
  with jax.enable_x64(dtype == "float64"):
    l, mask = jnp.asarray(packed[:, 0], dtype), jnp.asarray(packed[:, 1] > 0.5)
    order = jnp.asarray(packed[:, 2, 0], number)
    with jax.numpy_dtype_promotion("strict"):
      actual = jax.jit(jax.vmap(_OF_GROUPS[name]))(l, mask, order)
  tolerance = 2e-3 if dtype == "float16" else 2e-6
  np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", EACH)
def test_check_makes_a_bad_group_nan_under_jit(name):
  f, l = _case(name)
  if l.dtype == bool:
    pytest.skip("a boolean is never out of range")
  checked = jax.jit(jax.vmap(functools.partial(f, check=True)))
  bad = l.copy()
  bad[0, 2], bad[3, 1] = np.inf if "tail" in name else 1.5, np.nan
  actual = np.asarray(checked(bad))
  assert np.isnan(actual[[0, 3]]).all()
  np.testing.assert_allclose(
    actual[1:3], _eager(f, l)[1:3], rtol=2e-6, atol=2e-6
  )


@pytest.mark.parametrize(
  ("name", "option", "bad", "good"),
  [
    ("maxrl", "order", (0, N + 1, 1.5), N),
    ("power", "alpha", (-1.0, 2.0), 0.5),
    ("series", "coefficients", ([1.0, -1], [1.0, np.inf]), [0.0, 2]),
    ("tail", "order", (0, N + 1), 1),
    ("tail", "k", (-1, 1.5), N),
    ("tail", "alpha", (-1.0, 2.0), 1.0),
    ("tail", "coefficients", ([-1.0, 0],), [1.0, 1]),
    ("grpo", "epsilon", (-5.0,), 0.0),
  ],
)
def test_check_finds_traced_options_out_of_range(name, option, bad, good):
  l = jnp.linspace(0, 1, N)

  @jax.jit
  def f(x):
    return getattr(estimators, name)(l, **{option: x}, check=True)

  for value in bad:
    assert np.isnan(f(jnp.asarray(value))).all()
  assert np.isfinite(f(jnp.asarray(good))).all()


def test_orders_are_numbers():
  l = jnp.linspace(0, 1, N)
  with pytest.raises(ValueError, match="order = '2': must be an integer from"):
    estimators.maxrl(l, order="2")


@pytest.mark.parametrize("name", EACH)
def test_a_second_eager_call_compiles_nothing(name):
  f, l = _case(name)
  f(l[0])
  compiled = []

  def record(event, *_, **__):
    compiled.append(event)

  jax.monitoring.register_event_duration_secs_listener(record)
  try:
    f(l[3])
  finally:
    jax.monitoring.unregister_event_duration_listener(record)
  assert not [event for event in compiled if "compile" in event]


@pytest.mark.parametrize("name", EACH)
def test_arrays_that_a_compiled_function_closes_over(name):
  """JAX traces every operation on them, so checks must not use JAX."""
  kind, options = CASES[name.removeprefix("boolean ")]
  f, l = _case(name)
  arrays = {
    k: x if isinstance(x, (str, int, float)) else jnp.asarray(x)
    for k, x in options.items()
  }
  group, mask = jnp.asarray(l[0]), jnp.arange(N) < N - 1
  function = getattr(estimators, kind)
  actual = jax.jit(lambda: function(group, mask=mask, **arrays))()
  expected = f(l[0], mask=np.asarray(mask))
  np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=2e-6)
