"""The README is short, and what it names exists; test_docs runs its code."""

import pathlib
import re

from maxrl_jax.estimators import ESTIMATORS
from maxrl_jax.tasks import REGRESSION, TASKS

_README = (pathlib.Path(__file__).parents[1] / "README.md").read_text()


_BLOCKS = re.findall(r"```python\n(.*?)```", _README, re.S)


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
