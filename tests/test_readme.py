"""What the README shows runs, and what it names exists."""

import pathlib
import re

import pytest

from maxrl_jax.estimators import ESTIMATORS
from maxrl_jax.tasks import TASKS

_README = (pathlib.Path(__file__).parents[1] / "README.md").read_text()


@pytest.mark.parametrize(
  "block", re.findall(r"```python\n(.*?)```", _README, re.S)
)
def test_python_blocks_run(block):
  exec(compile(block, "README.md", "exec"), {})


def test_every_estimator_and_task_is_listed():
  listed = re.findall(r"^\| `(\w+)` \|", _README, re.M)
  assert sorted(listed) == sorted(ESTIMATORS)
  for name in TASKS:
    assert f"`{name}`" in _README


def test_every_file_of_the_layout_exists():
  root = pathlib.Path(__file__).parents[1]
  layout = re.search(r"## Layout\n(.*?)\nMeasured", _README, re.S).group(1)
  for name in re.findall(r"^      (\w+(?:\.py|/))", layout, re.M):
    assert (root / "maxrl_jax" / name).exists(), name
  for name in re.findall(r"^    (\w+/)", layout, re.M):
    assert (root / name).exists(), name
