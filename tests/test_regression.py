"""Regression as RL: references, learned noise, dimensions, metrics."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from configs import bimodal, default
from maxrl_jax import (
  batch_losses,
  configuration,
  estimators,
  evaluation,
  likelihoods,
  objectives,
  rollouts,
  symmetric,
  training,
)
from maxrl_jax.distributions import Components
from maxrl_jax.evaluation import regression as metrics
from maxrl_jax.policies import POLICIES
from maxrl_jax.tasks import REGRESSION, Prompts, regression
from maxrl_jax.tasks.regression import Data, Target

# Data sets


def _drawn(name, count=20_000, **options):
  data = REGRESSION[name](eval_size=8, **options)
  return jax.tree.map(np.float64, data.draw(jax.random.key(7), count))


@pytest.mark.parametrize("kind", ["linear", "mlp"])
@pytest.mark.parametrize("snr", [0.25, 4.0])
def test_teachers_have_the_signal_to_noise_ratio(kind, snr):
  x, target = _drawn("teacher", kind=kind, snr=snr, num_dims=2)
  np.testing.assert_allclose(target.clean.var(0), 1, rtol=0.05)
  noise = target.y - target.clean
  np.testing.assert_allclose(noise.var(0), 1 / snr, rtol=0.05)
  expected = stats.norm.logpdf(noise, 0, snr**-0.5).sum(1)
  np.testing.assert_allclose(target.log_reference, expected, rtol=1e-3)
  if kind == "linear":  # A least-squares fit finds it.
    fit, *_ = np.linalg.lstsq(x, target.clean, rcond=None)
    np.testing.assert_allclose(x @ fit, target.clean, atol=1e-4)


def test_noise_that_x_tells_and_noise_that_it_does_not():
  for learnable in (True, False):
    x, target = _drawn("heteroscedastic", learnable=learnable, dim=3)
    sigma, noise = target.noise_scale[:, 0], (target.y - target.clean)[:, 0]
    assert 0.1 <= sigma.min() < 0.15 and 1.5 < sigma.max() <= 2.0
    assert stats.kstest(noise / sigma, "norm").pvalue > 1e-4
    # log σ is uniform; linear in Φ of one direction of x, if x tells it.
    fit, *_ = np.linalg.lstsq(
      np.column_stack([x, np.ones(len(x))]), np.log(sigma), rcond=None
    )
    explained = np.var(x @ fit[:-1]) / np.var(np.log(sigma))
    assert explained > 0.9 if learnable else explained < 0.01
    if learnable:
      expected = stats.norm.logpdf(noise, 0, sigma)
    else:
      levels = np.exp(np.linspace(np.log(0.1), np.log(2.0), 4001))
      expected = np.log(stats.norm.pdf(noise[:500, None], 0, levels).mean(1))
    np.testing.assert_allclose(
      target.log_reference[:500], expected[:500], atol=0.02
    )


def test_bimodal_targets_have_two_modes():
  _, target = _drawn("bimodal", plus=0.7, noise=0.4)
  f = target.clean / 0.4
  assert f.min() >= 1.5 and f.max() <= 2.5
  plus = np.abs(target.y - f) < np.abs(target.y + f)
  assert abs(plus.mean() - 0.7) < 5 * (0.21 / len(f)) ** 0.5
  density = 0.7 * stats.norm.pdf(target.y, f, 0.4)
  density += 0.3 * stats.norm.pdf(target.y, -f, 0.4)
  np.testing.assert_allclose(
    target.log_reference, np.log(density[:, 0]), atol=1e-4
  )


@pytest.mark.parametrize("rho", [0.1, 0.6])
def test_bag_of_words_has_the_correlation(rho):
  x, target = _drawn("bag_of_words", rho=rho, length=5, vocabulary=20)
  assert (x.sum(1) == 5).all()
  y, clean = target.y[:, 0], target.clean[:, 0]
  assert abs(np.corrcoef(y, clean)[0, 1] - rho) < 0.03
  assert y.var() == pytest.approx(1, rel=0.05)
  # The signal is a sum of token values.
  fit, *_ = np.linalg.lstsq(x, clean, rcond=None)
  np.testing.assert_allclose(x @ fit, clean, atol=1e-4)


def test_in_context_reference_is_the_posterior_on_a_grid():
  """Against the posterior summed numerically over a grid of w."""
  x, target = _drawn("in_context", count=5, dim=2, context=3, noise=0.5)
  side = np.linspace(-4, 4, 401)
  w = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
  prior = stats.norm.pdf(w, 0, 2**-0.5).prod(1)
  for row, y, reference in zip(x, target.y, target.log_reference, strict=True):
    contexts, values, query = row[:6].reshape(3, 2), row[6:9], row[9:]
    seen = stats.norm.pdf(values, w @ contexts.T, 0.5).prod(1)
    posterior = prior * seen
    posterior /= posterior.sum()
    density = posterior @ stats.norm.pdf(y, w @ query, 0.5)
    assert reference == pytest.approx(np.log(density), abs=1e-3)


def test_diabetes_is_real_and_split_once():
  data = REGRESSION["diabetes"]()
  sizes = {name: len(s.inputs) for name, s in data.splits.items()}
  assert sizes == {"train": 242, "validation": 80, "test": 120}
  train = data.splits["train"]
  np.testing.assert_allclose(train.inputs.mean(0), 0, atol=1e-5)
  np.testing.assert_allclose(train.targets.y.std(), 1, rtol=1e-5)
  rows = np.concatenate([np.asarray(s.inputs) for s in data.splits.values()])
  assert len(np.unique(rows, axis=0)) == 442
  # Better than knowing nothing: N(0, 1) in place of the reference.
  test = data.splits["test"].targets
  nothing = stats.norm.logpdf(test.y).mean()
  assert float(np.mean(test.log_reference)) > nothing + 0.1


@pytest.mark.parametrize(
  ("name", "options", "message"),
  [
    ("teacher", {"snr": 0.0}, "snr = 0.0"),
    ("teacher", {"kind": "cubic"}, "kind = 'cubic': choose from"),
    ("teacher", {"dim": 0}, "dim = 0"),
    ("heteroscedastic", {"quietest": 3.0}, "quietest = 3.0"),
    ("bimodal", {"plus": 1.0}, "plus = 1.0"),
    ("bimodal", {"noise": -1.0}, "noise = -1.0"),
    ("bag_of_words", {"rho": 0.0}, "rho = 0.0"),
    ("in_context", {"context": 0}, "context = 0"),
  ],
)
def test_wrong_options_are_named(name, options, message):
  with pytest.raises(ValueError, match=message):
    REGRESSION[name](**options)


# One small problem, enumerated


def _small(learned="input", num_dims=1, bins=3):
  policy = POLICIES["grid"](
    num_dims=num_dims,
    hidden=(3,),
    bins=bins,
    low=-1.0,
    high=1.0,
    learned_scale=learned,
    smallest_scale=0.3 if learned else 0.0,
    initial_scale=0.6,
  )
  likelihood = likelihoods.gaussian(
    scale=0.6, smallest_scale=0.3 if learned else None
  )
  rng = np.random.default_rng(1)
  y = jnp.asarray(rng.normal(size=(2, num_dims)) / 2)
  target = Target(y, y, jnp.ones_like(y), y.sum(-1))
  prompts = Prompts(jnp.asarray(rng.normal(size=(2, 2))), target)
  splits = {"train": prompts, "validation": prompts}
  data = Data(lambda key, batch: prompts, splits, num_dims)
  task = regression.task(data, likelihood)
  params = policy.init(jax.random.key(0), prompts.inputs)
  keys = iter(jax.random.split(jax.random.key(1), 20))
  params = jax.tree.map(
    lambda p: p + 0.5 * jax.random.normal(next(keys), p.shape), params
  )
  return policy, params, task, prompts


def _expected_gradient(policy, params, task, prompts, num, loss):
  """E over every outcome of ∇ loss of the first prompt, weighted by chance."""
  x, target = jax.tree.map(lambda a: a[0], prompts)
  places = policy.num_dims * num
  outcomes = np.array(
    list(itertools.product(range(policy.bins), repeat=places))
  )
  outcomes = jnp.asarray(outcomes.reshape(-1, policy.num_dims, num))

  def one(params, actions):
    outputs = policy.apply(params, x[None])
    outputs = jax.tree.map(lambda a: a[0], outputs)
    drawn = rollouts.score(actions, policy, params, outputs, target, task)
    return loss(drawn), jnp.exp(jnp.sum(drawn.log_probs))

  gradient, chance = jax.jit(jax.vmap(jax.grad(one, has_aux=True), (None, 0)))(
    params, outcomes
  )
  assert float(chance.sum()) == pytest.approx(1, abs=1e-9)
  return jax.tree.map(lambda g: jnp.tensordot(chance, g, 1), gradient)


def _assert_opposite(gradient, exact):
  for ours, theirs in zip(
    jax.tree.leaves(gradient), jax.tree.leaves(exact), strict=True
  ):
    np.testing.assert_allclose(-ours, theirs, rtol=0, atol=1e-10)
  assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(exact)) > 1e-3


def _exact(policy, task, prompts, value, factorized=False):
  def objective(params):
    one = jax.tree.map(lambda a: a[:1], prompts)
    log_p = rollouts.log_pass_rates(policy, params, one, task)[0]
    log_p = log_p if factorized else jnp.sum(log_p)
    return jnp.sum(value(jnp.exp(log_p)))

  return objective


@pytest.mark.parametrize("learned", ["input", "global", None])
@pytest.mark.parametrize("order", [1, 2, 4])
def test_learned_noise_follows_the_exact_gradient(learned, order, x64):
  """E over all outcomes = ∇ J_T(E[l]), the decoder's parameters included."""
  policy, params, task, prompts = _small(learned)

  def loss(drawn):
    return batch_losses.group_loss(
      functools.partial(estimators.maxrl, order=order),
      "likelihoods",
      ("likelihoods", functools.partial(symmetric.loo_weights, order=order)),
      rollouts.joint(drawn),
    )

  gradient = _expected_gradient(policy, params, task, prompts, 4, loss)
  objective = _exact(policy, task, prompts, objectives.maxrl(order).value)
  _assert_opposite(gradient, jax.jit(jax.grad(objective))(params))
  if learned == "global":
    assert np.abs(gradient["params"]["noise_scale"]).max() > 1e-3


