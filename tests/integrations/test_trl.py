"""Advantages used by TRL's GRPOTrainer, trained on a tiny model."""

import pathlib
import re
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
with warnings.catch_warnings():
  warnings.simplefilter("ignore")  # Warnings while importing TRL.
  trl = pytest.importorskip("trl", reason="TRL is not installed: extra `trl`")
  import datasets
  import tokenizers
  import transformers

  from maxrl_jax.integrations import trl as adapter

pytestmark = pytest.mark.filterwarnings("ignore")  # From Hugging Face.

_WORDS = ["<pad>", "<eos>", *"abcdefgh"]
_PAGE = pathlib.Path(__file__).parents[2] / "docs/integrations.md"


def tokenizer():
  vocab = {word: i for i, word in enumerate(_WORDS)}
  words = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocab, "<pad>"))
  words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  return transformers.PreTrainedTokenizerFast(
    tokenizer_object=words, pad_token="<pad>", eos_token="<eos>"
  )


def model():
  torch.manual_seed(0)
  config = transformers.Qwen2Config(
    vocab_size=len(_WORDS),
    hidden_size=16,
    intermediate_size=32,
    num_hidden_layers=1,
    num_attention_heads=2,
    num_key_value_heads=1,
    max_position_embeddings=32,
    pad_token_id=0,
    eos_token_id=1,
    bos_token_id=None,
  )
  return transformers.Qwen2ForCausalLM(config)


def reward_of(ids):
  """1 if the first token is in the first half of the alphabet."""
  return float(2 <= ids[0] < 6)


def reward(completion_ids, **_):
  return [reward_of(ids) for ids in completion_ids]


def arguments(folder, **changed):
  fields = {
    "per_device_train_batch_size": 12,
    "num_generations": 6,
    "max_completion_length": 3,
    "max_steps": 2,
    "loss_type": "dr_grpo",
    "learning_rate": 1e-2,
    "use_cpu": True,
    "bf16": False,
    "report_to": [],
    "save_strategy": "no",
    "disable_tqdm": True,
  }
  return trl.GRPOConfig(output_dir=str(folder), **(fields | changed))


def prompts():
  return datasets.Dataset.from_dict({"prompt": ["a b", "c d", "e f", "g h"]})


def trainer(folder, changed=None, **options):
  options = {"reward_funcs": reward} | options
  return adapter.MaxRLTrainer(
    model(),
    args=arguments(folder, **(changed or {})),
    train_dataset=prompts(),
    processing_class=tokenizer(),
    **options,
  )


@pytest.fixture
def batches(monkeypatch):
  """Inputs of the loss at each step."""
  recorded = []
  loss = trl.GRPOTrainer._compute_loss

  def spy(self, model, inputs):
    tensors = {k: v for k, v in inputs.items() if torch.is_tensor(v)}
    recorded.append({k: v.numpy(force=True) for k, v in tensors.items()})
    return loss(self, model, inputs)

  monkeypatch.setattr(trl.GRPOTrainer, "_compute_loss", spy)
  return recorded


def check(batch, formula, mask=None):
  """Compares advantages with a loop over the prompts of a loss input."""
  r = np.array([reward_of(ids) for ids in batch["completion_ids"]])
  mask = np.ones(len(r), bool) if mask is None else mask
  expected = np.zeros(len(r))
  for prompt in np.unique(batch["prompt_ids"], axis=0):
    group = (batch["prompt_ids"] == prompt).all(1)
    assert group.sum() == 6
    expected[group & mask] = formula(r[group & mask])
  np.testing.assert_allclose(batch["advantages"], expected, atol=1e-5)
  return expected


def algorithm_1(r):
  return (r - r.mean()) / r.mean() if r.any() else 0 * r


def rloo(r):
  return r - (r.sum() - r) / (len(r) - 1)


def run_example(word, names):
  """Executes the example of the page in which a word is."""
  blocks = re.findall(r"^```python\n(.*?)^```", _PAGE.read_text(), re.M | re.S)
  (block,) = [block for block in blocks if word in block]
  exec(compile(block, _PAGE, "exec"), names)


def test_docs_example_uses_the_estimator(tmp_path, batches):
  names = {
    "model": model(),
    "reward": reward,
    "config": arguments(tmp_path),
    "prompts": prompts(),
    "tokenizer": tokenizer(),
  }
  before = {k: v.clone() for k, v in names["model"].state_dict().items()}
  run_example("MaxRLTrainer(  #", names)
  assert len(batches) == 2
  actual = [check(batch, algorithm_1) for batch in batches]
  assert np.abs(actual).max() > 1
  after = names["model"].state_dict()
  assert any(not torch.equal(before[k], after[k]) for k in before)
  # The table of completions has the last batch, before shuffling.
  log = names["trainer"]._logs["advantages"]
  np.testing.assert_allclose(sorted(log), np.sort(actual[-1]), atol=1e-5)


def test_several_rewards_and_excluded_completions(tmp_path, batches):
  def triple(completion_ids, **_):  # None if the first token is "a".
    return [None if i[0] == 2 else 3 * reward_of(i) for i in completion_ids]

  def zero(completion_ids, **_):
    return [None if i[0] == 2 else 0.0 for i in completion_ids]

  run = trainer(
    tmp_path,
    {"mask_truncated_completions": True, "reward_weights": [0.5, 1.0]},
    reward_funcs=[triple, zero],
    estimator_options={"order": 1, "ceiling": 1.5},
  )
  run.train()
  excluded = 0
  for batch in batches:
    mask = batch["completion_mask"].any(1) & (
      batch["completion_ids"][:, 0] != 2
    )
    excluded += np.sum(~mask)
    check(batch, lambda r: rloo(r) if len(r) > 1 else 0, mask)
  assert 0 < excluded < 24


