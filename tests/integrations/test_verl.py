"""verl's advantage estimators, called through its registry."""

import itertools
import os
import pathlib
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")

_ADAPTER = "maxrl_jax.integrations.verl"
_PAGE = (pathlib.Path(__file__).parents[2] / "docs/integrations.md").read_text()

REWARDS = np.array([1, 0, 0, 1, 0.5, 0, 0, 0.25, 1], np.float32)
IDS = np.array([*"abbabacba"], object)
LENGTHS = [3, 1, 4, 2, 4, 3, 2, 1, 4]


def batch(rewards=REWARDS, dtype=torch.float32):
  """A batch in verl's format, with rewards at the last token of a response."""
  token_rewards = torch.zeros(len(rewards), 4, dtype=dtype)
  mask = torch.arange(4) < torch.tensor(LENGTHS)[:, None]
  last = torch.tensor(LENGTHS) - 1
  token_rewards[torch.arange(len(rewards)), last] = torch.tensor(rewards).to(
    dtype
  )
  return {
    "token_level_rewards": token_rewards,
    "response_mask": mask.long(),
    "index": IDS,
    "config": None,
  }


def rloo(rewards, mask=True):
  """Order 1, in a loop over groups."""
  actual, mask = np.zeros(len(rewards)), np.full(len(rewards), mask)
  for i in set(IDS):
    (rows,) = np.nonzero((i == IDS) & mask)
    for j in rows:
      others = rewards[rows[rows != j]]
      actual[j] = rewards[j] - others.mean() if others.size else 0
  return actual


def algorithm_1(rewards):
  actual = np.zeros(len(rewards))
  for i in set(IDS):
    r = rewards[i == IDS]
    actual[i == IDS] = r / r.mean() - 1 if r.any() else 0
  return actual


def at_every_token(advantages):
  return advantages[:, None] * (np.arange(4) < np.array(LENGTHS)[:, None])


def test_token_level_advantages(verl):
  core, _ = verl
  rewards = np.round(REWARDS)
  call = batch(rewards)
  before = call["token_level_rewards"].clone()
  for name in ("maxrl", "tail_rl"):
    actual, returns = core.get_adv_estimator_fn(name)(**call)
    np.testing.assert_allclose(
      actual, at_every_token(algorithm_1(rewards)), rtol=1e-5, atol=1e-6
    )
    assert torch.equal(actual, returns) and not actual.requires_grad
  power = core.get_adv_estimator_fn("power")
  actual, _ = power(**call | {"config": {"maxrl_alpha": 1.0}})
  np.testing.assert_allclose(actual, at_every_token(rloo(rewards)), atol=1e-6)
  assert torch.equal(call["token_level_rewards"], before)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_dtype_of_the_rewards(verl, dtype):
  dtype = getattr(torch, dtype)
  call = batch(dtype=dtype)
  actual, _ = verl[0].get_adv_estimator_fn("maxrl")(**call)
  assert actual.dtype == dtype and actual.shape == (9, 4)
  assert actual.device == call["token_level_rewards"].device
  if hasattr(verl[0], "compute_grpo_outcome_advantage"):
    expected, _ = verl[0].compute_grpo_outcome_advantage(**call)
    assert (expected.dtype, expected.shape) == (actual.dtype, actual.shape)


def test_integer_rewards_have_float_advantages(verl):
  call = batch(np.round(REWARDS), torch.int64)
  actual, _ = verl[0].get_adv_estimator_fn("maxrl")(**call)
  expected = at_every_token(algorithm_1(np.round(REWARDS)))
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_options_of_the_algorithm_config(verl):
  core, adapter = verl
  maxrl = core.get_adv_estimator_fn("maxrl")
  config = {"gamma": 1.0, "maxrl_order": 1, "maxrl_ceiling": 2}
  actual, _ = maxrl(**batch() | {"config": config})
  expected = at_every_token(rloo(REWARDS / 2))
  np.testing.assert_allclose(actual, expected, atol=1e-6)
  pass_at_k = core.get_adv_estimator_fn("pass_at_k")
  with pytest.raises(ValueError, match="k is not set: 'pass_at_k' needs it"):
    pass_at_k(**batch())
  actual, _ = pass_at_k(**batch() | {"config": {"maxrl_k": 1}})
  np.testing.assert_allclose(actual, at_every_token(rloo(REWARDS)), atol=1e-6)
  with pytest.raises(ValueError, match=r"ordr = 2: 'maxrl' takes .*'order'"):
    maxrl(**batch() | {"config": {"maxrl_ordr": 2}})
  assert set(adapter.NAMES) == {
    "maxrl",
    "pass_at_k",
    "power",
    "tail",
    "tail_rl",
  }


def test_options_bound_to_a_name(verl):
  core, adapter = verl
  adapter.register("maxrl1", order=1)
  call = batch() | {"config": {"maxrl_order": 2}, "reward_baselines": None}
  actual, _ = core.get_adv_estimator_fn("maxrl1")(**call)
  np.testing.assert_allclose(actual, at_every_token(rloo(REWARDS)), atol=1e-6)
  with pytest.raises(ValueError, match=r"maxrl.* already been registered"):
    adapter.register("maxrl", order=1)


