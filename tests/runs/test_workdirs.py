"""Folders of runs: which are taken, refused, locked and let go of."""

import json
import pathlib
import subprocess
import sys

import pytest

from maxrl_jax.runs import files, folders, train_to_folder
from tests.support.resumable_cases import final, small


def test_another_config_is_refused_and_nothing_lost(tmp_path):
  train_to_folder.train(small(), tmp_path)
  before = _times(tmp_path)
  other = small(**{"estimator.order": 3, "steps": 80})
  message = (
    "holds another experiment: estimator.order is None there and 3 here;"
    " steps is 60 there and 80 here; choose another folder, or train it"
    " again with --fresh"
  )
  with pytest.raises(ValueError, match=message):
    train_to_folder.train(other, tmp_path)
  assert _times(tmp_path) == before


def test_a_folder_that_another_loop_went_on_with_is_refused(tmp_path):
  config = small()
  folders.claim(tmp_path / "config.json", json.loads(config.to_json()))
  chunks = final(config, tmp_path).chunks(lambda step, states, metrics: {})
  for _ in chunks:
    break
  chunks.close()  # Saves what is done.
  with pytest.raises(ValueError, match=r"loop of your own, .*--fresh"):
    train_to_folder.train(config, tmp_path)
  assert train_to_folder.train(config, tmp_path, fresh=True)["steps"] == 60


def _times(folder):
  files = [p for p in folder.rglob("*") if p.is_file() and p.name != ".lock"]
  return {p: p.stat().st_mtime_ns for p in files}


def test_a_folder_with_other_things_is_refused(tmp_path):
  (tmp_path / "thesis.tex").write_text("…")
  with pytest.raises(ValueError, match=r"is not empty and has no config.json"):
    train_to_folder.train(small(), tmp_path)
  assert [p.name for p in tmp_path.iterdir() if p.name != ".lock"] == [
    "thesis.tex"
  ]


def test_runs_of_a_warm_up_do_not_make_a_folder_anothers(tmp_path):
  """A figure of a sweep trains it before its studies are known."""
  (tmp_path / "runs").mkdir()
  path = tmp_path / "sweep.json"
  assert not folders.claim(path, {"steps": 2})
  assert folders.claim(path, {"steps": 2})


def test_what_a_killed_start_leaves_is_nothing(tmp_path):
  for name in (".writable", ".lock", "config.4711.part"):
    (tmp_path / name).write_text("{")
  assert not folders.claim(tmp_path / "config.json", {"steps": 3})
  assert folders.claim(tmp_path / "config.json", {"steps": 3})


def test_two_processes_may_probe_a_folder_at_once(tmp_path, monkeypatch):
  """The other one has deleted the probe."""
  monkeypatch.setattr(pathlib.Path, "touch", lambda path: None)
  folders.make(tmp_path)


def test_two_processes_do_not_share_a_folder(tmp_path):
  with (
    folders.locked(tmp_path),
    pytest.raises(ValueError, match="another process is using it"),
    folders.locked(tmp_path),
  ):
    pass
  with folders.locked(tmp_path):  # Let go of again.
    pass


def test_a_killed_process_lets_go_of_its_folder(tmp_path):
  hold = (
    "import pathlib, sys, time\n"
    "from maxrl_jax.runs import folders\n"
    "with folders.locked(pathlib.Path(sys.argv[1])):\n"
    "  print('held', flush=True); time.sleep(600)"
  )
  holder = subprocess.Popen(
    [sys.executable, "-c", hold, tmp_path], stdout=subprocess.PIPE
  )
  assert holder.stdout.readline() == b"held\n"
  with (
    pytest.raises(ValueError, match="another process"),
    folders.locked(tmp_path),
  ):
    pass
  holder.kill()
  holder.communicate()
  with folders.locked(tmp_path):
    pass


def test_a_file_is_whole_or_as_it_was(tmp_path):
  path = tmp_path / "summary.json"
  files.write_json(path, {"steps": 3})
  with pytest.raises(OSError, match="full"), files.atomic(path) as unfinished:
    unfinished.write_text('{"ste')
    raise OSError("full")
  assert json.loads(path.read_text()) == {"steps": 3}
  assert list(tmp_path.iterdir()) == [path]


def test_a_folder_of_something_else_is_left_as_it_is(tmp_path):
  (tmp_path / "data.csv").touch()
  with pytest.raises(ValueError, match=r"is not empty and has no config\.json"):
    train_to_folder.train(small(), tmp_path)
  assert [path.name for path in tmp_path.iterdir()] == ["data.csv"]


def test_a_damaged_config_file_is_named(tmp_path):
  train_to_folder.train(small(), tmp_path)
  (tmp_path / "config.json").write_text('{"steps": 6')
  with pytest.raises(ValueError, match=r"config.json is damaged .* restore it"):
    train_to_folder.train(small(), tmp_path)


def test_revision_is_the_commit_of_this_source(tmp_path, monkeypatch):
  path = pathlib.Path(folders.__file__)
  head = ["git", "rev-parse", "HEAD"]
  commit = subprocess.check_output(head, cwd=path.parent, text=True)
  assert folders.revision().rstrip("+") == commit[:12]
  # A package installed into another repository is not of its commit.
  git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
  subprocess.run([*git, "init", "-q", tmp_path], check=True)
  commit = [*git, "commit", "-q", "--allow-empty", "-m", "theirs"]
  subprocess.run(commit, cwd=tmp_path, check=True)
  installed = tmp_path / "folders.py"
  installed.write_text(path.read_text())
  monkeypatch.setattr(folders, "__file__", str(installed))
  assert folders.revision() == "unknown"
  monkeypatch.setenv("PATH", str(tmp_path))
  assert folders.revision() == "unknown"
