"""What every task provides."""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from maxrl_jax.distributions import Components
from maxrl_jax.likelihoods import Likelihood

Array = jax.Array


class Prompts(NamedTuple):
  """A batch: what the policy sees, [B, …], and what it is to find, [B, …]."""

  inputs: Any
  targets: Any


Batches = Generator[Prompts, None, None]


@dataclass(frozen=True)
class Stream:
  """Prompts too many for memory, which the host reads while devices work.

  Batches are Prompts of NumPy arrays, [len(rows), …]: what a process needs of a
  batch. Which prompts a step has depends on nothing but the step.

  Attributes:
    train: (B, rows of a batch, step) → endless batches from that step on; an
      iterator with `close`.
    split: (name, B, rows) → batches of a fixed split in order, likewise; what
      the last one has beyond the split's end is anything.
    sizes: prompts of each fixed split by name: 'validation', 'test'.
    prepare: a batch on the device → Prompts as the policy reads them.
    example: a batch of one, of zeros.
  """

  train: Callable[[int, np.ndarray, int], Batches]
  split: Callable[[str, int, np.ndarray], Batches]
  sizes: dict[str, int]
  prepare: Callable[[Prompts], Prompts]
  example: Prompts


@dataclass(frozen=True)
class Task:
  """Where prompts come from, and what rollouts of one prompt are worth.

  Give `likelihoods`, or `log_likelihoods` where a noise model judges numbers;
  and `draw` with `splits`, or a `stream`.

  Attributes:
    draw: (key, B) → training Prompts.
    splits: fixed Prompts by name: 'train', 'validation', 'test'.
    stream: what takes the place of both where the host reads prompts.
    likelihoods: (target, predictions [N]) → l [N] of one prompt; boolean where
      rewards are right or wrong, which gives estimators their closed form.
    log_pass_rate: (target, Components) → log E[l] of one prompt, exactly: a
      scalar, or [D] with one for each target dimension; None where there are
      too many answers to sum over, and only rollouts tell.
    policies: names of the policies that can answer, the first as a default.
    policy_options: what the task wants of its policy, such as `num_actions`.
    log_likelihoods: (target, predictions [D, N], learned σ [D] or None) → log l
      [D, N], at most 0; given instead of `likelihoods`.
    rewards: (target, predictions) → any finite reward of each rollout, in the
      shape of the likelihoods, for estimators that take such.
    likelihood: the noise model behind `log_likelihoods`.
    noise_scale: (target, learned σ [D] or None) → the σ [D] it uses.
    tolerance: pass@k counts a prediction this close to the target as right.
    demonstrations: target → a right answer, for supervised learning.
  """

  draw: Callable[[Array, int], Prompts] | None = None
  splits: dict[str, Prompts] = field(default_factory=dict)
  log_pass_rate: Callable[[Any, Components], Array] | None = None
  likelihoods: Callable[[Any, Array], Array] | None = None
  policies: tuple[str, ...] = ("mlp", "cnn")
  policy_options: dict[str, Any] = field(default_factory=dict)
  log_likelihoods: Callable[..., Array] | None = None
  rewards: Callable[[Any, Array], Array] | None = None
  likelihood: Likelihood | None = None
  noise_scale: Callable[..., Array] | None = None
  tolerance: float | None = None
  demonstrations: Callable[[Any], Array] | None = None
  stream: Stream | None = None

  def __post_init__(self) -> None:
    if (self.likelihoods is None) == (self.log_likelihoods is None):
      raise ValueError(
        "a task has either `likelihoods` or `log_likelihoods`: it got"
        f" {'neither' if self.likelihoods is None else 'both'}"
      )
    if (self.draw is None) == (self.stream is None):
      raise ValueError(
        "a task has either `draw` or `stream`: it got"
        f" {'neither' if self.draw is None else 'both'}"
      )
    if self.stream is None and "validation" not in self.splits:
      raise ValueError(
        f"splits = {sorted(self.splits)}: 'validation' is needed, whose inputs"
        " tell the policy their shapes"
      )

  @property
  def example(self) -> Any:
    """Inputs of a batch of one, [1, …], for their shapes."""
    if self.stream is not None:
      return self.stream.prepare(self.stream.example).inputs
    return jax.tree.map(lambda x: x[:1], self.splits["validation"].inputs)

  @property
  def is_regression(self) -> bool:
    """Whether rollouts are numbers under a noise model, [D, N] a prompt."""
    return self.log_likelihoods is not None


def exact_match(target: Array, actions: Array) -> Array:
  """l = 1[z = y], boolean [N]."""
  return actions == target


def exact_match_log_pass_rate(target: Array, policy: Components) -> Array:
  """log π(y|x) without leaving log space."""
  return policy.log_weights[target]


def tabulated(target: Array, actions: Array) -> Array:
  """l(y, z) looked up in the prompt's own row of likelihoods, [N]."""
  return target[actions]


def tabulated_log_pass_rate(target: Array, policy: Components) -> Array:
  """log Σ_z π(z|x) l(y, z)."""
  log_weights = policy.log_weights
  return jax.nn.logsumexp(log_weights, b=target.astype(log_weights.dtype))


def drawn_splits(
  draw: Callable[[Array, int], Prompts], keys: Array | list, size: int
) -> dict[str, Prompts]:
  """Fixed splits from the stream that training draws from, a key for each."""
  names = ("train", "validation", "test")
  return {name: draw(key, size) for name, key in zip(names, keys, strict=True)}


def uniform_rows(key: Array, prompts: Prompts, batch: int) -> Prompts:
  """A batch drawn with replacement."""
  rows = jax.random.randint(key, (batch,), 0, prompts.inputs.shape[0])
  return jax.tree.map(lambda x: jnp.take(x, rows, axis=0), prompts)
