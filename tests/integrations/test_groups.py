"""Advantages of flat, grouped rewards against loops over the groups."""

import functools
import math
import os
import subprocess
import sys
import uuid

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxrl_jax.estimators import ESTIMATORS, Estimator
from maxrl_jax.integrations import groups
from maxrl_jax.integrations.groups import advantages
from tests.support import oracles

# Reference formulas for one group: rewards [n] → advantages [n].


def algorithm_1(r):
  return (r - r.mean()) / r.mean() if r.any() else 0 * r


def rloo(r):
  n = len(r)
  return r - (r.sum() - r) / (n - 1) if n > 1 else 0 * r


def grpo(r):
  return (r - r.mean()) / r.std() if np.ptp(r) else 0 * r


def by_series(a, r):
  """Σ_k a_k (ē_{k+1}^j − q_j ē_k^j) over all subsets, in fractions."""
  if len(r) == 1:
    return 0 * r
  weights, baselines = oracles.exact_loo(r).series(a[: len(r)])
  return weights * r - baselines


def maxrl(order, r):
  return by_series([1] * (order or len(r) - 1), r)


def pass_at_k(k, r):
  return by_series([0] * (k - 1) + [k], r)


def power(alpha, r):
  terms = range(len(r) - 1)
  a = [math.prod((i - alpha) / i for i in range(1, k + 1)) for k in terms]
  return by_series(a, r)


def tail(a, r):
  """∫ of a series over thresholds."""
  levels = np.unique([0, *r])
  rises = zip(levels[1:], np.diff(levels), strict=True)
  return sum((d * by_series(a, 1.0 * (r >= t)) for t, d in rises), 0 * r)


def best_of(k, r):
  return tail([0] * (k - 1) + [k], r)


def tail_rl(r):
  levels = np.unique([0, *r])
  rises = zip(levels[1:], np.diff(levels), strict=True)
  return sum((d * algorithm_1(1.0 * (r >= t)) for t, d in rises), 0 * r)


CASES = {
  "maxrl": ({}, functools.partial(maxrl, None)),
  "maxrl order 1": ({"order": 1}, rloo),
  "maxrl order 3": ({"order": 3}, functools.partial(maxrl, 3)),
  "maxrl order 7": ({"order": 7}, functools.partial(maxrl, 7)),
  "rloo": ({}, rloo),
  "grpo": ({}, grpo),
  "pass_at_k k 2": ({"k": 2}, functools.partial(pass_at_k, 2)),
  "pass_at_k k 5": ({"k": 5}, functools.partial(pass_at_k, 5)),
  "power": ({"alpha": 0.5}, functools.partial(power, 0.5)),
  "tail_rl": ({}, tail_rl),
  "tail k 2": ({"k": 2}, functools.partial(best_of, 2)),
  "tail k 5": ({"k": 5}, functools.partial(best_of, 5)),
  "tail order 3": ({"order": 3}, functools.partial(tail, [1] * 3)),
  "self_normalized": ({}, algorithm_1),
}
SIZES = [3, 1, 7, 4, 2, 5, 6, 7, 2, 4, 3]
each = pytest.mark.parametrize("name", CASES)


@pytest.fixture
def batch():
  """Ragged, interleaved groups with ids like verl's."""
  rng = np.random.default_rng(0)
  ids = np.array([str(uuid.UUID(int=i, version=4)) for i in range(11)], object)
  ids = rng.permutation(np.repeat(ids, SIZES))
  return rng.random(len(ids)), ids, rng.random(len(ids)) < 0.7


def by_loop(formula, rewards, ids, mask=None):
  present = np.ones(len(ids), bool) if mask is None else mask
  actual = np.zeros(len(ids))
  for i in set(ids):
    group = (ids == i) & present
    if group.any():
      actual[group] = formula(rewards[group])
  return actual


def assert_close(got, expected, tolerance=1e-5):
  assert got.dtype == np.float32
  np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


@each
@pytest.mark.parametrize("kind", ["graded", "binary"])
def test_ragged_interleaved_groups(name, kind, batch):
  rewards, ids, mask = batch
  if kind == "binary":
    rewards = 1.0 * (rewards < 0.4)
  options, formula = CASES[name]
  call = functools.partial(advantages, estimator=name.split()[0], **options)
  assert_close(call(rewards, ids), by_loop(formula, rewards, ids))
  masked = np.where(mask, rewards, np.nan)
  got = call(masked, ids, mask=mask)
  assert_close(got, by_loop(formula, rewards, ids, mask))
  assert not got[~mask].any() and got.flags.writeable


