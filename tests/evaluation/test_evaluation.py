import dataclasses
import functools
import itertools
import math
import re
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import bandit
from maxrl_jax import estimators, evaluation, objectives
from maxrl_jax.evaluation import batches
from maxrl_jax.learning import training
from maxrl_jax.numerals import Numerals
from maxrl_jax.policies import POLICIES
from maxrl_jax.tasks import TASKS
from maxrl_jax.tasks.base import Prompts
from tests.support.tasks import without_pass_rate


@pytest.mark.parametrize("n", [1, 5, 64, 4096])
def test_pass_at_k_equals_rational_arithmetic(n):
  counts = np.unique([0, 1, min(2, n), n // 3, n // 2, n - 1, n])
  ks = sorted({1, max(n // 7, 1), n})

  @jax.jit
  def every(counts):
    return [evaluation.pass_at_k(counts, n, k) for k in ks]

  for k, actual in zip(ks, every(counts), strict=True):
    exact = [
      1 - Fraction(math.comb(n - int(c), k), math.comb(n, k)) for c in counts
    ]
    np.testing.assert_allclose(actual, [float(x) for x in exact], rtol=2e-6)


def test_the_number_of_samples_is_one_number():
  with pytest.raises(
    ValueError, match=r"num_samples: shape \(2,\), must be one"
  ):
    evaluation.pass_at_k(np.array([1, 2]), np.array([4, 8]), 2)
  with pytest.raises(ValueError, match=r"num_samples = 16\.5: must be"):
    evaluation.pass_at_k(np.array([1, 2]), 16.5, 2)


def test_pass_rates_are_probabilities():
  for p in (-2.0, 1.5, np.nan):
    with pytest.raises(ValueError, match=f"p: {p}, must be in"):
      evaluation.coverage([0.5, p], [4])
  np.testing.assert_allclose(evaluation.coverage([0.5, 1], [1]), [0.75])


@pytest.mark.parametrize("k", [0, 1.5, 9, "2", [1, 2]])
def test_k_out_of_range_raises(k):
  message = re.escape(f"k = {k}: must be")
  with pytest.raises(ValueError, match=message):
    evaluation.pass_at_k(jnp.array([1]), 8, k)
  with pytest.raises(ValueError, match=message):
    evaluation.graded_pass_at_k(jnp.zeros(8), k)


def test_pass_at_k_is_unbiased():
  """Σ_c P(c) pass@k(c) over the binomial is 1 − (1−p)^k."""
  n, k, p = 12, 5, 0.3
  c = np.arange(n + 1)
  chance = [math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in c]
  actual = jax.jit(lambda c: evaluation.pass_at_k(c, n, k))(c)
  assert np.dot(chance, actual) == pytest.approx(1 - (1 - p) ** k, rel=1e-6)
  exact = objectives.pass_at_k(k).value(jnp.float32(p))
  assert float(exact) == pytest.approx(1 - (1 - p) ** k, rel=1e-6)


def test_coverage_by_hand():
  actual = evaluation.coverage(jnp.array([0.5, 0.0, 1.0]), (1, 2))
  np.testing.assert_allclose(actual, [1.5 / 3, 1.75 / 3], rtol=1e-6)


def test_coverage_of_a_pass_rate_rounded_above_one():
  above = np.nextafter(np.float32(1), np.float32(2))
  assert evaluation.coverage(jnp.array([above]), (1, 4)).tolist() == [1, 1]


def _exact_graded(likelihoods, k):
  """1 − mean over k-subsets of Π (1 − l), in fractions."""
  failures = [1 - Fraction(float(l)) for l in likelihoods]
  products = [math.prod(x) for x in itertools.combinations(failures, k)]
  return 1 - sum(products) / len(products)


@pytest.mark.parametrize("scale", [1.0, 1e-6])
@pytest.mark.parametrize("k", [1, 2, 5, 7])
def test_graded_pass_at_k_equals_rational_arithmetic(k, scale):
  l = scale * np.random.default_rng(k).random(7).astype(np.float32)
  actual = evaluation.graded_pass_at_k(jnp.asarray(l, jnp.float32), k)
  exact = _exact_graded(np.float32(l), k)
  assert float(actual) == pytest.approx(float(exact), rel=1e-6)


def test_graded_pass_at_k_takes_probabilities():
  with pytest.raises(ValueError, match=r"likelihoods\[0\] = 3.0: must be in"):
    evaluation.graded_pass_at_k([3.0, 0.0, 0.0], 2)
  # In double precision too: 1 − (.5 · 1 + .5 · .75 + 1 · .75)/3.
  got = evaluation.graded_pass_at_k(np.array([0.5, 0.25, 0.0]), 2)
  assert float(got) == pytest.approx(1 - 1.625 / 3)


def test_graded_pass_at_k_of_binary_likelihoods():
  l = np.repeat([1.0, 0.0], [3, 297]).astype(np.float32)
  ks = (1, 20, 298)

  @jax.jit
  def counted(count):
    return [evaluation.pass_at_k(count, 300, k) for k in ks]

  graded = jax.jit(evaluation.graded_pass_at_k, static_argnums=1)
  for k, expected in zip(ks, counted(3), strict=True):
    for of_type in (np.float32, np.int32, bool):
      actual = graded(l[::-1].astype(of_type), k)
      assert float(actual) == pytest.approx(float(expected), rel=2e-5)


@pytest.mark.parametrize(
  "score", [evaluation.graded_pass_at_k, evaluation.best_at_k]
)
def test_graded_scores_are_of_one_prompt(score):
  for values in (np.full((5, 3), 0.2), np.float32(0.2)):
    with pytest.raises(ValueError, match=r"must be \[N\]"):
      score(values, 2)
  with pytest.raises(ValueError, match="nan"):
    score([np.nan, 0.5], 1)


def test_the_best_of_large_whole_rewards():
  rewards = np.array([3_000_000_000, 0, 0], np.int64)
  np.testing.assert_allclose(evaluation.best_at_k(rewards, 2), 2e9, rtol=1e-6)


def test_success_counts_are_whole_numbers():
  for counts in (np.array([1.0, 2.0]), np.array([True])):
    with pytest.raises(ValueError, match=r"num_correct: .*, must be whole"):
      evaluation.pass_at_k(counts, 4, 2)


def test_impossible_success_count_raises():
  for count in (9, -1):
    with pytest.raises(ValueError, match=f"num_correct = {count}: must be"):
      evaluation.pass_at_k(np.array([0, count]), 8, 2)


@pytest.mark.parametrize("n", [1, 2, 5, 7])
def test_best_at_k_is_the_mean_over_subsets(n):
  rewards = [-4.0, 0.5, 0.5, 7.25, 100.0, 0.125, -1.0][:n]
  for k in range(1, n + 1):
    subsets = [max(s) for s in itertools.combinations(rewards, k)]
    expected = float(sum(map(Fraction, subsets)) / len(subsets))
    actual = evaluation.best_at_k(np.float32(rewards[::-1]), k)
    np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=1e-6)


def test_best_of_two_is_not_pass_at_2_of_graded_likelihoods():
  """Largest of 0, 1, 2, 5, 7 over pairs: 1 + 2·2 + 3·5 + 4·7 of ten."""
  scores = np.array([0, 1, 2, 5, 7]) / 7
  assert float(evaluation.best_at_k(scores, 2)) == pytest.approx(48 / 70)
  graded = evaluation.graded_pass_at_k(jnp.asarray(scores), 2)
  assert float(graded) == pytest.approx(0.7082, abs=5e-5)


def test_best_at_k_of_thousands_does_not_overflow():
  n, k = 4096, 1024
  rewards = np.random.default_rng(0).standard_normal(n).astype(np.float32)
  # Σ r_(i) C(i−1, k−1)/C(n, k), in fractions.
  whole, chances = Fraction(math.comb(n, k)), [math.comb(k - 1, k - 1)]
  for i in range(k, n):
    chances.append(chances[-1] * i // (i - k + 1))
  pairs = zip(np.sort(rewards)[k - 1 :], chances, strict=True)
  expected = float(sum(Fraction(float(r)) * c for r, c in pairs) / whole)
  actual = jax.jit(evaluation.best_at_k, static_argnums=1)(rewards, k)
  assert float(actual) == pytest.approx(expected, rel=2e-6)
  binary = rewards > 2
  passed = evaluation.pass_at_k(np.sum(binary), n, k)
  best = evaluation.best_at_k(binary, k)
  assert float(best) == pytest.approx(float(passed), rel=2e-6)


def test_sampled_evaluation_of_graded_likelihoods():
  """If every likelihood is 1/2, pass@k is 1 − 2^−k."""
  task, _ = _sampled_bandit()
  task = dataclasses.replace(
    task, likelihoods=lambda target, z: jnp.full(z.shape, 0.5)
  )
  trainer = training.make_train(bandit.get_config(), task)
  states = trainer.start(jax.random.split(jax.random.key(0), 1), {})
  actual = evaluation.make_evaluate(trainer, (1, 4), 300)("test", states)
  assert actual["pass@1"][0] == pytest.approx(0.5)
  assert actual["pass@4"][0] == pytest.approx(1 - 0.5**4)
  with pytest.raises(ValueError, match="float32, must be boolean"):
    evaluation.success_counts(
      trainer.policy,
      jax.tree.map(lambda x: x[0], states.params),
      task.splits["test"],
      task,
      jax.random.key(0),
      4,
    )


@pytest.mark.parametrize("size", [1, 8, 20, 21, 100])
def test_batches_cover_every_prompt_once(size):
  prompts = Prompts(jnp.arange(21.0)[:, None], jnp.arange(21))
  sizes = []

  def f(batch, index):
    sizes.append(len(batch.targets))
    return batch.targets, batch.inputs[:, 0] + 100 * index

  targets, inputs = batches.in_batches(f, prompts, size)
  np.testing.assert_array_equal(targets, np.arange(21))
  expected = [i + 100 * (i // size) for i in range(21)]
  np.testing.assert_array_equal(inputs, expected)
  assert set(sizes) == {min(size, 21)}


@pytest.mark.parametrize(("base", "length"), [(8, 2), (16, 2), (4, 6)])
def test_all_numbers_of_a_batch_of_prompts_fit_in_memory(base, length):
  """A transformer has activations for their prefixes: prompts are few then."""
  numerals = Numerals(base, length, 4.0)
  policy = POLICIES["digit_transformer"](vocab_size=base + 8, numerals=numerals)
  prompts = np.zeros((2048, 3), np.int32)
  size = batches._batch_size(policy, prompts)
  assert 1 <= size <= batches.BATCH_SIZE
  assert size * base ** (length - 1) * length <= 2**18


def test_memory_does_not_grow_with_the_split():
  """Four batches together would need four times the logits."""
  task = TASKS["digits"](num_digits=3, eval_size=4 * batches.BATCH_SIZE)
  policy = POLICIES["mlp"](**task.policy_options, hidden=(8,))
  prompts = task.splits["test"]
  params = policy.init(jax.random.key(0), prompts.inputs[:1])

  @jax.jit
  def rates(params, prompts):
    return evaluation.pass_rates(policy, params, prompts, task)

  first_batch = jax.tree.map(lambda x: x[: batches.BATCH_SIZE], prompts)
  one, four = (
    rates.lower(params, x).compile().memory_analysis().temp_size_in_bytes
    for x in (first_batch, prompts)
  )
  assert four < 2 * one
  np.testing.assert_allclose(
    rates(params, prompts).log_pass_rates[: batches.BATCH_SIZE],
    rates(params, first_batch).log_pass_rates,
    rtol=1e-5,
  )


def _sampled_bandit():
  """A bandit evaluated by sampling, and its exact pass rates."""
  task = TASKS["bandit"](num_prompts=21, hardest=0.1, easiest=0.8)
  return without_pass_rate(task), np.geomspace(0.1, 0.8, 21)


@pytest.mark.parametrize("num", [40, 256, 600])
def test_success_counts_are_binomial(num):
  """With full batches of 16 prompts and 256 rollouts, and with remainders."""
  task, p = _sampled_bandit()
  policy = POLICIES["tabular"](**task.policy_options)
  prompts = task.splits["test"]
  params = policy.init(jax.random.key(0), prompts.inputs)

  @jax.jit
  def count(key):
    return evaluation.success_counts(policy, params, prompts, task, key, num)

  repeats = 400
  keys = jax.random.split(jax.random.key(num), repeats)
  counts = np.stack([count(key) for key in keys])
  assert counts.shape == (repeats, 21) and counts.dtype == np.int32
  assert counts.min() >= 0 and counts.max() <= num
  variance = num * p * (1 - p)
  z = (counts - num * p) / np.sqrt(variance)
  assert np.abs(z.mean(0)).max() < 4.5 / np.sqrt(repeats)
  # Var z² of a binomial is 2 plus its excess kurtosis.
  standard_error = np.sqrt((2 + (1 - 6 * p * (1 - p)) / variance) / repeats)
  assert (np.abs((z**2).mean(0) - 1) < 4.5 * standard_error).all()
  correlations = np.corrcoef(z.T) - np.eye(21)
  assert np.abs(correlations).max() < 5 / np.sqrt(repeats)


def test_pass_at_k_of_a_sampled_task():
  task, p = _sampled_bandit()
  trainer = training.make_train(bandit.get_config(), task)
  with pytest.raises(ValueError, match="rollouts = None"):
    evaluation.make_evaluate(trainer, (1, 4))
  evaluate = evaluation.make_evaluate(trainer, (1, 4, 64, 3000), 2000)
  keys = jax.random.split(jax.random.key(0), 1)
  actual = evaluate("test", trainer.start(keys, {}))
  assert list(actual) == ["pass@1", "pass@4", "pass@64", "solved"]
  for k in (1, 4, 64):
    exact = np.mean(1 - (1 - p) ** k)
    np.testing.assert_allclose(actual[f"pass@{k}"], [exact], atol=0.01)
  assert actual["solved"].tolist() == [1.0]


def test_error_names_an_unknown_split():
  trainer = training.make_train(bandit.get_config())
  states = trainer.start(jax.random.split(jax.random.key(0), 1), {})
  with pytest.raises(ValueError, match="split = 'tset': did you mean 'test'"):
    evaluation.make_evaluate(trainer, (1,))("tset", states)


def _case():
  logits = jnp.log(jnp.array([0.2, 0.5, 0.3]))
  return logits, jnp.array([0.9, 0.1, 0.4])


def test_sampled_moments_agree_with_enumerated_ones():
  logits, l = _case()
  estimator = functools.partial(estimators.maxrl, order=2)
  exact = jax.jit(
    lambda logits, l: evaluation.enumerated_moments(estimator, logits, l, 4)
  )(logits, l)
  actual = evaluation.sampled_moments(
    jax.random.key(0), estimator, logits, l, 4, 2**16
  )
  assert float(actual.standard_error.max()) < 0.01
  z = jnp.abs(actual.mean - exact.mean) / actual.standard_error
  assert float(z.max()) < 4
  np.testing.assert_allclose(actual.variance, exact.variance, rtol=0.03)


def test_exact_gradient_by_hand():
  """∇J = w(p) π_c (l_c − p) for a softmax policy."""
  logits, l = _case()
  p = 0.2 * 0.9 + 0.5 * 0.1 + 0.3 * 0.4
  expected = np.array([0.2, 0.5, 0.3]) * (np.asarray(l) - p) / p
  actual = evaluation.exact_gradient(objectives.maximum_likelihood(), logits, l)
  np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_gradient_norms_by_hand():
  """The gradient of a linear policy is an outer product."""
  weights = jnp.array([[0.5, -1.0], [0.2, 0.3], [0.0, 1.0]])
  x = jnp.array([[1.0, 2.0, -1.0], [0.5, 0.0, 3.0]])
  y = jnp.array([0, 1])

  def loss(params, key, prompts):
    del key
    logits = prompts.inputs @ params
    return -jax.nn.log_softmax(logits)[0, prompts.targets[0]], {}

  actual = evaluation.gradient_norms(
    loss,
    weights,
    jax.random.split(jax.random.key(0), 2),
    Prompts(x, y),
  )
  p = np.exp(np.asarray(x @ weights))
  p /= p.sum(1, keepdims=True)
  error = p - np.eye(2)[np.asarray(y)]
  expected = np.linalg.norm(x, axis=1) * np.linalg.norm(error, axis=1)
  np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_too_many_outcomes_raise():
  logits, l = _case()
  with pytest.raises(ValueError, match="num = 20"):
    evaluation.enumerated_moments(estimators.rloo, logits, l, 20)


def test_sampling_efficiency_by_hand():
  ks = 2 ** np.arange(9)
  # Coverage rises by .1 per doubling; `better` is two doublings ahead.
  baseline = 0.1 * np.arange(1, 10)
  better = baseline + 0.2
  factors = evaluation.sampling_efficiency(ks, better, baseline)
  np.testing.assert_allclose(factors[:2], [1, 2])  # Exceeded with one sample.
  np.testing.assert_allclose(factors[2:], 4)
  same = evaluation.sampling_efficiency(ks, baseline, baseline)
  np.testing.assert_allclose(same, 1)
  flat = np.minimum(baseline, 0.5)
  assert evaluation.sampling_efficiency(ks, flat, flat)[4] == pytest.approx(1)
  worse = evaluation.sampling_efficiency(ks, baseline, better)
  assert np.isnan(worse[-2:]).all()  # Never reached.
  np.testing.assert_allclose(worse[:-2], 1 / 4)


def test_splits_of_one_size_compile_once(monkeypatch):
  config = bandit.get_config()
  config.task.num_prompts = 8
  trainer = training.make_train(config)
  states = jax.vmap(trainer.init)(jax.random.split(jax.random.key(0), 1))
  traced = []
  metrics = evaluation._coverage.metrics
  monkeypatch.setattr(
    evaluation._coverage,
    "metrics",
    lambda *arguments: traced.append(1) or metrics(*arguments),
  )
  evaluate = evaluation.make_evaluate(trainer, (1,))
  scores = [evaluate(name, states)["pass@1"] for name in ("validation", "test")]
  assert len(traced) == 1
  assert np.shape(scores) == (2, 1)
