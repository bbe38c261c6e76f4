"""The guide pages: their blocks print what is shown, and their claims hold."""

import contextlib
import io
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import bandit
from maxrl_jax import estimators, evaluation
from maxrl_jax.learning import training
from maxrl_jax.policies import POLICIES
from maxrl_jax.runs import study
from maxrl_jax.tasks import TASKS
from tests.support.extent import long

_DOCS = pathlib.Path(__file__).parents[2] / "docs"
_PAGES = {
  name: (_DOCS / f"{name}.md").read_text()
  for name in ("tutorial", "your_own", "choosing", "batches", "cookbook")
}
_LONG = ("tutorial", "your_own", "cookbook")
_BLOCK = r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```)?"
_NUMBER = r"-?\d+\.?\d*(?:e-?\d+)?"


def _blocks(name: str) -> list[tuple[str, str]]:
  """Code, and what the page says it prints."""
  return re.findall(_BLOCK, _PAGES[name], re.M | re.S)


@pytest.mark.parametrize(
  "name",
  [long(name) if name in _LONG else name for name in _PAGES],
)
@mock.patch.dict(POLICIES)  # Pages name pieces of their own in these.
@mock.patch.dict(TASKS)
def test_blocks_print_what_is_shown(name, tmp_path, monkeypatch):
  """In one namespace; words exactly, numbers as far as other CPUs may round."""
  monkeypatch.chdir(tmp_path)
  namespace = {"__name__": name}
  for code, shown in _blocks(name):
    with contextlib.redirect_stdout(io.StringIO()) as printed:
      exec(compile(code, f"{name}.md", "exec"), namespace)
    if shown:
      actual = printed.getvalue()
      assert re.sub(_NUMBER, "#", actual).split() == (
        re.sub(_NUMBER, "#", shown).split()
      )
      np.testing.assert_allclose(
        [float(x) for x in re.findall(_NUMBER, actual)],
        [float(x) for x in re.findall(_NUMBER, shown)],
        rtol=0.03,
        atol=0.01,
      )
  for figure in re.findall(r"\(figures/(\w+\.png)\)", _PAGES[name]):
    assert (tmp_path / figure).exists()
    assert (_DOCS / "figures" / figure).stat().st_size < 80_000


def _config_of(command: str):
  """The bandit's config with what a command of the tutorial sets."""
  flags = re.findall(
    rf"experiments\.{command} (.*?)```", _PAGES["tutorial"], re.S
  )
  given = [
    word.removeprefix("--").split("=", 1)
    for word in shlex.split(flags[0].replace("\\\n", " "))
  ]
  own = {name: value for name, value in given if "config." not in name}
  config = bandit.get_config()
  values = {
    name.removeprefix("config."): float(value) if "." in value else int(value)
    for name, value in given
    if name.startswith("config.")
  }
  config.update_from_flattened_dict(values)
  return config, own


def test_the_tutorial_s_run_can_be_trained():
  config, own = _config_of("train")
  assert own["config"] == "configs/bandit.py"
  assert config.estimator.order == 4 and config.runs == 5
  training.make_train(config)


@pytest.mark.long
def test_the_tutorial_s_sweep_ends_as_its_table_says(tmp_path):
  config, own = _config_of("sweep")
  seeds = range(int(own["seeds"]))
  data = study.run(study.study(config, own["grid"], seeds), tmp_path)
  nll = data["test_nll"].values
  rows = re.findall(r"^\| \$T = \d+\$ \|(.*)\|$", _PAGES["tutorial"], re.M)
  shown = [[float(x) for x in row.split("|")] for row in rows]
  means = nll.reshape(3, 3, len(seeds)).mean(-1)
  np.testing.assert_allclose(means, shown, atol=0.05)


def test_examples_of_one_s_own_take_under_30_lines():
  codes = [code for code, _ in _blocks("your_own")]
  for wanted in ("class Letters", "Likelihood(", "num_actions"):
    (code,) = (code for code in codes if wanted in code)
    assert len([line for line in code.splitlines() if line.strip()]) < 30


@pytest.mark.long
def test_the_commands_take_a_config_file_with_a_task_of_your_own(tmp_path):
  """From any folder: the file needs only the library."""
  codes = [code for code, _ in _blocks("your_own")]
  (policy,) = (code for code in codes if "class Letters" in code)
  (own,) = (code for code in codes if "def get_config" in code)
  imports = codes[0].partition("\n\n\n")[0]
  (tmp_path / "mine.py").write_text(
    "\n".join(
      (
        "import dataclasses",
        imports,
        policy.partition("config = ")[0],
        own.partition("trainer =")[0],
      )
    )
  )
  command = [sys.executable, "-m", "experiments.train", "--config=mine.py"]
  small = ("steps=4", "log_every=2", "eval_every=2", "eval_rollouts=8")
  fields = (*small, "rollouts=8", "task.eval_size=20")
  command += [f"--config.{field}" for field in fields]
  subprocess.run(
    [*command, "--workdir=run"],
    cwd=tmp_path,
    env=os.environ | {"PYTHONPATH": str(_DOCS.parent)},
    check=True,
  )
  summary = json.loads((tmp_path / "run" / "summary.json").read_text())
  assert summary["steps"] == 4 and 0 <= summary["test/pass@1"] < 0.2


@jax.jit
def _moments(chances, order):
  return evaluation.enumerated_moments(
    lambda l: estimators.maxrl(l, order=order),
    jnp.log(chances),
    jnp.array([True, True, False, False]),
    6,
  )


@pytest.mark.parametrize("order", [1, 3, 5])
@pytest.mark.parametrize("p", [0.05, 0.5])
def test_the_noise_of_choosing_is_that_of_all_outcomes(order, p):
  namespace = {}
  exec(_blocks("choosing")[0][0], namespace)
  length, deviation = namespace["moments"](p, order, 6)
  chances = np.array([p / 2, p / 2, (1 - p) / 2, (1 - p) / 2])
  actual = _moments(chances, order)
  np.testing.assert_allclose(np.linalg.norm(actual.mean), length, rtol=1e-4)
  np.testing.assert_allclose(actual.variance**0.5, deviation, rtol=1e-4)
