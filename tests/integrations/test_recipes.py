"""The recipes of docs/recipes.md, run as printed, against hand arithmetic.

Algorithm 1 (order N − 1, binary): A_j = (r_j − K/N)/(K/N), 0 if K = 0.
"""

import pathlib
import re
import sys
import types

import numpy as np
import pytest

from tests.support import trainer_hooks
from tests.support.trainer_hooks import Sample

_PAGE = (pathlib.Path(__file__).parents[2] / "docs/recipes.md").read_text()

# Prompts a, b, c with 4 rollouts each, interleaved: K = 2, 1, 0.
PROMPTS = [*"abcabcabcabc"]
REWARDS = [1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0]
EXPECTED = [1, -1, 0, -1, 3, 0, -1, -1, 0, 1, -1, 0]


def _recipe(heading: str) -> str:
  """The Python block of a section."""
  (section,) = re.findall(
    rf"^## {heading}\n(.*?)(?=^## |\Z)", _PAGE, re.M | re.S
  )
  (code,) = re.findall(r"^```python\n(.*?)^```", section, re.M | re.S)
  return code


def _run(heading: str, modules: dict, monkeypatch) -> dict:
  """Executes a recipe; `modules` stand for the trainer's. Returns its names."""
  for name, module in modules.items():
    parts = name.split(".")
    for end in range(1, len(parts)):
      parent = ".".join(parts[:end])
      if parent not in modules:
        monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
    monkeypatch.setitem(sys.modules, name, module)
  names = {"__name__": "recipe"}
  exec(compile(_recipe(heading), "docs/recipes.md", "exec"), names)
  return names


def test_recipes_are_short():
  blocks = re.findall(r"^```python\n(.*?)^```", _PAGE, re.M | re.S)
  assert len(blocks) == 6
  for code in blocks:
    assert len([line for line in code.splitlines() if line.strip()]) <= 15


def _samples(**fields):
  return [
    Sample(group_index="abc".index(prompt), index=i, reward=r, **fields)
    for i, (prompt, r) in enumerate(zip(PROMPTS, REWARDS, strict=True))
  ]


@pytest.mark.parametrize("key", [None, "accuracy"])
def test_slime_and_miles(key, monkeypatch):
  hook = _run("slime and miles", {}, monkeypatch)["post_process"]
  samples = _samples(response_length=2)
  if key:
    for sample in samples:
      sample.reward = {key: sample.reward, "format": 1.0}
  args = types.SimpleNamespace(reward_key=key)
  got = trainer_hooks.slime_advantages(hook, args, samples)
  np.testing.assert_allclose(got, np.repeat(EXPECTED, 2).reshape(-1, 2))
  assert hook(args, samples)[0] == REWARDS


@pytest.mark.parametrize("field", ["index", "rollout_id"])
def test_slime_counts_a_rollout_of_several_samples_once(field, monkeypatch):
  """a: a success in three samples, and three failures: K/N = 1/4."""
  hook = _run("slime and miles", {}, monkeypatch)["post_process"]
  ids, rewards = [0, 0, 0, 1, 2, 3], [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]
  samples = [
    Sample(group_index=0, reward=r, response_length=1, **{field: i})
    for i, r in zip(ids, rewards, strict=True)
  ]
  args = types.SimpleNamespace(reward_key=None)
  got = trainer_hooks.slime_advantages(hook, args, samples)
  np.testing.assert_allclose(np.ravel(got), [3, 3, 3, -1, -1, -1], atol=1e-6)


def test_slime_leaves_removed_samples_out(monkeypatch):
  """Without the removed success of a, K/N = 1/3; b and c as before."""
  hook = _run("slime and miles", {}, monkeypatch)["post_process"]
  samples = _samples(response_length=1)
  samples[9].remove_sample = True
  args = types.SimpleNamespace(reward_key=None)
  got = trainer_hooks.slime_advantages(hook, args, samples)
  expected = [2, -1, 0, -1, 3, 0, -1, -1, 0, 0, -1, 0]
  np.testing.assert_allclose(np.ravel(got), expected, atol=1e-6)


