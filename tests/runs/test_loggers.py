"""Metrics arrive in callbacks, TensorBoard and W&B, every step once."""

import importlib.util
import json
import struct
import sys
import time
import types

import numpy as np
import pytest

from maxrl_jax.runs import loggers, train_to_folder
from tests.support.entry_points import command
from tests.support.resumable_cases import small

_MISSING = "pip install -e '.[log]'"


def _lines(workdir):
  text = (workdir / "metrics.jsonl").read_text()
  return [json.loads(line) for line in text.splitlines()]


class _Killed(Exception):
  pass


def _stop_after(steps):
  def stop(step, metrics):
    if step == steps:
      raise _Killed

  return stop


def _train_in_parts(config, workdir, log):
  """Killed after 30 steps, of which a checkpoint has 20; then to the end."""
  with pytest.raises(_Killed):
    train_to_folder.train(config, workdir, log=log, on_chunk=_stop_after(30))
  for place in (workdir / "checkpoints").iterdir():
    if place.name == "30":  # A kill would not have saved it.
      place.rename(workdir / "gone")
  train_to_folder.train(config, workdir, log=log)


@pytest.mark.long
def test_a_callback_gets_every_chunk_of_its_command(tmp_path):
  config = small(runs=2)
  calls = []
  with pytest.raises(_Killed):
    train_to_folder.train(config, tmp_path, on_chunk=_stop_after(20))
  train_to_folder.train(
    config, tmp_path, on_chunk=lambda *given: calls.append(given)
  )
  lines = _lines(tmp_path)
  assert [line.pop("step") for line in lines] == [10, 20, 30, 40, 50, 60]
  assert [step for step, _ in calls] == [30, 40, 50, 60]
  for (_, metrics), line in zip(calls, lines[2:], strict=True):
    plain = {
      name.removeprefix("train/"): values.tolist()
      for name, values in metrics.items()
    }
    assert plain == line
  assert "train/loss" in calls[0][1]
  assert calls[1][1]["validation/pass@1"].shape == (2,)


@pytest.mark.long
def test_a_callback_cannot_change_what_is_saved(tmp_path):
  def clear(step, metrics):
    metrics.clear()

  train_to_folder.train(small(), tmp_path, on_chunk=clear)
  assert all("loss" in line for line in _lines(tmp_path))
  assert (tmp_path / "runs.nc").exists()


def test_a_backend_that_is_unknown_or_missing_is_refused(tmp_path, monkeypatch):
  workdir = tmp_path / "none"
  with pytest.raises(ValueError, match=r"log = 'tensorbord': did you mean"):
    train_to_folder.train(small(), workdir, log=["tensorbord"])
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  for names, packages in (
    ("tensorboard", "tensorboardX"),
    ("wandb", "wandb"),
    ("tensorboard,wandb", "tensorboardX, wandb"),
  ):
    message = rf"log = '{names}': not installed: {packages}; run pip install -e"
    with pytest.raises(ValueError, match=message):
      train_to_folder.train(small(), workdir, log=names.split(","))
  assert not workdir.exists()


@pytest.fixture
def events():
  """Folder of a TensorBoard run → what reads name → [(step, value)]."""
  pytest.importorskip("tensorboardX", reason=_MISSING)
  reader = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator", reason=_MISSING
  )

  def read(folder):
    accumulator = reader.EventAccumulator(str(folder))

    def scalars():
      accumulator.Reload()
      return {
        name: [(e.step, e.value) for e in accumulator.Scalars(name)]
        for name in accumulator.Tags()["scalars"]
      }

    return scalars

  return read


def test_tensorboard_has_every_step_once(tmp_path, events):
  config = small(runs=2, seed=5)
  _train_in_parts(config, tmp_path, ["tensorboard"])
  folder = tmp_path / "tensorboard"
  assert {p.name for p in folder.iterdir()} == {"seed-5", "seed-6", "mean"}
  lines = _lines(tmp_path)
  columns = {"seed-5": lambda x: x[0], "seed-6": lambda x: x[1]}
  columns["mean"] = lambda x: (x[0] + x[1]) / 2
  for series, column in columns.items():
    scalars = events(folder / series)()
    for tag, name in (
      ("train/loss", "loss"),
      ("train/pass_rate", "pass_rate"),
      ("validation/pass_1", "validation/pass@1"),  # No @ in TensorBoard.
    ):
      expected = [(x["step"], column(x[name])) for x in lines if name in x]
      assert [s for s, _ in scalars[tag]] == [s for s, _ in expected]
      np.testing.assert_allclose(scalars[tag], expected, rtol=1e-6)


def test_a_tensorboard_that_is_open_sees_every_step_once(tmp_path, events):
  config = small(**{"optimizer.schedule": "constant"})
  train_to_folder.train(config, tmp_path, log=["tensorboard"])
  assert [p.name for p in (tmp_path / "tensorboard").iterdir()] == ["seed-0"]
  read = events(tmp_path / "tensorboard" / "seed-0")
  assert [s for s, _ in read()["train/loss"]] == [10, 20, 30, 40, 50, 60]
  config.steps = 80
  time.sleep(1)  # Files are named by the second.
  train_to_folder.train(config, tmp_path, log=["tensorboard"])
  expected = [10, 20, 30, 40, 50, 60, 70, 80]
  assert [s for s, _ in read()["train/loss"]] == expected


