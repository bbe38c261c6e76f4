"""Wrong input of every entry point: one line with the fix, and exit code 2."""

import importlib.util
import json

from tests.support.entry_points import command

_BANDIT = "--config=configs/bandit.py"


# Of get_config(), on line 5.
_CONFIGS = {
  "number": "config.steps = int('x1')",
  "field": "config.stepz = 3",
  "package": "np.stack([])",
  "attribute": "np.stck([])",
  "key": "config.steps = {}['steps']",
  "none": "return None",
  "good": "config.steps = 3",
}


def _wrong(tmp_path):
  """(command, words of its one line)."""
  file, full = tmp_path / "file", tmp_path / "full"
  full.mkdir()
  for path in (file, full / "something"):
    path.touch()
  (tmp_path / "syntax.py").write_text("\ndef get_config(:\n")
  (tmp_path / "imports.py").write_text("import not_there")
  (tmp_path / "empty.py").touch()
  for name, line in _CONFIGS.items():
    (tmp_path / f"{name}.py").write_text(
      "import numpy as np\nfrom configs import bandit\n"
      f"def get_config():\n  config = bandit.get_config()\n  {line}\n"
      "  return config\n"
    )
  good = (tmp_path / "good.py").read_text()
  sweep = "def get_sweep():\n  return int('x1')\n"
  (tmp_path / "good.py").write_text(good + sweep)
  for name in ("train", "test"):
    line = json.dumps({"question": "1 + 1?", "answer": "#### 2"})
    (tmp_path / f"{name}.jsonl").write_text(f"{line}\n" * 3)
  model = tmp_path / "model"
  model.mkdir()
  for name in ("config.json", "model.safetensors", "tokenizer.json"):
    (model / name).touch()
  there = tmp_path / "there"
  there.mkdir()
  (there / "sweep.json").touch()
  train, swept = ("train", _BANDIT), ("sweep", _BANDIT)
  gsm8k = ("gsm8k", f"--model={model}", f"--data={tmp_path}")
  return [
    # The command line.
    (
      ("train",),
      "--config is missing: --config=configs/bandit.py; see --help",
    ),
    ((*train, "stray"), "'stray' is not a flag: all options start with --"),
    ((*train, "--stepz=1"), "flag 'stepz'; did you mean --config.steps?"),
    ((*train, "--order=1"), "'order'; did you mean --config.estimator.order?"),
    ((*train, "--workdri=x"), "Did you mean: workdir ?; see --help"),
    ((*train, "--fresh=maybe"), "flag --fresh=maybe: ('Non-boolean argument"),
    (
      (*train, "--log=tensorbord"),
      "log = 'tensorbord': did you mean 'tensorboard'? choose from",
    ),
    ((*train, "--output=xml"), "should be one of <text|quiet|json>"),
    ((*train, "--platform=gpu"), "should be one of <cpu|cuda|tpu>"),
    ((*train, "--compilation_cache=/proc/x"), "choose another folder"),
    (
      ("sweep", _BANDIT, "--seeds=two"),
      "error: --seeds=two: must be a whole number, such as 1000; see --help",
    ),
    # Config files.
    (("train", "--config=nope.py"), "--config=nope.py: no such file"),
    (("sweep", "--config=nope.py"), "--config=nope.py: no such file"),
    (
      ("train", "--config=nope.py", "--config.steps=1"),
      "--config=nope.py: no such file",
    ),
    (("train", "--config", "configs"), "--config=configs: no such file"),
    (
      ("train", f"--config={tmp_path}/syntax.py"),
      "invalid syntax (syntax.py, line 2)",
    ),
    (
      ("train", f"--config={tmp_path}/imports.py"),
      "/imports.py: ModuleNotFoundError: No module named 'not_there'",
    ),
    (
      ("train", f"--config={tmp_path}/attribute.py"),
      "/attribute.py: AttributeError: module 'numpy' has no attribute 'stck'",
    ),
    *(
      (
        (module, f"--config={tmp_path}/none.py", *fields),
        f"--config={tmp_path}/none.py: get_config() returned None; end it",
      )
      for module, *fields in (
        ("train",),
        ("sweep",),
        ("train", "--config.estimator.order=3"),
      )
    ),
    (
      ("train", f"--config={tmp_path}/empty.py"),
      "the file has no get_config()",
    ),
    (
      ("train", f"--config={tmp_path}/number.py"),
      f"'x1' ({tmp_path}/number.py, line 5); see --help",
    ),
    (
      ("train", f"--config={tmp_path}/number.py", "--config.steps=3"),
      f"'x1' ({tmp_path}/number.py, line 5); see --help",
    ),
    (
      ("train", f"--config={tmp_path}/field.py"),
      "--config: no stepz; did you mean steps?",
    ),
    (
      ("train", f"--config={tmp_path}/key.py"),
      f"--config={tmp_path}/key.py: KeyError: 'steps' (line 5); see",
    ),
    (
      ("train", f"--config={tmp_path}/package.py"),
      "--config: ValueError: need at least one array to stack",
    ),
    (
      ("sweep", f"--config={tmp_path}/good.py"),
      "error: invalid literal for int() with base 10: 'x1'",
    ),
    (
      ("train", "--config=configs/maze.py:rll"),
      "stage = 'rll': choose from ['rl', 'warmup'] (configs/maze.py, line",
    ),
    # Fields.
    (
      (*train, "--config.estimator.ordre=1"),
      "--config: estimator has no ordre; did you mean order?",
    ),
    (
      (*train, "--config.steps.x=1"),
      "--config.steps.x: steps is a field, not a block",
    ),
    ((*train, "--config.stepz=1"), "--config: no stepz; did you mean steps?"),
    (
      (*train, "--config.learning_rate=1"),
      "--config: no learning_rate; see --help",
    ),
    ((*train, "--config.steps=None"), "steps = None: must be at least 1"),
    ((*train, "--config.task=None"), "--config.task=None: is a block"),
    (
      (*train, "--config.steps=many"),
      "error: --config.steps=many: must be a whole number, such as 1000; see",
    ),
    (
      (*train, "--config.estimator.order=1e3"),
      "--config.estimator.order=1e3: must be a whole number, such as 1000",
    ),
    ((*train, "--config.steps=-1"), "steps = -1: must be at least 1"),
    (
      (*train, "--config.optimizer.learning_rate=fast"),
      "learning_rate=fast: must be a number, such as 0.1",
    ),
    (
      (*train, "--config.estimator=maxrl"),
      "is a block, not a field; did you mean --config.estimator.name=maxrl?",
    ),
    ((*train, "--config.estimator.name=ppo"), "name = 'ppo': choose from"),
    ((*train, "--config.estimator.name=None"), "name = None: choose from"),
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
    ((*swept, "--grid=order=1"), "did you mean estimator.order?"),
    (
      (*swept, "--config.runs=4", "--grid=estimator.order=1"),
      "runs = 4: must be 1 in a sweep; use --seeds=4",
    ),
    (
      (*swept, "--grid=rollouts=log(1"),
      "type int, or range(first,last[,step])",
    ),
    ((*swept, "--grid=rollouts=logspace(1,8,3)"), "or log(first,last,count)"),
    ((*swept, "--grid=rollouts=lin(1,8,0)"), "a whole number, 2 or more)"),
    ((*swept, "--grid=rollouts=lin(1,8,2.7)"), "a whole number, 2 or more)"),
    (
      ("sweep", "--config=configs/digits.py"),
      "grid is not given, and configs/digits.py has no get_sweep()",
    ),
    # Estimators.
    (("gradient_study", "--estimators=maxrl,ppo"), "'ppo': choose from"),
    (
      ("gradient_study", "--estimators=maxrll"),
      "estimators = 'maxrll': did you mean 'maxrl'? choose from",
    ),
    (("gradient_study", "--estimators="), "estimators is empty"),
    (("gradient_study", "--estimators=series"), "needs coefficients"),
    (("gradient_study", "--estimators=vimco"), "a sum over all groups"),
    (("gradient_study", "--orders=x"), "orders = x: must be whole numbers"),
    (
      ("gradient_study", "--orders=9"),
      "order = 9: must be an integer from 1 to",
    ),
    (
      ("gradient_study", "--baselines=mean"),
      "baseline = 'mean': did you mean 'loo_mean'? choose from",
    ),
    (("gradient_study", "--baselines=nan"), "baselines: nan: must be finite"),
    (("gradient_study", "--pass_rate=0"), "pass_rate = 0.0: must be between"),
    (
      ("gradient_study", "--groups=1500"),
      "groups = 1500: must be a multiple of 1024, such as 2048",
    ),
    # Figures.
    (("reproduce", "--figure=pie"), "figure = 'pie': choose from"),
    (("reproduce", "--figure=weight"), "'weight': did you mean 'weights'?"),
    (("reproduce", "--figure=weights", "--workdir="), "--workdir=: is empty"),
    (
      ("reproduce", "--figure=weights", f"--workdir={there}"),
      "has a sweep.json, so it is a folder of another command",
    ),
    (
      ("reproduce", "--figure=weights", "--preset=paper"),
      "preset = 'paper': figure 'weights' has quick, full",
    ),
    (
      ("reproduce", "--figure=mazes,maze_rates", "--preset=paper"),
      "preset = 'paper': figure 'maze_rates' has quick, full",
    ),
    (
      ("reproduce", "--figure=weights", "--fresh"),
      "--fresh: deletes the runs of all figures, not only of 'weights'",
    ),
    (("reproduce", "--jobs=0"), "--jobs=0: 0 is not a positive integer"),
    (
      ("reproduce", "--figure=bandit", "--set=ordres=1"),
      "--set=ordres=1: figure 'bandit' has orders, rollouts, rate, steps",
    ),
    (
      ("reproduce", "--figure=bandit", "--set=orders=a"),
      "--set=orders=a: must be like orders=1,2,4,8,16,31",
    ),
    (
      ("reproduce", "--figure=bandit", "--set=seeds=0"),
      "--set: seeds = 0: must be above 0 and finite",
    ),
    (
      ("sweep", "--figure=weights"),
      "figure = 'weights': has no study to sweep",
    ),
    (
      (*swept, "--figure=bandit"),
      "--figure has its own config and grid: omit --config and --grid",
    ),
    (
      ("sweep", "--figure=bandit:best"),
      "choose from ['bandit:exact', 'bandit:orders']",
    ),
    (("sweep", "--seeds=2"), "--config or --figure must be given"),
    (("gsm8k", "--model=m"), "--data must be given; see --help"),
    (
      ("train", "--config=configs/bandit.py:small", "--workdir=a"),
      "--config=configs/bandit.py: has no variants, so nothing may follow a",
    ),
    ((*swept, "--set=steps=40"), "--set: needs --figure"),
    # GSM8K.
    ((*gsm8k, "--estimator=ppo"), "estimator = 'ppo': choose from"),
    ((*gsm8k, "--order=17"), "order = 17: must be an integer from 1 to 16"),
    ((*gsm8k, "--order=2", "--estimator=grpo"), "order = 2: has no effect on"),
    ((*gsm8k, "--prompts=3"), "micro_batch = 4: must divide prompts = 3"),
    ((*gsm8k, "--prompts=4"), "prompts = 4: the data set has 3 problems"),
    (
      ("gsm8k", f"--model={tmp_path}", f"--data={tmp_path}"),
      "has no config.json; it must be a Hugging Face folder",
    ),
    (
      ("gsm8k", f"--model={model}", f"--data={full}"),
      "cannot read train.jsonl",
    ),
  ]


def test_wrong_input_is_one_line_that_says_the_fix(tmp_path):
  cases = _wrong(tmp_path)
  if importlib.util.find_spec("tunix") is None:
    cases = [case for case in cases if case[0][0] != "gsm8k"]
  none = f"--workdir={tmp_path / 'none'}"
  for (module, *arguments), words in cases:
    if not any("--workdir" in word for word in arguments):
      arguments.append(none)
    done = command(f"experiments.{module}", *arguments)
    assert done.returncode == 2, (done.args, done.stderr)
    assert done.stderr.startswith("error: "), (done.args, done.stderr)
    assert done.stderr.count("\n") == 1, (done.args, done.stderr)
    assert words in done.stderr, (done.args, done.stderr)
    assert done.stdout == "", done.args
  assert not (tmp_path / "none").exists()
