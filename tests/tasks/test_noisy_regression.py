"""Prompts of noisy pairs: their tokens, their reference, what is refused."""

import re

import jax
import numpy as np
import pytest
from scipy import stats

from configs import noisy_regression
from maxrl_jax.config import default, make_policy, make_task
from maxrl_jax.numerals import Numerals
from maxrl_jax.tasks import TASKS
from maxrl_jax.tasks.regression_data import numbers
from tests.support.extent import long

_WORDS = ("bos", "x", "sep", "y", "eoo", "query", "noise", "eos")


def _pairs(y):
  """Two pairs and a query of two coordinates each."""
  x = np.array([[0.6, -1.9], [5.0, -5.0], [0.0, 1.1]], np.float32)
  return _numbers(x, np.float32(y), np.float32(0), np.float32(0.9))


def _numbers(x, y, clean, sigma):
  """Of one rule, without outliers."""
  rule = np.zeros(len(y), np.int32)
  return numbers.Pairs(x, y, clean, sigma, rule, np.ones_like(y))


def test_a_prompt_is_written_out():
  """Nine bins of [−4.5, 4.5] in base 3: the centres are −4 … 4."""
  written = Numerals(3, 2, 4.5)
  names = [*map(str, range(3)), *_WORDS]
  for show in (False, True):
    tokens = numbers.write(written, _pairs([1.4, -2.6, 9.0]), show)
    text = " ".join(names[t] for t in np.asarray(tokens))
    assert text == (
      "bos"
      + " noise 1 2" * show  # .9 is nearest to 1, the fifth from 0.
      + " x 1 2 sep 0 2 y 1 2 eoo"  # 1, −2, 1.
      + " x 2 2 sep 0 0 y 0 1 eoo"  # Both clipped; −3.
      + " query x 1 1 sep 1 2 y"  # 0 and 1.
    )
    x, y = numbers.read(written, np.asarray(tokens)[None], 2, show)
    np.testing.assert_array_equal(x, [[[1, -2], [4, -4], [0, 1]]])
    np.testing.assert_array_equal(y, [[1, -3]])


@pytest.mark.parametrize(
  ("size", "pairs", "dim", "noise"),
  [
    ("tokens100", 12, 1, 0.3),
    ("small", 8, 1, 0.3),
    ("published", 64, 2, 0.001),
    ("published_noisy", 16, 4, 0.5),
  ],
)
def test_sizes_of_the_config(size, pairs, dim, noise):
  """A marker before each of the numbers, which have two digits."""
  task = make_task(noisy_regression.get_config(size))
  prompts = task.splits["test"]
  length = 1 + pairs * (3 * dim + 3 + 1) + 1 + 3 * dim + 1
  assert prompts.inputs.shape == (1000, length)
  np.testing.assert_allclose(prompts.targets.noise_scale, noise)


def test_targets_are_rounded_and_clean_signals_are_not():
  data = TASKS["noisy_regression"](dim=2, noise=0.5, eval_size=4000)
  target = jax.tree.map(np.asarray, data.splits["test"].targets)
  assert np.isin(target.y, Numerals(8, 2, 4.0).values()).all()
  assert len(np.unique(target.clean)) > 3900
  inside = np.abs(target.y) < 3.5
  noise = (target.y - target.clean)[inside]
  # Uniform rounding to bins of an eighth adds 1/12 of its square.
  assert np.var(noise) == pytest.approx(0.25 + 0.125**2 / 12, rel=0.1)
  assert target.clean.var() == pytest.approx(1, rel=0.15)
  assert (target.noise_scale == 0.5).all()


def _posterior(x, y, query, sigma, edges):
  """P(edge below y < edge above) of the query, by a sum over a grid of w."""
  w = np.linspace(-6, 6, 6001)
  log_p = stats.norm.logpdf(w)
  log_p += stats.norm.logpdf(y[:, None], x * w, sigma).sum(0)
  peak = log_p.max()
  p = np.exp(log_p - peak)
  inside = stats.norm.cdf(edges[1], w * query, sigma)
  inside -= stats.norm.cdf(edges[0], w * query, sigma)
  evidence = peak + np.log(p.sum())
  return p @ inside / p.sum(), evidence


# Compiled: operation by operation they take seconds.
_draw_pairs = jax.jit(numbers.draw_pairs, static_argnums=(1, 2, 4, 5, 6))
_target = jax.jit(numbers._target, static_argnums=(0, 3, 4))


