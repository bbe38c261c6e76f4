"""What a folder of runs holds is loaded, and wrong folders say why."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

import maxrl_jax
from maxrl_jax import evaluation
from maxrl_jax.learning import training
from maxrl_jax.runs import checkpoints
from tests.support.resumable_cases import small


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("trained") / "run"
  maxrl_jax.runs.train(small(runs=2), workdir)
  return workdir


def test_loaded_runs_score_as_their_summary_says(folder):
  run = maxrl_jax.runs.load(folder)
  assert run.step == run.config.steps == 60
  evaluate = evaluation.make_evaluate(run.trainer, ks=(4,), rollouts=256)
  summary = json.loads((folder / "summary.json").read_text())
  scores = evaluate("test", run.states)
  np.testing.assert_allclose(scores["pass@4"], summary["test/pass@4"])


def test_their_metrics_are_columns(folder):
  run = maxrl_jax.runs.load(folder)
  lines = [
    *map(json.loads, (folder / "metrics.jsonl").read_text().split("\n")[:-1])
  ]
  assert run.metrics["step"].tolist() == [line["step"] for line in lines]
  np.testing.assert_allclose(
    run.metrics["train/pass_rate"], [line["pass_rate"] for line in lines]
  )
  # Evaluated every 20 steps, logged every 10.
  evaluated = np.isfinite(run.metrics["validation/pass@1"]).all(1)
  assert evaluated.tolist() == ["validation/pass@1" in line for line in lines]


def test_they_are_what_the_config_trains(folder):
  run = maxrl_jax.runs.load(folder)
  *_, (_, states, _) = training.chunks(run.trainer, run.config)
  jax.tree.map(np.testing.assert_array_equal, states, run.states)


def test_the_best_has_the_highest_score(folder, tmp_path):
  copy = shutil.copytree(folder, tmp_path / "copy")
  run = maxrl_jax.runs.load(copy)
  worse = run.states.replace(step=run.states.step + 20)
  with checkpoints.Checkpoints(copy / "checkpoints", keep_last=3) as store:
    store.save(worse, checkpoints.about(copy / "checkpoints"), -5.0)
  assert maxrl_jax.runs.load(copy).step == 80
  assert maxrl_jax.runs.load(copy, best=True).step == 60


def test_damage_is_a_warning_and_stays_where_it_is(folder, tmp_path):
  copy = shutil.copytree(folder, tmp_path / "copy")
  (copy / "checkpoints" / "60" / "_CHECKPOINT_METADATA").write_text("{")
  before = sorted(p.name for p in (copy / "checkpoints").iterdir())
  with pytest.warns(UserWarning, match="60 is damaged"):
    assert maxrl_jax.runs.load(copy).step == 40
  assert sorted(p.name for p in (copy / "checkpoints").iterdir()) == before


def test_folders_without_runs_say_so(folder, tmp_path):
  with pytest.raises(ValueError, match=r"has no config\.json"):
    maxrl_jax.runs.load(tmp_path)
  (tmp_path / "config.json").write_text((folder / "config.json").read_text())
  with pytest.raises(ValueError, match=r"no checkpoint yet; .* after 20 steps"):
    maxrl_jax.runs.load(tmp_path)


def test_a_task_of_ones_own_is_asked_for(tmp_path):
  config = small()
  task = training.make_train(config).task
  maxrl_jax.runs.train(config, tmp_path, task=task)
  assert maxrl_jax.runs.load(tmp_path, task=task).step == 60
  with pytest.raises(ValueError, match="with a task of your own; pass it as"):
    maxrl_jax.runs.load(tmp_path)
  with pytest.raises(
    ValueError, match=r"own_parts is \['task'\] there and None"
  ):
    maxrl_jax.runs.train(config, tmp_path)
  path = tmp_path / "config.json"
  fields = json.loads(path.read_text())
  del fields["own_parts"]
  fields["task"]["name"] = "mine"
  path.write_text(json.dumps(fields))
  with pytest.raises(ValueError, match="'mine' is not the library's; pass"):
    maxrl_jax.runs.load(tmp_path)
  path.write_text('{"model_type": "qwen2"}')
  with pytest.raises(ValueError, match=r"config\.json: is not one of exper"):
    maxrl_jax.runs.load(tmp_path)
  path.write_text("{")
  with pytest.raises(ValueError, match=r"config\.json is damaged"):
    maxrl_jax.runs.load(tmp_path)


def test_devices_and_what_runs_started_from_are_not_needed(folder, tmp_path):
  first = shutil.copytree(folder, tmp_path / "first")
  config = small(runs=2, steps=20)
  config.policy.checkpoint = str(first / "model-0")
  maxrl_jax.runs.train(config, tmp_path / "second")
  shutil.rmtree(first)
  path = tmp_path / "second" / "config.json"
  path.write_text(path.read_text().replace('"data": null', '"data": 64'))
  run = maxrl_jax.runs.load(tmp_path / "second")
  assert run.step == 20 and run.config.mesh.data == 64
  run.config.steps = 40
  longer = training.chunks(run.trainer, run.config, states=run.states)
  assert [step for step, *_ in longer][-1] == 40


def test_a_task_without_a_test_split_is_refused_before_training(tmp_path):
  task = training.make_train(small()).task
  splits = {"validation": task.splits["validation"]}
  task = dataclasses.replace(task, splits=splits)
  with pytest.raises(ValueError, match="split = 'test': choose from"):
    maxrl_jax.runs.train(small(), tmp_path, task=task)


def test_a_task_of_other_shapes_is_named(folder):
  other = training.make_train(small(**{"task.num_prompts": 4}))
  with pytest.raises(
    ValueError, match=r"logits'\] has shape \(2, 8, 16\) there, \(2, 4, 16\)"
  ):
    maxrl_jax.runs.load(folder, task=other.task, policy=other.policy)
