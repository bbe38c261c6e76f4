"""Runs on disk: computed once, by one process at a time, and shared."""

import os
import pathlib
import shutil
import signal
import time
from concurrent import futures

import numpy as np
import pytest
import xarray as xr

from maxrl_jax.runs import cache, programs, progress, study
from maxrl_jax.runs.interrupts import Stopped
from maxrl_jax.runs.measure import Measure
from maxrl_jax.runs.slices import Slices
from tests.support.resumable_cases import small


def test_two_processes_do_not_train_the_same_run(tmp_path):
  """The second one waits, and reads what the first one has written."""
  calls = []

  def compute(unfinished):
    calls.append(unfinished.exists())
    time.sleep(0.5)
    return {"x": np.arange(3)}

  def one(_):
    return cache.cached(tmp_path, "a-run", compute)["x"]

  with futures.ThreadPoolExecutor(2) as pool:
    results = list(pool.map(one, range(2)))
  assert calls == [True]
  np.testing.assert_array_equal(results, [[0, 1, 2]] * 2)
  names = {p.name for p in tmp_path.iterdir()}
  assert names == {".locks", "a-run.npz"}


def test_a_stopped_study_resumes_to_the_same_bits(tmp_path, monkeypatch):
  """SIGTERM after 10 or 40 of 60 steps; checkpoints are then on disk."""
  grid = {"optimizer.learning_rate": [0.1, 0.3]}
  what = study.study(small(), grid, (3, 4))
  whole = study.run(what, tmp_path / "whole")
  add = progress.Estimate.add
  for stop in (10, 40):

    def stopping(self, steps, stop=stop):
      add(self, steps)
      if self._done == 4 * stop:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(progress.Estimate, "add", stopping)
    with pytest.raises(Stopped):
      study.run(what, tmp_path / "stopped")
    (folder,) = (tmp_path / "stopped").glob("unfinished-*/checkpoints")
    assert (folder / str(stop)).exists()
  monkeypatch.setattr(progress.Estimate, "add", add)
  again = study.run(what, tmp_path / "stopped")
  xr.testing.assert_identical(
    again.drop_vars("seconds"), whole.drop_vars("seconds")
  )


def test_a_new_field_that_is_not_set_changes_no_key():
  """Runs stay cached when the library gets another option."""
  config = small()
  before = programs.digest(config)
  with config.unlocked():
    config.task.another = None
  assert programs.digest(config) == before
  config.task.another = 3
  assert programs.digest(config) != before


def test_a_slice_that_another_process_finishes_is_skipped(
  tmp_path, monkeypatch
):
  (program,) = study.study(small(), None, (3, 4)).plan()
  slices = Slices(program, Measure(), tmp_path, None, 2, True)
  (tmp_path / "unfinished-a").mkdir()
  (tmp_path / "unfinished-a" / "runs.json").write_text("{}")
  read = pathlib.Path.read_text

  def finished(path, **options):
    shutil.rmtree(path.parent)
    return read(path, **options)

  monkeypatch.setattr(pathlib.Path, "read_text", finished)
  (left,) = slices.cut(set(program.keys.tolist()))
  assert left.rows.tolist() == [0, 1]


def test_a_run_that_is_not_on_disk_is_not_called_damaged(tmp_path):
  with pytest.raises(ValueError, match=r"\.npz does not exist: run the study"):
    study.load(study.study(small()), tmp_path)
