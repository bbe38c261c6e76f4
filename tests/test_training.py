import jax
import jax.numpy as jnp
import maze_oracles
import numpy as np
import optax
import oracles
import pytest
import transformer_oracle

from configs import bandit, default, digits, maze
from maxrl_jax import (
  batch_losses,
  configuration,
  objectives,
  rollouts,
  training,
)
from maxrl_jax.policies import POLICIES
from maxrl_jax.tasks import TASKS, Prompts, Task, base


def _bandit(**options):
  config = bandit.get_config()
  config.update_from_flattened_dict(
    {
      "steps": 4,
      "log_every": 2,
      "eval_every": 2,
      "batch_size": 5,
      "rollouts": 6,
      "task.num_prompts": 7,
      "task.num_arms": 4,
      "task.hardest": 0.05,
    }
    | options
  )
  return config


def _run(config, **kwargs):
  made = training.make_train(config)
  *_, last = training.chunks(made, config, **kwargs)
  return made, last


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("order", [1, 3, 6])
def test_one_step_is_the_pseudocode(continuous, order):
  """Rollouts as the step draws them, then loops over prompts and rollouts."""
  config = _bandit(
    **{
      "task.continuous": continuous,
      "estimator.order": order,
      "estimator.baseline": 1 / 6,
    }
  )
  made = training.make_train(config)
  state, key = made.init(jax.random.key(3)), jax.random.key(4)
  after, _ = jax.jit(made.step)(state, key)

  draw_key, rollout_key = jax.random.split(jax.random.fold_in(key, 0))
  prompts = made.task.draw(draw_key, 5)
  table = np.float64(state.params["params"]["logits"])
  gradient = np.zeros_like(table)
  keys = jax.random.split(rollout_key, 5)
  for b, x in enumerate(np.asarray(prompts.inputs)):
    drawn = rollouts.sample(
      keys[b],
      made.policy,
      state.params,
      jnp.asarray(table[x]),
      prompts.targets[b],
      made.task,
      6,
    )
    l = np.float64(drawn.likelihoods)
    policy = np.exp(table[x]) / np.exp(table[x]).sum()
    advantages = oracles.maxrl_advantages(l, order)
    for z, advantage in zip(np.asarray(drawn.actions), advantages, strict=True):
      gradient[x] += advantage * (np.eye(4)[z] - policy) / 6 / 5
  expected = table + 0.3 * gradient
  found = after.params["params"]["logits"]
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


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
  config = _bandit(**{"estimator.name": name, **options})
  made = training.make_train(config)
  loss = configuration.make_loss(config, made.task, made.policy)
  prompts = made.task.splits["train"]
  logits = jnp.asarray(made.task.policy_options["initial_logits"])
  params = made.init(jax.random.key(0)).params
  found, _ = loss(params, jax.random.key(0), prompts)
  p = jnp.sum(jax.nn.softmax(logits) * prompts.targets, -1)
  np.testing.assert_allclose(found, -jnp.mean(value(p)), rtol=1e-5)


def test_cross_entropy_survives_an_underflowing_pass_rate():
  config = digits.get_config()
  config.estimator.name = "cross_entropy"
  logits = np.array([[300.0, 0.0] + [0.0] * 8], np.float32)
  policy = POLICIES["tabular"](10, logits)
  prompts = Prompts(jnp.array([0]), jnp.array([1]))
  loss = configuration.make_loss(
    config, TASKS["digits"](num_digits=1, eval_size=1), policy
  )
  params = policy.init(jax.random.key(0), prompts.inputs)
  value, gradient = jax.value_and_grad(
    lambda params: loss(params, jax.random.key(0), prompts)[0]
  )(params)
  assert float(value) == pytest.approx(300)
  np.testing.assert_allclose(
    gradient["params"]["logits"][0, :2], [1, -1], atol=1e-6
  )


