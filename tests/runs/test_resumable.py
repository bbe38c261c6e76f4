"""Runs that are interrupted end as if they had not been."""

import json
import os
import shutil
import signal
import threading

import jax
import numpy as np
import pytest

from maxrl_jax import evaluation
from maxrl_jax.config import RATE
from maxrl_jax.learning import training
from maxrl_jax.runs import folders, loggers, train_to_folder
from maxrl_jax.runs.interrupts import Interruptions, Stopped, until_stopped
from maxrl_jax.runs.resume import Resumable
from tests.support.extent import long
from tests.support.resumable_cases import final, small


def _same_runs(config, one, other):
  assert (one / "metrics.jsonl").read_bytes() == (
    other / "metrics.jsonl"
  ).read_bytes()
  a, b = (final(config, workdir) for workdir in (one, other))
  assert a.step == b.step == config.steps
  jax.tree.map(np.testing.assert_array_equal, a.states, b.states)
  a, b = (json.loads((w / "summary.json").read_text()) for w in (one, other))
  assert a | {"seconds": 0} == b | {"seconds": 0}


def _signalled(monkeypatch, number, at: int):
  """The process gets a signal while it evaluates for the `at`-th time."""
  count, make = 0, evaluation.make_evaluate

  def trainer(*arguments):
    evaluate = make(*arguments)

    def once(split, states):
      nonlocal count
      count += 1
      if count == at:
        os.kill(os.getpid(), number)
      return evaluate(split, states)

    return once

  monkeypatch.setattr(evaluation, "make_evaluate", trainer)


@pytest.mark.parametrize("number", [signal.SIGTERM, long(signal.SIGINT)])
@pytest.mark.parametrize(
  "changes",
  [
    long({}),
    {"runs": 2},
    long(
      {
        "off_policy.name": "clipped",
        "off_policy.updates": 2,
        "off_policy.staleness": 3,
      }
    ),
    long(
      {
        "estimator.name": "sequential",
        "estimator.cap": 64,
        "estimator.order": None,
        "rollouts": 4,
      }
    ),
  ],
)
def test_a_stopped_run_goes_on_to_the_same_bits(
  monkeypatch, tmp_path, capfd, number, changes
):
  config = small(**changes)
  train_to_folder.train(config, tmp_path / "whole")
  _signalled(monkeypatch, number, at=2)
  with pytest.raises(Stopped, match="stopped; run the same command"):
    train_to_folder.train(config, tmp_path / "stopped")
  assert "repeat to stop at once" in capfd.readouterr().err
  assert not (tmp_path / "stopped" / "summary.json").exists()
  train_to_folder.train(config, tmp_path / "stopped")
  assert "resuming from step 40 of 60" in capfd.readouterr().err
  _same_runs(config, tmp_path / "whole", tmp_path / "stopped")


def test_lines_after_the_last_checkpoint_are_written_once(tmp_path):
  """A run killed between a line, torn at that, and the next checkpoint."""
  config = small(**{"checkpoint.every": 20})
  train_to_folder.train(config, tmp_path / "whole")
  train_to_folder.train(config, tmp_path / "torn")
  folder = tmp_path / "torn"
  for place in (folder / "checkpoints").iterdir():
    if place.name == "60":
      place.rename(folder / "gone")
  (folder / "summary.json").unlink()
  with open(folder / "metrics.jsonl", "a") as file:
    file.write('{"step": 70, "pass_ra')
  train_to_folder.train(config, folder)
  _same_runs(config, tmp_path / "whole", folder)


def test_after_the_last_step_only_the_summary_is_made(monkeypatch, trained):
  config = small()
  first = json.loads((trained / "summary.json").read_text())
  (trained / "summary.json").unlink()
  never = training.make_train(config)._replace(advance=None)
  monkeypatch.setattr(training, "make_train", lambda *_, **__: never)
  again = train_to_folder.train(config, trained)
  assert again | {"seconds": 0} == first | {"seconds": 0}