@pytest.mark.parametrize("factorized", [False, True])
@pytest.mark.parametrize("order", [1, 3])
def test_dimensions_together_or_each_alone(factorized, order, x64):
  """Joint: J_T of the product. Factorized: the sum of each one's J_T."""
  policy, params, task, prompts = _small(None, num_dims=2, bins=2)
  group = functools.partial(
    batch_losses.group_loss,
    functools.partial(estimators.maxrl, order=order),
    "likelihoods",
    None,
  )

  def loss(drawn):
    if factorized:
      return jnp.sum(jax.vmap(group)(drawn))
    return group(rollouts.joint(drawn))

  gradient = _expected_gradient(policy, params, task, prompts, 3, loss)
  value = objectives.maxrl(order).value
  objective = _exact(policy, task, prompts, value, factorized)
  _assert_opposite(gradient, jax.jit(jax.grad(objective))(params))


def test_learned_noise_under_vimco_follows_its_bound(x64):
  """Pathwise and score terms together: ∇ E[log mean l], enumerated."""
  policy, params, task, prompts = _small("input")
  group = functools.partial(
    batch_losses.group_loss,
    estimators.log_vimco,
    "log_likelihoods",
    ("log_likelihoods", estimators.LOG_PATHWISE["vimco"]),
  )

  def loss(drawn):
    return group(rollouts.joint(drawn))

  gradient = _expected_gradient(policy, params, task, prompts, 3, loss)
  x, target = jax.tree.map(lambda a: a[0], prompts)
  outcomes = jnp.asarray(list(itertools.product(range(3), repeat=3)))

  def bound(params):
    outputs = jax.tree.map(lambda a: a[0], policy.apply(params, x[None]))

    def one(actions):
      drawn = rollouts.score(
        actions[None], policy, params, outputs, target, task
      )
      log_mean = jnp.log(jnp.mean(drawn.likelihoods))
      return jnp.exp(jnp.sum(drawn.log_probs)) * log_mean

    return jnp.sum(jax.vmap(one)(outcomes))

  _assert_opposite(gradient, jax.jit(jax.grad(bound))(params))


