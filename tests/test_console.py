"""Entry points as a shell sees them: output, help, errors, exit codes."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from experiments.figures import ALL, FIGURES, expected

_ROOT = pathlib.Path(__file__).parents[1]
_BANDIT = "--config=configs/bandit.py"
_SMALL = tuple(
  f"--config.{field}"
  for field in ("steps=4", "log_every=2", "eval_every=4", "batch_size=4")
)
_ORDERS = "--grid=estimator.order=1,2"


def _outcomes(commands):
  """Of many commands; most of what one takes is imports, shared here."""
  done = subprocess.run(
    [sys.executable, "-m", "tests.entry_points"],
    input=json.dumps(commands),
    capture_output=True,
    text=True,
    cwd=_ROOT,
    timeout=600,
  )
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout)


def _process(module, *arguments, **options):
  command = [sys.executable, "-m", f"experiments.{module}", *arguments]
  return subprocess.run(
    command, cwd=_ROOT, capture_output=True, text=True, timeout=300, **options
  )


# Output


def test_json_is_one_object_and_quiet_is_the_path(tmp_path):
  work = {
    "train": [_BANDIT, *_SMALL],
    "sweep": [_BANDIT, *_SMALL, _ORDERS, "--seeds=1"],
    "gradient_study": ["--rollouts=2", "--estimators=rloo"],
    "reproduce": ["--figure=scale"],
  }
  commands = [
    [module, f"--workdir={tmp_path / module}", f"--output={how}", *flags]
    for module, flags in work.items()
    for how in ("json", "quiet")
  ]
  outcomes = _outcomes(commands)
  for (module, *_), outcome in zip(commands[::2], outcomes[::2], strict=True):
    assert outcome["code"] == 0, outcome["stderr"]
    (line,) = outcome["stdout"].splitlines()
    record = json.loads(line)
    if module == "train":
      summary = (tmp_path / module / "summary.json").read_text()
      assert record == json.loads(summary) | {"workdir": str(tmp_path / module)}
    if module == "sweep":
      assert (record["runs"], record["diverged"]) == (2, 0)
      assert outcome["stderr"].startswith("2 runs in 1 program:")
      assert all(pathlib.Path(record[f]).exists() for f in ("data", "report"))
    if module == "gradient_study":
      (row,) = record["rows"]
      assert row["estimator"] == "rloo" and 0 <= row["bias"] < 1e-5
    if module == "reproduce":
      assert record["claims"] == {"scale.ends": True, "scale.expansion": True}
      assert outcome["stderr"].startswith("1 figure, about 0 minutes on two")
  for (module, *_), outcome in zip(commands[1::2], outcomes[1::2], strict=True):
    assert outcome["code"] == 0 and outcome["stderr"] == ""
    (path,) = outcome["stdout"].splitlines()
    assert pathlib.Path(path).exists() and str(tmp_path / module) in path


def test_numbers_that_json_lacks_are_null():
  tell = (
    "import pathlib; from experiments import output; import sys\n"
    "from absl import flags; flags.FLAGS(['x', '--output=json'])\n"
    "output.result(pathlib.Path('p'), 't', {'a': [float('nan'), 1.5]})"
  )
  done = subprocess.run(
    [sys.executable, "-c", tell], cwd=_ROOT, capture_output=True, text=True
  )
  assert done.stdout == '{"a": [null, 1.5]}\n', done.stderr


@pytest.mark.parametrize("together", [False, True])
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
      cwd=_ROOT,
      stdout=pipe,
      stderr=pipe if together else subprocess.PIPE,
      text=True,
    )
  assert done.returncode == (2 if together else 0)
  assert not done.stderr
  assert together or (tmp_path / "study.png").exists()


def test_what_figures_take():
  quick = [FIGURES[name].minutes["quick"] for name in ALL]
  words = expected(ALL, "quick", 1)
  assert words.startswith(f"{len(ALL)} figures, about {sum(quick):.0f} minutes")
  assert f"about {sum(quick) / 2:.0f} minutes" in expected(ALL, "quick", 2)
  # Nine jobs wait for the longest figure.
  assert f"about {max(quick):.0f} minutes" in expected(ALL, "quick", 9)
  words = expected(["bounds", "digits"], "full", 1)
  assert words == (
    "2 figures, about 48 minutes on two CPU cores (digits 48); not timed with"
    " preset full: bounds"
  )


# Help


@pytest.mark.parametrize(
  "module", ["train", "sweep", "gradient_study", "reproduce", "gsm8k"]
)
def test_help_fits_a_screen(module):
  done = _process(module, "--help")
  assert done.returncode == 0 and not done.stderr
  lines = done.stdout.splitlines()
  assert len(lines) <= 24 and max(map(len, lines)) <= 80
  source = (_ROOT / "experiments" / f"{module}.py").read_text()
  for name in ("workdir", "output", "platform"):
    assert f"--{name}=" in done.stdout
  assert done.stdout.count("\n  --") == source.count("flags.DEFINE_") + 1
  assert "75 stopped" in lines[-1]


# Errors


def _wrong(tmp_path):
  """(command, words of its one line)."""
  file, full = tmp_path / "file", tmp_path / "full"
  full.mkdir()
  for path in (file, full / "something"):
    path.touch()
  (tmp_path / "syntax.py").write_text("\ndef get_config(:\n")
  (tmp_path / "imports.py").write_text("import not_there")
  (tmp_path / "empty.py").touch()
  for name in ("train", "test"):
    line = json.dumps({"question": "1 + 1?", "answer": "#### 2"})
    (tmp_path / f"{name}.jsonl").write_text(f"{line}\n" * 3)
  for name in ("config.json", "model.safetensors", "tokenizer.json"):
    (full / name).touch()
  train, swept = ("train", _BANDIT), ("sweep", _BANDIT)
  gsm8k = ("gsm8k", f"--model={full}", f"--data={tmp_path}")
  return [
    # The command line.
    (("train",), "--config must be given; --help says what for"),
    ((*train, "stray"), "'stray' is not a flag: all options start with --"),
    ((*train, "--stepz=1"), "'stepz'; see --help, and --config.FIELD=VALUE"),
    ((*train, "--fresh=maybe"), "--fresh=maybe: must be true or false"),
    ((*train, "--output=xml"), "should be one of <text|quiet|json>"),
    ((*train, "--platform=gpu"), "should be one of <cpu|cuda|tpu>"),
    ((*train, "--compilation_cache=/proc/x"), "choose another folder"),
    (("sweep", _BANDIT, "--seeds=two"), "--seeds=two: must be a whole number"),
    # Config files.
    (("train", "--config=nope.py"), "nope.py: no such file; configs/ has band"),
    (("sweep", "--config=nope.py"), "nope.py: no such file; configs/ has band"),
    (
      ("train", "--config=nope.py", "--config.steps=1"),
      "--config=nope.py: no such file",
    ),
    (("train", "--config", "configs"), "--config=configs: no such file"),
    (("train", f"--config={tmp_path}/syntax.py"), "syntax.py, line 2: invalid"),
    (
      ("train", f"--config={tmp_path}/imports.py"),
      "imports.py, line 1: No mod",
    ),
    (("train", f"--config={tmp_path}/empty.py"), "has no get_config()"),
    (
      ("train", "--config=configs/maze.py:rll"),
      "configs/maze.py:rll: choose from ['rl', 'warmup']",
    ),
    # Fields.
    (
      (*train, "--config.estimator.ordre=1"),
      "--config.estimator.ordre=1: the config has no field ordre; did you mean"
      " order?",
    ),
    ((*train, "--config.stepz=1"), "no field stepz; did you mean steps?"),
    ((*train, "--config.steps=many"), "steps=many: must be a whole number"),
    ((*train, "--config.steps=1.5"), "steps=1.5: must be a whole number"),
    ((*train, "--config.steps=-1"), "steps = -1: must be at least 1"),
    (
      (*train, "--config.optimizer.learning_rate=fast"),
      "learning_rate=fast: must be a number",
    ),
    (
      (*train, "--config.estimator=maxrl"),
      "is a block: set one of its fields, --config.estimator.NAME",
    ),
    ((*train, "--config.estimator.name=ppo"), "name = 'ppo': choose from"),
    ((*train, "--config.task.name=chess"), "name = 'chess': choose from"),
    (
      (*train, "--config.estimator.order=33"),
      "order = 33: must be an integer from 1 to 32",
    ),
    (
      ("train", "--config=configs/maze.py", "--config.policy.checkpoint=/no"),
      "policy.checkpoint = '/no': cannot read /no/config.json",
    ),
    # Folders; `none` must not be made by any of the others.
    (("train", _BANDIT, f"--workdir={file}"), "file': cannot write there"),
    (
      ("train", _BANDIT, f"--workdir={file}/x"),
      "cannot write there (Not a dir",
    ),
    (("train", _BANDIT, f"--workdir={full}"), "is not empty and has no config"),
    (("train", _BANDIT, "--workdir=/proc/x"), "choose another folder"),
    # Grids.
    ((*swept, "--grid="), "the grid is empty: give at least one field=values"),
    ((*swept, "--grid=rollouts"), "is not field=values, as rollouts=8,16"),
    (
      (*swept, "--grid=estimator.order=1,64"),
      "grid point estimator.order=64: estimator.name = 'maxrl', rollouts = 32",
    ),
    ((*swept, "--grid=estimator.ordre=1"), "did you mean estimator.order?"),
    (
      (*swept, "--grid=rollouts=log(1"),
      "type int, or range(first,last[,step])",
    ),
    ((*swept, "--grid=rollouts=logspace(1,8,3)"), "or log(first,last,count)"),
    ((*swept, "--grid=rollouts=lin(1,8,0)"), "(two values at least)"),
    (
      ("sweep", "--config=configs/digits.py"),
      "grid is not given, and configs/digits.py has no get_sweep()",
    ),
    # Estimators.
    (("gradient_study", "--estimators=maxrl,ppo"), "'ppo' is none of"),
    (("gradient_study", "--estimators="), "estimators is empty"),
    (("gradient_study", "--estimators=series"), "needs coefficients"),
    (("gradient_study", "--estimators=vimco"), "no function of the pass rate"),
    (("gradient_study", "--orders=x"), "orders = x: must be whole numbers"),
    (
      ("gradient_study", "--orders=9"),
      "order = 9: must be an integer from 1 to",
    ),
    (("gradient_study", "--baselines=mean"), "baseline = 'mean': choose from"),
    (("gradient_study", "--baselines=nan"), "baselines: nan: must be finite"),
    (("gradient_study", "--pass_rate=0"), "pass_rate = 0.0: must be between"),
    # Figures.
    (("reproduce", "--figure=pie"), "figure = 'pie': choose from"),
    (
      ("reproduce", "--figure=weights", "--preset=paper"),
      "preset = 'paper': figure 'weights' has quick and full",
    ),
    (("reproduce", "--jobs=0"), "--jobs=0: 0 is not a positive integer"),
    # GSM8K.
    ((*gsm8k, "--estimator=ppo"), "estimator = 'ppo': choose from"),
    ((*gsm8k, "--order=17"), "order = 17: must be an integer from 1 to 16"),
    ((*gsm8k, "--order=2", "--estimator=grpo"), "order = 2: means nothing to"),
    ((*gsm8k, "--prompts=3"), "micro_batch = 4: must divide prompts = 3"),
    ((*gsm8k, "--prompts=4"), "prompts = 4: the data set has 3 problems"),
    (
      ("gsm8k", f"--model={tmp_path}", f"--data={tmp_path}"),
      "has no config.json; it must be a Hugging Face folder",
    ),
    (
      ("gsm8k", f"--model={full}", f"--data={full}"),
      "cannot read train.jsonl",
    ),
  ]


def test_wrong_input_is_one_line_that_says_the_fix(tmp_path):
  cases = _wrong(tmp_path)
  if not _has_tunix():
    cases = [case for case in cases if case[0][0] != "gsm8k"]
  none = f"--workdir={tmp_path / 'none'}"
  commands = [
    command
    if any("--workdir" in word for word in command)
    else (*command, none)
    for command, _ in cases
  ]
  for (command, words), outcome in zip(cases, _outcomes(commands), strict=True):
    told = outcome["stderr"]
    assert outcome["code"] == 2, (command, told)
    assert told.startswith("error: ") and told.count("\n") == 1, (command, told)
    assert words in told, (command, told)
    assert outcome["stdout"] == "", command
  assert not (tmp_path / "none").exists()


def _has_tunix() -> bool:
  try:
    import tunix  # noqa: F401
  except ImportError:
    return False
  return True
