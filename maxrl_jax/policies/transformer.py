"""A decoder-only transformer that answers a text prompt with tokens."""

from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from maxrl_jax import distributions, ranges
from maxrl_jax.policies import attention
from maxrl_jax.policies.base import check_draw
from maxrl_jax.policies.block import Block, rows

Array = jax.Array

_BLOCK = 8  # Tokens decoded between checks whether all answers have ended.


class Encoded(NamedTuple):
  """Encoded prompts, computed once for all rollouts.

  Attributes:
    memory: keys and values [B, P, K, D] of each layer.
    logits: of the first token of an answer [B, V].
  """

  memory: tuple[tuple[Array, Array], ...]
  logits: Array


class Transformer(nn.Module):
  """Qwen2 architecture: answers of at most L tokens over a vocabulary of V.

  RMSNorm, rotary positions, grouped-query attention with biases on queries,
  keys and values, SiLU gate, tied embeddings. Each prompt is encoded once.
  Rollouts are sequences [N, L]; tokens after the end-of-answer token are
  padding (0) and add no log-probability or entropy.

  Args:
    vocab_size: V.
    max_length: L.
    eos: the token that ends an answer.
    num_layers: blocks.
    hidden_size: embedding size, a multiple of 2 · num_heads.
    intermediate_size: hidden size of the feed-forward network.
    num_heads: query heads, a multiple of num_kv_heads.
    num_kv_heads: key-value heads, K.
    max_positions: limit on the tokens of a prompt plus its answer.
    temperature: divides the logits in sampling and log-probabilities.
    rope_theta: base of the wavelengths of rotary positions.
    epsilon: of RMSNorm.
    dtype: 'float32' or 'bfloat16', of activations; parameters are float32.
    remat: recompute blocks in the backward pass to save memory.
    prompts_apart: see `block.rows`; set from the mesh.
  """

  vocab_size: int
  max_length: int
  eos: int
  num_layers: int = 2
  hidden_size: int = 64
  intermediate_size: int = 256
  num_heads: int = 4
  num_kv_heads: int = 2
  max_positions: int = 512
  temperature: float = 1.0
  rope_theta: float = 1e6
  epsilon: float = 1e-6
  dtype: str = "float32"
  remat: bool = False
  prompts_apart: bool = False

  # Axis of each layer's weights that is sharded over devices: heads, hidden
  # units of the feed-forward network, vocabulary. Partial results are summed.
  split: ClassVar[Any] = nn.FrozenDict(
    dict.fromkeys(("query", "key", "value", "gate", "up"), -1)
    | dict.fromkeys(("output", "down", "embedding"), 0)
  )

  def check(self) -> None:
    """Raises ValueError at the first invalid option."""
    sizes = (
      *("num_layers", "hidden_size", "intermediate_size"),
      *("num_heads", "num_kv_heads", "max_positions", "max_length"),
    )
    ranges.at_least(
      1, of="policy.", **{name: getattr(self, name) for name in sizes}
    )
    if self.num_heads % self.num_kv_heads:
      raise ValueError(
        f"policy.num_heads = {self.num_heads}: must be a multiple of"
        f" policy.num_kv_heads = {self.num_kv_heads}"
      )
    if self.hidden_size % (2 * self.num_heads):
      raise ValueError(
        f"policy.hidden_size = {self.hidden_size}: must be a multiple of"
        f" 2 * policy.num_heads = {2 * self.num_heads}"
      )
    positive = ("temperature", "rope_theta", "epsilon")
    ranges.above_zero(
      of="policy.", **{name: getattr(self, name) for name in positive}
    )
    ranges.one_of(("float32", "bfloat16"), of="policy.", dtype=self.dtype)

  def setup(self) -> None:
    dtype = jnp.dtype(self.dtype)
    self.embedding = nn.Embed(
      self.vocab_size,
      self.hidden_size,
      dtype=dtype,
      embedding_init=nn.initializers.normal(0.02),
    )
    block = (
      nn.remat(Block, methods=("project", "finish")) if self.remat else Block
    )
    self.blocks = [
      block(
        self.hidden_size,
        self.intermediate_size,
        self.num_heads,
        self.num_kv_heads,
        self.rope_theta,
        self.epsilon,
        dtype,
        self.prompts_apart,
      )
      for _ in range(self.num_layers)
    ]
    self.norm = nn.RMSNorm(epsilon=self.epsilon, dtype=dtype)

  def __call__(self, inputs: Array) -> Encoded:
    """Encodes prompts [B, P] for all their rollouts."""
    length = inputs.shape[-1]
    if length + self.max_length > self.max_positions:
      raise ValueError(
        f"policy.max_positions = {self.max_positions}: prompts of {length}"
        f" tokens and answers of {self.max_length} need"
        f" {length + self.max_length}"
      )
    x = self.embedding(inputs)
    memory = []
    for block in self.blocks:
      queries, keys, values = block.project(x, jnp.arange(length))
      memory.append((keys, values))
      x = block.finish(x, attention.causal(queries, keys, values))
    return Encoded(tuple(memory), self._logits(x[:, -1]))

  def _logits(self, x: Array) -> Array:
    flat = self.norm(rows(x, self.prompts_apart))
    logits = self.embedding.attend(flat).astype(jnp.float32)
    return logits.reshape(*x.shape[:-1], -1) / self.temperature

  def generate(
    self, keys: Array, outputs: Encoded, num: int
  ) -> tuple[Array, "Scores"]:
    """Samples N answers per prompt [B, N, L] int32, and scores them.

    `keys` are [B]. The scores are not differentiable; `score` gives the same
    numbers, which are.
    """
    check_draw(keys, num)
    prompts, blocks = keys.shape[0], -(-self.max_length // _BLOCK)

    def draws(key: Array) -> Array:
      draws = distributions.uniforms(key, blocks * _BLOCK * num, jnp.float32)
      return draws.reshape(blocks, _BLOCK, num)

    uniforms = jnp.moveaxis(jax.vmap(draws)(keys), 0, 2)
    state = self._start(outputs, num, blocks * _BLOCK)
    shape = (blocks, _BLOCK, prompts, num)
    # Log-probabilities and entropies are one array: one kernel writes both.
    written = (
      jnp.zeros(shape, jnp.int32),
      jnp.zeros((*shape[:2], 2, *shape[2:])),
    )

    # vmapped runs decode until all have ended; checking, and freezing those
    # that have, only once per block keeps this cheap.
    def block(carry: Any) -> Any:
      index, state, written = carry
      token = lambda state, u: self._decode(state, outputs, u)  # noqa: E731
      state, new = lax.scan(token, state, uniforms[index])
      written = jax.tree.map(lambda x, y: x.at[index].set(y), written, new)
      return index + 1, state, written

    def unfinished(carry: Any) -> Array:
      return (carry[0] < blocks) & jnp.any(carry[1].alive)

    _, state, written = lax.while_loop(
      unfinished, block, (jnp.int32(0), state, written)
    )

    def by_answer(x: Array) -> Array:
      tokens = x.reshape(-1, *x.shape[2:])[: self.max_length]
      return jnp.moveaxis(tokens, 0, -1)

    answers, (token_log_probs, entropies) = jax.tree.map(by_answer, written)
    return answers, Scores(
      jnp.sum(token_log_probs, -1),
      jnp.sum(entropies, -1),
      jnp.sum(self.counts(answers), -1),
      token_log_probs,
    )

  def _start(self, outputs: Encoded, num: int, room: int) -> "_Decoding":
    """State before the first token; the cache holds `room` tokens."""
    prompts = outputs.logits.shape[0]
    dtype = outputs.memory[0][0].dtype
    size = self.hidden_size // self.num_heads
    shape = (prompts, self.num_kv_heads, num)
    keys = jnp.zeros((*shape, size, room), dtype)
    return _Decoding(
      step=jnp.int32(0),
      logits=jnp.repeat(outputs.logits[:, None], num, 1),
      cache=((keys, jnp.swapaxes(keys, -1, -2)),) * self.num_layers,
      alive=jnp.ones((prompts, num), bool),
    )

  def _decode(
    self, state: "_Decoding", outputs: Encoded, uniforms: Array
  ) -> tuple["_Decoding", tuple[Array, Array]]:
    """Samples a token of every answer.

    Returns:
      The next state; tokens [B, N]; their log-probabilities and the entropies
      of the distributions that they were drawn from [2, B, N].
    """
    step, alive = state.step, state.alive & (state.step < self.max_length)
    tokens, log_probs = distributions.inverse_cdf(uniforms, state.logits)
    tokens = jnp.where(alive, tokens, 0)
    entropies = _entropies(jax.nn.log_softmax(state.logits))
    scores = jnp.where(alive, jnp.stack([log_probs, entropies]), 0)
    position = outputs.memory[0][0].shape[1] + step
    x = self.embedding(tokens)
    cache = []
    for block, prompt, answer in zip(
      self.blocks, outputs.memory, state.cache, strict=True
    ):
      queries, keys, values = block.project(x, position)
      keys, values = jnp.swapaxes(keys, 1, 2), jnp.swapaxes(values, 1, 2)
      answer = (
        lax.dynamic_update_slice_in_dim(answer[0], keys[..., None], step, 4),
        lax.dynamic_update_slice_in_dim(
          answer[1], values[..., None, :], step, 3
        ),
      )
      cache.append(answer)
      x = block.finish(x, attention.decode(queries, prompt, answer, step))
    state = _Decoding(
      step=step + 1,
      logits=self._logits(x),
      cache=tuple(cache),
      alive=alive & (tokens != self.eos),
    )
    return state, (tokens, scores)

  def score(self, outputs: Encoded, actions: Array) -> "Scores":
    """Log-probabilities and entropies of answers [B, N, L], differentiable."""
    logits = jnp.repeat(outputs.logits[:, None, None], actions.shape[1], 1)
    if actions.shape[-1] > 1:
      later = self.prefix_logits(outputs, actions[..., :-1])
      logits = jnp.concatenate([logits, later], 2)
    log_probs = jax.nn.log_softmax(logits)
    taken = jnp.take_along_axis(log_probs, actions[..., None], -1)[..., 0]
    counts = self.counts(actions)
    token_log_probs = jnp.where(counts, taken, 0)
    return Scores(
      jnp.sum(token_log_probs, -1),
      jnp.sum(jnp.where(counts, _entropies(log_probs), 0), -1),
      jnp.sum(counts, -1),
      token_log_probs,
    )

  def prefix_logits(self, outputs: Encoded, actions: Array) -> Array:
    """Logits after each token of answer prefixes, [B, N, …, V]."""
    x = self.embedding(actions)
    positions = outputs.memory[0][0].shape[1] + jnp.arange(x.shape[-2])
    for block, prompt in zip(self.blocks, outputs.memory, strict=True):
      queries, keys, values = block.project(x, positions)
      attended = attention.shared(queries, prompt, (keys, values))
      x = block.finish(x, attended)
    return self._logits(x)

  def counts(self, actions: Array) -> Array:
    """Whether tokens [..., L] are part of the answer: up to its first eos."""
    ended = actions == self.eos
    return jnp.cumsum(ended, -1) - ended == 0


def _entropies(log_probs: Array) -> Array:
  """Of distributions over the last axis, in nats."""
  return -jnp.sum(jnp.exp(log_probs) * log_probs, -1)


class Scores(NamedTuple):
  """Of each answer, [B, N]: sums over its tokens.

  Attributes:
    log_probs: log m(z_j|x).
    entropies: of the next-token distributions.
    lengths: number of tokens, including eos.
    token_log_probs: of each token [B, N, L], 0 after the end.
  """

  log_probs: Array
  entropies: Array
  lengths: Array
  token_log_probs: Array


class _Decoding(NamedTuple):
  """State of unfinished answers, on which the next token depends.

  Attributes:
    step: tokens so far.
    logits: of the next token [B, N, V].
    cache: keys and values of each layer, as `attention.decode` takes them.
    alive: [B, N], False after eos.
  """

  step: Array
  logits: Array
  cache: tuple[tuple[Array, Array], ...]
  alive: Array
