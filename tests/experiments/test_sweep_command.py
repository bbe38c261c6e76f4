"""The command that sweeps: its report, other sweeps, and kills."""

import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest
import xarray as xr

pytestmark = pytest.mark.long

_ROOT = pathlib.Path(__file__).parents[2]


def _command(workdir, *flags):
  config = [
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
  return [
    sys.executable,
    "-m",
    "experiments.sweep",
    f"--config={_ROOT / 'configs/bandit.py'}",
    f"--workdir={workdir}",
    *config,
    *flags,
  ]


def _run(workdir, *flags):
  return subprocess.run(
    _command(workdir, *flags),
    capture_output=True,
    text=True,
    cwd=_ROOT,
    check=False,
  )


def test_the_command_sweeps_reports_and_refuses_another_sweep(tmp_path):
  flags = ("--grid=estimator.order=1,4;optimizer.learning_rate=0.1,0.3",)
  done = _run(tmp_path / "w", *flags, "--seeds=4")
  assert done.returncode == 0, done.stderr
  assert "16 runs in 1 program:" in done.stderr
  assert re.search("16 runs in 1 slice, about .* of training\n", done.stderr)
  page = (tmp_path / "w" / "report.html").read_text()
  for words in ("T = 1", "T = 4", "3 other seeds", "Holm", "--seeds=4"):
    assert words in page, words
  assert "http" not in page.replace("http-equiv", "")
  before = (tmp_path / "w" / "runs.nc").read_bytes()
  other = _run(tmp_path / "w", "--grid=estimator.order=1,2", "--seeds=4")
  assert other.returncode == 2
  assert other.stderr.splitlines()[-1].startswith("error: workdir")
  assert "holds another experiment: grid.estimator.order" in other.stderr
  assert (tmp_path / "w" / "runs.nc").read_bytes() == before
  again = _run(tmp_path / "w", *flags, "--seeds=4")
  assert "0 runs to do" in again.stderr


def test_a_killed_sweep_goes_on(tmp_path):
  flags = ("--grid=rollouts=4,8,16", "--seeds=2")
  flags += ("--config.steps=4000", "--config.log_every=100")
  flags += ("--config.eval_every=2000",)
  process = subprocess.Popen(
    _command(tmp_path, *flags),
    cwd=_ROOT,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  slices = tmp_path / "slices"
  for _ in range(1200):
    if list(slices.glob("slice-*.npz")):
      break
    time.sleep(0.05)
  process.send_signal(signal.SIGKILL)
  process.wait()
  kept = {p.name: p.stat().st_mtime_ns for p in slices.glob("slice-*.npz")}
  assert 1 <= len(kept) < 3
  done = _run(tmp_path, *flags)
  assert done.returncode == 0, done.stderr
  assert len(xr.load_dataset(tmp_path / "runs.nc")["run"]) == 6
  for name, stamp in kept.items():
    assert (slices / name).stat().st_mtime_ns == stamp


def test_seeds_are_added_to_a_sweep(tmp_path):
  def sweep(folder, seeds):
    done = _run(folder, "--grid=estimator.order=1,4", f"--seeds={seeds}")
    assert done.returncode == 0, done.stderr
    return done.stderr, xr.load_dataset(folder / "runs.nc")

  said, first = sweep(tmp_path / "w", 2)
  assert "4 runs in 1 program:" in said
  said, more = sweep(tmp_path / "w", 5)
  assert "seeds=0 to 1 (within it: estimator.order, seed): 0 runs" in said
  assert "seeds=2 to 4 (within it: estimator.order, seed): 6 runs" in said
  assert "6 runs in 1 slice, about" in said
  assert more["seed"].values.tolist() == [0, 1, 2, 3, 4] * 2
  assert more["estimator_order"].values.tolist() == [1] * 5 + [4] * 5
  # Fewer: what was asked for, as it was; all of it is still there.
  said, fewer = sweep(tmp_path / "w", 2)
  assert "0 runs to do" in said
  xr.testing.assert_identical(fewer.drop_attrs(), first.drop_attrs())
  summary = (tmp_path / "w" / "summary.csv").read_text().splitlines()
  assert len(summary) == 1 + 4
  said, again = sweep(tmp_path / "w", 5)
  assert said.count("0 runs to do") == 2
  xr.testing.assert_identical(again.drop_attrs(), more.drop_attrs())
  # Each as if all had been asked for at once.
  _, whole = sweep(tmp_path / "whole", 5)
  xr.testing.assert_allclose(
    more.drop_vars("seconds"), whole.drop_vars("seconds"), rtol=1e-4, atol=1e-5
  )
