"""Our estimators in Tunix: its registry, its learner, a run of each entry."""

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
  warnings.simplefilter("ignore")  # Of what it imports itself.
  import optax
  from flax import nnx
  from tunix.rl import function_registry
  from tunix.rl.grpo.grpo_learner import GRPOLearner

  from experiments.runs import gsm8k_problems, llm_cluster, llm_runs
  from maxrl_jax.integrations import tunix
  from maxrl_jax.integrations.tunix import MaxRLConfig

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True, scope="module")
def _as_tunix_is_used():
  """Its models broadcast shapes of different ranks, in threads of its own."""
  jax.config.update("jax_numpy_rank_promotion", "allow")
  yield
  jax.config.update("jax_numpy_rank_promotion", "raise")


_REWARDS = np.array([[1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 0]])


def _of(config, rewards):
  """What Tunix would use for these rewards [B, N]."""
  name = config.advantage_estimator
  estimate = function_registry.get_advantage_estimator(name)
  num = rewards.shape[1]
  flat = np.ravel(np.asarray(rewards, np.float64))  # As Tunix hands them over.
  return estimate(rewards=flat, num_generations=num).reshape(-1, num)


def test_maxrl_is_the_papers_algorithm_without_an_order():
  found = _of(MaxRLConfig(num_generations=4), _REWARDS)
  for group, ours in zip(_REWARDS, found, strict=True):
    mean = group.mean()
    wanted = (group - mean) / mean if mean else np.zeros(4)
    np.testing.assert_allclose(ours, wanted, atol=1e-6)


def test_order_one_is_leave_one_out_and_the_ceiling_divides():
  config = MaxRLConfig(num_generations=4, order=1, ceiling=10.0)
  found = _of(config, 10 * _REWARDS)
  for group, ours in zip(_REWARDS, found, strict=True):
    for j, advantage in enumerate(ours):
      others = np.delete(group, j).mean()
      assert advantage == pytest.approx(group[j] - others, abs=1e-6)


def test_two_configs_do_not_get_into_each_others_way():
  first = MaxRLConfig(num_generations=4)
  second = MaxRLConfig(num_generations=4, order=1)
  assert first.advantage_estimator != second.advantage_estimator
  assert np.max(_of(first, _REWARDS)) == pytest.approx(3)
  assert np.max(_of(second, _REWARDS)) == pytest.approx(1)


@pytest.mark.parametrize(
  ("estimator", "options", "wanted"),
  [
    # Best of two: A = 2 ω l − b with ω the others' mean failure.
    ("pass_at_k", {"k": 2, "baseline": "none"}, [2, 0, 0, 0]),
    ("power", {"alpha": 1.0}, [1, -1 / 3, -1 / 3, -1 / 3]),
    ("tail_rl", {}, [3, -1, -1, -1]),
  ],
)
def test_the_other_estimators(estimator, options, wanted):
  config = MaxRLConfig(num_generations=4, estimator=estimator, **options)
  found = _of(config, np.array([[1, 0, 0, 0]]))
  np.testing.assert_allclose(found[0], wanted, atol=1e-6)


def test_registered_by_name():
  tunix.register("maxrl of order 2", order=2, baseline="none")
  name = "maxrl of order 2"
  estimate = function_registry.get_advantage_estimator(name)
  found = estimate(rewards=np.array([1.0, 0, 0, 0]), num_generations=4)
  np.testing.assert_allclose(found, [2, 0, 0, 0])  # 1 + the others' mean q.


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"estimator": "maxlr"}, "estimator = 'maxlr': choose from"),
    ({"order": 5}, r"order = 5.*from 1 to .*4"),
    ({"k": 2}, "k = 2: 'maxrl' takes"),
    ({"estimator": "pass_at_k"}, "k is not set: 'pass_at_k' needs it"),
    ({"estimator": "power", "alpha": 2.0}, "alpha = 2"),
    ({"baseline": "mean"}, "baseline = 'mean'"),
    ({"ceiling": 0.0}, r"ceiling = 0\.0"),
    ({"num_generations": 1}, "num_generations must be greater than 1"),
  ],
)
def test_a_wrong_config_is_refused_at_once(fields, message):
  with pytest.raises(ValueError, match=message):
    MaxRLConfig(**({"num_generations": 4} | fields))


