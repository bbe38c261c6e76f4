"""Steps, objectives, runs side by side, and runs that cannot go on."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import digits
from maxrl_jax import objectives
from maxrl_jax.config import RATE, default, overlay
from maxrl_jax.learning import rollouts, training
from maxrl_jax.learning.build_loss import make_loss
from maxrl_jax.policies import POLICIES
from maxrl_jax.tasks import TASKS, ExactTask, Prompts, base
from tests.support import keys as run_keys
from tests.support import oracles
from tests.support.configs import short_bandit


def _run(config, **kwargs):
  trainer = training.make_train(config)
  *_, last = training.chunks(trainer, config, **kwargs)
  return trainer, last


def test_keys_of_runs_are_no_keys_of_data():
  """Fixed splits are drawn from key(task_seed) and its parts."""
  trainer = training.make_train(short_bandit())
  seeds = np.arange(20, dtype=np.uint32)
  used = jax.random.key_data(jnp.concatenate(trainer.keys(seeds)))
  tasks = jax.vmap(jax.random.key)(seeds)
  parts = jax.vmap(lambda key: jax.random.split(key, 30))(tasks)
  of_data = jax.random.key_data(jnp.concatenate([tasks, parts.ravel()]))
  pairs = [{tuple(map(int, key)) for key in keys} for keys in (used, of_data)]
  assert len(pairs[0]) == 40 and not pairs[0] & pairs[1]


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("order", [1, 3, 6])
def test_one_step_is_the_pseudocode(continuous, order):
  """Rollouts as the step draws them, then loops over prompts and rollouts."""
  config = short_bandit(
    **{
      "task.continuous": continuous,
      "estimator.order": order,
      "estimator.baseline": 1 / 6,
    }
  )
  trainer = training.make_train(config)
  state, key = trainer.init(jax.random.key(3)), jax.random.key(4)
  after, _ = jax.jit(trainer.step)(state, key)

  draw_key, rollout_key = jax.random.split(jax.random.fold_in(key, 0))
  prompts = trainer.task.draw(draw_key, 5)
  table = np.float64(state.params["params"]["logits"])
  gradient = np.zeros_like(table)
  keys = jax.random.split(rollout_key, 5)
  for b, x in enumerate(np.asarray(prompts.inputs)):
    actions = trainer.policy.apply(
      state.params, keys[b], jnp.asarray(table[x]), 6, method="sample"
    )
    drawn = rollouts.score(
      actions,
      trainer.policy,
      state.params,
      jnp.asarray(table[x]),
      prompts.targets[b],
      trainer.task,
    )
    l = np.float64(drawn.likelihoods)
    policy = np.exp(table[x]) / np.exp(table[x]).sum()
    advantages = oracles.maxrl_advantages(l, order)
    for z, advantage in zip(np.asarray(drawn.actions), advantages, strict=True):
      gradient[x] += advantage * (np.eye(4)[z] - policy) / 6 / 5
  expected = table + 0.3 * gradient
  actual = after.params["params"]["logits"]
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
  ("name", "value"),
  [
    ("cross_entropy", objectives.maximum_likelihood().value),
    ("exact_rl", objectives.rl().value),
    ("exact_maxrl", objectives.maxrl(3).value),
    ("exact_grpo", objectives.grpo().value),
  ],
)
def test_exact_objectives_are_the_mean_of_j(name, value):
  options = {"estimator.order": 3} if name == "exact_maxrl" else {}
  config = short_bandit(**{"estimator.name": name, **options})
  trainer = training.make_train(config)
  loss = make_loss(config, trainer.task, trainer.policy)
  prompts = trainer.task.splits["train"]
  logits = jnp.asarray(trainer.task.policy_options["initial_logits"])
  params = trainer.init(jax.random.key(0)).params
  actual, _ = loss(params, jax.random.key(0), prompts)
  p = jnp.sum(jax.nn.softmax(logits) * prompts.targets, -1)
  np.testing.assert_allclose(actual, -jnp.mean(value(p)), rtol=1e-5)


def test_cross_entropy_survives_an_underflowing_pass_rate():
  config = digits.get_config()
  config.estimator.name = "cross_entropy"
  logits = np.array([[300.0, 0.0] + [0.0] * 8], np.float32)
  policy = POLICIES["tabular"](10, logits)
  prompts = Prompts(jnp.array([0]), jnp.array([1]))
  loss = make_loss(config, TASKS["digits"](num_digits=1, eval_size=1), policy)
  params = policy.init(jax.random.key(0), prompts.inputs)
  value, gradient = jax.value_and_grad(
    lambda params: loss(params, jax.random.key(0), prompts)[0]
  )(params)
  assert float(value) == pytest.approx(300)
  np.testing.assert_allclose(
    gradient["params"]["logits"][0, :2], [1, -1], atol=1e-6
  )


@pytest.mark.parametrize("alpha", [0.0, 0.01, 0.5])
def test_exact_power_survives_an_underflowing_pass_rate(alpha):
  """log p = −95: the gradient of −(p^α − 1)/α is −p^α ∇log p."""
  config = short_bandit(
    **{"estimator.name": "exact_power", "estimator.alpha": alpha}
  )
  prompts = Prompts(jnp.array([0]), jnp.array([1]))
  splits = {"validation": prompts}
  draw = lambda key, batch: prompts  # noqa: E731
  task = base.classification(2, draw=draw, splits=splits)
  policy = POLICIES["tabular"](2, np.array([[0.0, -95.0]], np.float32))
  loss = make_loss(config, task, policy)
  params = policy.init(jax.random.key(0), prompts.inputs)
  value, gradient = jax.value_and_grad(
    lambda params: loss(params, jax.random.key(0), prompts)[0]
  )(params)
  expected = 95 if alpha == 0 else -np.expm1(-95 * alpha) / alpha
  assert float(value) == pytest.approx(expected, rel=1e-5)
  slope = np.exp(-95 * alpha) * np.array([1, -1])
  np.testing.assert_allclose(
    gradient["params"]["logits"][0], slope, rtol=1e-5, atol=1e-30
  )


def test_norms_are_those_of_the_gradient_and_of_the_parameters_after():
  config = digits.get_config()
  config.task.num_digits, config.policy.hidden = 1, (8, 5)
  config.batch_size, config.rollouts = 4, 8
  trainer = training.make_train(config, optimizer=optax.sgd(1.0))
  before = trainer.init(jax.random.key(0))
  after, metrics = jax.jit(trainer.step)(before, jax.random.key(1))

  def norm(tree):
    leaves = jax.tree.leaves(tree)
    return np.sqrt(sum(np.sum(np.float64(x) ** 2) for x in leaves))

  gradient = jax.tree.map(jnp.subtract, before.params, after.params)
  assert norm(gradient) > 0
  np.testing.assert_allclose(metrics["gradient_norm"], norm(gradient), 1e-5)
  parameter_norm = norm(after.params)
  np.testing.assert_allclose(metrics["parameter_norm"], parameter_norm, 1e-5)


def test_a_run_does_not_depend_on_its_neighbours():
  config = short_bandit(runs=3)
  _, (_, together, metrics) = _run(config)
  for run in range(3):
    _, (_, alone, own) = _run(config, seeds=[run])
    np.testing.assert_allclose(
      together.params["params"]["logits"][run],
      alone.params["params"]["logits"][0],
      rtol=1e-5,
      atol=1e-6,
    )
    np.testing.assert_allclose(
      metrics["pass_rate"][:, run], own["pass_rate"][:, 0], rtol=1e-6
    )


def test_runs_may_differ_in_learning_rate():
  config = short_bandit(runs=2)
  rate = RATE
  _, (_, states, _) = _run(config, seeds=[0, 0], hyper={rate: [0.3, 0.6]})
  a, b = states.params["params"]["logits"]
  assert not np.allclose(a, b)
  _, (_, alone, _) = _run(config, seeds=[0], hyper={rate: [0.6]})
  np.testing.assert_allclose(b, alone.params["params"]["logits"][0], atol=1e-6)


def test_same_seed_same_bits():
  config = short_bandit()
  (_, (_, a, _)), (_, (_, b, _)) = _run(config), _run(config)
  np.testing.assert_array_equal(
    a.params["params"]["logits"], b.params["params"]["logits"]
  )


def test_states_of_other_runs_and_other_chunks_are_refused():
  config = short_bandit(runs=2)
  trainer = training.make_train(config)
  step, states, _ = next(training.chunks(trainer, config))
  states = jax.device_get(states)
  with pytest.raises(ValueError, match="states: of 2 runs, must be of 1, one"):
    next(training.chunks(trainer, config, [0], states=states))
  order = {"estimator.order": [1, 2]}
  with pytest.raises(ValueError, match=r"hyper\['estimator.order'\]: the stat"):
    next(training.chunks(trainer, config, hyper=order, states=states))
  config.log_every = 1
  with pytest.raises(ValueError, match=f"log_every = 1: .* built with {step};"):
    next(training.chunks(trainer, config))


@pytest.mark.parametrize(
  ("field", "value"),
  [
    ("estimator.order", 2),
    ("optimizer.learning_rate", 0.5),
    ("rollouts", 4),
    ("task.num_prompts", 6),
    ("on_nonfinite", "skip"),
    ("steps", 40),  # The schedule depends on it.
  ],
)
def test_a_config_that_is_not_the_trainers_is_refused(field, value):
  """It would train what the trainer was built from, in silence."""
  config = short_bandit(steps=20)
  config.optimizer.schedule = "cosine"
  trainer = training.make_train(config, varying=["estimator.order"])
  changed = overlay(config, {field: value})
  with pytest.raises(ValueError, match=f"{field} = {value!r}: the trainer was"):
    next(training.chunks(trainer, changed))


def test_what_a_trainer_does_not_depend_on_may_change():
  config = short_bandit(steps=20)
  config.optimizer.schedule = "constant"
  trainer = training.make_train(config)
  fields = {"seed": 3, "steps": 40, "runs": 2, "eval_every": 40}
  changed = overlay(config, fields)
  steps = [step for step, *_ in training.chunks(trainer, changed)]
  assert steps[-1] == 40
  own = training.make_train(config, schedule=optax.constant_schedule(1.0))
  assert next(training.chunks(own, changed))[0] == config.log_every


def test_many_chunks_compile_once():
  config = short_bandit(steps=20)
  trainer = training.make_train(config)
  for seeds in ([0], [1]):
    steps = [step for step, _, _ in training.chunks(trainer, config, seeds)]
  assert steps == list(range(2, 21, 2))
  assert trainer.advance._cache_size() == 1


def _digits():
  config = digits.get_config()
  config.batch_size, config.rollouts, config.policy.hidden = 8, 16, (16,)
  config.log_every, config.task.num_digits = 2, 1
  return config


_OFF_POLICY = {"name": "clipped", "updates": 2, "staleness": 2}


@pytest.mark.parametrize(
  "config",
  [
    short_bandit(runs=2),
    _digits(),
    short_bandit(**{f"off_policy.{k}": v for k, v in _OFF_POLICY.items()}),
  ],
)
def test_a_chunk_takes_over_its_states_and_asks_nothing_of_the_host(config):
  trainer = training.make_train(config)
  seeds = np.arange(config.runs, dtype=np.uint32)
  start_keys, keys = trainer.keys(seeds)
  states = trainer.start(start_keys, {})
  compiled = trainer.advance.lower(states, keys).compile()
  text = compiled.as_text()
  for word in ("callback", "infeed", "outfeed", " send(", " recv("):
    assert word not in text
  size = sum(x.nbytes for x in jax.tree.leaves(states))
  assert compiled.memory_analysis().alias_size_in_bytes == size
  with jax.transfer_guard("disallow"):
    after, _ = trainer.advance(states, keys)
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
      trainer.keys(seeds)  # What it would say.
  assert all(x.is_deleted() for x in jax.tree.leaves(states))
  assert int(after.step[0]) == config.log_every


def _leaky_task(bad: float):
  """Likelihoods of ½, but `bad` for the prompts whose input is 0."""
  inputs = np.arange(40, dtype=np.int32)
  everything = Prompts(inputs, np.where(inputs == 0, bad, 0.5))
  return ExactTask(
    draw=lambda key, batch: base.uniform_rows(key, everything, batch),
    likelihoods=lambda y, z: jnp.full(z.shape, y, jnp.float32),
    log_pass_rate=lambda y, components: jnp.log(y),
    splits={"validation": everything},
    policies=("tabular",),
    policy_options={
      "num_actions": 3,
      "initial_logits": np.zeros((40, 3), np.float32),
    },
  )


@pytest.mark.parametrize("bad", [1.7, -0.2, np.nan])
def test_an_impossible_likelihood_stops_the_run_and_is_named(bad, monkeypatch):
  monkeypatch.setitem(TASKS, "leaky", lambda: _leaky_task(bad))
  config = default(task="leaky", policy="tabular")
  config.steps, config.log_every, config.eval_every = 60, 20, 20
  config.rollouts, config.batch_size = 4, 2
  key = run_keys.of_steps(training.make_train(config))
  first = next(
    step
    for step in range(60)
    if 0
    in _leaky_task(bad)
    .draw(jax.random.split(jax.random.fold_in(key, step))[0], 2)
    .inputs
  )
  message = f"step {first + 1}, run 0: likelihood_.* = {bad}, must be in"
  with pytest.raises(FloatingPointError, match=message):
    _run(config)


def test_an_impossible_exact_pass_rate_stops_the_run(monkeypatch):
  monkeypatch.setitem(TASKS, "leaky", lambda: _leaky_task(3.0))
  config = default(task="leaky", policy="tabular")
  config.estimator.name, config.optimizer.learning_rate = "exact_rl", 10.0
  config.steps = config.log_every = config.eval_every = 20
  with pytest.raises(FloatingPointError, match=r"pass_rate.*\[0, 1\]"):
    _run(config)


def test_divergence_is_named():
  config = digits.get_config()
  config.steps = config.log_every = config.eval_every = 10
  config.optimizer.warmup, config.batch_size, config.rollouts = 0, 4, 4
  config.estimator.name = "cross_entropy"
  config.optimizer.name, config.policy.hidden = "sgd", (4,)
  config.optimizer.learning_rate = 1e30
  with pytest.raises(FloatingPointError, match=r"step \d+, run 0: .* finite"):
    _run(config)
