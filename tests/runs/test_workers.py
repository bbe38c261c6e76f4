"""Worker processes train the same runs, and stop without losing any."""

import os
import pathlib
import pickle
import signal
import subprocess
import sys
import traceback

import numpy as np
import psutil
import pytest

from maxrl_jax.config import default
from maxrl_jax.runs import cache, study, workers
from maxrl_jax.runs.measure import Measure
from maxrl_jax.tasks import TASKS, Task
from tests.support import stops
from tests.support.sweep_cases import swept_bandit

GRID = "estimator.name=maxrl,grpo"
MEASURE = Measure(("test",), (1, 4), at_start=True, every_step=True)


def _study(seeds=(0, 1), **changes):
  config = swept_bandit()
  config.update_from_flattened_dict(changes)
  return study.study(config, GRID, seeds, MEASURE)


def _same_files(what, one, other):
  for program in what.plan():
    pairs = zip(
      cache.load(one, program.keys),
      cache.load(other, program.keys),
      strict=True,
    )
    for a, b in pairs:
      assert a.keys() == b.keys()
      for name in a.keys() - {"seconds"}:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.long
def test_processes_with_a_core_each_train_the_same_runs(tmp_path):
  what = _study()
  data = study.run(what, tmp_path / "workers", workers=2)
  study.train(what.plan(), MEASURE, tmp_path / "here", slice_size=1)
  _same_files(what, tmp_path / "workers", tmp_path / "here")
  assert data["test_pass@4"].dims == ("run", "eval_step")
  assert data["eval_step"].values.tolist() == [0, 4, 6]
  assert data["train_pass_rate"].shape == (4, 6)
  assert not list((tmp_path / "workers").glob("unfinished-*"))


def five(*, num_actions: int = 5) -> Task:
  return TASKS["bandit"](num_prompts=num_actions)


@pytest.mark.long
def test_processes_know_a_task_of_your_own(tmp_path, monkeypatch):
  """One that was registered after the start of the program."""
  monkeypatch.setitem(TASKS, "five", five)
  config = default(task="five")
  config.update(steps=2, log_every=1, eval_every=2, batch_size=4, rollouts=4)
  what = study.study(config, None, (0, 1), MEASURE)
  assert study.run(what, tmp_path, workers=2).sizes["run"] == 2
  monkeypatch.setitem(TASKS, "five", lambda *, num_actions=5: five())
  with pytest.raises(ValueError, match="workers: five cannot be sent"):
    study.run(what._replace(seeds=(2,)), tmp_path, workers=2)


def test_no_process_starts_where_all_runs_are_on_disk(tmp_path, monkeypatch):
  what = _study(seeds=(0,))
  study.train(what.plan(), MEASURE, tmp_path)
  monkeypatch.setattr(workers.multiprocessing, "get_context", None)
  assert study.run(what, tmp_path, workers=2).sizes["run"] == 2


@pytest.mark.long
def test_a_run_that_diverges_stops_no_other(tmp_path):
  config = swept_bandit()
  grid = {"optimizer.learning_rate": [0.1, 1e38]}
  data = study.run(study.study(config, grid), tmp_path, workers=2)
  assert data["diverged"].values.tolist() == [False, True]
  assert np.isfinite(data["test_pass@1"].values[0])


@pytest.mark.long
class _Odd(Exception):
  """Cannot be unpickled: its constructor takes two arguments."""

  def __init__(self, name, value):
    super().__init__(f"{name} = {value}")


def test_any_error_reaches_the_parent():
  for error, kind in ((ValueError("a = 1"), ValueError), (_Odd("a", 1), None)):
    try:
      raise error
    except Exception as raised:
      received = pickle.loads(pickle.dumps(workers._portable(raised)))
    assert type(received) is (kind or RuntimeError)
    assert "a = 1" in "".join(traceback.format_exception(received))
    assert "test_workers.py" in "".join(traceback.format_exception(received))


@pytest.mark.long
def test_an_error_of_a_worker_ends_all(tmp_path):
  what = _study()
  unfit = what._replace(measure=MEASURE._replace(probe=fails))
  with pytest.raises(ValueError, match="this probe fails"):
    study.run(unfit, tmp_path, workers=2)


def fails(trainer):
  raise ValueError("this probe fails")


_SCRIPT = """
import pathlib, signal, sys, time
from absl import flags
from experiments.shell import console
from maxrl_jax.runs import study
from tests.runs.test_workers import long_study

def late(*_):
  time.sleep(0.5)  # The workers have received the signal by then.
  raise KeyboardInterrupt

def main():
  study.run(long_study(), pathlib.Path(flags.FLAGS.workdir), workers=2)

if __name__ == "__main__":
  signal.signal(signal.SIGINT, late)
  flags.DEFINE_string("workdir", None, "Folder of runs.")
  console.run(main)
"""


def long_study():
  """Some seconds in chunks of a hundredth."""
  changes = {"steps": 30_000, "log_every": 20, "eval_every": 30_000}
  return _study(seeds=(0,), **changes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """The runs of `long_study`, without an interruption."""
  folder = tmp_path_factory.mktemp("whole")
  study.train(long_study().plan(), MEASURE, folder, slice_size=1)
  return folder


@pytest.mark.long
@pytest.mark.parametrize(
  "stop", [stops.kill, stops.ctrl_c, stops.terminate, stops.terminate_group]
)
def test_workers_save_and_end_with_their_parent(tmp_path, whole, stop):
  script, runs = tmp_path / "parent.py", tmp_path / "runs"
  script.write_text(_SCRIPT)
  parent = subprocess.Popen(
    [sys.executable, script, f"--workdir={runs}"],
    env=os.environ | {"PYTHONPATH": str(pathlib.Path(__file__).parents[2])},
    start_new_session=True,
  )
  stops.wait_for(lambda: len(list(runs.glob("unfinished-*/runs.json"))) == 2)
  children = psutil.Process(parent.pid).children(recursive=True)
  stop(parent.pid)
  assert parent.wait(60) == (-signal.SIGKILL if stop == stops.kill else 75)
  assert not psutil.wait_procs(children, timeout=60)[1]
  assert not list(runs.glob("*.npz"))
  assert len(list(runs.glob("unfinished-*/checkpoints/[0-9]*"))) == 2
  # Workers resume the runs, or this process does.
  study.run(long_study(), runs, workers=2 if stop == stops.kill else 1)
  _same_files(long_study(), whole, runs)
