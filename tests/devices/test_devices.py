"""Flags that say where to compute, and machines that are not there."""

import os
import pathlib
import subprocess
import sys

import pytest
from absl import flags
from absl.testing import flagsaver

from experiments.shell import devices

_ROOT = pathlib.Path(__file__).parents[2]

if not flags.FLAGS.is_parsed():
  flags.FLAGS.mark_as_parsed()


@pytest.mark.parametrize(
  ("given", "message"),
  [
    ({"processes": 2}, "--processes: has no effect without --distributed"),
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


_ALONE = {
  "sweep": ["--config=configs/bandit.py"],
  "gradient_study": [],
  "gsm8k": ["--model=none", "--data=none"],
  "reproduce": ["--figure=weights"],
}


def test_what_cannot_run_in_several_processes_says_so_at_once(tmp_path):
  started = [
    subprocess.Popen(
      [
        *(sys.executable, "-m", f"experiments.{name}", "--distributed"),
        *(f"--workdir={tmp_path / name}", *options),
      ],
      cwd=_ROOT,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for name, options in _ALONE.items()
  ]
  printed = (
    "error: --distributed: only experiments.train runs in several processes;"
    " without it one process uses all devices of its machine\n"
  )
  for process in started:
    assert process.communicate(timeout=240) == ("", printed)
    assert process.returncode == 2
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ("flag", "message"),
  [
    ("--distributed", "--distributed: no cluster was detected"),
    ("--platform=cuda", "--platform=cuda: Unknown backend cuda"),
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


_ON_A_TPU = """
import sys
import jax
from absl import flags
from jax.extend import backend
from jaxlib import xla_client
from experiments.shell import devices
from maxrl_jax.integrations.groups import advantages
backend.register_backend_factory("tpu", xla_client.make_cpu_client)
flags.FLAGS(sys.argv)
devices.start(together=False)
print(jax.config.jax_platforms, advantages([0, 1], num=2).tolist())
"""


def test_a_platform_that_is_asked_for_leaves_the_cpu_to_trainers():
  """`experiments.gsm8k --platform=tpu` would end at its first rewards."""
  done = subprocess.run(
    [sys.executable, "-c", _ON_A_TPU, "--platform=tpu"],
    cwd=_ROOT,
    env=os.environ | {"PYTHONPATH": str(_ROOT)},
    capture_output=True,
    text=True,
  )
  assert done.stdout == "tpu,cpu [-1.0, 1.0]\n", done.stderr
