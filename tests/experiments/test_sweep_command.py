"""The command that sweeps: its report, other sweeps, and kills."""

import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import xarray as xr

from tests.support.entry_points import ROOT, command

pytestmark = pytest.mark.long


def _flags(workdir, *flags):
  fields = [
    f"--config.{name}={value}"
    for name, value in {
      "steps": 40,
      "log_every": 10,
      "eval_every": 20,
      "task.num_prompts": 7,
      "task.num_arms": 4,
      "task.hardest": 0.05,
      "rollouts": 8,
    }.items()
  ]
  config = f"--config={ROOT / 'configs/bandit.py'}"
  return [config, f"--workdir={workdir}", *fields, *flags]


def _run(workdir, *flags):
  return command("experiments.sweep", *_flags(workdir, *flags))


def test_the_command_sweeps_and_reports(tmp_path):
  flags = ("--grid=estimator.order=1,4;optimizer.learning_rate=0.1,0.3",)
  done = _run(tmp_path / "w", *flags, "--seeds=4")
  assert done.returncode == 0, done.stderr
  assert "16 runs in 1 program, 16 to do" in done.stderr
  assert re.search(r"about \d+ s left; .* GiB of memory", done.stderr)
  page = (tmp_path / "w" / "report.html").read_text()
  for words in ("T = 1", "T = 4", "3 other seeds", "Holm", "--seeds=4"):
    assert words in page, words
  assert "://" not in page  # Base64 may spell http.
  again = _run(tmp_path / "w", *flags, "--seeds=4")
  assert again.returncode == 0 and "to do" not in again.stderr


def test_a_killed_sweep_goes_on(tmp_path):
  flags = ("--grid=rollouts=4,8,16", "--seeds=2")
  flags += ("--config.steps=4000", "--config.log_every=100")
  flags += ("--config.eval_every=2000",)
  process = subprocess.Popen(
    [sys.executable, "-m", "experiments.sweep", *_flags(tmp_path, *flags)],
    cwd=ROOT,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  runs = tmp_path / "runs"
  for _ in range(1200):
    if list(runs.glob("*.npz")):
      break
    time.sleep(0.05)
  process.send_signal(signal.SIGKILL)
  process.wait()
  finished = {p.name: p.stat().st_mtime_ns for p in runs.glob("*.npz")}
  assert 1 <= len(finished) < 6
  done = _run(tmp_path, *flags)
  assert done.returncode == 0, done.stderr
  assert len(xr.load_dataset(tmp_path / "runs.nc")["run"]) == 6
  for name, stamp in finished.items():
    assert (runs / name).stat().st_mtime_ns == stamp


def test_seeds_and_orders_are_added_to_a_sweep(tmp_path):
  def sweep(folder, seeds, orders="1,4"):
    grid = f"--grid=estimator.order={orders}"
    done = _run(folder, grid, f"--seeds={seeds}")
    assert done.returncode == 0, done.stderr
    return done.stderr, xr.load_dataset(folder / "runs.nc")

  messages, first = sweep(tmp_path / "w", 2)
  assert "4 runs in 1 program, 4 to do" in messages
  messages, more = sweep(tmp_path / "w", 5)
  assert "10 runs in 1 program, 6 to do" in messages
  assert more["seed"].values.tolist() == [0, 1, 2, 3, 4] * 2
  assert more["estimator_order"].values.tolist() == [1] * 5 + [4] * 5
  # Fewer: only those that were asked for; the others stay on disk.
  messages, fewer = sweep(tmp_path / "w", 2)
  assert "to do" not in messages
  xr.testing.assert_identical(fewer.drop_attrs(), first.drop_attrs())
  summary = (tmp_path / "w" / "summary.csv").read_text().splitlines()
  assert len(summary) == 1 + 4
  messages, again = sweep(tmp_path / "w", 5)
  assert "to do" not in messages
  xr.testing.assert_identical(again.drop_attrs(), more.drop_attrs())
  messages, _ = sweep(tmp_path / "w", 2, "1,4,6")
  assert "6 runs in 1 program, 2 to do" in messages
  # Each as if all had been trained at once.
  _, whole = sweep(tmp_path / "whole", 5)
  xr.testing.assert_allclose(
    more.drop_vars("seconds"), whole.drop_vars("seconds"), rtol=1e-4, atol=1e-5
  )


def test_points_that_two_sweeps_share_are_trained_once(tmp_path):
  """Whichever fields are swept, and whatever the config says of these."""

  def sweep(grid, *flags):
    done = _run(tmp_path, f"--grid={grid}", "--seeds=2", *flags)
    assert done.returncode == 0, done.stderr
    return done.stderr, xr.load_dataset(tmp_path / "runs.nc")

  score = "test_pass@1"
  _, first = sweep("estimator.order=1,4")
  # Another axis, through a point of the first sweep.
  messages, second = sweep("rollouts=8,4", "--config.estimator.order=4")
  assert "4 runs in 2 programs, 2 to do" in messages
  np.testing.assert_array_equal(
    second[score][second["rollouts"].values == 8],
    first[score][first["estimator_order"].values == 4],
  )
  # A field that is swept has no other value.
  messages, _ = sweep("estimator.order=1,4", "--config.estimator.order=2")
  assert "to do" not in messages
  messages, again = sweep("estimator.order=1,4")
  assert "to do" not in messages
  xr.testing.assert_identical(again.drop_attrs(), first.drop_attrs())
  assert len(list((tmp_path / "runs").glob("*.npz"))) == 6


def test_a_fresh_sweep_repeats_its_runs_and_leaves_other_files(tmp_path):
  flags = ("--grid=estimator.order=1,4", "--seeds=1")
  assert _run(tmp_path / "w", *flags, "--fresh").returncode == 0
  (tmp_path / "w" / "mine.txt").touch()
  more = _run(tmp_path / "w", *flags, "--config.rollouts=4")
  assert "2 to do" in more.stderr
  wrong = _run(tmp_path / "w", *flags, "--fresh", "--config.rollouts=0")
  assert wrong.returncode == 2
  runs = tmp_path / "w" / "runs"
  assert len(list(runs.glob("*.npz"))) == 4
  done = _run(tmp_path / "w", *flags, "--fresh")
  assert done.returncode == 0, done.stderr
  assert "2 runs in 1 program, 2 to do" in done.stderr
  assert len(list(runs.glob("*.npz"))) == 2
  assert (tmp_path / "w" / "mine.txt").exists()


def test_a_folder_of_something_else_is_no_sweeps(tmp_path):
  (tmp_path / "runs").mkdir()
  (tmp_path / "runs" / "thesis.tex").touch()
  (tmp_path / "config.json").write_text("{}")
  done = _run(tmp_path, "--grid=estimator.order=1,4", "--fresh")
  assert done.returncode == 2
  assert "is not empty and has no sweep.json" in done.stderr
  assert (tmp_path / "runs" / "thesis.tex").exists()


def test_the_study_of_a_figure_can_be_swept(tmp_path):
  done = command(
    "experiments.sweep",
    *("--figure=bandit", "--seeds=2", f"--workdir={tmp_path}"),
    *("--set=orders=1,3", "--set=steps=80", "--set=rollouts=8"),
  )
  assert done.returncode == 0, done.stderr
  data = xr.load_dataset(tmp_path / "runs.nc")
  assert data["estimator_order"].values.tolist() == [1, 1, 3, 3]
  assert data["probe_bands"].shape == (4, 41, 4)
  assert (tmp_path / "report.html").exists()