_ON_A_GPU = """
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


def test_a_config_leaves_it_to_tunix_where_jax_starts():
  """On the CPU alone, training would be there too, and say nothing."""
  done = subprocess.run(
    [sys.executable, "-W", "ignore", "-c", _ON_A_GPU],
    env={k: v for k, v in os.environ.items() if k != "JAX_PLATFORMS"},
    capture_output=True,
    text=True,
  )
  assert done.stdout == "configured\nthe GPU was started\n", done.stderr


def test_a_reward_that_is_no_likelihood_is_named():
  config = MaxRLConfig(num_generations=4)
  with pytest.raises(ValueError, match=r"rewards\[5\] = 2\.0.*ceiling="):
    _of(config, np.array([[0, 1, 0, 0], [0, 2, 0, 0]]))


def _config(**changes):
  config = llm_runs.get_config()
  config.update(changes)
  return config


def _one_update(config, reward):
  """A model's graph, and its parameters before and after SGD of rate 1."""
  model = llm_runs.make_model(3)
  graph, before = nnx.split(model)
  before = jax.tree.map(jnp.copy, before)
  cluster = llm_cluster.cluster(
    model,
    llm_runs.Tokenizer(),
    llm_runs.rollout_config(),
    llm_cluster.make_mesh(),
    actor_optimizer=optax.sgd(1.0),
    eval_every_n_steps=9,
    max_steps=1,
  )
  GRPOLearner(
    rl_cluster=cluster,
    algo_config=MaxRLConfig(num_generations=8),
    reward_fns=reward,
  ).train(llm_runs.batches(config))
  return graph, before, nnx.state(cluster.actor_trainer.model)


def _surrogate(graph, prompts, said, advantages):
  """Parameters → mean_j A_j log π(completion j)."""
  tokens = np.concatenate([prompts, said], 1)
  # Token 0 pads: Tunix skips it wherever it is, also where it was drawn.
  there = tokens != 0
  places = np.maximum(np.cumsum(there, 1) - 1, 0)
  causal = np.tril(np.ones((tokens.shape[1],) * 2, bool))
  seen_before = causal[None] & there[:, None]

  def surrogate(state):
    logits, _ = nnx.merge(graph, state)(tokens, places, None, seen_before)
    log_probs = jax.nn.log_softmax(logits[:, prompts.shape[1] - 1 : -1])
    chosen = jnp.take_along_axis(log_probs, said[..., None], -1)[..., 0]
    scores = jnp.sum(jnp.where(said != 0, chosen, 0), -1)
    return jnp.mean(advantages * scores)

  return surrogate


def test_one_update_is_the_policy_gradient():
  """SGD of rate 1: parameters move by mean_j A_j S_j, completions whole."""
  config = _config(prompts=3, rollouts=8, steps=1)
  seen = {}

  def reward(prompts, completions, **_):
    seen["prompts"], seen["completions"] = list(prompts), list(completions)
    seen["rewards"] = [float(text[0] >= "8") for text in completions]
    return seen["rewards"]

  graph, before, after = _one_update(config, reward)
  encode = llm_runs.Tokenizer().encode
  # Tunix puts the token that begins a text before the prompt.
  prompts = np.array([[1, *encode(text)] for text in seen["prompts"]])
  said = np.array([encode(text) for text in seen["completions"]])
  groups = np.reshape(seen["rewards"], (3, 8))
  mean = groups.mean(1, keepdims=True)
  assert mean.min() > 0 and mean.max() < 1
  advantages = np.ravel((groups - mean) / mean)
  wanted = jax.grad(_surrogate(graph, prompts, said, advantages))(before)
  moved = jax.tree.map(lambda a, b: a - b, after, before)
  largest = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(wanted))
  assert largest > 0.01
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=1e-3 * largest),
    jax.tree.leaves(moved),
    jax.tree.leaves(wanted),
  )


@pytest.mark.long
def test_the_pass_rate_rises_from_a_few_per_cent():
  found = llm_runs.train(_config(steps=110))
  rates = found["pass_rate"]
  assert rates.shape == (110,) and found["by_length"].shape == (110, 3)
  assert 0 < rates[:20].mean() < 0.06
  assert rates[-20:].mean() > 2.5 * rates[:20].mean()


def test_the_engine_gets_a_key_of_its_own_for_every_call():
  def keys(batches):
    rollout = llm_cluster.Rollout()
    found = []
    for _ in llm_cluster.with_keys(batches, rollout, 0):
      found += [tuple(np.asarray(rollout.seed)) for _ in range(3)]
    return found

  found = keys([{}] * 4)
  assert len(set(found)) == 12
  assert keys([{}] * 4) == found


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
    return llm_cluster.post_train(
      settings | {"steps": steps},
      gsm8k_problems.batches(problems, steps, 2, 0),
      gsm8k_problems.batches(problems, 1, 3, 0),
      vowels,
      tmp_path,
    )

  found = run(2)
  assert found.keys() == {"test/pass@1", "test/pass@2", "test/pass@4"}
  assert 0 <= found["test/pass@1"] <= found["test/pass@4"] <= 1
  # Two micro-batches a step, and one line.
  assert set(lengths) == {(4, 4, 4)} and len(lengths) == 4 + 3
  assert any((tmp_path / "checkpoints").rglob("*"))
  metrics = tmp_path / "metrics.jsonl"
  before = metrics.read_text()
  assert [json.loads(x)["step"] for x in before.splitlines()] == [1, 2]
  # What a kill leaves of a step without a checkpoint is made again.
  metrics.write_text(before + '{"step": 3, "pass_rate": 2.0}\n{"step": 4, "p')
  run(3)
  after = metrics.read_text()
  assert after.startswith(before) and len(lengths) == 7 + 2 + 3
  (third,) = map(json.loads, after.removeprefix(before).splitlines())
  assert third["step"] == 3 and 0 <= third["pass_rate"] <= 1