@pytest.mark.parametrize("name", sorted(estimators.LOG_PATHWISE))
def test_learned_noise_feels_prompts_whose_likelihood_underflows(name):
  """∂/∂log σ of the importance-weighted −log mean l, by hand: 1 − r²/σ²."""
  squares = 9.0 + np.array([0.0, 0.1, 0.4], np.float32)

  def log_l(log_s):
    return -log_s - squares / (2 * jnp.exp(2 * log_s))

  weigh = estimators.LOG_PATHWISE[name]

  def loss(log_s):
    l = log_l(log_s)
    return -jnp.mean(jax.lax.stop_gradient(weigh(l)) * l)

  for sigma in (0.3, 0.1, 0.05):
    share = np.float64(jax.nn.softmax(log_l(np.log(sigma))))
    expected = 1 - share @ np.float64(squares) / sigma**2
    found = jax.grad(loss)(jnp.float32(np.log(sigma)))
    assert float(found) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
  ("sampled", "exact"),
  [
    ({"estimator.order": 2}, {"estimator.name": "exact_maxrl"}),
    (
      {"estimator.order": 2, "estimator.factorized": True},
      {"estimator.name": "exact_maxrl", "estimator.factorized": True},
    ),
    (
      {"estimator.order": 2} | (noise := {"likelihood.learned": "input"}),
      {"estimator.name": "exact_maxrl"} | noise,
    ),
    (
      {"estimator.order": 2, "estimator.factorized": True} | noise,
      {"estimator.name": "exact_maxrl", "estimator.factorized": True} | noise,
    ),
    (
      {"estimator.name": "rloo"} | noise,
      {"estimator.name": "exact_rl"} | noise,
    ),
    (
      {"estimator.name": "reinforce"} | noise,
      {"estimator.name": "exact_rl"} | noise,
    ),
  ],
  ids=str,
)
def test_what_a_config_trains_is_what_it_says(sampled, exact):
  """make_loss of both configs: mean sampled gradient against the exact one."""
  own = {"policy.name": "grid", "policy.bins": 5, "rollouts": 6}
  own |= {"task.num_dims": 2, "likelihood.scale": 1.0, "policy.hidden": ()}
  if "likelihood.learned" in sampled:
    own["likelihood.smallest_scale"] = 0.5
  order = {"estimator.order": 2} if "maxrl" in exact["estimator.name"] else {}
  made = [
    training.make_train(_config(**own | fields))
    for fields in (sampled, exact | order)
  ]
  losses_ = [
    configuration.make_loss(_config(**own | fields), m.task, m.policy)
    for m, fields in zip(made, (sampled, exact | order), strict=True)
  ]
  params = made[0].init(jax.random.key(0)).params
  prompts = made[0].task.draw(jax.random.key(1), 3)

  def gradient(loss, key):
    found = jax.grad(lambda p: loss(p, key, prompts)[0])(params)
    return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(found)])

  keys = jax.random.split(jax.random.key(2), 20_000)
  draws = jax.jit(
    lambda keys: jax.lax.map(
      lambda key: gradient(losses_[0], key), keys, batch_size=1000
    )
  )(keys)
  truth = gradient(losses_[1], keys[0])
  error = draws.std(0) / len(keys) ** 0.5
  assert float(jnp.linalg.norm(error)) < 0.05 * float(jnp.linalg.norm(truth))
  assert float(jnp.max(jnp.abs(draws.mean(0) - truth) / (error + 1e-7))) < 5