def test_a_run_does_not_depend_on_its_neighbours():
  config = _bandit(runs=3)
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
  config = _bandit(runs=2)
  rate = training.RATE
  _, (_, states, _) = _run(config, seeds=[0, 0], varied={rate: [0.3, 0.6]})
  a, b = states.params["params"]["logits"]
  assert not np.allclose(a, b)
  _, (_, alone, _) = _run(config, seeds=[0], varied={rate: [0.6]})
  np.testing.assert_allclose(b, alone.params["params"]["logits"][0], atol=1e-6)


def test_same_seed_same_bits():
  config = _bandit()
  (_, (_, a, _)), (_, (_, b, _)) = _run(config), _run(config)
  np.testing.assert_array_equal(
    a.params["params"]["logits"], b.params["params"]["logits"]
  )


def test_many_chunks_compile_once():
  config = _bandit(steps=20)
  made = training.make_train(config)
  for seeds in ([0], [1]):
    steps = [step for step, _, _ in training.chunks(made, config, seeds)]
  assert steps == list(range(2, 21, 2))
  assert made.advance._cache_size() == 1


def _digits():
  config = digits.get_config()
  config.batch_size, config.rollouts, config.policy.hidden = 8, 16, (16,)
  config.log_every, config.task.num_digits = 2, 1
  return config


@pytest.mark.parametrize("config", [_bandit(runs=2), _digits()])
def test_a_chunk_takes_over_its_states_and_asks_nothing_of_the_host(config):
  made = training.make_train(config)
  seeds = np.arange(config.runs, dtype=np.uint32)
  start_keys, keys = made.keys(seeds)
  states = made.start(start_keys, {})
  compiled = made.advance.lower(states, keys).compile()
  text = compiled.as_text()
  for word in ("callback", "infeed", "outfeed", " send(", " recv("):
    assert word not in text
  size = sum(x.nbytes for x in jax.tree.leaves(states))
  assert compiled.memory_analysis().alias_size_in_bytes == size
  with jax.transfer_guard("disallow"):
    after, _ = made.advance(states, keys)
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
      made.keys(seeds)  # What it would say.
  assert all(x.is_deleted() for x in jax.tree.leaves(states))
  assert int(after.step[0]) == config.log_every