def test_each_process_gets_its_part(tmp_path):
  run = trainer(tmp_path, {"max_steps": 1})
  rewards = np.array([1.0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0])
  run._rewards_per_func = torch.tensor(rewards)[:, None]

  class Accelerator:  # The second of three processes with four completions.
    process_index, num_processes = 1, 3

    def gather(self, tensor):
      return tensor.repeat(3)

  run.accelerator = Accelerator()
  output = {
    "completion_mask": torch.ones(4, 3),
    "advantages": torch.zeros(4),
  }
  run._replace_advantages(output)
  expected = np.concatenate([algorithm_1(r) for r in rewards.reshape(2, 6)])
  np.testing.assert_allclose(output["advantages"], expected[4:8], atol=1e-6)
  with pytest.raises(ImportError, match=r"trl = .*shapes .* 5 completions"):
    run._replace_advantages(output | {"completion_mask": torch.ones(5, 3)})


def test_completions_without_a_token_in_the_loss_are_excluded(tmp_path):
  run = trainer(tmp_path, {"max_steps": 1})
  rewards = torch.tensor([1.0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0])
  run._rewards_per_func = rewards[:, None]
  completions = torch.ones(12, 3)
  completions[4] = 0  # Truncated.
  tools = torch.ones(12, 3)
  tools[5] = 0  # Not a token of the policy's.
  ratio = torch.ones(12, 1)
  ratio[7:] = 0  # Rejected: number 6 is left alone.
  output = {
    "completion_mask": completions,
    "advantages": torch.zeros(12),
    "tool_mask": tools,
    "importance_sampling_ratio": ratio,
  }
  run._replace_advantages(output)
  # One success among the four that are left: (1 − 1/4)/(1/4) = 3.
  expected = [3, -1, -1, -1, 0, 0] + [0] * 6
  np.testing.assert_allclose(output["advantages"], expected, atol=1e-6)


def test_more_completions_than_prompts_are_refused(tmp_path):
  def two_rows_each(prompts, trainer):
    ids = [[2, 1]] * (2 * len(prompts))
    logprobs = [[0.0, 0.0] for _ in ids]
    return {"prompt_ids": ids, "completion_ids": ids, "logprobs": logprobs}

  def reward_per_prompt(prompts, **_):
    return [1.0] * len(prompts)

  functions = {"rollout_func": two_rows_each, "reward_funcs": reward_per_prompt}
  run = trainer(tmp_path, {"max_steps": 1}, **functions)
  with pytest.raises(ImportError, match=r"24 completions .* one completion"):
    run.train()


def test_evaluation_uses_trls_advantages(tmp_path):
  changed = {"num_generations_eval": 1, "per_device_eval_batch_size": 2}
  run = trainer(tmp_path, changed, eval_dataset=prompts())
  assert np.isfinite(run.evaluate()["eval_reward"])


@pytest.mark.parametrize(
  ("options", "changed", "message"),
  [
    ({"estimator": "ppo"}, {}, "estimator = 'ppo': choose from"),
    ({"estimator_options": {"order": 7}}, {}, r"order = 7: .* 1 to 6 with N"),
    (
      {},
      {"multi_objective_aggregation": "normalize_then_sum"},
      "multi_objective_aggregation = .* must be 'sum_then_normalize'",
    ),
  ],
)
def test_options_are_checked_before_training(
  tmp_path, options, changed, message
):
  with pytest.raises(ValueError, match=message):
    trainer(tmp_path, changed, **options)


def test_a_trainer_without_the_hooks_raises():
  class Other:
    def _calculate_rewards(self):
      pass

  with pytest.raises(ImportError, match=r"Other has no method _generate_and"):
    adapter.check_hooks(Other)


def test_error_names_missing_rewards(tmp_path):
  run = trainer(tmp_path)
  with pytest.raises(ImportError, match="no rewards, or no advantages"):
    run._replace_advantages({"completion_mask": torch.ones(2, 3)})


def test_unsolved_prompts_are_sent_again(tmp_path, batches):
  """As printed: TRL takes a batch before the rewards of the last one."""
  data = [{"prompt": f"{a} {b}"} for a in "abcd" for b in "efgh"]
  names = {
    "data": data,
    "right": lambda prompt, completion: float(completion.split()[:1] == ["a"]),
    "config": arguments(tmp_path, max_steps=12, per_device_train_batch_size=24),
    "model": model(),
    "tokenizer": tokenizer(),
  }
  run_example("stream()", names)
  names["trainer"].train()
  sent, unsolved = [], []
  for batch in batches:
    prompts = [tuple(prompt) for prompt in batch["prompt_ids"]]
    # TRL skips special tokens when it decodes a completion.
    first = [ids[ids > 1][:1].tolist() for ids in batch["completion_ids"]]
    right = [
      prompt for prompt, f in zip(prompts, first, strict=True) if f == [2]
    ]
    sent.append(set(prompts))
    unsolved.append(set(prompts) - set(right))
  assert all(len(each) == 4 for each in sent)
  assert sum(map(len, unsolved)) > 5
  for again, missed in zip(sent[2:], unsolved, strict=False):
    assert missed <= again
  solved = sum(map(len, sent)) - sum(map(len, unsolved))
  assert names["problems"].solved == solved
