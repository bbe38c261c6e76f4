"""Folders for results: writable, one process at a time, one experiment each."""

import contextlib
import json
import pathlib
import platform
import shlex
import subprocess
import sys
from importlib import metadata
from typing import Any

import filelock
import jax

from maxrl_jax.runs.files import write_json


def make(path: pathlib.Path) -> None:
  """Makes the folder, or says which flag is wrong."""
  try:
    path.mkdir(parents=True, exist_ok=True)
    probe = path / ".writable"
    probe.touch()
    probe.unlink()
  except OSError as error:
    raise ValueError(
      f"workdir = '{path}': cannot write there ({error.strerror}); choose"
      " another folder"
    ) from None


@contextlib.contextmanager
def locked(path: pathlib.Path):
  """Keeps the folder from other processes; a killed one lets go of it."""
  lock = filelock.FileLock(path / ".lock")
  try:
    lock.acquire(timeout=0)
  except filelock.Timeout:
    raise ValueError(
      f"workdir = '{path}': another process is at work there; wait for it, or"
      " choose another folder"
    ) from None
  try:
    yield
  finally:
    lock.release()


def claim(path: pathlib.Path, fields: dict, mend: str = "") -> bool:
  """Whether the folder holds this experiment already; if empty, it does now.

  Args:
    path: a file of the folder that tells which experiment it holds.
    fields: what makes this experiment this one, as JSON gives it back.
    mend: what else can be done than to choose another folder.

  Raises:
    ValueError: it holds another one, naming what differs; the file is damaged;
      or there is no such file, and the folder is not empty.
  """
  workdir = path.parent
  if not path.exists():
    # What a process leaves that is killed while it begins is nothing.
    nothing = (".lock", ".writable")
    if any(
      p.name not in nothing and p.suffix != ".part" for p in workdir.iterdir()
    ):
      raise ValueError(
        f"workdir = '{workdir}' is not empty and has no {path.name}; choose"
        " another folder"
      )
    write_json(path, fields)
    return False
  try:
    theirs = flatten(json.loads(path.read_text(encoding="utf-8")))
  except ValueError as error:
    raise ValueError(f"{path} is damaged ({error}): delete it") from None
  ours = flatten(fields)
  differing = [
    f"{name} is {theirs.get(name)} there and {ours.get(name)} here"
    for name in sorted(ours | theirs)
    if ours.get(name) != theirs.get(name)
  ]
  if differing:
    more = f" (and {len(differing) - 5} more)" * (len(differing) > 5)
    raise ValueError(
      f"workdir = '{workdir}' holds another experiment: "
      + "; ".join(differing[:5])
      + f"{more}; choose another folder{mend}"
    )
  return True


def flatten(block: dict, prefix: str = "") -> dict:
  """{"a": {"b": 1}} → {"a.b": 1}."""
  found: dict[str, Any] = {}
  for name, value in block.items():
    inner = isinstance(value, dict)
    found |= (
      flatten(value, f"{prefix}{name}.") if inner else {prefix + name: value}
    )
  return found


def machine() -> str:
  """Device and the versions that matter most, in one line."""
  packages = ("jax", "jaxlib", "flax", "optax", "numpy")
  versions = ", ".join(f"{p} {metadata.version(p)}" for p in packages)
  return f"{_device()}, Python {platform.python_version()}, {versions}"


def _device() -> str:
  device = jax.devices()[0]
  return f"{device.platform} ({device.device_kind})"


def environment() -> dict:
  """Where a run was made: command, revision, device and all versions."""
  versions = {d.name: d.version for d in metadata.distributions()}
  return {
    "command": shlex.join(["python", *sys.orig_argv[1:]]),
    "revision": revision(),
    "device": _device(),
    "devices": jax.device_count(),
    "platform": platform.platform(),
    "python": platform.python_version(),
    "versions": dict(sorted(versions.items())),
  }


def revision() -> str:
  """The commit of this source, '+' where files differ from it."""

  def git(*arguments):
    done = subprocess.run(
      ["git", *arguments],
      capture_output=True,
      text=True,
      check=False,
      cwd=pathlib.Path(__file__).parent,
    )
    return done.stdout.strip()

  commit = git("rev-parse", "HEAD")
  changed = git("status", "--porcelain", "--untracked-files=no")
  return f"{commit}{'+' * bool(changed)}" if commit else "unknown"