def test_each_prompt_is_judged_by_its_own_noise():
  y = jnp.array([[0.3], [0.3]])
  prompts = regression.prompts(
    jnp.zeros((2, 1)), y, noise_scale=jnp.array([[0.5], [2.0]])
  )
  data = Data(lambda key, batch: prompts, {"validation": prompts})
  likelihood = likelihoods.gaussian(scale=0.5)
  task = regression.task(data, likelihood, per_prompt=True)
  for row, sigma in enumerate((0.5, 2.0)):
    target = jax.tree.map(lambda a, row=row: a[row], prompts.targets)
    log_l = task.log_likelihoods(target, jnp.array([[1.0, -2.0]]))
    expected = stats.norm.logpdf([0.7, -2.3], 0, sigma)
    np.testing.assert_allclose(
      log_l[0] + likelihood.log_ceiling, expected, rtol=1e-5
    )


def test_rewards_and_squared_error_by_hand():
  policy, params, task, prompts = _small(None, num_dims=2, bins=5)
  target = jax.tree.map(lambda a: a[0], prompts.targets)
  at = target.y[:, None] + jnp.array([[2.0, 0.0], [-1.0, 0.5]])
  rewards = task.rewards(target, at)
  np.testing.assert_allclose(rewards, [[-2, 0], [-0.5, -0.125]], atol=1e-6)
  loss = batch_losses.mean_squared_error(policy)
  head = policy.apply(params, prompts.inputs).head
  mean = np.float64(jax.nn.softmax(head)) @ np.linspace(-1, 1, 5)
  expected = ((np.float64(prompts.targets.y) - mean) ** 2).sum(1).mean() / 2
  found, _ = loss(params, None, prompts)
  assert float(found) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"y": np.zeros((4, 3))}, r"y has shape \(4, 3\), must be"),
    ({"y": np.zeros(4)}, r"y has shape \(4,\), must be"),
    ({"clean": np.zeros(4)}, "clean has shape"),
    ({"log_reference": np.zeros((4, 1))}, "log_reference has shape"),
    ({"noise_scale": np.full((4, 1), np.nan)}, "noise of scale nan"),
  ],
)
def test_data_of_the_wrong_shape_are_named(change, message):
  good = regression.prompts(jnp.zeros((4, 2)), jnp.zeros((4, 1)))
  bad = good._replace(targets=good.targets._replace(**change))
  data = Data(lambda key, batch: bad, {"validation": bad})
  with pytest.raises(ValueError, match=message):
    regression.task(data, likelihoods.gaussian(scale=1.0), per_prompt=True)


