"""Training in several processes that meet over a port of this machine."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from configs import bandit
from experiments import devices
from maxrl_jax import training
from maxrl_jax.resuming import Resumable

_ROOT = pathlib.Path(__file__).parents[1]
_FIELDS = {
  "steps": 400,
  "log_every": 20,
  "eval_every": 40,
  "batch_size": 8,
  "rollouts": 16,
  "runs": 2,
  "task.num_prompts": 16,
}


if not flags.FLAGS.is_parsed():
  flags.FLAGS.mark_as_parsed()


def _start(count: int, workdir: pathlib.Path, options=(), **fields):
  """Processes of one run, each with a single device."""
  with socket.socket() as free:
    free.bind(("localhost", 0))
    port = free.getsockname()[1]
  config = [f"--config.{k}={v}" for k, v in (_FIELDS | fields).items()]
  common = [
    *(sys.executable, "-m", "experiments.train", f"--workdir={workdir}"),
    *("--config=configs/bandit.py", "--platform=cpu", "--distributed"),
    *(f"--coordinator=localhost:{port}", f"--processes={count}"),
    *("--heartbeat_s=20", *options, *config),
  ]
  return [
    subprocess.Popen(
      [*common, f"--process={i}"],
      cwd=_ROOT,
      env=os.environ | {"XLA_FLAGS": ""},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for i in range(count)
  ]


def _ends(started) -> list[tuple[int, str, str]]:
  """Exit codes and what was printed; none may outlive the test."""
  try:
    found = [process.communicate(timeout=240) for process in started]
  finally:
    for process in started:
      process.kill()
  return [(p.returncode, *f) for p, f in zip(started, found, strict=True)]


def _final(workdir: pathlib.Path):
  config = bandit.get_config()
  config.update_from_flattened_dict(_FIELDS)
  made = training.make_train(config)
  run = Resumable(made, config, workdir / "checkpoints")
  assert run.step == config.steps
  return run.states.params


def _flat(params) -> np.ndarray:
  return np.concatenate([np.ravel(x) for x in params["params"].values()])


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
  """The same run in one process."""
  workdir = tmp_path_factory.mktemp("alone")
  fields = [f"--config.{k}={v}" for k, v in _FIELDS.items()]
  subprocess.run(
    [
      *(sys.executable, "-m", "experiments.train", f"--workdir={workdir}"),
      *("--config=configs/bandit.py", *fields),
    ],
    cwd=_ROOT,
    check=True,
    capture_output=True,
  )
  return workdir


@pytest.mark.parametrize("count", [2, 4])
def test_a_run_goes_on_after_one_of_its_processes_was_killed(
  count, tmp_path, alone
):
  started = _start(count, tmp_path)
  checkpoints = tmp_path / "checkpoints"
  while not any(p.name.isdigit() for p in checkpoints.glob("*")):
    assert all(process.poll() is None for process in started), _ends(started)
    time.sleep(0.01)
  started[-1].send_signal(signal.SIGKILL)
  begun = time.time()
  codes, _, told = zip(*_ends(started), strict=True)
  assert time.time() - begun < 60
  assert codes == (75,) * (count - 1) + (-signal.SIGKILL,)
  for words in told[:-1]:
    assert "another process of this run is gone; start all of them" in words
    assert "Traceback" not in words
  assert not (tmp_path / "summary.json").exists()

  codes, results, told = zip(*_ends(_start(count, tmp_path)), strict=True)
  assert codes == (0,) * count, told
  assert int(re.search(r"going on from step (\d+)", told[0])[1]) >= 40
  # Only the first writes; Gloo tells of its connections.
  assert not any("{" in words for words in results[1:])
  assert not any(map(str.strip, told[1:]))
  np.testing.assert_allclose(
    _flat(_final(tmp_path)), _flat(_final(alone)), atol=1e-6
  )
  for a, b in zip(_told(tmp_path), _told(alone), strict=True):
    assert a.keys() == b.keys() and a.get("step") == b.get("step")
    for key in a.keys() - {"seconds"}:
      np.testing.assert_allclose(a[key], b[key], atol=1e-5, err_msg=key)


def _told(workdir: pathlib.Path) -> list[dict]:
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  return [
    json.loads(x) for x in (*lines, (workdir / "summary.json").read_text())
  ]


def test_all_processes_stop_where_one_is_asked_to(tmp_path, alone):
  started = _start(2, tmp_path)
  while not (tmp_path / "checkpoints").exists():
    assert all(process.poll() is None for process in started), _ends(started)
    time.sleep(0.01)
  started[1].send_signal(signal.SIGTERM)
  codes, _, told = zip(*_ends(started), strict=True)
  assert codes == (75, 75), told
  assert "stopped; the same command goes on" in told[0]
  codes, _, told = zip(*_ends(_start(2, tmp_path)), strict=True)
  assert codes == (0, 0), told
  np.testing.assert_allclose(
    _flat(_final(tmp_path)), _flat(_final(alone)), atol=1e-6
  )


def test_a_mistake_in_one_process_ends_all(tmp_path):
  """Here a folder that belongs to another config."""
  (tmp_path / "config.json").write_text("{}")
  (code, _, told), (other, _, words) = _ends(_start(2, tmp_path))
  assert (
    code == 1 and "holds another experiment" in told and "Traceback" not in told
  )
  assert other == 75 and "another process of this run is gone" in words


@pytest.mark.parametrize(
  ("given", "message"),
  [
    ({"processes": 2}, "--processes: means nothing without --distributed"),
    ({"distributed": True, "processes": 2}, "--coordinator is missing"),
    (
      {"distributed": True, "processes": 2, "process": 2, "coordinator": "x:1"},
      "--process=2: must be below --processes=2",
    ),
  ],
)
def test_flags_that_do_not_go_together(given, message):
  with flagsaver.flagsaver(**given), pytest.raises(ValueError, match=message):
    devices.start(together=True)


def test_what_cannot_train_in_several_processes_says_so():
  with (
    flagsaver.flagsaver(distributed=True),
    pytest.raises(ValueError, match="--distributed: only"),
  ):
    devices.start(together=False)


@pytest.mark.parametrize(
  ("flag", "message"),
  [
    ("--distributed", "--distributed: no cluster is found here"),
    ("--platform=cuda", "--platform=cuda: JAX has no such backend here"),
  ],
)
def test_machines_that_are_not_there(flag, message, tmp_path):
  done = subprocess.run(
    [
      *(sys.executable, "-m", "experiments.train", flag),
      *("--config=configs/bandit.py", f"--workdir={tmp_path / 'run'}"),
    ],
    cwd=_ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 2
  assert message in done.stderr and "Traceback" not in done.stderr