def _leaky_task(bad: float):
  """Likelihoods of ½, but `bad` for the prompts whose input is 0."""
  inputs = np.arange(40, dtype=np.int32)
  everything = Prompts(inputs, np.where(inputs == 0, bad, 0.5))
  return Task(
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
  config = default.get_config()
  config.task.name, config.policy.name = "leaky", "tabular"
  config.steps, config.log_every, config.eval_every = 60, 20, 20
  config.rollouts, config.batch_size = 4, 2
  key = jax.random.split(jax.random.key(0))[1]
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
  config = default.get_config()
  config.task.name, config.policy.name = "leaky", "tabular"
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


def test_warm_up_and_cosine_by_hand():
  config = default.get_config()
  config.steps, config.log_every, config.eval_every = 8, 8, 8
  config.optimizer.warmup, config.optimizer.momentum = 4, 0.0
  optimizer = configuration.make_optimizer(config)
  state, scales = optimizer.init(jnp.ones(())), []
  for _ in range(8):
    scale, state = optimizer.update(jnp.ones(()), state)
    scales.append(float(scale))
  cosine = [0.5 * (1 + np.cos(np.pi * i / 4)) for i in range(4)]
  np.testing.assert_allclose(scales, [0.25, 0.5, 0.75, 1, *cosine], atol=1e-6)


@pytest.mark.parametrize(
  ("name", "reference"),
  [
    ("sgd", optax.sgd(0.1, 0.9)),
    ("adam", optax.adam(0.1)),
    ("adamw", optax.adamw(0.1, weight_decay=0.01)),
  ],
)
def test_optimizers_are_optax_ones(name, reference):
  config = default.get_config()
  config.optimizer.name, config.optimizer.schedule = name, "constant"
  config.optimizer.weight_decay = 0.01
  optimizer = configuration.make_optimizer(config)
  p = q = jnp.array([1.0, -2.0])
  ours, theirs = optimizer.init(p), reference.init(q)
  for i in range(5):
    g = jnp.array([0.3, -0.1]) * (i + 1)
    update, ours = optimizer.update(g, ours, p)
    p = p - 0.1 * update
    update, theirs = reference.update(g, theirs, q)
    q = optax.apply_updates(q, update)
  np.testing.assert_allclose(p, q, rtol=1e-5)


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("steps", 0, "steps = 0"),
    ("steps", 5, "log_every = 2: must divide steps = 5"),
    ("eval_every", 3, "eval_every = 3"),
    ("batch_size", -1, "batch_size = -1"),
    ("rollouts", 0, "rollouts = 0"),
    ("rollouts", 1, "N ≥ 2"),
    ("estimator.order", 7, "order = 7"),
    ("estimator.order", 0, "order = 0"),
    ("estimator.baseline", "mean", "baseline = 'mean': choose from"),
    ("estimator.k", 2, "estimator.k = 2: 'maxrl' takes"),
    ("estimator.name", "pass_at_k", "estimator.k is not set"),
    ("estimator.name", "ppo", "estimator.name = 'ppo': choose from"),
    ("task.name", "atari", "task.name = 'atari': choose from"),
    ("task.num_digits", 2, "task.num_digits = 2: 'bandit' takes"),
    ("policy.name", "gnn", "policy.name = 'gnn': choose from"),
    ("policy.name", "mlp", "policy.name = 'mlp': task 'bandit' takes"),
    ("optimizer.name", "lion", "optimizer.name = 'lion': choose from"),
    ("optimizer.schedule", "step", "optimizer.schedule = 'step': choose from"),
    ("optimizer.learning_rate", 0.0, "optimizer.learning_rate = 0.0"),
    ("optimizer.warmup", 4, "optimizer.warmup = 4"),
    ("optimizer.clip_norm", -1.0, "optimizer.clip_norm = -1.0"),
    ("optimizer.momentum", 1.5, "optimizer.momentum = 1.5"),
    ("optimizer.weight_decay", 0.1, "optimizer.weight_decay = 0.1"),
    ("optimizer.learning_rate", float("inf"), "optimizer.learning_rate = inf"),
    ("seed", -1, "seed = -1"),
    ("policy.hidden", (8, 0), r"policy.hidden = \(8, 0\)"),
    ("policy.channels", (1.5,), r"policy.channels = \(1.5,\)"),
    (
      "estimator.name",
      "supervised",
      "'supervised': task 'bandit' has no right",
    ),
    (
      "estimator.entropy_bonus",
      0.1,
      "estimator.entropy_bonus = 0.1: policy 'tabular' has no entropy",
    ),
  ],
)
def test_a_wrong_config_names_the_field(field, value, message):
  with pytest.raises(ValueError, match=message):
    training.make_train(_bandit(**{field: value}))


# Policies that write sequences


@pytest.fixture(scope="module")
def mazes():
  """Of size 7, trained on a few: none has to be drawn in a step."""
  return TASKS["maze"](size=7, random_ends=True, train_size=100, eval_size=100)


def _maze(**options):
  config = maze.get_config()
  config.task.size = 7
  config.update_from_flattened_dict(
    {
      "steps": 80,
      "log_every": 20,
      "eval_every": 80,
      "batch_size": 20,
      "policy.num_layers": 1,
      "policy.hidden_size": 16,
      "policy.intermediate_size": 32,
      "optimizer.learning_rate": 1e-2,
    }
    | options
  )
  return config


def test_supervised_learning_lowers_its_loss_on_right_answers(mazes):
  config = _maze(**{"estimator.name": "supervised"})
  made = training.make_train(config, mazes)
  losses, params = [], {}
  for step, states, metrics in training.chunks(made, config):
    losses.extend(metrics["token_nll"][:, 0])
    params[step] = jax.tree.map(lambda x: np.float64(x[0]), states.params)
  assert losses[0] == pytest.approx(np.log(32), abs=0.2)
  assert np.mean(losses[60:]) < 1 < np.mean(losses[:5])
  assert made.advance._cache_size() == 1

  # One of them, from the prompts and parameters it was made of.
  key = jax.random.split(jax.random.key(0))[1]
  draw_key = jax.random.split(jax.random.fold_in(key, 20))[0]
  prompts = mazes.draw(draw_key, 20)
  total = tokens = 0
  shape = transformer_oracle.Shape(4, 2, made.policy.rope_theta)
  for text, *target in zip(prompts.inputs, *prompts.targets, strict=True):
    is_open, start, goal = (np.asarray(x) for x in target)
    answer = maze_oracles.only_answer(is_open, tuple(start), tuple(goal))
    log_p, _, length = transformer_oracle.score(
      params[20], text, answer, 2, shape
    )
    total, tokens = total + log_p, tokens + length
  assert losses[20] == pytest.approx(-total / tokens, rel=1e-4)