@pytest.mark.parametrize("max_noise", [None, 2.0])
def test_the_reference_is_the_bayes_predictive_of_the_bin(max_noise):
  """Against numerical integration over w, and over σ where it is hidden."""
  written = Numerals(2, 3, 3.0)
  for seed in range(4):
    key = jax.random.key(seed)
    pairs = _draw_pairs(key, 1, 3, 0.4, max_noise)
    levels = np.array([0.4])
    if max_noise:
      levels = 0.4 * 5 ** ((np.arange(32) + 0.5) / 32)
    target = _target(written, pairs, np.float32(levels), 1, 0.0)
    x, y = np.float64(pairs.x), np.float64(pairs.y)
    edges = np.linspace(-3, 3, 9)
    index = np.clip(np.searchsorted(edges, y[-1]) - 1, 0, 7)
    edges[0], edges[-1] = -np.inf, np.inf
    assert target.y[0] == written.values()[index]
    p, evidence = np.transpose(
      [
        _posterior(x[:-1], y[:-1], x[-1, 0], s, edges[index : index + 2])
        for s in levels
      ]
    )
    share = np.exp(evidence - evidence.max())
    expected = np.log(p @ share / share.sum() / 0.75)
    assert float(target.log_reference) == pytest.approx(expected, abs=1e-3)


def test_probabilities_of_all_bins_sum_to_one():
  written = Numerals(2, 3, 1.0)  # The outermost bins have the tails.
  pairs = _draw_pairs(jax.random.key(0), 2, 3, 0.7, None)
  mean, variance, _ = jax.jit(numbers.posterior)(pairs, 0.7)
  scale = np.sqrt(0.7**2 + variance)
  of_bin = jax.vmap(lambda i: numbers._log_bin(written, i, mean, scale))
  log_p = jax.jit(of_bin)(np.arange(8))
  assert np.exp(log_p).sum() == pytest.approx(1, abs=1e-5)


def test_noise_differs_between_prompts_and_can_be_shown():
  hidden, shown = (
    TASKS["noisy_regression"](
      noise=0.1, max_noise=1.0, show_noise=show, eval_size=2000
    )
    for show in (False, True)
  )
  sigma = np.asarray(shown.splits["test"].targets.noise_scale)[:, 0]
  assert stats.kstest(np.log10(sigma) + 1, "uniform").pvalue > 1e-4
  tokens = np.asarray(shown.splits["test"].inputs)
  values = Numerals(8, 2, 4.0).values()
  assert (tokens[:, 1] == 8 + _WORDS.index("noise")).all()
  read = values[tokens[:, 2] * 8 + tokens[:, 3]]
  assert np.abs(read - sigma).max() <= 0.125 / 2 + 1e-6
  # The same prompts otherwise; who sees σ knows more.
  np.testing.assert_array_equal(
    np.delete(tokens, [1, 2, 3], 1), hidden.splits["test"].inputs
  )
  gain = np.asarray(shown.splits["test"].targets.log_reference)
  gain = gain - np.asarray(hidden.splits["test"].targets.log_reference)
  assert gain.mean() > 3 * gain.std() / len(gain) ** 0.5 > 0


def _mixture(pairs, edges, rules, outliers):
  """P(edge below y < edge above) for one who knows each pair's rule and noise.

  By a sum over a grid of the w of each rule.
  """
  x, y = np.float64(pairs.x[:, 0]), np.float64(pairs.y)
  rule, sigma = np.asarray(pairs.rule), np.float64(pairs.sigma)
  total = 0.0
  for r in range(rules):
    own = rule[:-1] == r
    scales = sigma * np.float64(pairs.noise_factor)[:-1][own]
    w = np.linspace(-6, 6, 6001)
    log_p = stats.norm.logpdf(w)
    for a, b, scale in zip(x[:-1][own], y[:-1][own], scales, strict=True):
      log_p += stats.norm.logpdf(b, a * w, scale)
    p = np.exp(log_p - log_p.max())
    for share, factor in ((1 - outliers, 1), (outliers, 10)):
      cdf = stats.norm(w * x[-1], sigma * factor).cdf
      total += share * (cdf(edges[1]) - cdf(edges[0])) @ p / p.sum() / rules
  return total


@pytest.mark.parametrize(
  ("rules", "outliers"), [(1, 0.3), long(2, 0.0), (3, 0.2)]
)
def test_the_reference_of_mixed_pairs(rules, outliers):
  """Against numerical integration over the w of every rule."""
  written = Numerals(2, 3, 3.0)
  for seed in range(4):
    key = jax.random.key(seed)
    pairs = _draw_pairs(key, 1, 5, 0.4, None, rules, outliers)
    level = np.float32([0.4])
    target = _target(written, pairs, level, rules, outliers)
    edges = np.linspace(-3, 3, 9)
    index = np.clip(np.searchsorted(edges, pairs.y[-1]) - 1, 0, 7)
    edges[0], edges[-1] = -np.inf, np.inf
    p = _mixture(pairs, edges[index : index + 2], rules, outliers)
    expected = np.log(p / 0.75)
    assert float(target.log_reference) == pytest.approx(expected, abs=1e-3)