def test_group_of_one(batch):
  rewards, ids, _ = batch
  single = ids == ids[[np.sum(ids == i) == 1 for i in ids]][0]
  assert single.sum() == 1 and advantages(rewards, ids)[single] == 0
  for options, expected in (
    ({"estimator": "reinforce"}, rewards[single]),
    ({"baseline": "none"}, rewards[single]),
    ({"baseline": 0.25}, rewards[single] - 0.25),
  ):
    assert_close(advantages(rewards, ids, **options)[single], expected)


def test_any_hashable_id_and_any_order_of_rollouts(batch):
  rewards, ids, _ = batch
  numbers = np.unique(ids, return_inverse=True)[1]
  expected = advantages(rewards, ids)
  for same in (
    numbers,
    numbers - 2.5,
    list(map(int, numbers)),
    [("prompt", int(i)) for i in numbers],
    ids.astype(str),
  ):
    np.testing.assert_array_equal(advantages(rewards, same), expected)
  shuffled = np.random.default_rng(1).permutation(len(ids))
  got = advantages(rewards[shuffled], ids[shuffled])
  assert_close(got, expected[shuffled])


def test_num_groups_consecutive_rollouts():
  rewards = np.array([1, 0, 0, 0, 1, 1, 0, 0, 0])
  assert_close(
    advantages(rewards, num=3), [2, -1, -1, -1, 0.5, 0.5, 0, 0, 0], 1e-6
  )


@pytest.mark.parametrize("ceiling", [1e39, 1e-300])
def test_rewards_beyond_float32_have_a_ceiling(ceiling):
  rewards = [ceiling, 0]
  for estimator in ("maxrl", "rloo"):
    got = advantages(rewards, num=2, ceiling=ceiling, estimator=estimator)
    np.testing.assert_allclose(got, [1, -1])


def test_a_group_has_a_whole_number_of_rollouts():
  for num, message in ((0, "num = 0: must be at least 1"), ("4", "num = '4'")):
    with pytest.raises(ValueError, match=message):
      groups.check(num)


def test_rewards_are_divided_by_their_ceiling():
  rewards = np.array([0.3, 0.7, 0.1, 0.7])
  got = advantages(rewards, num=4, order=2, ceiling=0.7)
  assert_close(got, maxrl(2, rewards / 0.7))
  # Float32 sums that exceed the ceiling by a rounding.
  rounded = np.nextafter(np.float32(0.7), np.float32(1))
  assert rounded > 0.7
  assert_close(
    advantages([0, rounded], num=2, ceiling=0.7), [-1, 1], tolerance=1e-6
  )


@pytest.mark.parametrize("estimator", ["maxrl", "rloo", "dr_grpo", "grpo"])
def test_equal_rewards_have_no_gradient(estimator):
  seen = groups.diagnostics([0.3] * 7, num=7, estimator=estimator)
  assert seen.active == 0
  seen = groups.diagnostics([0.3] * 6 + [0.4], num=7, estimator=estimator)
  assert seen.active == 1


@pytest.mark.long
def test_many_large_groups_take_bounded_memory():
  """Some of them at a time, where the memory of one is O(N²)."""
  shape = 64, 1024
  arguments = (jax.ShapeDtypeStruct(shape, kind) for kind in (np.float32, bool))
  program = groups._compiled("power", (("alpha", 0.5),)).lower(*arguments)
  memory = program.compile().memory_analysis()
  assert memory.temp_size_in_bytes < 2**28
  rewards = np.random.default_rng(0).uniform(size=(6, 2048)).astype(np.float32)
  call = functools.partial(advantages, num=2048, estimator="pass_at_k", k=3)
  actual = call(rewards.ravel()).reshape(rewards.shape)
  np.testing.assert_allclose(actual[5], call(rewards[5]), atol=1e-6)


def test_unbounded_rewards():
  rewards = np.array([-3.0, 5.0, 100.0])
  for name, formula in (("rloo", rloo), ("grpo", grpo)):
    assert_close(advantages(rewards, num=3, estimator=name), formula(rewards))
  # Gaps of 8 and 95: one half and −1, 2 and −1.
  expected = [-103, 4 - 95, 4 + 190]
  assert_close(advantages(rewards, num=3, estimator="tail"), expected)


def test_unbiased_by_enumeration():
  logits, values = np.array([0.4, -0.6, 0.9]), np.array([0.15, 0.95, 0.4])
  policy, N = oracles.softmax(logits), 4
  actions, probability, scores = oracles.outcomes(logits, N)
  p = policy @ values
  slope = policy * (values - p)
  for order in (2, 3):
    actual = advantages(values[actions].ravel(), num=N, order=order)
    estimate = np.einsum(
      "g,gn,gna->a", probability, actual.reshape(-1, N), scores
    )
    exact = (1 - (1 - p) ** order) / p * slope
    np.testing.assert_allclose(estimate / N, exact, rtol=1e-5)


