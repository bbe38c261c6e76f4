"""A transformer that writes a number digit by digit."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from maxrl_jax.numerals import Numerals
from maxrl_jax.policies.regression import Atoms, Outputs
from maxrl_jax.policies.transformer import Encoded, Transformer

Array = jax.Array


class DigitTransformer(Atoms):
  """`Transformer` whose answer to a prompt of tokens is a number of m digits.

      π(z|x) = Π_i softmax(logits of the digits | x, z_1 … z_{i−1})(z_i)

  Only digits can be sampled. The distribution over all K = base^m numbers is
  computed at once, as a tree: the prompt is encoded once, and each of the
  base^(m−1) prefixes of an answer is decoded once. Rollouts, log-probabilities
  and exact sums all come from it, so that the cost of a step hardly depends on
  the number of rollouts. A learned σ(x) is a function of the logit of the
  first token that is no digit.

  Attributes:
    numerals: how numbers are written.
    vocab_size: V; digits are the tokens 0 … base − 1.
    num_layers: see `Transformer`, also for the following fields.
  """

  numerals: Numerals = Numerals(10, 2, 4.0)
  vocab_size: int = 16
  num_layers: int = 2
  hidden_size: int = 64
  intermediate_size: int = 256
  num_heads: int = 4
  num_kv_heads: int = 2
  max_positions: int = 512
  rope_theta: float = 1e6
  dtype: str = "float32"
  remat: bool = False

  def _transformer(self, **fields: Any) -> Transformer:
    return Transformer(
      vocab_size=self.vocab_size,
      max_length=self.numerals.length,
      eos=self.vocab_size - 1,
      num_layers=self.num_layers,
      hidden_size=self.hidden_size,
      intermediate_size=self.intermediate_size,
      num_heads=self.num_heads,
      num_kv_heads=self.num_kv_heads,
      max_positions=self.max_positions,
      rope_theta=self.rope_theta,
      dtype=self.dtype,
      remat=self.remat,
      **fields,
    )

  def check(self) -> None:
    self._transformer(parent=None).check()
    if self.numerals.num_values > 4096:
      raise ValueError(
        f"task.num_values = {self.numerals.num_values}: must be at most 4096,"
        " all of which the policy computes"
      )

  def setup(self) -> None:
    self.transformer = self._transformer()
    super().setup()

  def values(self) -> np.ndarray:
    return self.numerals.values()

  def __call__(self, inputs: Array) -> Outputs:
    """Prompts [B, P] → log-probabilities of all numbers, [B, 1, K]."""
    encoded = self.transformer(inputs)
    free = encoded.logits[:, None, self.numerals.base]
    return self.with_scale(self._log_probs(encoded)[:, None], free)

  def _log_probs(self, encoded: Encoded) -> Array:
    """log π of all numbers in ascending order, [B, K]."""
    base, length, _ = self.numerals
    total = jax.nn.log_softmax(encoded.logits[:, :base])
    if length == 1:
      return total
    # All prefixes of m − 1 digits, as if they were rollouts.
    prefixes = np.indices((base,) * (length - 1)).reshape(length - 1, -1).T
    prompts = encoded.logits.shape[0]
    answers = jnp.broadcast_to(prefixes[None], (prompts, *prefixes.shape))
    logits = self.transformer.prefix_logits(encoded, answers)[..., :base]
    for place in range(1, length):
      # One prefix for each value of the first `place` digits.
      later = logits[:, :: base ** (length - 1 - place), place - 1]
      total = total[..., None] + jax.nn.log_softmax(later)
      total = total.reshape(prompts, -1)
    return total
