"""Runs of figures: gone on with, trained once, saved by their workers."""

import os
import pathlib
import signal
import subprocess
import sys
import time
from concurrent import futures
from types import SimpleNamespace

import jax
import numpy as np
import psutil
import pytest

from experiments.figures import FIGURES
from experiments.runs import bandit_runs, digit_gradients, resumable, store
from experiments.shell.interruptions import Stopped
from maxrl_jax import training
from tests.resumable_cases import small


def _measured(folder, config, stop_at=None):
  """What `measured` gives of two runs, with a signal after so many steps."""
  made = training.make_train(config)

  def tick(step):
    if step == stop_at:
      os.kill(os.getpid(), signal.SIGTERM)

  def measure(step, states, metrics):
    return {"step": np.array(step), "loss": metrics["loss"]}

  varied = {training.RATE: [0.1, 0.3]}
  return resumable.measured(
    made, config, measure, folder, tick, seeds=[3, 4], varied=varied
  )


def test_runs_of_a_figure_go_on_where_they_were_stopped(tmp_path):
  config = small()
  records, states = _measured(tmp_path / "whole", config)
  assert not (tmp_path / "whole").exists()  # Too short for checkpoints.
  for step in (10, 40):
    with pytest.raises(Stopped):
      _measured(tmp_path / "stopped", config, step)
    assert (tmp_path / "stopped" / "checkpoints" / str(step)).exists()
  found, ends = _measured(tmp_path / "stopped", config)
  assert [r["step"] for r in found] == [10, 20, 30, 40, 50, 60]
  jax.tree.map(np.testing.assert_array_equal, found, records)
  jax.tree.map(np.testing.assert_array_equal, ends, states)


def test_two_processes_do_not_train_the_same_run(tmp_path):
  """The second one waits, and takes what the first one has made."""
  count = []

  def compute(unfinished):
    count.append(unfinished.exists())
    time.sleep(0.5)
    return {"x": np.arange(3)}

  def one(_):
    return store.stored(tmp_path, "a run", small(), compute)["x"]

  with futures.ThreadPoolExecutor(2) as pool:
    found = list(pool.map(one, range(2)))
  assert count == [True]
  np.testing.assert_array_equal(found, [[0, 1, 2]] * 2)
  assert [p.name for p in tmp_path.iterdir() if p.name != ".locks"] == [
    p.name for p in tmp_path.glob("a-run-*.npz")
  ]


def test_what_computes_nothing_is_not_in_the_digest(tmp_path, monkeypatch):
  """A colour trains nothing anew; any other line of the library does."""
  package = tmp_path / "maxrl_jax"
  package.mkdir()
  for name in ("__init__", "plotting", "losses"):
    (package / f"{name}.py").write_text("one")
  init = str(package / "__init__.py")
  monkeypatch.setattr(store, "maxrl_jax", SimpleNamespace(__file__=init))
  digests = [store.code.__wrapped__()]
  for name in ("plotting", "losses"):
    (package / f"{name}.py").write_text("another")
    digests.append(store.code.__wrapped__())
  assert digests[0] == digests[1] != digests[2]


def test_what_measures_a_run_is_part_of_its_key(tmp_path, monkeypatch):
  """A probe that is changed measures anew; a rate that is recorded does not."""
  for name in ("store", "maze_presets", "regression_probes"):
    (tmp_path / f"{name}.py").write_text("one")
  monkeypatch.setattr(store, "__file__", str(tmp_path / "store.py"))
  monkeypatch.setattr(store, "measuring", store.measuring.__wrapped__)
  keys = [store.digest(small())]
  for name in ("maze_presets", "regression_probes"):
    (tmp_path / f"{name}.py").write_text("another")
    keys.append(store.digest(small()))
  assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize("name", ["bandit", "gradient_norms"])
def test_what_a_figure_has_trained_is_not_trained_again(
  name, tmp_path, monkeypatch
):
  """Nor is it measured: there is nothing in `stored` but what is on disk."""
  made = []

  def stored(folder, label, config, compute, **more):
    made.append((folder, label))
    return _MADE_UP[name]

  module = {"bandit": bandit_runs, "gradient_norms": digit_gradients}[name]
  monkeypatch.setattr(module, "stored", stored)
  result = FIGURES[name]("quick", tmp_path)
  assert {folder for folder, _ in made} == {tmp_path / "runs"}
  assert len(set(made)) == len(made) == len(result.tables[0].rows)


_MADE_UP = {
  "bandit": {"curves": np.linspace(0, 1, 5 * 41 * 4).reshape(5, 41, 4)},
  "gradient_norms": {
    "pass_rate": np.geomspace(1e-4, 0.9, 1000),
    "norm": np.ones(1000),
  },
}


_WORKER = """
import os, sys, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from experiments.runs import maze_runs
from experiments.shell.interruptions import until_stopped

def work(path):
  def each(_):
    if not os.path.exists(path):
      open(path, "w").write(f"at work {os.getpid()}")

  with maze_runs._AT_WORK:
    try:
      until_stopped((time.sleep(0.1) for _ in range(10**6)), each)
    finally:
      open(path, "w").write("saved")

if __name__ == "__main__":
  spawn = get_context("spawn")
  queue = spawn.Queue()
  queue.put(0)
  with ProcessPoolExecutor(
    1, mp_context=spawn, initializer=maze_runs._prepare, initargs=(queue,)
  ) as pool:
    pool.submit(work, sys.argv[1]).result()
"""


@pytest.mark.long
def test_a_worker_saves_and_ends_when_its_parent_is_killed(tmp_path):
  script, said = tmp_path / "parent.py", tmp_path / "said"
  script.write_text(_WORKER)
  parent = subprocess.Popen(
    [sys.executable, script, said],
    env=os.environ | {"PYTHONPATH": str(pathlib.Path(__file__).parents[1])},
  )
  _wait_for(lambda: said.exists() and said.read_text().startswith("at work "))
  worker = psutil.Process(int(said.read_text().split()[-1]))
  parent.kill()
  parent.wait()
  _wait_for(lambda: said.read_text() == "saved")
  worker.wait(timeout=30)


def _wait_for(condition, seconds: float = 60.0):
  end = time.time() + seconds
  while not condition():
    assert time.time() < end
    time.sleep(0.05)