def test_the_entropy_bonus_is_the_slope_of_the_mean_entropy():
  """Of the tokens that were drawn, taken as given."""
  inputs = np.random.default_rng(0).integers(5, size=(4, 3)).astype(np.int32)
  prompts = Prompts(inputs, np.arange(4))
  policy = POLICIES["transformer"](
    vocab_size=5,
    max_length=3,
    eos=2,
    num_layers=1,
    hidden_size=8,
    intermediate_size=8,
    num_heads=2,
    num_kv_heads=1,
  )
  task = Task(
    draw=lambda key, batch: base.uniform_rows(key, prompts, batch),
    splits={"validation": prompts},
    likelihoods=lambda y, z: z[:, 0] == y,
  )
  params = policy.init(jax.random.key(0), inputs)
  rng = np.random.default_rng(1)
  params = jax.tree.map(
    lambda p: p + 0.5 * rng.normal(size=p.shape).astype(p.dtype), params
  )
  key = jax.random.key(1)

  @jax.jit
  def gradient(params, bonus):
    loss = batch_losses.sampled(
      lambda l: l - jnp.mean(l), policy, task, 6, entropy_bonus=bonus
    )
    return jax.grad(loss, has_aux=True)(params, key, prompts)

  (none, metrics), (some, _) = (gradient(params, b) for b in (0.0, 0.7))
  drawn = jax.jit(
    lambda p: rollouts.sample_batch(key, policy, p, prompts, task, 6)
  )(params)
  shape = transformer_oracle.Shape(2, 1, policy.rope_theta)

  def known(params):
    found = [
      transformer_oracle.score(params, text, answer, 2, shape)
      for text, answers in zip(inputs, drawn.actions, strict=True)
      for answer in np.asarray(answers)
    ]
    _, entropies, lengths = np.transpose(found)
    return entropies.sum() / lengths.sum()

  double = jax.tree.map(np.float64, params)
  np.testing.assert_allclose(metrics["entropy"], known(double), rtol=1e-4)
  for names, direction, slope in transformer_oracle.slopes(known, double):
    a, b = none, some
    for name in names:
      a, b = a[name], b[name]
    found = np.sum(np.float64(b - a) * direction)
    assert found == pytest.approx(-0.7 * slope, rel=2e-3, abs=1e-5), names


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    (
      "estimator.name",
      "cross_entropy",
      "name = 'cross_entropy': the pass rate",
    ),
    ("estimator.name", "exact_rl", "name = 'exact_rl': the pass rate"),
    ("estimator.name", "mse", "name = 'mse': task 'maze' is no regression"),
    ("estimator.entropy_bonus", -0.1, "entropy_bonus = -0.1: must be at least"),
    ("estimator.factorized", True, "factorized = True: task 'maze' has no"),
    ("policy.name", "mlp", "policy.name = 'mlp': task 'maze' takes"),
    ("policy.dtype", "float16", "policy.dtype = 'float16'"),
    ("policy.max_positions", 60, "policy.max_positions = 60"),
  ],
)
def test_a_wrong_config_of_mazes_names_the_field(mazes, field, value, message):
  with pytest.raises(ValueError, match=message):
    training.make_train(_maze(**{field: value}), mazes)


def test_supervised_learning_takes_no_options(mazes):
  options = {"estimator.name": "supervised", "estimator.order": 3}
  with pytest.raises(ValueError, match="order = 3: 'supervised' takes"):
    training.make_train(_maze(**options), mazes)
