"""Training in several processes that meet over a port of this machine."""

import itertools
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from configs import bandit
from experiments.shell import devices
from maxrl_jax.learning import training
from maxrl_jax.runs.resume import Resumable
from tests.support import streaming_cases
from tests.support.compilation import FLAGS
from tests.support.image_sets import encode, random_images, write

_ROOT = pathlib.Path(__file__).parents[2]
_FIELDS = {
  "steps": 240,
  "log_every": 20,
  "eval_every": 40,
  "batch_size": 8,
  "rollouts": 16,
  "runs": 2,
  "task.num_prompts": 16,
}


_BANDIT = (
  "--config=configs/bandit.py",
  *(f"--config.{name}={value}" for name, value in _FIELDS.items()),
)


def _free_port() -> int:
  with socket.socket() as free:
    free.bind(("localhost", 0))
    return free.getsockname()[1]


def _start(workdir: pathlib.Path, folders=(_ROOT,) * 2, options=_BANDIT):
  """Processes of one run, each with a single device and in its folder."""
  port = _free_port()
  common = [
    *(sys.executable, "-m", "experiments.train", f"--workdir={workdir}"),
    *("--platform=cpu", "--distributed", "--heartbeat_s=12", *options),
    *(f"--coordinator=localhost:{port}", f"--processes={len(folders)}"),
  ]
  return [
    subprocess.Popen(
      [*common, f"--process={i}"],
      cwd=folder,
      env=os.environ | {"XLA_FLAGS": FLAGS, "PYTHONPATH": str(_ROOT)},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for i, folder in enumerate(folders)
  ]


def _ends(started) -> list[tuple[int, str, str]]:
  """Exit codes and what was printed; none may outlive the test."""
  try:
    actual = [process.communicate(timeout=240) for process in started]
  finally:
    for process in started:
      process.kill()
  return [(p.returncode, *f) for p, f in zip(started, actual, strict=True)]


def _bandit():
  config = bandit.get_config()
  config.update_from_flattened_dict(_FIELDS)
  return config


def _final(workdir: pathlib.Path, config=None) -> np.ndarray:
  """All parameters of a finished run."""
  config = config or _bandit()
  run = Resumable(training.make_train(config), config, workdir / "checkpoints")
  assert run.step == config.steps
  return _flat(run.states.params)


def _flat(params) -> np.ndarray:
  return np.concatenate([np.ravel(x) for x in jax.tree.leaves(params)])


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
  """The same run in one process."""
  workdir = tmp_path_factory.mktemp("alone")
  subprocess.run(
    [
      *(sys.executable, "-m", "experiments.train", f"--workdir={workdir}"),
      *_BANDIT,
    ],
    cwd=_ROOT,
    check=True,
    capture_output=True,
  )
  return workdir


def _wait_for_checkpoint(workdir: pathlib.Path, started) -> None:
  while not any(p.name.isdigit() for p in (workdir / "checkpoints").glob("*")):
    assert all(process.poll() is None for process in started), _ends(started)
    time.sleep(0.01)


@pytest.mark.long
def test_a_run_goes_on_after_one_of_its_processes_was_killed(tmp_path, alone):
  count = 4
  started = _start(tmp_path, (_ROOT,) * count)
  _wait_for_checkpoint(tmp_path, started)
  started[-1].send_signal(signal.SIGKILL)
  begun = time.time()
  codes, _, message = zip(*_ends(started), strict=True)
  assert time.time() - begun < 60
  assert codes == (75,) * (count - 1) + (-signal.SIGKILL,), message
  for words in message[:-1]:
    assert devices.GONE in words
    assert "Traceback" not in words
  assert not (tmp_path / "summary.json").exists()

  codes, results, message = zip(
    *_ends(_start(tmp_path, (_ROOT,) * count)), strict=True
  )
  assert codes == (0,) * count, message
  assert int(re.search(r"resuming from step (\d+)", message[0])[1]) >= 40
  # Only the first writes; Gloo tells of its connections.
  assert not any("{" in words for words in results[1:])
  assert not any(map(str.strip, message[1:]))
  np.testing.assert_allclose(_final(tmp_path), _final(alone), atol=1e-6)
  for a, b in zip(_outputs(tmp_path), _outputs(alone), strict=True):
    assert a.keys() == b.keys() and a.get("step") == b.get("step")
    for key in a.keys() - {"seconds"}:
      np.testing.assert_allclose(a[key], b[key], atol=1e-5, err_msg=key)


@pytest.mark.parametrize("frozen", [0, 1])
@pytest.mark.long
def test_one_that_falls_silent_is_given_up(frozen, tmp_path):
  """No connection closes: JAX aborts the other, and we say why."""
  started = _start(tmp_path)
  _wait_for_checkpoint(tmp_path, started)
  started[frozen].send_signal(signal.SIGSTOP)
  try:
    _, message = started[1 - frozen].communicate(timeout=120)
  finally:
    started[frozen].send_signal(signal.SIGCONT)
  assert started[1 - frozen].returncode == 75, message
  assert devices.GONE in message
  # It wakes up, and finds itself alone.
  code, _, message = _ends(started)[frozen]
  assert code == 75, message
  assert devices.GONE in message


def _outputs(workdir: pathlib.Path) -> list[dict]:
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  return [
    json.loads(x) for x in (*lines, (workdir / "summary.json").read_text())
  ]


@pytest.mark.long
def test_all_processes_stop_where_one_is_asked_to(tmp_path, alone):
  started = _start(tmp_path)
  while not (tmp_path / "checkpoints").exists():
    assert all(process.poll() is None for process in started), _ends(started)
    time.sleep(0.01)
  started[1].send_signal(signal.SIGTERM)
  codes, _, message = zip(*_ends(started), strict=True)
  assert codes == (75, 75), message
  assert "run the same command again to resume" in message[0]
  codes, _, message = zip(*_ends(_start(tmp_path)), strict=True)
  assert codes == (0, 0), message
  np.testing.assert_allclose(_final(tmp_path), _final(alone), atol=1e-6)


_MEETS = """
import os, signal, sys, time
from absl import flags
from experiments.shell import devices
flags.FLAGS(sys.argv)
signal.signal(signal.SIGTERM, lambda *_: os._exit(75))
devices.start(together=True)
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(2)
os._exit(0)
"""


def test_a_process_that_has_not_begun_to_train_hears_sigterm():
  port = _free_port()
  done = subprocess.run(
    [
      *(sys.executable, "-c", _MEETS, "--platform=cpu", "--distributed"),
      *(f"--coordinator=localhost:{port}", "--processes=1", "--process=0"),
    ],
    cwd=_ROOT,
    env=os.environ | {"PYTHONPATH": str(_ROOT)},
  )
  assert done.returncode == 75


@pytest.mark.filterwarnings(r"ignore:label\(\) is deprecated")
@pytest.mark.long
def test_each_process_reads_its_own_images_only(tmp_path):
  """Those of the other's rows it finds damaged; all is as in one process."""
  tfds = pytest.importorskip("tensorflow_datasets")
  _write_images(tfds, tmp_path / "data", range(40), range(8))
  config = streaming_cases.get_config(str(tmp_path / "data"))
  trainer = training.make_train(config)
  read = trainer.task.stream.train(8, np.arange(8), 0)  # A label is a number.
  order = np.array([x.targets for x in itertools.islice(read, config.steps)])
  read.close()
  # One epoch: no image is read twice.
  np.testing.assert_array_equal(np.sort(order, None), np.arange(32))
  folders = [tmp_path / "first", tmp_path / "second"]
  for folder, rows in zip(folders, (slice(0, 4), slice(4, 8)), strict=True):
    train = {*order[:, rows].ravel(), *np.arange(32, 40)[rows]}
    _write_images(tfds, folder / "data", train, range(8)[rows])
  options = [f"--config={_ROOT}/tests/support/streaming_cases.py:data"]
  started = _start(tmp_path / "run", folders, options)
  codes, _, message = zip(*_ends(started), strict=True)
  assert codes == (0, 0), message

  ((_, states, _),) = training.chunks(trainer, config)
  alone = _flat(states.params)
  start, _ = trainer.keys(np.uint32([config.seed]))
  assert np.abs(alone - _flat(trainer.start(start, {}).params)).max() > 1e-2
  np.testing.assert_allclose(_final(tmp_path / "run", config), alone, atol=1e-6)
  # Another's images would have been noticed.
  config.task.data_dir = str(folders[0] / "data")
  damaged = training.make_train(config).task.stream
  with pytest.raises(ValueError, match="cannot read image"):
    next(damaged.train(8, np.arange(4, 8), 0))


def _write_images(tfds, root: pathlib.Path, train, test) -> None:
  """40 to train and 8 to test, each with its number as a label.

  Args:
    tfds: tensorflow-datasets.
    root: folder.
    train: numbers of those that can be read; the others are damaged.
    test: likewise.
  """
  images = [encode(image) for image in random_images(40)]
  splits = {
    name: [(images[i] if i in kept else b"damaged", i) for i in range(count)]
    for name, count, kept in (("train", 40, train), ("validation", 8, test))
  }
  write(tfds, root, splits, label=tfds.features.ClassLabel(num_classes=40))


@pytest.mark.long
def test_a_mistake_in_one_process_ends_all(tmp_path):
  """Here a folder that belongs to another config."""
  (tmp_path / "config.json").write_text("{}")
  (code, _, message), (other, _, words) = _ends(_start(tmp_path))
  assert (
    code == 2
    and "holds another experiment" in message
    and "Traceback" not in message
  )
  assert other == 2 and "error: the first process failed; see" in words
  assert "Traceback" not in words
