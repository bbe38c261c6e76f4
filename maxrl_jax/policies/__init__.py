"""Policies as Flax Linen modules.

A policy maps a batch of prompts to outputs once, inputs [B, …] → outputs
[B, …]. The other methods take the outputs of one prompt (vmap them):

    sample(key, outputs, num)     → actions [N]
    log_prob(outputs, actions)    → log m(z_j|x) [N]
    decode(actions)               → predictions ŷ(z_j) [N]
    components(outputs)           → a mixture, for exact expectations

Sequence policies (`is_sequence`) decode all prompts together: their methods are
`sample(keys [B], outputs, num)` → answers [B, N, L] and
`score(outputs, answers)` → log-probabilities, entropies and lengths [B, N].

Policies with batch normalization (a collection `batch_stats` beside `params`)
take `training=True` during training.

All are methods of the module, since they may need the policy's parameters:
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
