"""The interface of a task, and optional protocols."""

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from maxrl_jax import ranges
from maxrl_jax.distributions import Components

Array = jax.Array


class Prompts(NamedTuple):
  """A batch: what the policy sees, [B, …], and the targets, [B, …]."""

  inputs: Any
  targets: Any

  @property
  def size(self) -> int:
    """B."""
    return jax.tree.leaves(self.inputs)[0].shape[0]


@dataclass(frozen=True)
class Task:
  """A distribution of prompts, and the likelihoods of rollouts.

  Subclasses may add the methods of `Exact`, `Rewarded`, `Demonstrated` and
  `Varying`; `Streamed` reads its prompts on the host.

  Attributes:
    draw: (key, B) → training Prompts.
    likelihoods: (target, predictions [N]) → l [N] of one prompt; boolean for
      binary rewards, for which estimators use their closed form.
    splits: fixed Prompts by name: 'train', 'validation', 'test'.
    policies: names of the policies that can answer; the first is the default.
    policy_options: options that the task sets in its policy, e.g.
      `num_actions`.
  """

  draw: Callable[[Array, int], Prompts]
  likelihoods: Callable[[Any, Array], Array]
  splits: dict[str, Prompts] = field(default_factory=dict)
  policies: tuple[str, ...] = ("mlp", "cnn")
  policy_options: dict[str, Any] = field(default_factory=dict)

  def __post_init__(self) -> None:
    for name in ("draw", "likelihoods"):
      value = getattr(self, name)
      if not callable(value):
        raise ValueError(f"{name} = {value!r}: must be a function")
    names: Any = self.policies
    if isinstance(names, str) or not names:
      raise ValueError(
        f"policies = {names!r}: must be names of policies, such as ('mlp',)"
      )
    if "validation" not in self.splits:
      raise ValueError(
        f"splits = {sorted(self.splits)}: 'validation' is needed: its inputs"
        " determine the policy's shapes"
      )

  @property
  def example(self) -> Any:
    """Inputs of a batch of one, [1, …], for their shapes."""
    return jax.tree.map(lambda x: x[:1], self.splits["validation"].inputs)

  @property
  def split_names(self) -> tuple[str, ...]:
    """Names of the fixed splits."""
    return tuple(self.splits)

  def check_splits(self, names: Iterable[str]) -> None:
    """Raises ValueError at the first name that is not a split's."""
    for name in names:
      ranges.one_of(self.split_names, split=name)


@runtime_checkable
class Exact(Protocol):
  """A task whose pass rate is a sum over all answers."""

  def log_pass_rate(self, target: Any, policy: Components) -> Array:
    """log E[l] of one prompt: a scalar, or [D], one per target dimension."""


@runtime_checkable
class Rewarded(Protocol):
  """A task with a reward besides l, for estimators of any finite reward."""

  def rewards(self, target: Any, predictions: Array) -> Array:
    """Any finite reward of each rollout, in the shape of the likelihoods."""


@runtime_checkable
class Demonstrated(Protocol):
  """A task with right answers, for supervised learning."""

  def demonstrations(self, target: Any) -> Array:
    """A right answer of one prompt."""


@runtime_checkable
class Varying(Protocol):
  """A task whose numbers may differ between the runs of one program."""

  def at(self, hyper: dict[str, Array]) -> Task:
    """The same task with other values of config fields, which may be traced.

    Args:
      hyper: values by dotted name; fields of other blocks are ignored.
    """


@dataclass(frozen=True)
class ExactTask(Task):
  """A task with its exact pass rate: (target, Components) → log E[l]."""

  log_pass_rate: Callable[[Any, Components], Array] = field(kw_only=True)


def classification(num_classes: int, **fields: Any) -> ExactTask:
  """A task whose actions are classes, of which one is right."""
  options = {"num_actions": num_classes}
  return ExactTask(
    likelihoods=exact_match,
    log_pass_rate=exact_match_log_pass_rate,
    policy_options=options,
    **fields,
  )


Batches = Generator[Prompts, None, None]


@dataclass(frozen=True)
class Stream:
  """Prompts that do not fit into memory, which the host prefetches.

  Batches are Prompts of NumPy arrays, [len(rows), …]: the rows of a batch that
  a process needs. The prompts of a step depend only on the step.

  Attributes:
    train: (B, rows of a batch, step) → endless batches from that step on; an
      iterator with `close`.
    split: (name, B, rows) → batches of a fixed split in order, likewise; rows
      of the last batch beyond the split's end are arbitrary.
    sizes: prompts of each fixed split by name: 'validation', 'test'.
    prepare: a batch on the device → Prompts as the policy reads them.
    example: a batch of one, of zeros.
  """

  train: Callable[[int, np.ndarray, int], Batches]
  split: Callable[[str, int, np.ndarray], Batches]
  sizes: dict[str, int]
  prepare: Callable[[Prompts], Prompts]
  example: Prompts


def _no_draw(key: Array, batch: int) -> Prompts:
  raise ValueError("step: this task is streamed: pass `batch`")


@dataclass(frozen=True, kw_only=True)
class Streamed(ExactTask):
  """A task whose prompts come from a `Stream` rather than `draw`."""

  draw: Callable[[Array, int], Prompts] = _no_draw
  stream: Stream

  def __post_init__(self) -> None:
    pass  # The stream has the splits.

  @property
  def example(self) -> Any:
    """Inputs of a batch of one, [1, …], for their shapes."""
    return self.stream.prepare(self.stream.example).inputs

  @property
  def split_names(self) -> tuple[str, ...]:
    """Names of the fixed splits."""
    return tuple(self.stream.sizes)


def exact_match(target: Array, actions: Array) -> Array:
  """l = 1[z = y], boolean [N]."""
  return actions == target


def exact_match_log_pass_rate(target: Array, policy: Components) -> Array:
  """log π(y|x) without leaving log space."""
  return policy.log_weights[target]


def tabulated(target: Array, actions: Array) -> Array:
  """l(y, z) from the prompt's row of likelihoods, [N]."""
  return target[actions]


def tabulated_log_pass_rate(target: Array, policy: Components) -> Array:
  """log Σ_z π(z|x) l(y, z)."""
  log_weights = policy.log_weights
  return jax.nn.logsumexp(log_weights, b=target.astype(log_weights.dtype))


def drawn_splits(
  draw: Callable[[Array, int], Prompts], keys: Array | list, size: int
) -> dict[str, Prompts]:
  """Fixed splits from the distribution of training prompts, a key per split."""
  names = ("train", "validation", "test")
  return {name: draw(key, size) for name, key in zip(names, keys, strict=True)}


def uniform_rows(key: Array, prompts: Prompts, batch: int) -> Prompts:
  """A batch drawn with replacement."""
  rows = jax.random.randint(key, (batch,), 0, prompts.size)
  return jax.tree.map(lambda x: jnp.take(x, rows, axis=0), prompts)