def test_number_of_compilations_is_bounded(monkeypatch):
  traces, programs = [], set()

  def counted(likelihoods, *, mask):
    traces.append(likelihoods.shape)
    return ESTIMATORS["rloo"](likelihoods, mask=mask)

  monkeypatch.setitem(ESTIMATORS, "counted", Estimator(counted))
  rng = np.random.default_rng(0)
  for _ in range(200):
    sizes = rng.integers(2, 17, rng.integers(1, 33))
    ids = np.repeat(np.arange(len(sizes)), sizes)
    advantages(rng.random(len(ids)), ids, estimator="counted")
    bits = (int(x - 1).bit_length() for x in (len(sizes), sizes.max()))
    programs.add(tuple(bits))
  # 1, 2, 4 … 32 groups of 2, 4, 8 or 16: one trace per shape that occurred.
  assert 4 < len(traces) == len(programs) <= 6 * 4


@pytest.mark.parametrize(
  ("changed", "message"),
  [
    ({"estimator": "ppo"}, r"estimator = 'ppo': choose from .*maxrl"),
    ({"estimator": "maxlr"}, r"did you mean 'maxrl'\? choose from"),
    ({"ordr": 2}, r"ordr = 2: 'maxrl' takes \['baseline', 'order'\]"),
    ({"method": "scan"}, r"method = 'scan': 'maxrl' takes"),
    ({"estimator": "grpo", "order": 2}, r"order = 2: 'grpo' takes"),
    ({"order": 5}, r"order = 5: .* 1 to 4 with N = 4 .*largest group; lower"),
    ({"order": 1.5}, r"order = 1\.5: must be an integer"),
    ({"order": "4"}, r"order = '4': must be an integer, not a str"),
    ({"estimator": "pass_at_k"}, r"k is not set: 'pass_at_k' needs it"),
    ({"estimator": "pass_at_k", "k": 9}, r"k = 9: .* 1 to 4"),
    ({"estimator": "power", "alpha": 2}, r"alpha = 2: must be in \[0, 1\]"),
    ({"baseline": "mean"}, r"baseline = 'mean': .*choose from"),
    ({"baseline": math.nan}, r"baseline = nan: must be a finite"),
    ({"estimator": "series", "coefficients": [1] * 5}, r"coefficients: 5 term"),
    ({"ceiling": 0}, r"ceiling = 0: must be finite and above 0"),
    ({"ceiling": 0.5}, r"rewards\[1\] = 1\.0: above ceiling = 0\.5"),
    ({"rewards": [0, 1, 1, 0, 0, 3]}, r"rewards\[5\] = 3\.0: .*pass ceiling="),
    ({"rewards": [0, 1, 1, -1, 0, 0]}, r"rewards\[3\] = -1\.0: .*0 or more"),
    ({"rewards": [0, 1, math.nan, 0, 0, 0]}, r"rewards\[2\] = nan: .*mask="),
    (
      {"rewards": [0, 1, math.inf, 0, 0, 0], "estimator": "rloo"},
      r"rewards\[2\] = inf: must be finite",
    ),
    ({"rewards": []}, r"rewards: shape \(0,\), must be \[R\], R ≥ 1"),
    ({"rewards": [[0, 1]] * 3}, r"rewards: shape \(3, 2\)"),
    (
      {"rewards": list("abcdef"), "groups": [0.5] * 6},
      r"rewards: 'a' is not a number; the order is advantages\(rewards, group",
    ),
    ({"rewards": np.array(["1"] * 6)}, r"rewards: '1' is not a number"),
    ({"rewards": [0, 1, None, "x", 0, 0]}, r"rewards: 'x' is not a number"),
    ({"rewards": [[0, 1], [0]]}, r"rewards: \[0, 1\] is not a number"),
    ({"rewards": [0, 1j, 0, 0, 0, 0]}, r"rewards: 1j is not a number"),
    ({"rewards": {"a": 1}}, r"rewards: \{'a': 1\} is not a number"),
    ({"mask": [True]}, r"mask: shape \(1,\), must be \[R\], R = 6"),
    ({"mask": ["a"] * 6}, r"mask\[0\] = 'a': must be 0 or 1"),
    ({"mask": [1, 0, None, 1, 1, 1]}, r"mask\[2\] = None: must be 0 or 1"),
    ({"mask": [1, 0, True, 2, 1, 1]}, r"mask\[3\] = 2: must be 0 or 1"),
    ({"groups": 2}, r"groups = 2: must be ids \[R\]; .* pass num=2"),
    ({"groups": None, "num": "2"}, r"num = '2': must be an integer"),
    ({"groups": None}, r"groups, num: neither given"),
    ({"num": 3}, r"groups, num: both given"),
    ({"groups": None, "num": 4}, r"num = 4: .* divides the 6 rewards"),
    ({"groups": "abc"}, r"groups: shape \(\), must be"),
    ({"groups": [[0]] * 6}, r"groups: .*hashable"),
    ({"groups": set("abcdef")}, r"groups: is a set, must be a list of ids"),
    ({"groups": None, "num": True}, r"num = True: must be an integer"),
    ({"groups": range(6)}, r"groups: each has only one rollout.*same id"),
  ],
)
def test_error_names_an_invalid_argument(changed, message):
  call = {"rewards": [0, 1, 1, 0, 0, 0], "groups": [0, 0, 0, 0, 1, 1]}
  with pytest.raises(ValueError, match=message):
    advantages(**(call | changed))