def test_a_finished_run_is_not_trained_again(trained, capsys):
  config = small()
  first = json.loads((trained / "summary.json").read_text())
  assert train_to_folder.train(config, trained) == first
  assert "is finished" in capsys.readouterr().err
  (trained / "mine.json").write_text("{}")
  fresh = train_to_folder.train(config, trained, fresh=True)
  assert fresh | {"seconds": 0} == first | {"seconds": 0}
  assert (trained / "mine.json").exists()


def test_damage_is_reported_and_the_run_ends_the_same(trained, capsys):
  config = small()
  harmed = shutil.copytree(trained, trained.with_name("harmed"))
  (harmed / "summary.json").unlink()
  newest = harmed / "checkpoints" / "60"
  (newest / "_CHECKPOINT_METADATA").write_text("")
  with pytest.warns(UserWarning, match=f"{newest} is damaged"):
    train_to_folder.train(config, harmed)
  assert "resuming from step 40" in capsys.readouterr().err
  _same_runs(config, trained, harmed)


def test_a_checkpoint_knows_where_it_comes_from(monkeypatch, trained, capsys):
  config = small()
  about = final(config, trained).origin
  assert about["config"] == json.loads(config.to_json())
  environment = json.loads((trained / "environment.json").read_text())
  assert about["environment"] == environment
  assert environment["versions"]["jax"] == jax.__version__
  other = environment | {"device": "abacus"}
  other["versions"] = environment["versions"] | {"jax": "99.0"}
  monkeypatch.setattr(folders, "environment", lambda: other)
  (trained / "summary.json").unlink()
  train_to_folder.train(config, trained)
  stderr = capsys.readouterr().err
  assert f"jax was {jax.__version__} and is 99.0" in stderr
  assert "and is abacus: results may differ from" in stderr


def test_the_best_policy_is_given_back(tmp_path):
  config = small(**{"optimizer.learning_rate": 0.01})
  run = Resumable(training.make_train(config), config, tmp_path / "run")
  with pytest.raises(ValueError, match="has no checkpoint"):
    run.best()
  scores = iter([0.2, 0.7, 0.3])

  def measure(step, states, metrics):
    if step % 20:
      return {}
    return {"validation/pass@1": np.array([next(scores)])}

  saved_states = {}
  for step in run.chunks(measure):
    saved_states[step] = jax.tree.map(np.array, run.states)
  assert run.step == 60
  jax.tree.map(np.testing.assert_array_equal, run.best(), saved_states[40])


def test_a_repeated_signal_ends_the_process(monkeypatch):
  """After a second: a group and a parent may both pass on one request."""
  before = signal.getsignal(signal.SIGINT)
  ends = []
  with Interruptions() as interruptions:
    os.kill(os.getpid(), signal.SIGINT)
    assert interruptions.asked_to_stop
    os.kill(os.getpid(), signal.SIGTERM)  # Would end pytest.
    monkeypatch.setattr(Interruptions, "_ONE_REQUEST", -1.0)
    monkeypatch.setattr(os, "kill", lambda *signalled: ends.append(signalled))
    signal.raise_signal(signal.SIGTERM)
    assert ends == [(os.getpid(), signal.SIGTERM)]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
  assert signal.getsignal(signal.SIGINT) == before


def test_a_signal_after_the_last_chunk_stops_too():
  """A study evaluates then; its next program must not begin."""

  def chunks():
    yield 1
    os.kill(os.getpid(), signal.SIGTERM)

  with pytest.raises(Stopped):
    until_stopped(chunks())


def test_chunks_run_outside_the_main_thread_too():
  chunks = []
  thread = threading.Thread(
    target=lambda: until_stopped((x for x in "abc"), chunks.append)
  )
  thread.start()
  thread.join()
  assert chunks == ["a", "b", "c"]


