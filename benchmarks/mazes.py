"""Sampling and an RL step of a maze policy against Hugging Face transformers.

Both use the same weights, 3.9 M parameters, on 32 mazes of 9 × 9 with 32
rollouts of 32 tokens. The baseline follows the paper's code: `generate` with a
KV cache, the prompt repeated for every rollout, then a forward and a backward
pass over prompts and answers, and AdamW; eager PyTorch.
"""

import dataclasses
import functools
import tempfile

import jax
import numpy as np

from benchmarks.steps import blocked
from configs import maze, maze_paper
from maxrl_jax import config as configs
from maxrl_jax.learning import training
from maxrl_jax.policies import Transformer, qwen2

_LENGTH = 32


def comparisons():
  """(name, library call, baseline call, target ratio, larger is better)."""
  yield from _parts()
  config = paper()
  sample, step = (_call(*program) for program in programs(config))
  setup = f"{config.batch_size} × {config.rollouts} rollouts, transformers"
  count = config.batch_size * config.rollouts * config.task.max_length
  baseline = hugging_face(config)
  if baseline is None:
    print("mazes: torch or transformers is not installed, skipping rows")
    return
  yield f"{count} tokens sampled, {setup}", sample, baseline.sample, 8.0, True
  yield f"RL step, {setup}", step, baseline.step, 7.0, True


def _parts():
  """Sampling as a share of a step, and steps with less to learn from."""
  config = maze.get_config()
  sample, step = (_call(*program) for program in programs(config))
  _, idle = (_call(*program) for program in programs(config, right=_none))
  name = "configs/maze.py: {}, against a step with all groups mixed"
  yield name.format("sampling"), sample, step, 0.6, False
  yield name.format("a step, no group solved"), idle, step, 0.7, False


def _call(function, *arguments):
  return functools.partial(blocked, jax.jit(function), *arguments)


def paper(small: bool = False):
  """The published architecture on mazes of 9 × 9, answers of 32 tokens."""
  config = maze_paper.get_config()
  config.task.size, config.task.max_length = 9, _LENGTH
  config.rollouts, config.policy.dtype = 32, "float32"
  if small:
    config.rollouts = config.batch_size = 2
  return config


def _even(_, answers):
  """About half of the answers, so that all groups have a gradient."""
  return answers.sum(-1) % 2 == 0


def _none(_, answers):
  return answers.sum(-1) < 0


def programs(config, right=_even):
  """(sample, arguments …) and (step, arguments …); `right` is the verifier.

  An untrained policy solves nothing, and there would be nothing to learn.
  """
  trainer, state, prompts = _start(config, right)

  def sample(params, key):
    outputs = trainer.policy.apply(params, prompts)
    keys = jax.random.split(key, len(prompts))
    return trainer.policy.apply(
      params, keys, outputs, config.rollouts, method="generate"
    )

  key = jax.random.key(2)
  return (sample, state.params, key), (trainer.step, state, key)


def _start(config, right=_even):
  task = dataclasses.replace(configs.make_task(config), likelihoods=right)
  trainer = training.make_train(config, task)
  state = jax.jit(trainer.init)(jax.random.key(0))
  prompts = trainer.task.draw(jax.random.key(1), config.batch_size).inputs
  return trainer, state, prompts


def hugging_face(config, device: str = "cpu"):
  """The baseline with the same weights and prompts, if it is installed."""
  try:
    import torch
    import transformers
  except ImportError:  # The extra `benchmark` is not installed.
    return None
  if device == "cuda":  # As JAX multiplies matrices there.
    torch.set_float32_matmul_precision("high")
  trainer, state, prompts = _start(config)
  assert isinstance(trainer.policy, Transformer)
  with tempfile.TemporaryDirectory() as folder:
    qwen2.save(folder, trainer.policy, state.params)
    model = transformers.Qwen2ForCausalLM.from_pretrained(folder)
  repeated = np.repeat(np.asarray(prompts), config.rollouts, 0)
  return _Baseline(
    torch,
    model.to(device),
    torch.tensor(repeated, device=device).long(),
    config.task.max_length,
  )


class _Baseline:
  """Sampling and update of the baseline; prompts [B · N, P]."""

  def __init__(self, torch, model, prompts, length):
    self.torch, self.model, self.prompts = torch, model.train(), prompts
    self.length = length
    self.optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    # The cost does not depend on the advantages.
    self.advantages = torch.randn(len(prompts), device=prompts.device)

  def sample(self):
    with self.torch.no_grad():
      return self.model.generate(
        self.prompts,
        attention_mask=self.torch.ones_like(self.prompts),
        max_new_tokens=self.length,
        min_new_tokens=self.length,
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