def test_data_need_a_validation_split():
  good = regression.prompts(jnp.zeros((4, 2)), jnp.zeros((4, 1)))
  with pytest.raises(ValueError, match="'validation' is needed"):
    regression.task(
      Data(lambda key, batch: good, {}), likelihoods.gaussian(scale=1.0)
    )


# Metrics


def test_metrics_by_a_loop_in_numpy():
  policy, params, task, prompts = _small(None, num_dims=2, bins=5)
  task = dataclasses.replace(task, tolerance=0.8)
  found = metrics.metrics(policy, task, params, prompts, (1, 3))
  outputs = policy.apply(params, prompts.inputs)
  logits = np.float64(outputs.head)
  pi = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  values = np.linspace(-1, 1, 5)
  y = np.float64(prompts.targets.y)
  density = np.einsum(
    "bdc,bdc->bd", pi, stats.norm.pdf(y[..., None] - values, 0, 0.6)
  )
  nll = -np.log(density).sum(1).mean()
  mean = pi @ values
  near = np.einsum("bdc,bdc->bd", pi, np.abs(values - y[..., None]) <= 0.8)
  expected = {
    "nll": nll,
    "excess_nll": nll + float(prompts.targets.log_reference.mean()),
    "pass_rate": (density * 0.6 * (2 * np.pi) ** 0.5).prod(1).mean(),
    "mse": ((y - mean) ** 2).sum(1).mean(),
    "mse_clean": ((y - mean) ** 2).sum(1).mean(),
    "entropy": -(pi * np.log(pi)).sum((1, 2)).mean(),
    "correlation": np.mean(
      [np.corrcoef(mean[:, d], y[:, d])[0, 1] for d in range(2)]
    ),
    "pass@1": near.prod(1).mean(),
    "pass@3": (1 - (1 - near.prod(1)) ** 3).mean(),
  }
  pit = np.einsum(
    "bdc,bdc->bd", pi, stats.norm.cdf(y[..., None] - values, 0, 0.6)
  )
  expected["pit_distance"] = stats.kstest(pit.ravel(), "uniform").statistic
  assert set(found) == set(expected)
  for name, value in expected.items():
    assert float(found[name]) == pytest.approx(value, rel=1e-4), name


