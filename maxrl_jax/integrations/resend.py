"""Prompts that are sent again until one of their rollouts succeeds.

    problems = Resend(data, key=lambda problem: problem["prompt"], waves=8)
    while batch := problems.take(16):  # Unsolved ones first, then new ones.
      ...  # N rollouts of each, their rewards, one update.
      problems.observe(prompts, rewards)  # Of every rollout.

Sequential rollouts for any trainer: a step draws one wave of N rollouts of each
of its prompts. With `maxrl` of order N, groups without a success have no
gradient, and the gradients of all steps of a prompt add up to the estimate of
order N·waves (docs/theory/sequential.md). It would be unbiased if the policy
did not change between these steps.
"""

import collections
import dataclasses
import itertools
from collections.abc import Callable, Hashable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from maxrl_jax import ranges
from maxrl_jax.integrations import checks


@dataclasses.dataclass
class _Sent:
  """A prompt that is not finished: sent, or waiting to be sent again."""

  prompt: Any
  waves: int = 0
  waiting: bool = False


class Resend:
  """Batches of prompts in which unsolved prompts are sent again.

  Attributes:
    solved: number of prompts with a successful rollout.
    given_up: number of prompts sent `waves` times without a success.
  """

  def __init__(
    self, prompts: Iterable, *, key: Callable[[Any], Hashable], waves: int
  ) -> None:
    """Sets the new prompts.

    Args:
      prompts: of any type; the iterable may be endless.
      key: prompt → what identifies it in `observe`.
      waves: how often a prompt is sent at most; 1 sends none again.
    """
    ranges.whole(1, waves=waves)
    if not callable(key) or not isinstance(prompts, Iterable):
      raise ValueError(
        f"Resend({prompts!r}, key={key!r}): must be an iterable of prompts, and"
        " a function prompt → id"
      )
    self._new, self._key, self._waves = iter(prompts), key, waves
    self._known: dict[Hashable, _Sent] = {}
    self._unsolved: collections.deque[_Sent] = collections.deque()
    self.solved = self.given_up = 0

  def take(self, count: int) -> list:
    """The next prompts: unsolved ones, in the order of their rewards, then new.

    A new prompt is skipped while one with its key is unfinished: if an endless
    iterable has too few other keys, this does not return. Fewer than `count`
    are returned at the end of the data. A trainer that takes a batch before it
    has the rewards of the last one gets unsolved prompts a batch later.
    """
    ranges.whole(0, count=count)
    num = min(count, len(self._unsolved))
    again = [self._unsolved.popleft() for _ in range(num)]
    for sent in again:
      sent.waiting = False
    batch = [sent.prompt for sent in again]
    fresh = (p for p in self._new if self._key(p) not in self._known)
    for prompt in itertools.islice(fresh, count - num):
      self._known[self._key(prompt)] = _Sent(prompt)
      batch.append(prompt)
    return batch

  def observe(self, keys: Iterable[Hashable], rewards: npt.ArrayLike) -> None:
    """The rewards of all rollouts of some prompts, 0 or 1, in any order.

    Raises:
      ValueError: a key that was not sent, or another reward.
    """
    ids = checks.as_ids(keys)
    r = np.asarray(checks.from_torch(rewards), float)
    if r.shape != (len(ids),):
      raise ValueError(f"rewards: shape {r.shape}, must be [{len(ids)}]")
    for j in np.flatnonzero((r != 0) & (r != 1)):
      raise ValueError(f"rewards[{j}] = {r[j]:g}: must be 0 or 1")
    solved: dict[Hashable, bool] = {}
    for key, reward in zip(ids, r, strict=True):
      if key not in self._known or self._known[key].waiting:
        raise ValueError(
          f"keys: {key!r} was not sent, or has its rewards already; give the"
          " rewards of all rollouts of a wave at once"
        )
      solved[key] = solved.get(key, False) or bool(reward)
    for key, success in solved.items():
      self._ended(key, success)

  def _ended(self, key: Hashable, success: bool) -> None:
    """Counts one wave of a prompt."""
    sent = self._known[key]
    sent.waves += 1
    if not success and sent.waves < self._waves:
      sent.waiting = True
      self._unsolved.append(sent)
      return
    del self._known[key]
    self.solved += success
    self.given_up += not success
