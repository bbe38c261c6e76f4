"""One tiny run of every entry point, and what wrong input gets."""

import csv
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import numpy as safetensors

from configs import bandit, maze
from experiments.reports import report
from experiments.reports.results import Claim, Result, Table
from maxrl_jax.policies import Transformer, qwen2
from maxrl_jax.runs import train_to_folder
from tests.support.entry_points import command, process


def test_train_writes_what_it_says(tmp_path):
  config = bandit.get_config()
  config.steps, config.log_every, config.eval_every = 40, 10, 20
  summary = train_to_folder.train(config, tmp_path)
  lines = [
    json.loads(line)
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines()
  ]
  assert [line["step"] for line in lines] == [10, 20, 30, 40]
  assert ["validation/pass@1" in line for line in lines] == [0, 1, 0, 1]
  assert json.loads((tmp_path / "config.json").read_text())["steps"] == 40
  assert json.loads((tmp_path / "summary.json").read_text()) == summary
  assert 0 < summary["test/pass@1"] < summary["test/pass@16"] < 1


def test_train_command_with_runs_and_overrides(tmp_path):
  done = process(
    "experiments.train",
    "--config=configs/bandit.py",
    "--config.estimator.order=4",
    "--config.runs=2",
    "--config.steps=20",
    "--config.log_every=10",
    "--config.eval_every=10",
    "--output=json",
    f"--workdir={tmp_path}",
  )
  assert done.returncode == 0, done.stderr
  summary = json.loads(done.stdout)
  assert summary["workdir"] == str(tmp_path)
  assert len(summary["test/pass@1"]) == 2
  config = json.loads((tmp_path / "config.json").read_text())
  assert config["estimator"]["order"] == 4


@pytest.mark.long
def test_a_warm_up_and_what_starts_from_it(tmp_path):
  """Without a step worth the name, RL scores as its checkpoint does."""
  config = maze.get_config("warmup")
  config.task.update(size=7, random_ends=True, max_length=6)
  config.task.update(eval_size=64, train_size=64)
  config.policy.update(num_layers=1, hidden_size=16, intermediate_size=32)
  config.steps, config.log_every, config.eval_every = 60, 20, 60
  config.batch_size, config.eval_rollouts = 16, 8
  config.optimizer.warmup, config.optimizer.learning_rate = 5, 1e-2
  first = train_to_folder.train(config, tmp_path / "warmup")
  assert 0 < first["test/pass@1"] < first["test/pass@4"] <= 1
  assert "test/pass@16" not in first
  assert first["test/solved"] >= first["test/pass@4"]
  assert 0 < first["test/entropy"] < np.log(32)
  assert 1 <= first["test/length"] <= 6

  config.estimator.name, config.rollouts = "maxrl", 4
  config.steps = config.log_every = config.eval_every = 6
  config.optimizer.learning_rate = 1e-12
  config.policy.checkpoint = str(tmp_path / "warmup" / "model")
  then = train_to_folder.train(config, tmp_path / "rl")
  for name, value in first.items():
    if name.startswith("test/"):
      assert then[name] == pytest.approx(value, abs=1e-6), name
  (line,) = (tmp_path / "rl" / "metrics.jsonl").read_text().splitlines()
  names = ("pass_rate", "solved", "length", "entropy", "validation/pass@1")
  assert set(names) <= json.loads(line).keys()
  expected, actual = (
    safetensors.load_file(tmp_path / stage / "model" / "model.safetensors")
    for stage in ("warmup", "rl")
  )
  for name, value in actual.items():
    np.testing.assert_allclose(value, expected[name], atol=1e-8)


def test_several_runs_have_a_model_each(tmp_path):
  config = maze.get_config()
  config.runs, config.seed = 2, 7
  policy = Transformer(32, 4, 2, num_layers=1, hidden_size=8)
  shapes = jax.eval_shape(
    policy.init, jax.random.key(0), np.zeros((1, 3), np.int32)
  )
  each = [
    jax.tree.map(lambda x, i=i: np.full(x.shape, i), shapes) for i in (1.0, 2.0)
  ]
  stacked = jax.tree.map(lambda *x: jnp.stack(x), *each)
  train_to_folder._save_models(tmp_path, policy, stacked, config)
  for seed, params in zip((7, 8), each, strict=True):
    loaded = qwen2.load(tmp_path / f"model-{seed}", policy)
    jax.tree.map(np.testing.assert_array_equal, loaded, params)


def test_gradient_study_command(tmp_path):
  done = command(
    "experiments.gradient_study",
    "--estimators=maxrl,self_normalized",
    "--rollouts=5",
    "--orders=2,4",
    "--baselines=centred,0.125",
    "--seed=3",
    f"--workdir={tmp_path}",
  )
  assert done.returncode == 0, done.stderr
  with open(tmp_path / "study.csv") as file:
    rows = list(csv.DictReader(file))
  assert [row["order"] for row in rows] == ["2", "4", "2", "4", ""]
  assert [row["baseline"] for row in rows[1:3]] == ["centred", "0.125"]
  assert {row["seed"] for row in rows} == {"3"}
  biases = [float(row["bias"]) for row in rows]
  assert max(biases[:4]) < 1e-5 < 0.05 < biases[4]
  assert (tmp_path / "study.png").stat().st_size > 5000


def test_report_escapes_and_counts():
  claims = [
    Claim("a", "s", "x < y", "1", "2", True),
    Claim("b", "s", "z", "1", "2", False),
  ]
  result = Result("T & U", [], claims, [Table("c", ["h"], [["<script>"]])])
  page = report.render([result])
  assert "1 of 2 claims hold" in page
  assert "x &lt; y" in page and "T &amp; U" in page
  assert "<script>" not in page


def test_a_workdir_that_cannot_be_is_named(tmp_path):
  (tmp_path / "file").touch()
  with pytest.raises(ValueError, match=r"workdir = '.*file/x': cannot write"):
    train_to_folder.train(bandit.get_config(), tmp_path / "file" / "x")
