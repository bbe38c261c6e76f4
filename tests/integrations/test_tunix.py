"""Estimators in Tunix: its registry, its learner, and both entry points."""

import collections
import itertools
import json
import os
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("tunix", reason="needs the extra tunix")

with warnings.catch_warnings():
  warnings.simplefilter("ignore")  # Warnings while importing Tunix.
  import optax
  from flax import nnx
  from tunix.rl import function_registry, reward_manager
  from tunix.rl.grpo.grpo_learner import GRPOLearner

  from experiments.llm import cluster, copying, gsm8k_problems
  from maxrl_jax.integrations import tunix
  from maxrl_jax.integrations.tunix import MaxRLConfig

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True, scope="module")
def _allow_rank_promotion():
  """Tunix's models broadcast shapes of different ranks, in other threads."""
  jax.config.update("jax_numpy_rank_promotion", "allow")
  yield
  jax.config.update("jax_numpy_rank_promotion", "raise")


_REWARDS = np.array([[1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 0]])


def _advantages(config, rewards):
  """Advantages that Tunix computes for rewards [B, N]."""
  name = config.advantage_estimator
  estimate = function_registry.get_advantage_estimator(name)
  num = rewards.shape[1]
  flat = np.ravel(np.asarray(rewards, np.float64))  # Tunix's format.
  return estimate(rewards=flat, num_generations=num).reshape(-1, num)


def test_default_order_is_the_papers_algorithm():
  actual = _advantages(MaxRLConfig(num_generations=4), _REWARDS)
  for group, advantages in zip(_REWARDS, actual, strict=True):
    mean = group.mean()
    wanted = (group - mean) / mean if mean else np.zeros(4)
    np.testing.assert_allclose(advantages, wanted, atol=1e-6)


def test_order_1_with_a_ceiling_is_rloo():
  config = MaxRLConfig(num_generations=4, order=1, ceiling=10.0)
  actual = _advantages(config, 10 * _REWARDS)
  for group, advantages in zip(_REWARDS, actual, strict=True):
    for j, advantage in enumerate(advantages):
      others = np.delete(group, j).mean()
      assert advantage == pytest.approx(group[j] - others, abs=1e-6)


def test_two_configs_are_registered_separately():
  first = MaxRLConfig(num_generations=4)
  second = MaxRLConfig(num_generations=4, order=1)
  assert first.advantage_estimator != second.advantage_estimator
  assert np.max(_advantages(first, _REWARDS)) == pytest.approx(3)
  assert np.max(_advantages(second, _REWARDS)) == pytest.approx(1)


@pytest.mark.parametrize(
  ("estimator", "options", "wanted"),
  [
    # Best of two: A = 2 ω l − b, where ω is the mean failure of the others.
    ("pass_at_k", {"k": 2, "baseline": "none"}, [2, 0, 0, 0]),
    ("power", {"alpha": 1.0}, [1, -1 / 3, -1 / 3, -1 / 3]),
    ("tail_rl", {}, [3, -1, -1, -1]),
  ],
)
def test_the_other_estimators(estimator, options, wanted):
  config = MaxRLConfig(num_generations=4, estimator=estimator, **options)
  actual = _advantages(config, np.array([[1, 0, 0, 0]]))
  np.testing.assert_allclose(actual[0], wanted, atol=1e-6)


def test_registered_by_name():
  tunix.register("maxrl of order 2", order=2, baseline="none")
  name = "maxrl of order 2"
  estimate = function_registry.get_advantage_estimator(name)
  actual = estimate(rewards=np.array([1.0, 0, 0, 0]), num_generations=4)
  np.testing.assert_allclose(actual, [2, 0, 0, 0])  # 1 + mean q of the others.


def test_a_missing_reward_arrives_as_0():
  def rewards_of(prompts, completions):
    del completions
    return [None, float("nan"), 1.0, 0.0][: len(prompts)]

  config = MaxRLConfig(num_generations=4)
  manager = reward_manager.SequenceRewardManager(rewards_of, config)
  rewards = manager(["a"] * 4, ["b"] * 4)["rewards"]
  np.testing.assert_array_equal(rewards, [0, 0, 1, 0])


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"estimator": "maxlr"}, "estimator = 'maxlr': did you mean"),
    ({"order": 5}, r"order = 5.*from 1 to .*4"),
    ({"k": 2}, "k = 2: 'maxrl' takes"),
    ({"estimator": "pass_at_k"}, "k is not set: 'pass_at_k' needs it"),
    ({"estimator": "power", "alpha": 2.0}, "alpha = 2"),
    ({"baseline": "mean"}, "baseline = 'mean'"),
    ({"ceiling": 0.0}, r"ceiling = 0\.0"),
    ({"num_generations": 1}, "num_generations must be greater than 1"),
  ],
)
def test_invalid_config_raises(fields, message):
  with pytest.raises(ValueError, match=message):
    MaxRLConfig(**({"num_generations": 4} | fields))


