"""A disk that fills up: a clear error, earlier results intact, and on it goes.

    python -m tests.faults.full_disk

Mounts small file systems in memory, so it wants Linux and root. A run whose
disk has room for so many bytes must end by itself or say that there was none
left; given more room, the same command must end as on an empty disk.
"""

import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile

from tests.faults import kills

_ENOUGH = 64 * 2**20


@contextlib.contextmanager
def small_disk(size: int):
  """A file system of so many bytes."""
  with tempfile.TemporaryDirectory() as folder:
    _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder)
    try:
      yield pathlib.Path(folder)
    finally:
      subprocess.run(["umount", folder], check=True)


def can_mount() -> bool:
  """Whether this process may."""
  if not hasattr(os, "geteuid") or os.geteuid() != 0:
    return False
  try:
    with small_disk(2**20):
      return True
  except (OSError, subprocess.CalledProcessError):
    return False


def _mount(*arguments) -> None:
  subprocess.run(["mount", *arguments], check=True, capture_output=True)


def trial(kind: str, size: int, twin: pathlib.Path) -> dict:
  """One run on a disk of so many bytes, and then with room enough."""
  with small_disk(size) as disk:
    workdir = disk / "run"
    first = subprocess.run(
      kills.command(kind, workdir), capture_output=True, text=True
    )
    _mount("-o", f"remount,size={_ENOUGH}", str(disk))
    kills.whole(kind, workdir)
    return {
      "kind": kind,
      "bytes": size,
      "exit code": first.returncode,
      "said": (first.stderr.strip().splitlines() or [""])[-1],
      "differences": kills.differences(kind, twin, workdir),
    }


def wrong(record: dict) -> bool:
  """Whether a run did anything else than end well or say what is missing."""
  said = record["said"]
  one_line = said.startswith("error: ") and "Traceback" not in said
  one_line &= "no space left" in said or "MiB are needed" in said
  ended = record["exit code"] == 0
  return bool(record["differences"]) or not (ended or one_line)


def main() -> None:
  if not can_mount():
    sys.exit("full_disk: file systems can be mounted by root on Linux only")
  records = []
  with tempfile.TemporaryDirectory() as folder:
    for kind in ("bandit", "sweep"):
      twin = pathlib.Path(folder) / kind
      kills.whole(kind, twin)
      for kib in (4, 16, 64, 128, 1200, 1400):
        records.append(trial(kind, kib * 2**10, twin))
        print(records[-1], flush=True)
  bad = sum(map(wrong, records))
  print(f"{len(records)} disks, {bad} runs went wrong")
  sys.exit(bool(bad))


if __name__ == "__main__":
  main()