class _Scalar:
  """Like a tensor without axes: hashed by identity."""

  ndim = 0

  def __init__(self, value):
    self._value = value

  def item(self):
    return self._value


@pytest.mark.parametrize("kind", [_Scalar, np.array, jnp.asarray])
def test_scalars_of_any_library_are_ids(kind):
  """Of groups, of rollouts and of waves; also beside numbers."""
  rewards, ids = [1, 0, 0, 1, 1, 0], [0, 0, 0, 1, 1, 1]
  expected = [2, 0, 0, 1.5, 1.5, 0]
  for count in (6, 4):
    mixed = [*map(kind, ids[:count]), *ids[count:]]
    assert_close(advantages(rewards, mixed, baseline="none"), expected)
  rows = [*map(kind, [0, 0, 1, 2])]
  got = advantages([1, 1, 0, 0], [0] * 4, rollouts=rows)
  assert_close(got, [2, 2, -1, -1])
  got = groups.sequential(
    [0, 0, 1, 0], rows[:1] * 2 + rows[1:2] * 2, [0, 0, 1, 1]
  )
  assert_close(got, [0, 0, 4, -2])


def test_tensors_of_any_dtype():
  """NumPy has no bfloat16, the dtype of most trainers."""
  torch = pytest.importorskip("torch")
  rewards = torch.tensor([1, 0, 0, 1, 1, 0], dtype=torch.bfloat16)
  ids = torch.tensor([0, 0, 0, 1, 1, 1])
  mask = torch.tensor([1, 1, 1, 1, 1, 0], dtype=torch.bfloat16)
  for x in (rewards, rewards.float().requires_grad_()):
    got = advantages(x, list(ids), mask=mask, baseline="none")
    assert_close(got, [2, 0, 0, 1, 1, 0])


def test_allowed_orders_do_not_depend_on_the_mask():
  mask = np.array([1, 1, 0, 0])
  got = advantages([0, 1, 1, 1], num=4, order=3, mask=mask)
  assert_close(got, [*maxrl(3, np.array([0.0, 1])), 0, 0])


_OTHER_BACKEND = """
import sys
import numpy as np
import jax
from jax.extend import backend

def start():
  print("the GPU was started")
  raise RuntimeError("PyTorch uses it")

backend.register_backend_factory("gpu_of_pytorch", start, priority=500)
if sys.argv[1] == "advantages":
  from maxrl_jax.integrations.groups import advantages
  assert advantages([0, 1], num=2).tolist() == [-1, 1]
  assert not {"maxrl_jax.tasks", "maxrl_jax.policies"} & set(sys.modules)
else:
  jax.devices("cpu")
print("done")
"""


@pytest.mark.parametrize(
  ("command", "printed"),
  [("advantages", "done\n"), ("jax", "the GPU was started\ndone\n")],
)
def test_no_gpu_is_started(command, printed):
  """Nor are tasks or policies imported."""
  environment = {k: v for k, v in os.environ.items() if k != "JAX_PLATFORMS"}
  done = subprocess.run(
    [sys.executable, "-c", _OTHER_BACKEND, command],
    env=environment,
    capture_output=True,
    text=True,
    timeout=120,
  )
  assert done.stdout == printed, done.stderr


def test_error_names_platforms_without_a_cpu(monkeypatch):
  def no_cpu(backend):
    raise RuntimeError("Unknown backend cpu")

  monkeypatch.setattr(groups.jax, "local_devices", no_cpu)
  with pytest.raises(RuntimeError, match=r"JAX_PLATFORMS = .*add ',cpu'"):
    advantages([0, 1], num=2)


def test_under_jit_the_estimators_are_named():
  with pytest.raises(ValueError, match=r"rewards: traced, .* use jax\.vmap"):
    jax.jit(lambda r: advantages(r, num=2))(jnp.ones(4))


def test_platforms_must_list_the_cpu(monkeypatch):
  """Otherwise JAX fails with an assertion that says nothing."""
  monkeypatch.setattr(groups, "_platforms", lambda: "cuda")
  for call in (lambda: groups.check(2), lambda: advantages([0, 1], num=2)):
    with pytest.raises(RuntimeError, match=r"'cuda': .*add ',cpu'"):
      call()
  monkeypatch.setattr(groups, "_platforms", lambda: "cuda,cpu")
  groups.check(2)