_WITH_A_GPU = """
import jax
from jax.extend import backend
from maxrl_jax.integrations.tunix import MaxRLConfig

def start():
  print("the GPU was started")
  raise RuntimeError("there is none")

backend.register_backend_factory("gpu_of_tunix", start, priority=500)
for options in (
  {"order": 4},
  {"estimator": "pass_at_k", "k": 2, "baseline": 0.5},
  {"estimator": "power", "alpha": 0.3, "ceiling": 2},
  {"estimator": "tail_rl"},
):
  MaxRLConfig(num_generations=5, **options)
print("configured")
jax.devices()
"""


def test_a_config_does_not_initialize_jax():
  """Otherwise it would silently restrict training to the CPU."""
  done = subprocess.run(
    [sys.executable, "-W", "ignore", "-c", _WITH_A_GPU],
    env={k: v for k, v in os.environ.items() if k != "JAX_PLATFORMS"},
    capture_output=True,
    text=True,
  )
  assert done.stdout == "configured\nthe GPU was started\n", done.stderr


def test_error_names_a_reward_above_one():
  config = MaxRLConfig(num_generations=4)
  with pytest.raises(ValueError, match=r"rewards\[5\] = 2\.0.*ceiling="):
    _advantages(config, np.array([[0, 1, 0, 0], [0, 2, 0, 0]]))


def _config(**changes):
  config = copying.get_config()
  config.update(changes)
  return config


def _one_update(config, reward):
  """A model's graph, and its parameters before and after SGD of rate 1."""
  model = copying.make_model(3)
  graph, before = nnx.split(model)
  before = jax.tree.map(jnp.copy, before)
  built = cluster.cluster(
    model,
    copying.Tokenizer(),
    copying.rollout_config(),
    cluster.make_mesh(),
    actor_optimizer=optax.sgd(1.0),
    eval_every_n_steps=9,
    max_steps=1,
  )
  GRPOLearner(
    rl_cluster=built,
    algo_config=MaxRLConfig(num_generations=8),
    reward_fns=reward,
  ).train(copying.batches(config, copying.problems(config)))
  return graph, before, nnx.state(built.actor_trainer.model)


def _surrogate(graph, prompts, completions, advantages):
  """Parameters → mean_j A_j log π(completion j)."""
  tokens = np.concatenate([prompts, completions], 1)
  # Token 0 is padding: Tunix skips it, even where it was sampled.
  valid = tokens != 0
  positions = np.maximum(np.cumsum(valid, 1) - 1, 0)
  causal = np.tril(np.ones((tokens.shape[1],) * 2, bool))
  attention_mask = causal[None] & valid[:, None]

  def surrogate(state):
    logits, _ = nnx.merge(graph, state)(tokens, positions, None, attention_mask)
    log_probs = jax.nn.log_softmax(logits[:, prompts.shape[1] - 1 : -1])
    taken = jnp.take_along_axis(log_probs, completions[..., None], -1)[..., 0]
    scores = jnp.sum(jnp.where(completions != 0, taken, 0), -1)
    return jnp.mean(advantages * scores)

  return surrogate


def test_one_update_is_the_policy_gradient():
  """SGD of rate 1: parameters move by mean_j A_j S_j of full completions."""
  config = _config(prompts=3, rollouts=8, steps=1)
  recorded = {}

  def reward(prompts, completions, **_):
    recorded["prompts"], recorded["completions"] = (
      list(prompts),
      list(completions),
    )
    recorded["rewards"] = [float(text[0] >= "8") for text in completions]
    return recorded["rewards"]

  graph, before, after = _one_update(config, reward)
  encode = copying.Tokenizer().encode
  # Tunix prepends the beginning-of-text token to the prompt.
  prompts = np.array([[1, *encode(text)] for text in recorded["prompts"]])
  tokens = np.array([encode(text) for text in recorded["completions"]])
  groups = np.reshape(recorded["rewards"], (3, 8))
  mean = groups.mean(1, keepdims=True)
  assert mean.min() > 0 and mean.max() < 1
  advantages = np.ravel((groups - mean) / mean)
  wanted = jax.grad(_surrogate(graph, prompts, tokens, advantages))(before)
  moved = jax.tree.map(lambda a, b: a - b, after, before)
  largest = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(wanted))
  assert largest > 0.01
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=1e-3 * largest),
    jax.tree.leaves(moved),
    jax.tree.leaves(wanted),
  )


