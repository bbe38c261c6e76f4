"""Short forms of tests/faults: each must find nothing wrong."""

import signal
import subprocess
import sys
import time

import pytest
from absl import logging

from maxrl_jax.learning import training
from maxrl_jax.runs import folders
from maxrl_jax.runs.interrupts import RESUMABLE
from tests.faults import configs, damage, full_disk, groups, kills

pytestmark = pytest.mark.long


def test_killed_runs_end_as_their_twins():
  records = kills.trial(["bandit"], 4, seed=3)
  assert sum(len(record["doing"]) for record in records) == 4
  assert not any(record["differences"] for record in records), records


def test_damage_is_never_read_as_if_whole():
  before = logging.get_verbosity()
  logging.set_verbosity(logging.FATAL)
  records = damage.grid(places=2)
  logging.set_verbosity(before)
  wrong = [record for record in records if record[2].startswith("WRONG")]
  assert not wrong
  actual = {record[2] for record in records}
  assert actual == {"reported", "harmless"}


def test_a_harness_that_sees_other_states_says_so(tmp_path):
  saved_states = damage.saved(tmp_path)
  states, about = saved_states[max(saved_states)]
  saved_states[max(saved_states)] = states.replace(step=states.step + 1), about
  assert damage.outcome(tmp_path, saved_states).startswith(
    "WRONG: other contents"
  )


_MOUNTS = pytest.mark.skipif(
  not full_disk.can_mount(), reason="mounting needs root"
)


@_MOUNTS
def test_a_full_disk_is_reported(tmp_path):
  kills.whole("bandit", tmp_path / "twin")
  record = full_disk.trial("bandit", 64 * 2**10, tmp_path / "twin")
  assert record["exit code"] == 1
  assert not full_disk.wrong(record), record


@_MOUNTS
def test_a_data_set_does_not_fit():
  """HDF5, writing to the disk itself, ended the process with SIGSEGV."""
  write = (
    "import pathlib, sys, numpy as np, xarray as xr\n"
    "from maxrl_jax.runs import dataset\n"
    "data = xr.Dataset({'x': (('run', 'step'), np.random.rand(50, 99))})\n"
    "data = data.assign_coords(step=range(99), eval_step=('eval_step', [0]))\n"
    "dataset.write(data, pathlib.Path(sys.argv[1]))"
  )
  with full_disk.small_disk(16 * 2**10) as disk:
    done = subprocess.run(
      [sys.executable, "-c", write, disk], capture_output=True, text=True
    )
  assert done.returncode == 1
  assert "OSError: [Errno 28] No space left on device" in done.stderr


@_MOUNTS
def test_a_folder_that_cannot_be_written_is_reported(tmp_path):
  with full_disk.small_disk(2**20) as disk:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with pytest.raises(
      ValueError, match=r"cannot write there \(Read-only file"
    ):
      folders.make(disk)


def test_hostile_configs_name_their_fields():
  counts = configs.trial(count=60)
  assert counts.total() >= 60
  assert {"refused", "traced"} <= counts.keys()


def test_a_config_that_names_no_field_is_found(monkeypatch):
  def refuse(config):
    raise ValueError("something is wrong")

  monkeypatch.setattr(training, "make_train", refuse)
  with pytest.raises(AssertionError, match="names no field"):
    configs.trial(count=5)


@pytest.mark.parametrize(
  ("kind", "checkpoints"),
  [
    ("bandit", "checkpoints/[0-9]*"),
    ("sweep", "runs/unfinished-*/checkpoints/[0-9]*"),
  ],
)
def test_a_terminated_process_ends_in_time_with_its_code(
  tmp_path, kind, checkpoints
):
  command = kills.command(kind, tmp_path / "run")
  process = subprocess.Popen(
    [*command, "--config.steps=1000000"], stderr=subprocess.PIPE, text=True
  )
  while not any((tmp_path / "run").glob(checkpoints)):
    assert process.poll() is None
    time.sleep(0.1)
  process.send_signal(signal.SIGTERM)
  _, message = process.communicate(timeout=30)
  assert process.returncode == RESUMABLE == 75
  assert (
    message.splitlines()[-1] == "stopped; run the same command again to resume"
  )


def test_hostile_groups_are_finite_and_near_float64():
  worst = groups.trial(count=2000, seed=1, sizes=(1, 2, 5, 33))
  assert len(worst) == len(groups.ESTIMATORS) * len(groups.KINDS)
  wrong = {k: v for k, v in worst.items() if not v <= groups.TOLERANCE}
  assert not wrong
