"""Unsolved prompts are sent again; solved and hopeless ones are not."""

import itertools

import numpy as np
import pytest

from maxrl_jax.integrations import groups
from maxrl_jax.integrations.resend import Resend


def _letters(text, waves):
  return Resend(text, key=str.lower, waves=waves)


def test_unsolved_prompts_come_back_before_new_ones():
  prompts = _letters("ABCDE", waves=3)
  assert prompts.take(2) == ["A", "B"]
  prompts.observe("aabb", [0, 0, 0, 1])
  assert prompts.take(2) == ["A", "C"]
  prompts.observe("caac", [0, 0, 0, 0])  # In any order: c ended first.
  assert prompts.take(3) == ["C", "A", "D"]
  prompts.observe("acd", [0, 1, 1])
  assert (prompts.solved, prompts.given_up) == (3, 1)  # A was sent three times.
  assert prompts.take(3) == ["E"]
  assert prompts.take(3) == []
  prompts.observe("e", [0])
  assert prompts.take(3) == ["E"]
  prompts.observe("e", [1])
  assert prompts.take(3) == []


def test_rewards_may_arrive_a_batch_late():
  prompts = _letters("ABCD", waves=2)
  assert prompts.take(2) == ["A", "B"]
  assert prompts.take(1) == ["C"]
  prompts.observe("ab", [0, 1])
  assert prompts.take(2) == ["A", "D"]


def test_the_same_prompt_is_not_sent_twice_at_a_time():
  prompts = _letters("ABAAB", waves=2)
  assert prompts.take(1) == ["A"]
  prompts.observe("a", [0])
  # B is new; both A are on their way already.
  assert prompts.take(3) == ["A", "B"]
  prompts.observe("ab", [1, 1])
  assert prompts.take(3) == []


def test_each_wave_once_costs_what_the_theorem_says():
  """Waves of 2, four at most: Σ_i q^(2i) of them, and 1 − q^8 solved."""
  rng, p, num = np.random.default_rng(0), 0.2, 4000
  prompts = Resend(range(num), key=int, waves=4)
  sent, weights = 0, 0.0
  while batch := prompts.take(64):
    keys = np.repeat(batch, 2)
    rewards = (rng.random(len(keys)) < p).astype(int)
    # Order N: mean of successes, less whether the other one succeeds.
    advantages = groups.advantages(rewards, keys, order=2, baseline="none")
    weights += np.sum(advantages * rewards) / 2
    sent += len(batch)
    prompts.observe(keys.tolist(), rewards)
  q = 1 - p
  assert prompts.solved + prompts.given_up == num
  for total, expected, variance in (
    (prompts.solved, 1 - q**8, q**8 * (1 - q**8)),
    (sent, (1 - q**8) / (1 - q**2), 1.5),  # Of 1 to 4 waves: 1.46.
    (weights, 1 - q**8, q**8 * (1 - q**8)),  # w_8(p) p: coefficients of p/p.
  ):
    assert abs(total / num - expected) < 4.5 * (variance / num) ** 0.5


@pytest.mark.parametrize(
  ("keys", "rewards", "message"),
  [
    ("ab", [0], r"rewards: shape \(1,\), must be \[2\]"),
    ("ab", [0, 0.5], r"rewards\[1\] = 0.5: must be 0 or 1"),
    ("az", [0, 1], "keys: 'z' was not sent, or has its rewards already"),
  ],
)
def test_what_was_not_sent_is_refused(keys, rewards, message):
  prompts = _letters("AB", waves=2)
  prompts.take(2)
  with pytest.raises(ValueError, match=message):
    prompts.observe(keys, rewards)
  prompts.observe("ab", [0, 0])  # Nothing was counted.
  with pytest.raises(ValueError, match="'a' was not sent, or has its rewards"):
    prompts.observe("a", [1])  # It waits to be sent again.
  assert prompts.take(3) == ["A", "B"]
  prompts.observe("a", [1])
  assert prompts.solved == 1


@pytest.mark.parametrize(
  ("prompts", "key"), [("ab", None), ("ab", "q"), (None, str)]
)
def test_prompts_and_their_ids_are_needed(prompts, key):
  with pytest.raises(ValueError, match="must be an iterable of prompts, and a"):
    Resend(prompts, key=key, waves=2)
  with pytest.raises(ValueError, match=r"count = 1\.5: must be a whole"):
    Resend("ab", key=str, waves=2).take(1.5)


@pytest.mark.parametrize("waves", [0, 1.5])
def test_at_least_one_wave(waves):
  with pytest.raises(ValueError, match=f"waves = {waves}: must be a whole"):
    _letters("AB", waves=waves)


def test_an_endless_stream():
  prompts = Resend(itertools.count(), key=int, waves=2)
  assert prompts.take(2) == [0, 1]
  prompts.observe([0, 1], [0, 0])
  assert prompts.take(3) == [0, 1, 2]
