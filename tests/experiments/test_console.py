"""Entry points as a shell sees them: output, help, what they will take."""

import fcntl
import json
import os
import pathlib
import re
import signal
import struct
import subprocess
import sys
import termios

import pytest

from experiments.figures import FIGURES, FIRST, MORE, expected
from tests.support.entry_points import ROOT, command

_BANDIT = "--config=configs/bandit.py"
_SMALL = tuple(
  f"--config.{field}"
  for field in ("steps=6", "log_every=2", "eval_every=4", "batch_size=4")
)
_ORDERS = "--grid=estimator.order=1,2"


# Exit


@pytest.mark.parametrize("folder", [True, False])
def test_ctrl_c_exits_without_shutting_python_down(folder):
  """JAX's threads may be computing, and crash while Python shuts down."""
  script = (
    "import atexit; from experiments.shell import console\n"
    "from absl import flags\n"
    f"if {folder}: flags.DEFINE_string('workdir', 'runs', '')\n"
    "def main():\n"
    "  atexit.register(print, 'taken down'); print('said')\n"
    "  raise KeyboardInterrupt\n"
    "console.run(main)"
  )
  done = subprocess.run(
    [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True
  )
  assert done.returncode == (75 if folder else 1) and done.stdout == "said\n"
  saved = "; finished work is saved" if folder else ""
  assert done.stderr == f"stopped{saved}\n"


def _outcome(line, *flags):
  script = (
    "import jax, numpy as np\n"
    "from experiments.shell import console\n"
    f"def main():\n  {line}\n"
    "console.run(main)"
  )
  return subprocess.run(
    [sys.executable, "-c", script, *flags],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )


def test_a_value_error_is_one_line_and_a_traceback_on_request():
  line = "raise ValueError('steps = 0: must be at least 1')"
  done = _outcome(line)
  assert done.returncode == 2
  assert done.stderr == "error: steps = 0: must be at least 1\n"
  detailed = _outcome(line, "--verbosity=1")
  assert detailed.returncode == 2
  assert detailed.stderr.startswith("Traceback")
  assert "steps = 0: must be at least 1" in detailed.stderr


def test_an_unexpected_error_has_a_traceback():
  done = _outcome("np.ones(3)['a']")
  assert done.returncode == 1 and "IndexError" in done.stderr
  assert done.stderr.startswith("Traceback")


def test_a_full_disk_where_there_is_no_folder():
  script = (
    "import errno; from experiments.shell import console\n"
    "def main():\n  raise OSError(errno.ENOSPC, 'x')\n"
    "console.run(main)"
  )
  done = subprocess.run(
    [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True
  )
  assert done.returncode == 1
  assert done.stderr == "error: no space left on the disk\n"


def test_training_does_not_import_matplotlib():
  script = (
    "import sys, maxrl_jax.runs.train_to_folder\n"
    "sys.exit('matplotlib' in sys.modules)"
  )
  done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False)
  assert done.returncode == 0


# Output


@pytest.mark.long
def test_json_is_one_object_and_quiet_is_the_path(tmp_path):
  work = {
    "train": [_BANDIT, *_SMALL],
    "sweep": [_BANDIT, *_SMALL, _ORDERS, "--seeds=1"],
    "gradient_study": ["--rollouts=2", "--estimators=rloo"],
    "reproduce": ["--figure=scale"],
  }
  for module, flags in work.items():
    line = f"experiments.{module}", f"--workdir={tmp_path / module}", *flags
    done = command(*line, "--output=json")
    assert done.returncode == 0, done.stderr
    (text,) = done.stdout.splitlines()
    _check_record(module, json.loads(text), done.stderr, tmp_path / module)
    done = command(*line, "--output=quiet")
    assert done.returncode == 0 and done.stderr == ""
    (path,) = done.stdout.splitlines()
    assert pathlib.Path(path).exists() and str(tmp_path / module) in path


def _check_record(module, record, message, workdir):
  if module == "train":
    summary = json.loads((workdir / "summary.json").read_text())
    assert record == summary | {"workdir": str(workdir)}
    about = r"about \d+ s left; \d\.\d GiB of memory so far\n"
    assert re.fullmatch(about, message)
  if module == "sweep":
    assert (record["runs"], record["diverged"]) == (2, 0)
    assert message.startswith("2 runs in 1 program, 2 to do")
    assert all(pathlib.Path(record[f]).exists() for f in ("data", "report"))
  if module == "gradient_study":
    (row,) = record["rows"]
    assert row["estimator"] == "rloo" and 0 <= row["bias"] < 1e-5
  if module == "reproduce":
    assert record["claims"] == {"scale.ends": True, "scale.expansion": True}
    assert message.startswith("1 figure, less than a minute on")


def test_numbers_that_json_lacks_are_null():
  tell = (
    "import pathlib; from experiments.shell import console; import sys\n"
    "from absl import flags; flags.FLAGS(['x', '--output=json'])\n"
    "console.result(pathlib.Path('p'), 't', {'a': [float('nan'), 1.5]})"
  )
  done = subprocess.run(
    [sys.executable, "-c", tell], cwd=ROOT, capture_output=True, text=True
  )
  assert done.stdout == '{"a": [null, 1.5]}\n', done.stderr


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.long
def test_a_reader_that_leaves_is_no_error(together, tmp_path):
  """`command | head -0`, and `command 2>&1 | head -0`."""
  reading, writing = os.pipe()
  os.close(reading)
  with os.fdopen(writing, "w") as pipe:
    done = subprocess.run(
      [
        *(sys.executable, "-m", "experiments.gradient_study"),
        *("--rollouts=2", f"--workdir={tmp_path}"),
        *(["--baselines=nan"] if together else []),
      ],
      cwd=ROOT,
      stdout=pipe,
      stderr=pipe if together else subprocess.PIPE,
      text=True,
    )
  assert done.returncode == (2 if together else 0)
  assert not done.stderr
  assert together or (tmp_path / "study.png").exists()


def test_what_figures_take():
  quick = [FIGURES[name].minutes["quick"] for name in FIRST]
  words = expected(FIRST, "quick", 1)
  assert words.startswith(
    f"{len(FIRST)} figures, about {sum(quick):.0f} minutes"
  )
  assert f"about {sum(quick) / 2:.0f} minutes" in expected(FIRST, "quick", 2)
  # Nine jobs wait for the longest figure.
  assert f"about {max(quick):.0f} minutes" in expected(FIRST, "quick", 9)
  short = FIGURES["bounds"].minutes["quick"]
  assert expected(["bounds"], "quick", 1) == (
    f"1 figure, less than a minute on two CPU cores (bounds {short:g})"
  )
  words = expected(["bounds", "digits"], "full", 1)
  assert words == (
    "2 figures, about 48 minutes on two CPU cores (digits 48); not timed with"
    " preset full: bounds"
  )


def test_a_first_look_is_short_and_its_headline_soon_there():
  minutes = [FIGURES[name].minutes["quick"] for name in FIRST]
  assert FIRST[0] == "digits" and minutes[0] <= 3
  assert sum(minutes) / 2 <= 8
  assert not set(FIRST) & set(MORE)
  assert "not timed" not in expected([*FIRST, *MORE], "quick", 2)


# Help


@pytest.mark.parametrize(
  "module",
  [
    *(f"experiments.{name}" for name in ("train", "sweep", "gradient_study")),
    *("experiments.reproduce", "experiments.gsm8k", "benchmarks.scaling"),
  ],
)
def test_help_lists_the_flags(module):
  done = command(module, "--help")
  assert done.returncode == 0 and not done.stderr
  package, _, name = module.partition(".")
  source = (ROOT / package / f"{name}.py").read_text()
  assert source.split('"""')[1].strip().splitlines()[0] in done.stdout
  for flag in re.findall(r'flags\.DEFINE_\w+\(\s*"(\w+)"', source):
    assert f"{flag}" in done.stdout


def test_a_terminal_without_a_width_has_a_progress_bar():
  """As `docker exec -t` and `script` give one: 0 columns."""
  code = """
from maxrl_jax.runs import progress
for _ in progress.bar(range(3), desc="at work", mininterval=0):
  pass
"""
  master, slave = os.openpty()
  fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 0, 0, 0, 0))
  environment = {k: v for k, v in os.environ.items() if k != "COLUMNS"}
  subprocess.run(
    [sys.executable, "-c", code],
    stderr=slave,
    check=True,
    env=environment,
    cwd=ROOT,
  )
  os.close(slave)
  assert b"at work: 100%" in os.read(master, 2**16)
  os.close(master)


