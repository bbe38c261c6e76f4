"""A language model in Tunix, small enough for a CPU, learns to copy digits.

A prompt is a length k and `LENGTH` digits; a completion is right if it begins
with the first k of them. A random model has pass rate 1/16 at k = 1 and 1/4096
at k = 3: prompts are easy and hard, as in data sets of problems.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from ml_collections import config_dict
from tunix.models.qwen3 import model as qwen3
from tunix.rl.grpo.grpo_learner import GRPOLearner

from experiments.llm import cluster
from maxrl_jax.integrations.resend import Resend

LENGTH = 3
_VOCABULARY = 16  # 0 pads, 1 begins, 2 … 5 are lengths, 6 … 15 are digits.
_FIRST_DIGIT = 6


class Tokenizer:
  """Tokens as letters 0 … F; no token ends a completion."""

  def encode(self, text: str, **_) -> list[int]:
    return [int(letter, _VOCABULARY) for letter in text]

  def decode(self, ids, **_) -> str:
    return "".join(f"{int(i):X}" for i in ids)

  def pad_id(self) -> int:
    return 0

  def bos_id(self) -> int:
    return 1

  def eos_id(self) -> int:
    return _VOCABULARY


def get_config() -> config_dict.ConfigDict:
  """Settings of one run."""
  config = config_dict.ConfigDict()
  config.algorithm = "maxrl"  # Or Tunix's grpo, rloo.
  config.order = config_dict.placeholder(int)
  config.waves = 1  # Unsolved prompts are sent again until this many.
  config.steps = 300
  config.prompts = 16
  config.rollouts = 16
  config.learning_rate = 1e-3
  config.seed = 0
  return config


def problems(config) -> Resend:
  """Prompts and their answers."""
  return Resend(_problems(config), key=lambda each: each[0], waves=config.waves)


def _problems(config) -> Iterator[tuple[str, str]]:
  rng = np.random.default_rng(config.seed)
  while True:
    lengths = rng.integers(1, LENGTH + 1, config.prompts)
    shape = config.prompts, LENGTH
    digits = rng.integers(_FIRST_DIGIT, _VOCABULARY, shape)
    for k, row in zip(lengths, digits, strict=True):
      prompt = Tokenizer().decode([1 + k, *row])
      yield prompt, prompt[1 : 1 + k]


def batches(config, source: Resend) -> Iterator[dict[str, np.ndarray]]:
  """One batch per step."""
  for _ in range(config.steps):
    prompts, answers = zip(*source.take(config.prompts), strict=True)
    yield {"prompts": np.array(prompts), "answer": np.array(answers)}


def verify(prompts, completions, answer, **_) -> list[float]:
  """1 if a completion begins with the answer, else 0."""
  del prompts
  pairs = zip(completions, answer, strict=True)
  return [float(text.startswith(right)) for text, right in pairs]


def train(config) -> dict[str, np.ndarray]:
  """Pass rates of new prompts [steps], and by length [steps, k].

  NaN if a batch has no new prompt, or none of that length.
  """
  rates, by_length, seen = [], [], set()
  source = problems(config)

  def reward(prompts, completions, answer, **_):
    verified = np.array(verify(prompts, completions, answer))
    new = np.array([prompt not in seen for prompt in prompts])
    lengths = np.char.str_len(np.asarray(answer))
    groups = [new & (lengths == k) for k in range(1, LENGTH + 1)]
    rates.append(_mean(verified[new]))
    by_length.append([_mean(verified[group]) for group in groups])
    source.observe(prompts, verified)
    if config.waves > 1:  # Or every prompt is drawn anew.
      seen.update(prompts)
    return verified.tolist()

  rollout = rollout_config()
  actor = cluster.cluster(
    make_model(config.seed),
    Tokenizer(),
    rollout,
    cluster.make_mesh(),
    actor_optimizer=optax.adam(config.learning_rate),
    eval_every_n_steps=config.steps + 1,
    max_steps=config.steps,
  )
  learner = GRPOLearner(
    rl_cluster=actor,
    algo_config=cluster.algorithm(
      config.algorithm, config.rollouts, config.order
    ),
    reward_fns=reward,
  )
  steps = batches(config, source)
  learner.train(cluster.with_keys(steps, rollout, config.seed))
  return {"pass_rate": np.array(rates), "by_length": np.array(by_length)}


def _mean(values: np.ndarray) -> float:
  return values.mean() if values.size else np.nan


def rollout_config() -> cluster.Rollout:
  """Samples from the model at temperature 1."""
  return cluster.Rollout(
    max_prompt_length=LENGTH + 2,
    max_tokens_to_generate=LENGTH,
    kv_cache_size=16,
    temperature=1.0,
    top_p=1.0,
  )


def make_model(seed: int) -> qwen3.Qwen3:
  """A Qwen3 of two layers and 95 000 parameters."""
  config = qwen3.ModelConfig(
    num_layers=2,
    vocab_size=_VOCABULARY,
    embed_dim=64,
    hidden_dim=128,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    rope_theta=10_000,
    norm_eps=1e-6,
  )
  model = qwen3.Qwen3(config, rngs=nnx.Rngs(seed))
  # Tunix initializes all feed-forward matrices to zero, and they would stay
  # zero: the gradient of each has another one as a factor.
  key = jax.random.key(seed)
  for layer in model.layers:
    for name in ("gate_proj", "up_proj", "down_proj"):
      kernel = getattr(layer.mlp, name).kernel
      key, of_layer = jax.random.split(key)
      scale = kernel.shape[0] ** -0.5
      kernel.value = scale * jax.random.normal(
        of_layer, kernel.shape, jnp.float32
      )
  return model
