"""What the README names exists, and its lists are whole; test_docs runs it."""

import os
import pathlib
import re
import subprocess
import sys

import maxrl_jax
from maxrl_jax.estimators import ESTIMATORS
from maxrl_jax.tasks import TASKS

_ROOT = pathlib.Path(__file__).parents[2]
_README = (_ROOT / "README.md").read_text()


def test_every_estimator_and_task_is_listed():
  listed = re.findall(r"^\| `(\w+)` \|", _README, re.M)
  assert sorted(listed) == sorted(ESTIMATORS)
  guide = (_ROOT / "docs" / "experiments.md").read_text()
  for name in TASKS:
    assert f"`{name}`" in guide


def test_the_layout_is_that_of_the_tree():
  layout = re.search(r"## Layout\n(.*?)\n## ", _README, re.S)[1]
  folders = iter(re.findall(r"^( {4}| {6})(\w+(?:\.py|/))", layout, re.M))
  listed = {"": set()}
  for indent, name in folders:
    if len(indent) == 4:
      above = name
    listed.setdefault(above if len(indent) == 6 else "", set()).add(name)
  listed[""].remove("examples/")  # Notebooks.
  assert listed[""] == _inside("") - {"build/", "runs/", "setup.py"}
  assert listed["maxrl_jax/"] == _inside("maxrl_jax")
  assert listed["experiments/"] == {
    name for name in _inside("experiments") if name.endswith("/")
  }


def _inside(folder: str) -> set[str]:
  """Modules and folders of Python, and the documentation."""
  actual = set()
  for path in (_ROOT / folder).iterdir():
    if path.suffix == ".py" and path.name != "__init__.py":
      actual.add(path.name)
    if path.name == "docs" or (path.is_dir() and any(path.glob("*.py"))):
      actual.add(f"{path.name}/")
  return actual


def _section(name: str) -> str:
  return re.search(rf"## {name}\n(.*?)\n## ", _README, re.S)[1]


def test_its_numbers_are_those_of_the_results():
  """As many digits of each as the README gives."""
  measured = "".join(
    (_ROOT / "docs" / page).read_text()
    for page in ("results.md", "half_seen.md", "noisy_regression.md")
  )
  text = _section("Which method, when") + _section("Gallery")
  numbers = re.findall(r"(?<![\d.])\d*\.\d+", text)
  assert len(numbers) > 15
  for number in numbers:
    assert re.search(rf"(?<![\d.]){re.escape(number)}", measured), number


def test_its_shares_of_cross_entropy_are_those_of_the_results():
  results = (_ROOT / "docs" / "results.md").read_text()
  rows = dict(re.findall(r"^\| (.+?) \|.*\| ([\d.]+) % \|$", results, re.M))
  methods = ("MaxRL, 1024 rollouts", "GRPO, 1024", "REINFORCE, 1024")
  shares = [f"{float(rows[method]):.0f} %" for method in methods]
  for page in ("README.md", "docs/index.md"):
    text = (_ROOT / page).read_text()
    (sentence,) = re.findall(r"1024 rollouts MaxRL\n(.*)\n", text)
    assert re.findall(r"\d+ %", sentence) == shares


def test_it_is_imported_where_a_folder_has_its_name(tmp_path):
  """As where one clones, and starts Python beside the clone."""
  (tmp_path / "maxrl_jax").symlink_to(_ROOT)
  code = "import maxrl_jax; print(maxrl_jax.__version__, maxrl_jax.__file__)"
  done = subprocess.run(
    [sys.executable, "-c", code],
    cwd=tmp_path,
    env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
    capture_output=True,
    text=True,
    check=True,
  )
  assert done.stdout.startswith(maxrl_jax.__version__)