def test_an_ignored_signal_stays_so():
  """As Ctrl-C is in workers, whose parent asks them by SIGTERM."""
  before = signal.signal(signal.SIGINT, signal.SIG_IGN)
  try:
    with Interruptions() as interruptions:
      os.kill(os.getpid(), signal.SIGINT)
      assert not interruptions.asked_to_stop
      os.kill(os.getpid(), signal.SIGTERM)
      assert interruptions.asked_to_stop
      assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
  finally:
    signal.signal(signal.SIGINT, before)


def test_json_has_null_where_there_is_no_number():
  line = {"a": np.array([np.nan]), "b": np.array([1.0])}
  assert loggers.plain(line, 1) == {"a": None, "b": 1.0}
  line = {"a": np.array([np.inf, 2.0])}
  assert json.dumps(loggers.plain(line, 2)) == '{"a": [null, 2.0]}'


def _states_after(config, step, **options):
  trainer = training.make_train(config)
  for done, states, _ in training.chunks(trainer, config, **options):
    if done == step:
      return trainer, jax.tree.map(np.asarray, states)
  raise AssertionError(step)


@pytest.mark.parametrize(
  ("changes", "options", "message"),
  [
    ({"optimizer.learning_rate": 0.7}, {}, r"learning_rate = 0.7: the states"),
    ({}, {"hyper": {RATE: [0.7]}}, "rate = 0.7: .* have 0.3;"),
    (
      {"steps": 50, "log_every": 50, "eval_every": 50},
      {},
      "log_every = 50: must divide the 40 steps that are left after step 10",
    ),
  ],
)
def test_states_of_another_run_are_not_gone_on_with(changes, options, message):
  _, states = _states_after(small(), 10)
  config = small(**changes)
  trainer = training.make_train(config)
  with pytest.raises(ValueError, match=message):
    next(training.chunks(trainer, config, states=states, **options))


def test_checkpoints_of_other_seeds_are_not_gone_on_with(tmp_path):
  config = small()
  trainer = training.make_train(config)
  run = Resumable(trainer, config, tmp_path, seeds=[3])
  for _ in run.chunks(lambda step, states, metrics: {}):
    pass
  assert Resumable(trainer, config, tmp_path, seeds=[3]).step == 60
  with pytest.raises(ValueError, match=r"seeds = \[0\]: .* seeds \[3\]"):
    Resumable(trainer, config, tmp_path)


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"task.num_prompts": 4}, "task.num_prompts is 8 there and 4 here"),
    long(
      {"optimizer.name": "sgd"}, "optimizer.name is adam there and sgd here"
    ),
  ],
)
def test_checkpoints_of_another_config_name_the_field(
  trained, tmp_path, changes, message
):
  with pytest.raises(ValueError, match=message):
    final(small(**changes), trained)
  assert final(small(steps=120), trained).step == 60
  cosine = {"optimizer.schedule": "cosine"}
  train_to_folder.train(small(**cosine), tmp_path / "cosine")
  with pytest.raises(ValueError, match="steps is 60 there and 120 here"):
    final(small(**cosine, steps=120), tmp_path / "cosine")


def test_an_origin_may_be_anything(tmp_path):
  config = small()
  trainer = training.make_train(config)
  origin = {"config": "baseline"}
  folder = tmp_path / "checkpoints"
  for _ in Resumable(trainer, config, folder).chunks(
    lambda *_: {}, origin=origin
  ):
    pass
  assert Resumable(trainer, config, folder).origin == origin
  (tmp_path / "config.json").write_text(config.to_json())
  with pytest.raises(ValueError, match="is from a loop of your own"):
    train_to_folder.train(config, tmp_path)


def test_a_policy_of_other_shapes_names_the_parameter(tmp_path):
  """A loop of one's own may not save its config."""
  for count in (8, 4):
    config = small(**{"task.num_prompts": count})
    trainer = training.make_train(config)
    if count == 8:
      for _ in Resumable(trainer, config, tmp_path).chunks(lambda *_: {}):
        pass
      continue
    with pytest.raises(ValueError, match=r"logits'\] has shape \(1, 8, 16\)"):
      Resumable(trainer, config, tmp_path)
