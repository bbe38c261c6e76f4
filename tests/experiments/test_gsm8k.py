"""What GSM8K needs before a model is there: problems, answers, batches."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.llm import gsm8k_problems
from tests.support.entry_points import command


@pytest.mark.parametrize(
  ("text", "number"),
  [
    ("so 3 + 4 = 7.\n#### 7", "7"),
    ("#### 1,234", "1234"),
    ("####$1,200.00", "1200"),
    ("#### -$3.50", "-3.5"),
    ("#### - 12", "-12"),
    ("#### 007", "7"),
    ("#### -0.0", "0"),
    ("#### .5", "0.5"),
    ("#### 3 apples\n#### 4 pears", "4"),
    ("#### 18.", "18"),
    ("#### 12 / day", "12"),
    ("#### 12/3", None),
    ("#### 1.5 / 2", None),
    ("the answer is 7", None),
    ("#### none", None),
    ("", None),
  ],
)
def test_the_final_number(text, number):
  assert gsm8k_problems.final_number(text) == number


def test_only_the_right_number_is_rewarded():
  said = ["#### 72", "#### 72.0 eggs", "72", "#### 7", "#### 72\n#### 8"]
  drawn = gsm8k_problems.verify(["?"] * 5, said, np.array(["72"] * 5))
  assert drawn == [1, 1, 0, 0, 0]


def write(folder: Path, problems: int = 5) -> Path:
  """Files in GSM8K's format; one more is one more apple."""
  folder.mkdir(exist_ok=True)
  for split in ("train", "test"):
    lines = [
      {"question": f"{n} apples and one?", "answer": f"{n}+1\n#### {n + 1}"}
      for n in range(problems)
    ]
    text = "\n".join(map(json.dumps, lines)) + "\n"
    (folder / f"{split}.jsonl").write_text(text)
  return folder


def test_problems_are_read(tmp_path):
  problems = gsm8k_problems.read(write(tmp_path) / "train.jsonl")
  assert [p["answer"] for p in problems] == ["1", "2", "3", "4", "5"]
  assert "3 apples and one?" in problems[3]["prompts"]
  assert "####" in problems[3]["prompts"]


def test_a_line_ends_where_it_ends_in_json(tmp_path):
  line = '{"question": "a\u2028b\u0085?", "answer": "#### 3"}\n'
  (tmp_path / "train.jsonl").write_text(2 * line, encoding="utf-8")
  problems = gsm8k_problems.read(tmp_path / "train.jsonl")
  assert [p["answer"] for p in problems] == ["3", "3"]
  assert problems[0]["prompts"].startswith("a\u2028b\u0085?")


@pytest.mark.parametrize(
  ("line", "message"),
  [
    ('{"question": "?"}', "train.jsonl, line 2: KeyError"),
    ("[]", "train.jsonl, line 2"),
    ("{", "train.jsonl, line 2"),
    ('{"question": "?", "answer": "seven"}', "line 2: no number after ####"),
  ],
)
def test_a_line_that_is_not_gsm8k_is_named(tmp_path, line, message):
  path = write(tmp_path) / "train.jsonl"
  first = path.read_text().splitlines()[0]
  path.write_text(f"{first}\n{line}\n")
  with pytest.raises(ValueError, match=message):
    gsm8k_problems.read(path)


def test_a_missing_file_is_named(tmp_path):
  with pytest.raises(ValueError, match=r"cannot read train\.jsonl"):
    gsm8k_problems.read(tmp_path / "train.jsonl")


def test_every_pass_has_each_problem_once(tmp_path):
  problems = gsm8k_problems.read(write(tmp_path, 6) / "train.jsonl")
  drawn = list(gsm8k_problems.batches(problems, 6, 2, seed=1))
  assert len(drawn) == 6
  orders = []
  for turn in (drawn[:3], drawn[3:]):
    order = [int(n) for batch in turn for n in batch["answer"]]
    assert sorted(order) == [1, 2, 3, 4, 5, 6]
    orders.append(order)
  assert orders[0] != orders[1]
  again = list(gsm8k_problems.batches(problems, 6, 2, seed=1))
  np.testing.assert_equal(again, drawn)


def test_too_few_problems_are_reported(tmp_path):
  problems = gsm8k_problems.read(write(tmp_path) / "test.jsonl")
  with pytest.raises(ValueError, match="prompts = 6: the data set has 5"):
    next(gsm8k_problems.batches(problems, 1, 6, seed=0))


def test_without_its_data_it_is_one_line(tmp_path):
  pytest.importorskip("tunix", reason="needs the extra tunix")
  done = subprocess.run(
    [
      *(sys.executable, "-m", "experiments.gsm8k", f"--model={tmp_path}"),
      *(f"--data={tmp_path}", f"--workdir={tmp_path / 'run'}"),
    ],
    cwd=Path(__file__).parents[2],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 2
  *_, last = done.stderr.splitlines()
  assert last.startswith("error: data = ") and "Traceback" not in done.stderr


def test_a_finished_folder_is_read_and_no_more(tmp_path):
  pytest.importorskip("tunix", reason="needs the extra tunix")
  model, workdir = tmp_path / "model", tmp_path / "run"
  model.mkdir()
  for name in ("config.json", "model.safetensors", "tokenizer.json"):
    (model / name).touch()  # Nothing that could be trained.
  workdir.mkdir()
  settings = {
    "model": str(model),
    "data": str(write(tmp_path / "data")),
    "estimator": "maxrl",
    "order": None,
    "steps": 3,
    "prompts": 4,
    "rollouts": 16,
    "micro_batch": 4,
    "learning_rate": 1e-6,
    "prompt_tokens": 256,
    "answer_tokens": 768,
    "tensor_parallel": 1,
    "tests": 5,
    "seed": 0,
  }
  drawn = {"test/pass@1": 0.25}
  for name, record in (("config", settings), ("summary", drawn)):
    (workdir / f"{name}.json").write_text(json.dumps(record))
  flags = [f"--{k}={v}" for k, v in settings.items() if v is not None]
  line = ["experiments.gsm8k", *flags, f"--workdir={workdir}", "--output=json"]
  finished = command(*line)
  assert finished.returncode == 0, finished.stderr
  assert finished.stderr == f"{workdir} is finished\n"
  assert json.loads(finished.stdout) == drawn | {"workdir": str(workdir)}
  other = command(*line, "--seed=1")
  assert other.returncode == 2
  assert "seed is 0 there and 1 here" in other.stderr


@pytest.mark.filterwarnings("ignore")  # Of what Tunix imports.
def test_a_line_of_metrics_is_of_a_whole_step(tmp_path):
  pytest.importorskip("tunix", reason="needs the extra tunix")
  from experiments.llm import cluster

  metrics = cluster.Metrics(tmp_path / "metrics.jsonl", 4, answers=6)
  for rewards in ([0, 0, 1], [0, 0, 0], [1, 1, 0]):
    metrics.add(["a", "a", "b"] if sum(rewards) < 2 else ["c"] * 3, rewards)
  (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
  # Of four answers to a none is right, of two to b one.
  wanted = {"step": 5, "pass_rate": 1 / 6, "solved": 1 / 2}
  assert json.loads(line) == pytest.approx(wanted)
