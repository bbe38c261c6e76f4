"""Policies as Flax Linen modules.

A policy reads a batch of prompts once, inputs [B, …] → outputs [B, …]; what
follows is for one prompt (vmap it) and starts from that prompt's outputs:

    sample(key, outputs, num)     → actions [N]
    log_prob(outputs, actions)    → log m(z_j|x) [N]
    decode(actions)               → predictions ŷ(z_j) [N]
    components(outputs)           → the whole distribution, for exact sums

Policies that write sequences (`is_sequence`) decode those of all prompts
together: their methods are `sample(keys [B], outputs, num)` → answers [B, N, L]
and `score(outputs, answers)` → log-probabilities, entropies and lengths [B, N].

Policies with batch normalization (a collection `batch_stats` beside `params`)
take `training=True` where they are trained.

They are methods of the module, since a policy may need its parameters for them:
`policy.apply(params, outputs, actions, method="log_prob")`.
"""

import flax.linen as nn

from maxrl_jax.policies.categorical import CNN, MLP, Tabular
from maxrl_jax.policies.digits import Digits
from maxrl_jax.policies.regression import Grid, Mixture, Normal
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
  "resnet": ResNet,
}