def test_the_command_logs_where_it_is_told_to(tmp_path, events):
  steps = ("--config.steps=20", "--config.log_every=10")
  done = command(
    "experiments.train",
    *("--config=configs/bandit.py", *steps, "--config.eval_every=20"),
    *("--log=tensorboard", f"--workdir={tmp_path}"),
  )
  assert done.returncode == 0, done.stderr
  scalars = events(tmp_path / "tensorboard" / "seed-0")()
  assert [step for step, _ in scalars["train/loss"]] == [10, 20]
  assert not (tmp_path / "wandb").exists()


@pytest.fixture
def wandb(monkeypatch):
  monkeypatch.setenv("WANDB_MODE", "offline")
  monkeypatch.setenv("WANDB_X_DISABLE_STATS", "true")
  wandb = pytest.importorskip("wandb", reason=_MISSING)
  yield wandb
  wandb.teardown()


def _records(data):
  """Of a .wandb file: LevelDB's log format, in blocks of 32 KiB."""
  place, parts = 7, b""  # After ":W&B", a magic number and a version.
  while place < len(data):
    if 2**15 - place % 2**15 < 7:  # No head of a record fits into the block.
      place += 2**15 - place % 2**15
      continue
    _, size, kind = struct.unpack("<IHB", data[place : place + 7])
    parts += data[place + 7 : place + 7 + size]
    place += 7 + size
    if kind in (1, 4):  # Whole, or the last part.
      yield parts
      parts = b""


def _history(path):
  """(step, metrics) of each record of a .wandb file, and its run."""
  from wandb.proto.wandb_internal_pb2 import Record

  records = list(map(Record.FromString, _records(path.read_bytes())))
  rows = [
    (
      x.history.step.num,
      {
        item.key or "/".join(item.nested_key): json.loads(item.value_json)
        for item in x.history.item
      },
    )
    for x in records
    if x.WhichOneof("record_type") == "history"
  ]
  (run,) = [x.run for x in records if x.WhichOneof("record_type") == "run"]
  return rows, run


def test_wandb_has_every_step_once(tmp_path, wandb):
  config = small(runs=2, seed=5)
  workdir = tmp_path / "mine"
  _train_in_parts(config, workdir, ["wandb"])
  lines = _lines(workdir)
  for i, seed in enumerate((5, 6)):
    (path,) = (workdir / "wandb").glob(f"offline-*/*-seed-{seed}.wandb")
    rows, run = _history(path)
    assert (run.project, run.run_group) == ("maxrl_jax", "mine")
    assert run.display_name == f"mine-seed-{seed}"
    assert [step for step, _ in rows] == [10, 20, 30, 40, 50, 60]
    for (_, row), line in zip(rows, lines, strict=True):
      assert row["train/loss"] == line["loss"][i]
      assert ("validation/pass@1" in row) == ("validation/pass@1" in line)


def test_wandb_without_a_login_is_one_line(tmp_path, wandb, monkeypatch):
  monkeypatch.setenv("WANDB_MODE", "online")
  monkeypatch.setenv("HOME", str(tmp_path))
  for name in ("WANDB_API_KEY", "NETRC"):
    monkeypatch.delenv(name, raising=False)
  message = "log = 'wandb': .*`wandb login`.*, or set WANDB_MODE=offline"
  with pytest.raises(ValueError, match=message):
    train_to_folder.train(small(), tmp_path / "run", log=["wandb"])


class _Server:
  """A W&B module whose server has the steps before 30 of every run."""

  Settings = dict
  errors = types.SimpleNamespace(UsageError=_Killed)

  def __init__(self):
    self.runs = []

  def init(self, **options):
    rows = []
    run = types.SimpleNamespace(
      **options,
      starting_step=30,
      rows=rows,
      log=lambda row, step: rows.append(step),
      finish=lambda code: rows.append(f"exit {code}"),
    )
    self.runs.append(run)
    return run


def test_wandb_is_sent_what_its_server_lacks(tmp_path, monkeypatch):
  server = _Server()
  monkeypatch.setitem(sys.modules, "wandb", server)
  monkeypatch.setenv("WANDB_PROJECT", "thesis")
  config = small(seed=2)
  with loggers.opened(["wandb"], tmp_path, config) as write:
    for step in (10, 20, 30, 40):
      write(step, {"train/loss": np.array([0.5])})
  with pytest.raises(_Killed), loggers.opened(["wandb"], tmp_path, config):
    raise _Killed
  first, second = server.runs
  assert (first.rows, second.rows) == ([30, 40, "exit 0"], ["exit 1"])
  assert first.id == second.id and first.id.endswith("-seed-2")
  assert (first.resume, first.project) == ("allow", "thesis")