def test_entropy_of_normals_is_the_formula_and_the_integral():
  zero = jnp.zeros(1)
  found = metrics.entropy(Components(zero, zero, jnp.array([0.3])))
  assert float(found) == pytest.approx(stats.norm(0, 0.3).entropy(), abs=1e-5)
  weights, means, scales = [0.25, 0.75], [-2.0, 1.0], [0.5, 0.8]
  x = np.linspace(-12, 12, 200_001)
  q = sum(
    w * stats.norm.pdf(x, m, s)
    for w, m, s in zip(weights, means, scales, strict=True)
  )
  integral = -np.trapezoid(np.where(q > 0, q * np.log(q + 1e-300), 0), x)
  policy = (jnp.log(jnp.array(weights)), jnp.array(means), jnp.array(scales))
  found = metrics.entropy(Components(*policy))
  assert float(found) == pytest.approx(integral, abs=1e-3)


# Training


def _config(**fields):
  config = default.get_config()
  config.update_from_flattened_dict(
    {
      "steps": 4,
      "log_every": 2,
      "eval_every": 2,
      "batch_size": 3,
      "rollouts": 4,
      "task.name": "teacher",
      "task.eval_size": 16,
      "policy.hidden": (4,),
    }
    | fields
  )
  return config


@pytest.mark.parametrize("policy", ["grid", "normal", "mixture", "digits"])
@pytest.mark.parametrize("name", sorted(REGRESSION))
def test_every_policy_trains_on_every_task(name, policy):
  fields = {"task.name": name, "policy.name": policy}
  fields["likelihood.scale"] = 2.0
  config = _config(**fields)
  if name == "diabetes":
    config.task.eval_size = None
  made = training.make_train(config)
  *_, (step, states, metrics) = training.chunks(made, config)
  assert step == 4 and np.isfinite(metrics["gradient_norm"]).all()
  found = evaluation.make_evaluate(made, (1,))("test", states)
  assert all(np.isfinite(value).all() for value in found.values())


@pytest.mark.parametrize(
  "fields",
  [
    {"estimator.name": "mse", "policy.policy_scale": 0.5},
    {"estimator.name": "cross_entropy"},
    {"estimator.name": "exact_maxrl", "estimator.order": 3},
    {"estimator.name": "rloo", "estimator.signal": "reward"},
    {"estimator.name": "grpo", "estimator.signal": "reward"},
    {"estimator.name": "grpo"},
    {"estimator.name": "tail_rl"},
    {"estimator.name": "self_normalized"},
    {"estimator.name": "vimco"},
    {"estimator.factorized": True, "task.num_dims": 3},
    {"estimator.name": "exact_maxrl", "estimator.order": 3}
    | {"estimator.factorized": True, "task.num_dims": 3},
    {"likelihood.learned": "input", "likelihood.smallest_scale": 0.1},
    {"likelihood.learned": "global", "likelihood.smallest_scale": 0.1}
    | {"estimator.name": "vimco"},
    {"likelihood.name": "student_t", "likelihood.degrees": 4.0},
    {"likelihood.per_prompt": True, "likelihood.smallest_scale": 0.4},
  ],
  ids=str,
)
def test_every_way_to_learn_runs(fields):
  config = _config(
    **{"policy.name": "normal", "likelihood.scale": 0.5} | fields
  )
  made = training.make_train(config)
  *_, (_, _, metrics) = training.chunks(made, config)
  assert np.isfinite(metrics["gradient_norm"]).all()
  assert (metrics["gradient_norm"] > 0).any()


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"likelihood.scale": 0.0}, "scale = 0.0: must be above 0"),
    ({"likelihood.width": 1.0}, "likelihood.width = 1.0: 'gaussian' takes"),
    ({"task.noise": 1.0}, "task.noise = 1.0: 'teacher' takes .*'num_dims'"),
    ({"likelihood.name": "cauchy"}, "likelihood.name = 'cauchy': choose from"),
    ({"likelihood.scale": None}, "likelihood.scale is not set"),
    ({"likelihood.learned": "input"}, "needs smallest_scale below scale"),
    (
      {"likelihood.per_prompt": True, "likelihood.scale": 0.9},
      "a training prompt has noise of scale 0.5",
    ),
    (
      {"policy.name": "grid", "policy.low": -0.1, "policy.high": 0.1},
      "between policy.low = -0.1 and policy.high = 0.1",
    ),
    ({"policy.name": "mlp"}, "policy.name = 'mlp': task 'teacher' takes"),
    ({"estimator.signal": "reward"}, "'maxrl' needs likelihoods in"),
    (
      {"likelihood.smallest_scale": 0.1},
      "likelihood.smallest_scale = 0.1: means nothing but",
    ),
    (
      {"estimator.name": "mse", "likelihood.learned": "input"}
      | {"likelihood.smallest_scale": 0.1},
      "'mse' has no gradient for a noise scale",
    ),
    (
      {"estimator.name": "mse", "policy.name": "normal"},
      "no gradient for the scale of policy 'normal'",
    ),
    (
      {"estimator.name": "mse", "policy.name": "mixture"},
      "no gradient for the scale of policy 'mixture'",
    ),
    ({"task.tolerance": 0.0}, "tolerance = 0.0: must be above 0"),
    (
      {"task.name": "digits", "task.tolerance": 0.5, "likelihood.scale": None},
      "task.tolerance = 0.5: 'digits' takes",
    ),
    (
      {"estimator.name": "mse", "estimator.factorized": True},
      "'mse' is a sum over dimensions anyway",
    ),
    (
      {"likelihood.name": "tolerance", "likelihood.width": 0.5}
      | {"likelihood.scale": None, "likelihood.learned": "input"},
      "'tolerance' has no noise scale to learn",
    ),
    (
      {"policy.name": "grid", "policy.bins": 3, "likelihood.scale": 0.01},
      "a validation target is|a train target is|a test target is",
    ),
    (
      {"likelihood.name": "exact_match", "likelihood.scale": None}
      | {"policy.name": "grid"},
      "from the nearest of 64 values",
    ),
    ({"estimator.signal": "regret"}, "estimator.signal = 'regret'"),
    (
      {"likelihood.learned": "input", "likelihood.smallest_scale": 0.1}
      | {"estimator.name": "grpo"},
      "likelihood.learned = 'input': only",
    ),
    (
      {"task.name": "digits", "estimator.factorized": True}
      | {"likelihood.scale": None},
      "estimator.factorized = True: task 'digits'",
    ),
    (
      {"task.name": "digits", "likelihood.scale": 0.5},
      "likelihood.scale = 0.5: task 'digits' is right or wrong",
    ),
  ],
  ids=str,
)
def test_a_wrong_config_names_the_field(fields, message):
  config = _config(**{"likelihood.scale": 0.2} | fields)
  with pytest.raises(ValueError, match=message):
    training.make_train(config)


