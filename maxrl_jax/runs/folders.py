"""Result folders: writable, one process at a time, one experiment each."""

import contextlib
import json
import pathlib
import platform
import shlex
import subprocess
import sys
from collections.abc import Collection, Iterator
from importlib import metadata

import filelock
import jax

from maxrl_jax.config import flatten
from maxrl_jax.runs.files import write_json


def make(path: pathlib.Path) -> None:
  """Creates the folder; raises ValueError if it cannot be written to."""
  try:
    path.mkdir(parents=True, exist_ok=True)
    probe = path / ".writable"
    probe.touch()
    probe.unlink(missing_ok=True)  # Another process may probe the folder too.
  except OSError as error:
    raise ValueError(
      f"workdir = '{path}': cannot write there ({error.strerror}); choose"
      " another folder"
    ) from None


@contextlib.contextmanager
def locked(path: pathlib.Path, marker: str = "") -> Iterator[None]:
  """Locks the folder; the lock of a killed process is released.

  Args:
    path: the folder.
    marker: the file that a folder of this command has.

  Raises:
    ValueError: another process has locked it; or it has other files and no
      marker, and is left as it is.
  """
  if marker:
    _refuse_foreign(path / marker)
  lock = filelock.FileLock(path / ".lock")
  try:
    lock.acquire(timeout=0)
  except filelock.Timeout:
    raise ValueError(
      f"workdir = '{path}': another process is using it; wait for it, or choose"
      " another folder"
    ) from None
  try:
    yield
  finally:
    lock.release()


def claim(path: pathlib.Path, fields: dict, fix: str = "") -> bool:
  """Assigns a locked folder to this experiment; returns whether it already was.

  Args:
    path: the file of the folder that identifies its experiment.
    fields: identify this experiment, as JSON.
    fix: an alternative to choosing another folder, for the message.

  Raises:
    ValueError: it holds another experiment, naming the fields that differ; or
      the file is damaged.
  """
  workdir = path.parent
  if not path.exists():
    write_json(path, fields)
    return False
  check_same(read(path), fields, f"workdir = '{workdir}'", fix)
  return True


def check_same(
  saved: dict,
  asked: dict,
  place: str,
  fix: str = "",
  may_differ: Collection[str] = (),
) -> None:
  """Raises ValueError with the fields in which two experiments differ.

  Args:
    saved: fields of the experiment on disk, as JSON.
    asked: fields of the requested experiment, as JSON.
    place: where the first one is, for the message.
    fix: an alternative to choosing another folder, for the message.
    may_differ: fields, or whole blocks, that are not compared.
  """
  saved, asked = flatten(saved), flatten(asked)
  differing = [
    f"{name} is {saved.get(name)} there and {asked.get(name)} here"
    for name in sorted(asked | saved)
    if asked.get(name) != saved.get(name)
    and not {name, name.split(".")[0]} & set(may_differ)
  ]
  if differing:
    more = f" (and {len(differing) - 5} more)" * (len(differing) > 5)
    raise ValueError(
      f"{place} holds another experiment: "
      + "; ".join(differing[:5])
      + f"{more}; choose another folder{fix}"
    )


def _refuse_foreign(path: pathlib.Path) -> None:
  """Raises ValueError if the folder has results, but not this file."""
  workdir = path.parent
  # A process killed at its start may leave these; experiments.sweep trains the
  # warm-up of a figure in `runs` before it knows the figure's studies.
  ignored = (".lock", ".writable", "runs")
  if not path.exists() and any(
    p.name not in ignored and p.suffix != ".part" for p in workdir.iterdir()
  ):
    raise ValueError(
      f"workdir = '{workdir}' is not empty and has no {path.name}; choose"
      " another folder"
    )


def read(path: pathlib.Path) -> dict:
  """The fields that `claim` wrote; raises ValueError if they are damaged."""
  try:
    fields = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(fields, dict):
      raise ValueError(f"is a {type(fields).__name__}")
  except ValueError as error:
    raise ValueError(
      f"{path} is damaged ({error}): restore it, or delete the whole folder"
    ) from None
  return fields


def machine() -> str:
  """Device and the most important versions, in one line."""
  packages = ("jax", "jaxlib", "flax", "optax", "numpy")
  versions = ", ".join(f"{p} {metadata.version(p)}" for p in packages)
  return f"{_device()}, Python {platform.python_version()}, {versions}"


def _device() -> str:
  device = jax.devices()[0]
  return f"{device.platform} ({device.device_kind})"


def environment() -> dict:
  """Command, revision, device and versions of this process."""
  # An interrupted pip leaves distributions without a name.
  versions = {d.name: d.version for d in metadata.distributions() if d.name}
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
  """The commit of this source, with '+' if files differ from it."""
  try:
    # An installed package may lie in another project's repository.
    if not _git("ls-files", __file__):
      return "unknown"
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return _git("rev-parse", "--short=12", "HEAD") + "+" * bool(changed)
  except FileNotFoundError:  # No git here.
    return "unknown"


def _git(*arguments: str) -> str:
  done = subprocess.run(
    ["git", *arguments],
    capture_output=True,
    text=True,
    check=False,
    cwd=pathlib.Path(__file__).parent,
  )
  return done.stdout.strip()
