"""The command that reproduces figures: alone, side by side, and failing."""

import json

import pytest

from experiments.reports import results
from experiments.reports.results import Claim, Drawing, Result
from maxrl_jax import plotting
from maxrl_jax.runs import folders
from tests.support.entry_points import command, process


def test_reproduce_command(tmp_path):
  """One figure, beside what an earlier command left there."""
  earlier = Claim("weights.earlier", "s", "t", "1", "2", False)
  drawing = Drawing("weights", plotting.axes()[0], "a caption of before")
  results.save(Result("Before", [drawing], [earlier], []), "weights", tmp_path)
  done = process(
    "experiments.reproduce", "--figure=bounds", f"--workdir={tmp_path}"
  )
  assert done.returncode == 0, done.stderr
  claims = json.loads((tmp_path / "claims.json").read_text())
  assert claims and all(set(c) == set(Claim._fields) for c in claims)
  assert claims[0] == earlier._asdict() and len(claims) > 1
  assert (tmp_path / "figures" / "bounds.png").stat().st_size > 5000
  assert (tmp_path / "figures" / "bounds.svg").exists()
  page = (tmp_path / "report.html").read_text()
  assert page.count("data:image/png;base64,") == 2 and "://" not in page
  assert "a caption of before" in page and "--figure=bounds" in page
  assert f"revision {folders.revision()}." in page


@pytest.mark.long
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_figure_that_fails_leaves_the_others(tmp_path, jobs):
  (tmp_path / "figures" / "bounds.png").mkdir(parents=True)  # In the way.
  cache = tmp_path / "cache"
  done = command(
    "experiments.reproduce",
    f"--jobs={jobs}",
    "--figure=bounds,scale",
    f"--workdir={tmp_path}",
    f"--compilation_cache={cache}",
  )
  assert done.returncode == 1
  last = done.stderr.splitlines()[-1]
  assert last.startswith("error: figure = 'bounds' failed, see"), done.stderr
  log = tmp_path / "logs" / "bounds.log"
  why = log.read_text() if jobs > 1 else done.stderr
  assert "Is a directory" in why
  claims = json.loads((tmp_path / "claims.json").read_text())
  assert {claim["id"] for claim in claims} == {"scale.ends", "scale.expansion"}
  assert "2 of 2 claims hold" in (tmp_path / "report.html").read_text()
  assert "holds  scale.ends" in done.stdout
  assert any(cache.iterdir())  # The flag came to who compiles.


def test_wrong_settings_of_one_figure_are_a_wrong_command(tmp_path):
  done = command(
    "experiments.reproduce",
    "--figure=bandit",
    "--set=steps=50",
    f"--workdir={tmp_path}",
  )
  assert done.returncode == 2
  last = done.stderr.splitlines()[-1]
  assert last.startswith("error: steps = 50: must be a multiple of 40")


def test_a_folder_is_for_one_reproduction_at_a_time(tmp_path):
  run = tmp_path / "runs" / "run.npz"
  run.parent.mkdir()
  run.touch()
  with folders.locked(tmp_path):
    done = command("experiments.reproduce", "--fresh", f"--workdir={tmp_path}")
  assert done.returncode == 2
  assert "another process is using it" in done.stderr
  assert run.exists()
