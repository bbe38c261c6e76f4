"""Sampling and an RL step of a maze policy against Hugging Face transformers.

Both use the same weights, 3.9 M parameters, on 32 mazes of 9 × 9 with 32
rollouts of 32 tokens. The baseline follows the paper's code: `generate` with a
KV cache, the prompt repeated for every rollout, then a forward and a backward
pass over prompts and answers, and AdamW; eager PyTorch on the CPU.
"""

import tempfile

import jax
import numpy as np

from benchmarks.steps import blocked
from configs import maze_paper
from maxrl_jax.learning import training
from maxrl_jax.policies import Transformer, qwen2

_LENGTH = 32


def comparisons():
  """(name, library call, baseline call, target ratio, larger is better)."""
  try:
    import torch
    import transformers
  except ImportError:  # The extra `benchmark` is not installed.
    print("mazes: torch or transformers is not installed, skipping rows")
    return
  config = maze_paper.get_config()
  config.task.size, config.task.max_length = 9, _LENGTH
  config.rollouts, config.policy.dtype = 32, "float32"
  trainer = training.make_train(config)
  state = jax.jit(trainer.init)(jax.random.key(0))
  assert isinstance(trainer.policy, Transformer)
  prompts = trainer.task.draw(jax.random.key(1), config.batch_size).inputs
  with tempfile.TemporaryDirectory() as folder:
    qwen2.save(folder, trainer.policy, state.params)
    model = transformers.Qwen2ForCausalLM.from_pretrained(folder)
  repeated = torch.tensor(np.repeat(prompts, config.rollouts, 0)).long()
  baseline = _Baseline(torch, model, repeated)
  sample = _sampler(trainer.policy, prompts, config.rollouts)
  step, key = jax.jit(trainer.step), jax.random.key(2)
  count = config.batch_size * config.rollouts * _LENGTH
  setup = f"{config.batch_size} × {config.rollouts} rollouts, transformers"
  yield (
    f"{count} tokens sampled, {setup}",
    lambda: blocked(sample, state.params, key),
    baseline.sample,
    5.0,
    True,
  )
  yield (
    f"RL step, {setup}",
    lambda: blocked(step, state, key),
    baseline.step,
    3.0,
    True,
  )


def _sampler(policy, prompts, rollouts: int):
  """(params, key) → rollouts of all prompts, compiled."""

  @jax.jit
  def sample(params, key):
    outputs = policy.apply(params, prompts)
    keys = jax.random.split(key, len(prompts))
    return policy.apply(params, keys, outputs, rollouts, method="sample")

  return sample


class _Baseline:
  """Sampling and update of the baseline; prompts [B · N, P]."""

  def __init__(self, torch, model, prompts):
    self.torch, self.model, self.prompts = torch, model.train(), prompts
    self.optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    # The cost does not depend on the advantages.
    self.advantages = torch.randn(len(prompts))

  def sample(self):
    with self.torch.no_grad():
      return self.model.generate(
        self.prompts,
        attention_mask=self.torch.ones_like(self.prompts),
        max_new_tokens=_LENGTH,
        min_new_tokens=_LENGTH,
        do_sample=True,
        top_k=0,
        pad_token_id=0,
      )

  def step(self):
    tokens, start = self.sample(), self.prompts.shape[1]
    logits = self.model(tokens).logits[:, start - 1 : -1]
    log_probs = self.torch.log_softmax(logits, -1)
    taken = log_probs.gather(-1, tokens[:, start:, None])[..., 0].sum(-1)
    loss = -(self.advantages * taken).mean()
    self.optimizer.zero_grad()
    loss.backward()
    self.optimizer.step()