@pytest.mark.long
def test_unsolved_prompts_are_in_the_next_batch(monkeypatch):
  batches, verify = [], copying.verify

  def record(prompts, completions, answer):
    rewards = verify(prompts, completions, answer)
    batches.append((np.array(prompts), np.array(rewards)))
    return rewards

  monkeypatch.setattr(copying, "verify", record)
  copying.train(_config(steps=4, prompts=4, rollouts=4, waves=3, order=4))
  sent = collections.Counter()
  for (prompts, rewards), (following, _) in itertools.pairwise(batches):
    again = set()
    for prompt in set(prompts):
      sent[prompt] += 1
      if not rewards[prompts == prompt].any() and sent[prompt] < 3:
        again.add(prompt)
    assert set(following) & set(prompts) == again
    assert len(set(following)) == 4
  assert max(sent.values()) == 3


@pytest.mark.long
def test_prompts_that_are_drawn_twice_count_twice(monkeypatch):
  """Unless they are sent again: then every batch has new ones besides."""
  few = lambda _: itertools.cycle([("2ABC", "A"), ("3ABC", "AB")])  # noqa: E731
  monkeypatch.setattr(copying, "_problems", few)
  actual = copying.train(_config(steps=3, prompts=2, rollouts=4))
  assert np.isfinite(actual["pass_rate"]).all()


@pytest.mark.long
def test_pass_rate_increases():
  actual = copying.train(_config(steps=110))
  rates = actual["pass_rate"]
  assert rates.shape == (110,) and actual["by_length"].shape == (110, 3)
  assert 0 < rates[:20].mean() < 0.06
  assert rates[-20:].mean() > 2.5 * rates[:20].mean()


def test_every_engine_call_gets_a_new_key():
  def keys(batches):
    rollout = cluster.Rollout()
    actual = []
    for _ in cluster.with_keys(batches, rollout, 0):
      actual += [tuple(np.asarray(rollout.seed)) for _ in range(3)]
    return actual

  actual = keys([{}] * 4)
  assert len(set(actual)) == 12
  assert keys([{}] * 4) == actual


def _tiny_qwen3(folder):
  """A random Qwen3 as transformers writes it, and a tokenizer of bytes."""
  transformers = pytest.importorskip("transformers")
  pytest.importorskip("torch")
  from tokenizers import Tokenizer, decoders, models, pre_tokenizers

  letters = pre_tokenizers.ByteLevel.alphabet()
  words = ["<pad>", "<bos>", "<eos>", *sorted(letters)]
  tokens = Tokenizer(models.BPE({w: i for i, w in enumerate(words)}, []))
  tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  tokens.decoder = decoders.ByteLevel()
  transformers.PreTrainedTokenizerFast(
    tokenizer_object=tokens,
    pad_token="<pad>",
    bos_token="<bos>",
    eos_token="<eos>",
  ).save_pretrained(folder)
  config = transformers.Qwen3Config(
    vocab_size=len(words),
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=1,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=16,
  )
  transformers.Qwen3ForCausalLM(config).save_pretrained(folder)


def test_gsm8k_from_a_checkpoint_to_pass_at_k(tmp_path):
  _tiny_qwen3(tmp_path / "model")
  problems = [
    {"prompts": f"{n} and one? ", "answer": str(n + 1)} for n in range(4)
  ]
  settings = {
    "model": str(tmp_path / "model"),
    "estimator": "maxrl",
    "order": 2,
    "steps": 2,
    "prompts": 2,
    "rollouts": 4,
    "micro_batch": 1,
    "learning_rate": 1e-3,
    "prompt_tokens": 32,
    "answer_tokens": 4,
    "tensor_parallel": 1,
    "seed": 0,
  }
  lengths = []

  def vowels(prompts, completions, answer, **_):
    lengths.append((len(prompts), len(completions), len(answer)))
    return [float(len(text) % 2) for text in completions]

  def run(steps):
    return cluster.post_train(
      settings | {"steps": steps},
      gsm8k_problems.batches(problems, steps, 2, 0),
      gsm8k_problems.batches(problems, 1, 3, 0),
      vowels,
      tmp_path,
    )

  actual = run(2)
  assert actual.keys() == {"test/pass@1", "test/pass@2", "test/pass@4"}
  assert 0 <= actual["test/pass@1"] <= actual["test/pass@4"] <= 1
  # Two micro-batches per step, and one line of metrics.
  assert set(lengths) == {(4, 4, 4)} and len(lengths) == 4 + 3
  assert any((tmp_path / "checkpoints").rglob("*"))
  metrics = tmp_path / "metrics.jsonl"
  before = metrics.read_text()
  assert [json.loads(x)["step"] for x in before.splitlines()] == [1, 2]
  # Metrics of a step that was killed before its checkpoint are rewritten.
  metrics.write_text(before + '{"step": 3, "pass_rate": 2.0}\n{"step": 4, "p')
  run(3)
  after = metrics.read_text()
  assert after.startswith(before) and len(lengths) == 7 + 2 + 3
  (third,) = map(json.loads, after.removeprefix(before).splitlines())
  assert third["step"] == 3 and 0 <= third["pass_rate"] <= 1
