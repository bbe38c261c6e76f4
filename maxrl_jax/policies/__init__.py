"""Policies as Flax Linen modules; `Policy` lists their methods.

Policies with batch normalization (a collection `batch_stats` beside `params`)
take `training=True` where they are trained.
"""

import flax.linen as nn

from maxrl_jax.policies.base import (
  Checked,
  Policy,
  Prepared,
  SequencePolicy,
  Sharded,
  Summable,
)
from maxrl_jax.policies.categorical import CNN, MLP, Tabular
from maxrl_jax.policies.digit_transformer import DigitTransformer
from maxrl_jax.policies.digits import Digits
from maxrl_jax.policies.regression import Grid, Mixture, Normal, Regression
from maxrl_jax.policies.resnet import ResNet
from maxrl_jax.policies.transformer import Transformer

POLICIES: dict[str, type[nn.Module]] = {
  "mlp": MLP,
  "cnn": CNN,
  "tabular": Tabular,
  "grid": Grid,
  "normal": Normal,
  "mixture": Mixture,
  "digits": Digits,
  "transformer": Transformer,
  "digit_transformer": DigitTransformer,
  "resnet": ResNet,
}

# Fields that Flax, the task, the noise model or the devices set.
SET_BY_TASK = (
  *("name", "parent", "num_actions", "initial_logits", "num_dims"),
  *("learned_scale", "smallest_scale", "initial_scale"),
  *("vocab_size", "max_length", "eos", "numerals", "prompts_apart"),
)

__all__ = [
  "POLICIES",
  "SET_BY_TASK",
  "Checked",
  "DigitTransformer",
  "Policy",
  "Prepared",
  "Regression",
  "SequencePolicy",
  "Sharded",
  "Summable",
  "Transformer",
]
