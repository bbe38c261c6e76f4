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
from maxrl_jax.learning import training
from maxrl_jax.learning.update import RATE
from tests.support.resumable_cases import small


def _measured(folder, config, stop_at=None):
  """What `measured` gives of two runs, with a signal after so many steps."""
  made = training.make_train(config)

  def tick(step):
    if step == stop_at:
      os.kill(os.getpid(), signal.SIGTERM)

  def measure(step, states, metrics):
    return {"step": np.array(step), "loss": metrics["loss"]}

  varied = {RATE: [0.1, 0.3]}
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


_WORK = """
import os, pathlib, signal, sys, time
from types import SimpleNamespace
from absl import flags
from experiments.runs import maze_runs
from experiments.shell import children, console
from experiments.shell.interruptions import until_stopped

def chunks(path):
  try:
    while True:
      open(path, "w").write(f"at work {os.getpid()}")
      yield time.sleep(0.1)
  finally:
    time.sleep(2)  # A second signal would end it here.
    open(path, "w").write("saved")

def work(path):
  with maze_runs._AT_WORK:
    until_stopped(chunks(path))

def late(*_):
  time.sleep(0.5)  # Children have seen the signal by then.
  raise KeyboardInterrupt

def main(argv):
  said = pathlib.Path(argv[1])
  if argv[2] == "workers":
    maze_runs._side_by_side(work, [said], SimpleNamespace(update=None))
  elif children.followed():
    work(said)
  else:
    children.run({"a": [sys.executable, *argv]}, said.parent / "logs", 2, print)

if __name__ == "__main__":
  signal.signal(signal.SIGINT, late)
  flags.DEFINE_string("workdir", None, "As of all that can go on.")
  console.run(main)
"""


def _kill(group: int):
  os.kill(group, signal.SIGKILL)


def _ctrl_c(group: int):
  os.killpg(group, signal.SIGINT)


def _terminate(group: int):
  os.kill(group, signal.SIGTERM)


@pytest.mark.long
@pytest.mark.parametrize("stop", [_kill, _ctrl_c, _terminate])
@pytest.mark.parametrize("how", ["workers", "children"])
def test_what_is_side_by_side_saves_and_ends(tmp_path, how, stop):
  """The parent is killed, or a terminal tells Ctrl-C to its whole group."""
  script, said = tmp_path / "parent.py", tmp_path / "said"
  script.write_text(_WORK)
  parent = subprocess.Popen(
    [sys.executable, script, said, how],
    env=os.environ | {"PYTHONPATH": str(pathlib.Path(__file__).parents[2])},
    start_new_session=True,
  )
  _wait_for(lambda: said.exists() and said.read_text().startswith("at work "))
  worker = psutil.Process(int(said.read_text().split()[-1]))
  stop(parent.pid)
  assert parent.wait(60) == (75 if stop != _kill else -signal.SIGKILL)
  _wait_for(lambda: said.read_text() == "saved")
  worker.wait(timeout=30)


def _wait_for(condition, seconds: float = 60.0):
  end = time.time() + seconds
  while not condition():
    assert time.time() < end
    time.sleep(0.05)