def test_targets_that_are_not_finite_are_named():
  y = jnp.array([[0.0], [np.nan]])
  bad = Prompts(jnp.zeros((2, 1)), Target(y, y, jnp.ones_like(y), y[:, 0]))
  data = Data(lambda key, batch: bad, {"validation": bad})
  with pytest.raises(ValueError, match=r"target 1 = \[nan\]: targets must be"):
    regression.task(data, likelihoods.gaussian(scale=1.0))


def test_bimodal_learns_both_modes_by_likelihood_and_one_by_rl():
  """A short form of the experiment: NLL of order N − 1 against order 1."""
  nll = {}
  for order in (1, 31):
    config = bimodal.get_config()
    config.steps, config.estimator.order = 600, order
    made = training.make_train(config)
    *_, (_, states, _) = training.chunks(made, config)
    found = evaluation.make_evaluate(made, (1,))("test", states)
    nll[order] = float(found["nll"][0])
  assert nll[31] < 1.35 and nll[1] > 2.5


def test_a_likelihood_above_its_ceiling_stops_the_run_and_is_named():
  """A noise model of one's own whose peak is wrong."""
  prompts = regression.prompts(jnp.zeros((4, 1)), jnp.zeros((4, 1)))
  wrong = likelihoods.Likelihood(
    log_shape=lambda u: 0.5 - u * u / 2,
    cdf=jax.scipy.special.ndtr,
    log_peak=-0.9,
    scale=1.0,
    smallest_scale=1.0,
  )
  data = Data(lambda key, batch: prompts, {"validation": prompts})
  task = regression.task(data, wrong)
  config = _config(**{"policy.name": "normal", "batch_size": 4})
  made = training.make_train(config, task)
  message = r"likelihood_max = 1\.\d+, must be in \[0, 1\] \(prompt \d of"
  with pytest.raises(FloatingPointError, match=message + ".*ceiling .* -0.9"):
    list(training.chunks(made, config))
