"""The notebooks of examples/ run from their first cell to the last."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.long

_ROOT = pathlib.Path(__file__).parents[2]
_NUMBER = r"\d+\.?\d*"


@pytest.mark.parametrize(
  "path", sorted(_ROOT.glob("examples/*.ipynb")), ids=lambda path: path.stem
)
def test_every_cell_runs_and_prints_what_is_saved(path, tmp_path):
  """A cell that raises ends the command with an error."""
  pytest.importorskip("nbclient")
  copy = shutil.copy(path, tmp_path / path.name)
  command = pathlib.Path(sys.executable).with_name("jupyter-execute")
  subprocess.run(
    [command, "--inplace", "--timeout=300", copy],
    check=True,
    env={**os.environ, "PYTHONPATH": str(_ROOT), "JUPYTER_PLATFORM_DIRS": "1"},
    timeout=600,
  )
  ran, saved = (json.loads(p.read_text())["cells"] for p in (copy, path))
  actual, shown = ("".join(map(_printed, cells)) for cells in (ran, saved))
  assert re.sub(_NUMBER, "#", actual) == re.sub(_NUMBER, "#", shown) != ""
  numbers = [[*map(float, re.findall(_NUMBER, x))] for x in (actual, shown)]
  np.testing.assert_allclose(*numbers, atol=0.05)  # Other CPUs may round.


def _printed(cell) -> str:
  outputs = cell.get("outputs", [])
  return "".join(
    "".join(o["text"]) for o in outputs if o.get("name") == "stdout"
  )
