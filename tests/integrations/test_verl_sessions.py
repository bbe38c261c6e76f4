"""Advantages of sessions of several rows, in the trainer of verl 0.9.1."""

import sys
import types

import numpy as np
import pytest

torch = pytest.importorskip("torch")

SESSION_KEYS = ["a_0_0", "a_0_1", "a_1_0", "a_2_0", "a_2_1", "a_3_0"]


def by_session(keys, rewards, lengths=None, estimator="maxrl", **config):
  """Advantages [R] of the trainer's function; one row of two tokens per key."""
  from verl.trainer.ppo.v1 import trainer_base

  verl = sys.modules["verl"]
  rewards = torch.tensor([[0.0, r] for r in rewards])
  mask = torch.tensor([[int(n > 0), int(n > 1)] for n in lengths or [2] * 99])
  tensors = {"token_level_rewards": rewards}
  tensors["response_mask"] = mask[: len(rewards)]
  uids = np.array([key.rsplit("_", 2)[0] for key in keys], object)
  if hasattr(verl, "DataProto"):
    data = verl.DataProto.from_dict(tensors, non_tensors={"uid": uids})
  else:
    data = types.SimpleNamespace(batch=tensors, non_tensor_batch={"uid": uids})
  done = trainer_base.compute_advantage_for_multi_trajectories(
    data, batch_keys=keys, adv_estimator=estimator, config=config
  )
  assert list(done.non_tensor_batch["uid"]) == list(uids)
  per_token = done.batch["advantages"] * tensors["response_mask"]
  return per_token[:, 0].numpy()


def test_a_session_counts_once(verl):
  # Four sessions, two of which succeed: (1 − 1/2)/(1/2) = 1 for a success.
  actual = by_session(SESSION_KEYS, [1, 1, 0, 1, 1, 0])
  np.testing.assert_allclose(actual, [1, 1, -1, 1, 1, -1], atol=1e-6)
  # Nine rows of a right session beside one wrong session.
  keys = [f"a_0_{i}" for i in range(9)] + ["a_1_0"]
  actual = by_session(keys, [1] * 9 + [0])
  np.testing.assert_allclose(actual, [1] * 9 + [-1], atol=1e-6)


def test_sessions_in_any_order_of_several_prompts(verl):
  keys = ["b_x_1_0", "a_1_0", "b_x_0_10", "a_0_0", "b_x_0_9", "b_x_2_0"]
  # RLOO over the sessions of a: 1, 0; of b_x: 0 in row 10, .6, .3.
  actual = by_session(keys, [0.6, 0, 0, 1, 0, 0.3], maxrl_order=1)
  expected = [0.45, -1, -0.45, 1, -0.45, 0.0]
  np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_reward_of_a_session_is_that_of_its_last_row(verl):
  # As of a colocated reward model, which scores rows one by one.
  actual = by_session(SESSION_KEYS, [0.2, 1, 0, 0.7, 1, 0])
  np.testing.assert_allclose(actual, [1, 1, -1, 1, 1, -1], atol=1e-6)


def test_a_rejected_session_is_no_member_of_its_group(verl):
  lengths = [0, 0, 2, 2, 0, 1]  # One row of session 2 is left.
  actual = by_session(SESSION_KEYS, [1, 1, 0, 1, 1, 0], lengths)
  # One success among three: (1 − 1/3)/(1/3) = 2.
  np.testing.assert_allclose(actual, [0, 0, -1, 2, 0, -1], atol=1e-6)


def test_a_survivor_of_rejection_is_alone(verl):
  keys, lengths = ["a_0_0", "a_1_0", "b_0_0", "b_1_0"], [0, 2, 2, 2]
  actual = by_session(keys, [100, 1, 1, 0], lengths)
  np.testing.assert_allclose(actual, [0, 0, 1, -1], atol=1e-6)
  # Of order 1, N − 1 of the larger group.
  actual = by_session(keys, [100, 1, 1, 0], lengths, maxrl_baseline="none")
  np.testing.assert_allclose(actual, [0, 1, 1, 0], atol=1e-6)


def test_error_names_a_key_of_another_form(verl):
  with pytest.raises(
    ValueError, match="key = 'a-0': must be uid_session_index"
  ):
    by_session(["a-0", "a_1_0"], [1, 0])


def test_verls_own_estimators_are_unchanged(verl):
  core, _ = verl
  if not hasattr(core, "ADV_ESTIMATOR_REGISTRY"):
    pytest.skip("needs verl itself")
  rewards = [1, 1, 0, 1, 1, 0]
  grpo = by_session(SESSION_KEYS, rewards, estimator="grpo")
  # Sessions 1, 0, 1, 0 have deviation √(1/3).
  np.testing.assert_allclose(grpo, np.where(rewards, 1, -1) * 0.75**0.5, 1e-5)
  # Rows, not sessions: 1 − 3/5 and −4/5.
  rloo = by_session(SESSION_KEYS, rewards, estimator="rloo")
  np.testing.assert_allclose(rloo, np.where(rewards, 0.4, -0.8), 1e-5)
