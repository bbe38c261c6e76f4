"""Samplers of others: their divisions by a loop, their gradients by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import samplers
from experiments.samplers import Budget
from maxrl_jax.learning import training
from tests.support.configs import short_bandit

_RATES = np.array([0.1, 0.6])


def _gradients(name, budget, count=4000, prompts=2, **fields):
  """Along the right arm's logit, [count, prompts], and rollouts [count]."""
  fields |= {"task.num_prompts": 2, "task.num_arms": 3, "task.easiest": 0.6}
  trainer = training.make_train(
    short_bandit(**fields | {"task.hardest": 0.1, "batch_size": prompts})
  )
  params = trainer.init(jax.random.key(0)).params
  everything = jax.tree.map(jnp.asarray, trainer.task.splits["train"])
  some = jax.tree.map(lambda x: x[:prompts], everything)
  loss = samplers.SAMPLERS[name](trainer.policy, trainer.task, budget)

  @jax.jit
  @jax.vmap
  def one(key):
    (_, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(
      params, key, some
    )
    table = -gradient["params"]["logits"]
    right = jnp.argmax(everything.targets, -1)
    return table[jnp.arange(2), right], metrics["rollouts"]

  each, drawn = one(jax.random.split(jax.random.key(1), count))
  return np.asarray(each, float), np.asarray(drawn)


def _agrees(values, expected):
  error = values.std(0) / len(values) ** 0.5
  assert (error < 0.2 * expected).all()
  assert (np.abs(values.mean(0) - expected) <= 4.5 * error).all()


def test_waves_go_to_the_likeliest_first_success():
  """The next wave by a loop, where q^n (1 − q^m) is largest."""
  rng = np.random.default_rng(0)
  for wave in (1, 4):
    p = rng.uniform(0.01, 0.9, 6)
    counts = np.zeros(6, int)
    for _ in range(40):
      q = 1 - p
      counts[np.argmax(q ** (wave * counts) * (1 - q**wave))] += 1
    owner = samplers.allocate(jnp.asarray(p, jnp.float32), wave, 40, 40)
    np.testing.assert_array_equal(np.bincount(owner, minlength=6), counts)


def test_proportional_division():
  owner = samplers.proportional(jnp.array([1.0, 3.0, 4.0]), 8)
  np.testing.assert_array_equal(owner, [0, 1, 1, 1, 2, 2, 2, 2])
  assert samplers.proportional(jnp.array([1.0, 0.0]), 3).tolist() == [0, 0, 0]


def test_sequential_with_the_baseline_of_the_pool():
  """Two waves of two: K of them right, r̄ = K/2 or K/4; S = r − p."""

  def expected(p):
    q, total = 1 - p, 0.0
    for before, pool in ((1.0, 2), (q * q, 4)):
      for k, chance in ((1, 2 * p * q), (2, p * p)):
        mean = k / pool
        terms = k * (1 - mean) * q + (2 - k) * (-mean) * (-p)
        total += before * chance * terms / 2
    return total / 2  # Of two prompts.

  values, drawn = _gradients("ada_sequential", Budget(2, 2, 2, 4))
  _agrees(values, expected(_RATES))
  assert set(np.unique(drawn)) == {4.0, 6.0, 8.0}


def test_estimated_on_one_prompt():
  """All 6 rollouts are its own: E[(r_j − r̄) S_j] = (1 − 1/6) p q."""
  values, drawn = _gradients(
    "ada_estimated", Budget(1, 2, 6, 6), count=8000, prompts=1
  )
  _agrees(values[:, 0], 5 / 6 * 0.1 * 0.9)
  np.testing.assert_array_equal(drawn, 6)


def test_estimated_draws_more_of_the_harder_prompt():
  """Of 8 rollouts and waves of 1, p̂ = ¼ or ¾: 6 more, as 3 to 1 or 3 to 3.

  A_j = r_j − r̄ over N_b rollouts has E Σ A_j S_j = (N_b − 1) p q given N_b,
  but N_b depends on the first one: enumerated.
  """

  def sizes(first):
    owner = samplers.proportional(
      1 / jnp.where(jnp.array(first), 0.75, 0.25), 6
    )
    return 1 + np.bincount(np.asarray(owner), minlength=2)

  def mean(n, r, p):
    """E Σ (r_j − r̄) S_j over n rollouts, the first of which has reward r."""
    rest = (n - 1) * p
    square = (n - 1) * p * (1 - p) + rest**2
    total, total_square = r + rest, r + 2 * r * rest + square
    return total - total_square / n  # Σ (r_j − r̄) r_j; Σ (r_j − r̄) p = 0.

  expected = np.zeros(2)
  for first in ((0, 0), (0, 1), (1, 0), (1, 1)):
    chance = np.prod(np.where(first, _RATES, 1 - _RATES))
    pairs = zip(sizes(first), first, _RATES, strict=True)
    expected += chance * np.array([mean(*pair) for pair in pairs]) / 8
  assert sizes((0, 1)).tolist() == [5, 3] or sizes((0, 1)).tolist() == [6, 2]
  values, _ = _gradients("ada_estimated", Budget(2, 1, 4, 8), count=8000)
  _agrees(values, expected)


def test_allocation_is_unbiased_for_the_order_of_each_prompt():
  """8 rollouts one by one: .6, .24, .1, .096, .09, .081, .073, .066."""
  values, drawn = _gradients("likely_first", Budget(2, 1, 4, 8))
  number = np.array([5, 3])
  _agrees(values, (1 - (1 - _RATES) ** number) * (1 - _RATES) / 2)
  np.testing.assert_array_equal(drawn, 8)


@pytest.mark.parametrize("batches", [1, 50])
def test_dynamic_sampling_keeps_groups_of_both(batches):
  """Pairs of one right and one wrong: ±1, so ½ along the right logit."""
  values, drawn = _gradients("dynamic", Budget(2, 2, 2, batches), count=200)
  total = values.sum(1)
  full = np.isclose(total, 0.5, atol=1e-6)
  assert (full | (total == 0)).all()
  # One batch keeps none of two with chance .82 × .52.
  assert full.all() if batches == 50 else 0.2 < full.mean() < 0.9
  assert (drawn % 4 == 0).all() and drawn.max() <= 4 * batches


@pytest.mark.parametrize("name", samplers.SAMPLERS)
def test_graded_likelihoods_are_refused(name):
  graded = {"task.continuous": True}
  with pytest.raises(ValueError, match="are float32: samplers take binary"):
    _gradients(name, Budget(2, 2, 2, 8), count=2, **graded)
