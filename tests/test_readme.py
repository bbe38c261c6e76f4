"""What the README shows runs, and what it names exists."""

import pathlib
import re

import pytest

from maxrl_jax.estimators import ESTIMATORS
from maxrl_jax.tasks import REGRESSION, TASKS

_README = (pathlib.Path(__file__).parents[1] / "README.md").read_text()


# A block that trains with TRL is run by test_trl, which makes it a model.
_BLOCKS = [
  block
  for block in re.findall(r"```python\n(.*?)```", _README, re.S)
  if "integrations.trl" not in block
]


@pytest.mark.parametrize("block", _BLOCKS)
def test_python_blocks_run(block, tmp_path, monkeypatch):
  if "integrations.tunix" in block:
    pytest.importorskip("tunix", reason="needs the extra tunix")
  monkeypatch.chdir(tmp_path)  # Some write to runs/.
  found = {}
  exec(compile(block, "README.md", "exec"), found)
  if "scores" in found:  # Logistic noise of scale 0.1 has entropy log 0.1 + 2.
    assert -0.31 < float(found["scores"]["nll"][0]) < 0


def test_one_s_own_task_takes_under_25_lines():
  (block,) = (b for b in _BLOCKS if "Likelihood(" in b)
  lines = [line for line in block.splitlines() if line.strip()]
  assert len(lines) < 25


def test_every_estimator_and_task_is_listed():
  listed = re.findall(r"^\| `(\w+)` \|", _README, re.M)
  assert sorted(listed) == sorted(ESTIMATORS)
  for name in TASKS | REGRESSION:
    assert f"`{name}`" in _README


def test_every_file_of_the_layout_exists():
  root = pathlib.Path(__file__).parents[1]
  layout = re.search(r"## Layout\n(.*?)\nMeasured", _README, re.S).group(1)
  for name in re.findall(r"^      (\w+(?:\.py|/))", layout, re.M):
    assert (root / "maxrl_jax" / name).exists(), name
  for name in re.findall(r"^    (\w+/)", layout, re.M):
    assert (root / name).exists(), name