def test_pairs_follow_their_rules_and_noise():
  """Given the rule and noise of each, least squares explains all but that."""
  draw = jax.vmap(
    lambda key: numbers.draw_pairs(key, 2, 399, 0.1, None, 2, 0.25)
  )
  pairs = jax.tree.map(np.asarray, draw(jax.random.split(jax.random.key(1), 9)))
  assert np.mean(pairs.rule) == pytest.approx(0.5, abs=0.03)
  assert set(np.unique(pairs.noise_factor)) == {1, 10}
  assert np.mean(pairs.noise_factor == 10) == pytest.approx(0.25, abs=0.03)
  for x, y, rule, noise_factor in zip(*pairs[:2], *pairs[4:], strict=True):
    for r in (0, 1):
      own = rule == r
      a, b = x[own] / noise_factor[own, None], y[own] / noise_factor[own]
      w, *_ = np.linalg.lstsq(a, b, rcond=None)
      assert np.std(b - a @ w) == pytest.approx(0.1, rel=0.25)


@pytest.mark.parametrize("positive", [long(0.0), 0.6, long(1.0)])
def test_inputs_can_be_positive(positive):
  """Signs alone change: y is still w·x + σε, of the x that are shown."""
  data = TASKS["noisy_regression"](
    dim=2,
    context=20,
    noise=0.05,
    base=16,
    num_values=256,
    eval_size=400,
    positive=positive,
  )
  prompts = data.splits["test"]
  x, y = numbers.read(Numerals(16, 2, 4.0), prompts.inputs, 2)
  share = np.mean(x > 0)
  assert share == pytest.approx(0.5 + positive / 2, abs=0.02)
  assert stats.kstest(np.abs(x.ravel()), "halfnorm").pvalue > 1e-4
  w = np.linalg.pinv(x[:, :-1]) @ y[..., None]
  error = (w[..., 0] * x[:, -1]).sum(-1) - prompts.targets.clean[:, 0]
  assert np.median(np.abs(error)) < 0.05


@pytest.mark.parametrize("name", ["positive", "outliers"])
def test_shares_are_probabilities(name):
  for p in (-0.1, 1.5):
    with pytest.raises(ValueError, match=f"{name} = {p}: must be from 0 to 1"):
      TASKS["noisy_regression"](**{name: p})


def test_a_pool_of_training_prompts_is_drawn_again_and_again():
  data = TASKS["noisy_regression"](train_size=5, eval_size=20)
  pool = np.asarray(data.splits["train"].inputs)
  assert len(pool) == 5
  draw = jax.jit(data.draw, static_argnums=1)
  drawn = np.asarray(draw(jax.random.key(3), 200).inputs)
  assert {p.tobytes() for p in drawn} == {p.tobytes() for p in pool}
  other = {p.tobytes() for p in np.asarray(data.splits["test"].inputs)}
  assert not other & {p.tobytes() for p in pool}
  fresh = jax.jit(
    TASKS["noisy_regression"](eval_size=20).draw, static_argnums=1
  )
  a, b = (fresh(jax.random.key(i), 20).inputs for i in (3, 4))
  assert not set(map(bytes, np.asarray(a))) & set(map(bytes, np.asarray(b)))


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"num_values": 100}, "num_values = 100: must be a power of base = 8"),
    ({"context": 0}, "context = 0"),
    ({"rules": 0}, "rules = 0"),
    ({"noise": 0.0}, "noise = 0.0"),
    ({"noise": 0.5, "max_noise": 0.2}, "max_noise = 0.2: must be at least 0.5"),
    ({"max_noise": float("inf")}, "max_noise = inf: must be above 0 and fin"),
    ({"train_size": 0}, "train_size = 0"),
    ({"limit": -1.0}, "limit = -1.0"),
  ],
)
def test_wrong_options_are_named(options, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    TASKS["noisy_regression"](**options)


def test_many_clipped_targets_are_warned_of():
  # |N(0, 2)| > 1, for w = 1 and σ = 1; w is random, so only roughly.
  with pytest.warns(UserWarning, match=r"limit = 1.0: (4|5)\d.\d% of targets"):
    TASKS["noisy_regression"](dim=8, noise=1.0, limit=1.0, eval_size=5)


def _config(**fields):
  config = default(task="noisy_regression")
  fields = {"likelihood.scale": 0.5, "task.eval_size": 20} | fields
  config.update_from_flattened_dict(fields)
  return config


@pytest.mark.parametrize(
  "name", ["gaussian", long("laplace"), long("student_t")]
)
def test_a_scale_below_the_spacing_is_warned_of(name):
  below, above = (
    _config(**{"likelihood.name": name, "likelihood.scale": scale})
    for scale in (0.12, 0.13)
  )
  with pytest.warns(UserWarning, match=r"scale = 0.12: below 0.125"):
    make_policy(below, make_task(below))
  make_policy(above, make_task(above))


def test_an_exact_match_is_meant_to_be_one():
  config = _config(**{"likelihood.name": "exact_match"})
  config.likelihood.scale = None
  make_policy(config, make_task(config))


def test_other_policies_cannot_read_tokens():
  config = _config(**{"policy.name": "grid"})
  with pytest.raises(ValueError, match=r"'grid': the task takes \['digit_tr"):
    make_policy(config, make_task(config))
  assert "numerals" not in config.policy and "base" in config.policy