def _token_rewards(torch, rewards=REWARDS, dtype=None):
  """Rewards at the last of 1 to 3 response tokens, padded to 3; the mask."""
  lengths = torch.arange(len(rewards)) % 3 + 1
  mask = (torch.arange(3) < lengths[:, None]).float()
  tokens = torch.zeros(len(rewards), 3, dtype=dtype)
  tokens[torch.arange(len(rewards)), lengths - 1] = torch.tensor(
    rewards, dtype=tokens.dtype
  )
  return tokens, mask


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_skyrl(dtype, monkeypatch):
  torch = pytest.importorskip("torch")
  skyrl = trainer_hooks.SkyRL()
  _run("SkyRL", skyrl.modules, monkeypatch)
  tokens, mask = _token_rewards(torch, dtype=getattr(torch, dtype))
  got, returns = skyrl.advantages("maxrl_jax", tokens, mask, PROMPTS)
  expected = np.array(EXPECTED)[:, None] * mask.numpy()
  np.testing.assert_allclose(got.float(), expected, atol=1e-6)
  assert returns is got


def test_skyrl_s_padding_changes_nothing(monkeypatch):
  """Padding repeats row 0, with uids pad0, pad1, …."""
  torch = pytest.importorskip("torch")
  skyrl = trainer_hooks.SkyRL()
  _run("SkyRL", skyrl.modules, monkeypatch)
  tokens, mask = _token_rewards(torch)
  tokens, mask = (torch.cat([x, x[[0, 0]]]) for x in (tokens, mask))
  uids = [*PROMPTS, "pad0", "pad1"]
  got, _ = skyrl.advantages("maxrl_jax", tokens, mask, uids)
  expected = np.array([*EXPECTED, 0, 0])[:, None] * mask.numpy()
  np.testing.assert_allclose(got, expected, atol=1e-6)


def test_skyrl_step_wise_counts_a_trajectory_once(monkeypatch):
  """Four trajectories of 3, 1, 1 and 1 rows, of which the first succeeds."""
  torch = pytest.importorskip("torch")
  skyrl = trainer_hooks.SkyRL()
  _run("SkyRL", skyrl.modules, monkeypatch)
  tokens, mask = torch.zeros(6, 2), torch.ones(6, 2)
  tokens[2, 1] = 1
  last = torch.tensor([False, False, True, True, True, True])
  got = skyrl.step_wise("maxrl_jax", tokens, mask, ["a"] * 6, last)
  expected = np.repeat([[3], [3], [3], [-1], [-1], [-1]], 2, 1)
  np.testing.assert_allclose(got, expected, atol=1e-6)


def test_rllm(monkeypatch):
  rllm = trainer_hooks.Rllm()
  _run("rllm", rllm.modules, monkeypatch)
  groups = [
    ("solver", [1.0, 0.0, 0.0, 1.0]),
    ("judge", [0.5]),
    ("solver", [0.0, 1.0, 0.0, 0.0]),
    ("solver", [1.0]),
    ("solver", [0.0, 0.0, 0.0]),
  ]
  rllm.registry["reinforce"] = lambda rewards, **_: (rewards, rewards)
  estimator = trainer_hooks.Estimator("grpo")
  by_role = {"solver": "maxrl", "judge": "reinforce"}
  got = rllm.collect(groups, estimator, by_role)
  expected = [[1, -1, -1, 1], [0.5], [-1, 3, -1, -1], [0], [0, 0, 0]]
  for actual, wanted in zip(got, expected, strict=True):
    np.testing.assert_allclose(actual, wanted, atol=1e-6)


def test_rllm_s_config_does_not_select_it(monkeypatch):
  """As the page says: names that rllm does not know become `other`."""
  rllm = trainer_hooks.Rllm()
  _run("rllm", rllm.modules, monkeypatch)
  estimator = trainer_hooks.Estimator("maxrl")
  with pytest.raises(ValueError, match="Unknown advantage estimator"):
    rllm.collect([("solver", [1.0, 0.0])], estimator, {})