def test_a_log_file_gets_a_line_now_and_then():
  """Here every 0.1 s instead of a minute; what takes less says nothing."""
  code = """
import time
from maxrl_jax.runs import progress
for _ in progress.bar(range(3), desc="short"):
  pass
often = {"mininterval": 0.1, "delay": 0.1}
with progress.bar(total=40, unit="step", desc="at work", **often) as bar:
  for i in range(40):
    time.sleep(0.02)
    bar.set_postfix_str(f"score {i}", refresh=False)
    bar.update()
"""
  done = subprocess.run(
    [sys.executable, "-c", code],
    capture_output=True,
    check=True,
    text=True,
    cwd=ROOT,
  )
  lines = done.stderr.splitlines()
  assert 2 <= len(lines) <= 9 and done.stderr.count("\n") == len(lines)
  for line in lines:
    assert re.fullmatch(
      r"at work \d+ %, \d+ of 40 \[00:0\d so far, 00:0\d left, .*, score \d+\]",
      line,
    )


def test_ctrl_c_after_all_is_saved_changes_nothing():
  code = """
import sys
from experiments.shell import console, devices
from maxrl_jax.runs.interrupts import Stopped
def leave(code):
  input()
  sys.exit(code)
def main():
  raise Stopped("stopped; run the same command again to resume")
devices.leave = leave
console.run(main)
"""
  pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
  with subprocess.Popen(
    [sys.executable, "-c", code], cwd=ROOT, **pipes
  ) as process:
    assert b"to resume" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(b"\n")
  assert (process.returncode, said) == (75, b"")