def test_a_response_without_tokens_has_no_effect(verl):
  call = batch() | {"config": {"maxrl_order": 1}}
  mask = np.arange(9) != 4
  call["response_mask"][4] = 0
  call["token_level_rewards"][4] = torch.nan
  actual, _ = verl[0].get_adv_estimator_fn("maxrl")(**call)
  expected = at_every_token(rloo(REWARDS, mask))
  np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_error_names_invalid_input(verl):
  maxrl = verl[0].get_adv_estimator_fn("maxrl")
  with pytest.raises(ValueError, match=r"index is None: .*`uid`"):
    maxrl(**batch() | {"index": None})
  with pytest.raises(ValueError, match=r"rewards\[0\] = 3\.0: .*ceiling="):
    maxrl(**batch(3 * REWARDS))


# Requires verl itself


def test_verls_computation_of_advantages(verl):
  if not hasattr(verl[0], "ADV_ESTIMATOR_REGISTRY"):
    pytest.skip("needs verl itself")
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    trainer = pytest.importorskip(
      "verl.trainer.ppo.ray_trainer", exc_type=ImportError
    )
    omegaconf = pytest.importorskip("omegaconf")
    call = batch()
    data = trainer.DataProto.from_dict(
      tensors={k: call[k] for k in ("token_level_rewards", "response_mask")},
      non_tensors={"uid": IDS},
    )
    config = omegaconf.OmegaConf.create({"gamma": 1.0, "maxrl_order": 1})
    omegaconf.OmegaConf.set_struct(config, True)  # As in a Hydra config.
    done = trainer.compute_advantage(data, "maxrl", config=config).batch
  expected = at_every_token(rloo(REWARDS))
  for name in ("advantages", "returns"):
    np.testing.assert_allclose(done[name], expected, atol=1e-6)


def test_verl_imports_the_adapter(verl):
  if not hasattr(verl[0], "ADV_ESTIMATOR_REGISTRY"):
    pytest.skip("needs verl itself")
  program = (
    "import verl; from verl.trainer.ppo import core_algos;"
    "print(core_algos.get_adv_estimator_fn('maxrl').keywords['estimator'])"
  )
  done = subprocess.run(
    [sys.executable, "-W", "ignore", "-c", program],
    env=os.environ | {"VERL_USE_EXTERNAL_MODULES": _ADAPTER},
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert done.stdout.split()[-1:] == ["maxrl"], done.stderr


@pytest.mark.filterwarnings("ignore")  # From verl's imports.
def test_unsolved_prompts_are_sent_again(tmp_path):
  """As printed, with verl's dataset, loader and batches in our own loop."""
  data = pytest.importorskip("verl.utils.dataset.rl_dataset")
  import pandas
  from omegaconf import OmegaConf
  from torchdata.stateful_dataloader import StatefulDataLoader
  from verl import DataProto

  (code,) = re.findall(r"```python\n(# unsolved.py.*?)```", _PAGE, re.S)
  (tmp_path / "unsolved.py").write_text(code)
  for name, count in (("train", 12), ("validation", 3)):
    rows = [
      {
        "prompt": [{"role": "user", "content": f"{name} {i}"}],
        "data_source": "",
      }
      for i in range(count)
    ]
    pandas.DataFrame(rows).to_parquet(tmp_path / f"{name}.parquet")
  config = OmegaConf.create(
    {
      "custom_cls": {"path": str(tmp_path / "unsolved.py"), "name": "Unsolved"},
      "train_files": str(tmp_path / "train.parquet"),
      "cache_dir": str(tmp_path / "cache"),
      "filter_overlong_prompts": False,
    }
  )
  dataset = data.get_dataset_class(config)
  train, validation = (
    dataset(data_files=files, tokenizer=None, config=config, processor=None)
    for files in (config.train_files, str(tmp_path / "validation.parquet"))
  )
  prompts = [validation[i]["raw_prompt"][0]["content"] for i in (0, 1, 2, 0)]
  assert prompts == [f"validation {i}" for i in (0, 1, 2, 0)]

  loader = StatefulDataLoader(
    train, batch_size=4, num_workers=0, collate_fn=data.collate_fn
  )
  rng, before, again = np.random.default_rng(0), set(), 0
  for fields in itertools.chain(*itertools.repeat(loader, 4)):
    batch = DataProto.from_single_dict(fields).repeat(3, interleave=True)
    names = [x[0]["content"] for x in batch.non_tensor_batch["raw_prompt"]]
    assert before <= set(names)
    again += len(before)
    scores = torch.zeros(12, 5)
    scores[:, 4] = torch.from_numpy(rng.random(12) < 0.2)
    batch.batch["token_level_scores"] = scores
    train.on_batch_end(batch=batch)
    solved = {n for n, r in zip(names, scores[:, 4], strict=True) if r}
    before = set(names) - solved
  assert again > 10
  assert train.rows.solved > 10