@pytest.mark.parametrize(
  ("rewards", "expected"),
  [
    ([1.0, 0.0, 0.0, 1.0], [1, -1, -1, 1]),
    ([0.0, 0.0, 1.0, 0.0], [-1, -1, 3, -1]),
    ([0.0, 0.0], [0, 0]),
    ([1.0], [0]),
  ],
)
def test_prime_rl(rewards, expected, monkeypatch):
  prime = trainer_hooks.PrimeRL()
  _run("prime-rl", prime.modules, monkeypatch)
  group = [prime.Rollout(r, tokens=2) for r in rewards]
  got = prime.advantages(group)
  assert prime.checked == [group]
  np.testing.assert_allclose(got, np.repeat(expected, 2).reshape(-1, 2))
  assert all(type(x) is float for values in got for x in values)


def _nemo_batch(torch):
  """Prompts as padded tokens [12, 3], rewards, token mask [12, 4]."""
  tokens = {"a": [5, 6, 7], "b": [5, 6, 0], "c": [9, 0, 0]}
  prompt_ids = torch.tensor([tokens[prompt] for prompt in PROMPTS])
  lengths = torch.arange(12) % 4 + 1
  token_mask = (torch.arange(4) < lengths[:, None]).float()
  return prompt_ids, torch.tensor(REWARDS, dtype=torch.float32), token_mask


def test_nemo_rl(monkeypatch):
  torch = pytest.importorskip("torch")
  nemo = trainer_hooks.NemoRL()
  _run("NeMo RL", nemo.modules, monkeypatch)
  prompt_ids, rewards, token_mask = _nemo_batch(torch)
  got = nemo.advantages(prompt_ids, rewards, token_mask, torch.ones(12))
  expected = np.repeat(np.array(EXPECTED)[:, None], 4, 1)
  np.testing.assert_allclose(got, expected, atol=1e-6)


def test_nemo_rl_leaves_masked_samples_out(monkeypatch):
  """Without the masked success of a, K/N = 1/3."""
  torch = pytest.importorskip("torch")
  nemo = trainer_hooks.NemoRL()
  _run("NeMo RL", nemo.modules, monkeypatch)
  prompt_ids, rewards, token_mask = _nemo_batch(torch)
  sample_mask = torch.ones(12)
  sample_mask[9] = 0
  got = nemo.advantages(prompt_ids, rewards, token_mask, sample_mask)[:, 0]
  expected = [2, -1, 0, -1, 3, 0, -1, -1, 0, 0, -1, 0]
  np.testing.assert_allclose(got, expected, atol=1e-6)


def test_openrlhf(monkeypatch):
  """Rows in the order of prompts by `index`, dealt out to batches by length."""
  torch = pytest.importorskip("torch")
  openrlhf = trainer_hooks.OpenRLHF(samples_per_prompt=4)
  _run("OpenRLHF", openrlhf.modules, monkeypatch)
  rewards = [1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0]
  expected = [1, -1, -1, 1, -1, 3, -1, -1, 0, 0, 0, 0]
  batches = [[7, 0, 11, 4], [2, 5], [1, 3, 6, 8, 9, 10]]
  experiences = []
  for rows in batches:
    lengths = torch.tensor(rows) % 3 + 1
    experiences.append(
      openrlhf.Experience(
        index=rows,
        rewards=torch.tensor([rewards[i] for i in rows]).float(),
        action_mask=torch.arange(3) < lengths[:, None],
      )
    )
  got = openrlhf.maker().compute_advantages_and_returns(experiences)
  assert len(got) == 3
  for rows, e in zip(batches, got, strict=True):
    wanted = (
      np.array([expected[i] for i in rows])[:, None] * e.action_mask.numpy()
    )
    np.testing.assert_allclose(e.advantages, wanted, atol=1e-6)
