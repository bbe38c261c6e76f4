"""CONTRIBUTING.md, followed to the letter in a copy of the tree."""

import json
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.long

_ROOT = pathlib.Path(__file__).parents[2]
_TEXT = (_ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
_SECTIONS = dict(
  section.split("\n", 1) for section in re.split(r"^## ", _TEXT, flags=re.M)
)
_COPIED = ("maxrl_jax", "experiments", "configs", "benchmarks", "tests")


def _blocks(section: str, kind: str) -> list[str]:
  return re.findall(rf"^```{kind}\n(.*?)^```", _SECTIONS[section], re.S | re.M)


def _follow(section: str, root: pathlib.Path) -> None:
  """Writes the section's file, and makes its changes to others."""
  for block in _blocks(section, "python"):
    place, text = block.split("\n", 1)
    path = root / place.removeprefix("# ")
    assert not path.exists()
    path.write_text(text, encoding="utf-8")
  for block in _blocks(section, "diff"):
    place, *lines = block.splitlines()
    path = root / place.removeprefix("# ")
    known = "".join(line[1:] + "\n" for line in lines if line[0] == " ")
    new = "".join(line[1:] + "\n" for line in lines if line[0] == "+")
    # As whole lines: "LOG_X = {" is not "X = {".
    before, *after = ("\n" + path.read_text(encoding="utf-8")).split(
      "\n" + known
    )
    assert len(after) == 1, f"{known!r} in {path}"
    changed = f"{before}\n{known}{new}{after[0]}"
    path.write_text(changed.removeprefix("\n"), encoding="utf-8")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
  """The sources, with an estimator, a task and a figure more."""
  root = tmp_path_factory.mktemp("tree")
  ignore = shutil.ignore_patterns("__pycache__")
  for name in _COPIED:
    shutil.copytree(_ROOT / name, root / name, ignore=ignore)
  shutil.copy(_ROOT / "pyproject.toml", root)
  for section in ("An estimator", "A task", "A figure"):
    _follow(section, root)
  return root


def _run(section: str, root: pathlib.Path) -> list[str]:
  """What the commands of a section print."""
  printed = []
  for block in _blocks(section, "console"):
    for command in re.findall(r"^\$ (.*)$", block, re.M):
      python, *arguments = shlex.split(command)
      assert python == ".venv/bin/python"
      done = subprocess.run(
        [sys.executable, *arguments],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=300,
      )
      assert done.returncode == 0, done.stdout + done.stderr
      printed.append(done.stdout)
  return printed


def _config(folder: pathlib.Path) -> dict:
  return json.loads((folder / "config.json").read_text())


def test_a_new_estimator_is_tested_and_trains(tree):
  tested, _ = _run("An estimator", tree)
  assert int(re.search(r"(\d+) passed", tested).group(1)) > 20
  folder = tree / "runs" / "squared"
  assert _config(folder)["estimator"]["name"] == "squared"
  assert len((folder / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_new_task_trains(tree):
  _run("A task", tree)
  folder = tree / "runs" / "parity"
  task = _config(folder)["task"]
  assert (task["name"], task["num_bits"]) == ("parity", 6)
  # Untrained, or nearly: parity is a coin's.
  summary = json.loads((folder / "summary.json").read_text())
  assert 0.4 < summary["test/pass@1"] < 0.6


def test_a_new_figure_is_reported(tree):
  _run("A figure", tree)
  folder = tree / "runs" / "falling"
  (claim,) = json.loads((folder / "claims.json").read_text())
  assert claim["id"] == "falling.weight" and claim["holds"]
  assert (folder / "figures" / "falling.png").stat().st_size > 5000
  assert "Falling weights" in (folder / "report.html").read_text()


def test_what_is_added_is_in_the_style_of_the_rest(tree):
  for command in (("format", "--check"), ("check",)):
    done = subprocess.run(
      [sys.executable, "-m", "ruff", *command, "."],
      cwd=tree,
      capture_output=True,
      text=True,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("section", ["An estimator", "A task", "A figure"])
def test_instructions_are_short(section):
  prose = re.sub(r"^```.*?^```", "", _SECTIONS[section], flags=re.S | re.M)
  assert len([line for line in prose.splitlines() if line.strip()]) < 10
