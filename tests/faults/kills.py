"""Runs killed at random moments end as if nothing had happened.

    python -m tests.faults.kills --kills=50

Every kind of run is trained once without a fault. Its twins get SIGKILL at
moments drawn uniformly from the time that the first one took and a fifth more,
several times each, and are then left to end: metrics, checkpoint and summary
must be equal bit for bit.
"""

import argparse
import json
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

import jax
import numpy as np
import xarray as xr
from orbax.checkpoint import v1 as ocp

_ROOT = pathlib.Path(__file__).parents[2]
_SHORT = ("steps=400", "log_every=20", "eval_every=40")
# Small, and with checkpoints so often that many kills meet one being written.
KINDS = {
  "bandit": ["train", "configs/bandit.py", *_SHORT, "checkpoint.every=20"],
  "digits": [
    *("train", "configs/digits.py", *_SHORT, "task.num_digits=1"),
    *("rollouts=16", "batch_size=16", "policy.hidden=(16,)"),
    *("optimizer.warmup=10",),
  ],
  "regression": [
    *("train", "configs/bimodal.py", *_SHORT, "policy.hidden=(16,)"),
    *("runs=2", "rollouts=8", "batch_size=16"),
  ],
  "maze": [
    *("train", "configs/maze.py:warmup", "steps=60", "log_every=5"),
    *("eval_every=10", "task.size=7", "task.random_ends=True"),
    *("task.max_length=6", "task.eval_size=16", "policy.num_layers=1"),
    *("policy.hidden_size=16", "batch_size=8", "eval_rollouts=4"),
    *("optimizer.warmup=5",),
  ],
  "sweep": ["sweep", "configs/bandit.py", *_SHORT, "checkpoint.every=20"],
}
_SWEEP = ("--grid=estimator.order=1,4;rollouts=8,12", "--seeds=2")


def command(kind: str, workdir: pathlib.Path) -> list[str]:
  module, config, *fields = KINDS[kind]
  return [
    *(sys.executable, "-m", f"experiments.{module}", f"--config={config}"),
    *(f"--config.{field}" for field in fields),
    *(_SWEEP if kind == "sweep" else ()),
    f"--workdir={workdir}",
  ]


def whole(kind: str, workdir: pathlib.Path) -> float:
  """Runs to the end; returns the seconds it took."""
  start = time.time()
  done = subprocess.run(
    command(kind, workdir), cwd=_ROOT, capture_output=True, text=True
  )
  if done.returncode:
    raise RuntimeError(f"{kind} failed: {done.stderr[-2000:]}")
  return time.time() - start


def killed(
  kind: str, workdir: pathlib.Path, moments: Sequence[float]
) -> list[str]:
  """Starts and kills the run at each moment; what it was doing each time.

  A run that ends before its moment is over.
  """
  stages = []
  for seconds in moments:
    with open(workdir.with_suffix(".log"), "a") as log:
      process = subprocess.Popen(
        command(kind, workdir), cwd=_ROOT, stdout=log, stderr=log
      )
      try:
        process.wait(seconds)
        break  # It has ended before, and is not killed any more.
      except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        stages.append(_doing(workdir))
  return stages


def _doing(workdir: pathlib.Path) -> str:
  """How far a killed run was, from what it left."""
  folders = [
    workdir / "checkpoints",
    *workdir.glob("runs/unfinished-*/checkpoints"),
  ]
  if any(any(folder.glob("*tmp*")) for folder in folders):
    return "writing a checkpoint"
  if any(any(folder.glob("[0-9]*")) for folder in folders) or any(
    workdir.glob("runs/*.npz")
  ):
    return "between checkpoints"
  return "before the first checkpoint"


def differences(kind: str, one: pathlib.Path, other: pathlib.Path) -> list[str]:
  """What is not the same bits in two finished runs; nothing is as it should."""
  if kind == "sweep":
    a, b = (xr.load_dataset(w / "runs.nc") for w in (one, other))
    names = sorted((set(a.variables) | set(b.variables)) - {"seconds"})
    return [
      n for n in names if n not in a or n not in b or not _same(a[n], b[n])
    ]
  different = []
  lines = [(w / "metrics.jsonl").read_bytes() for w in (one, other)]
  if lines[0] != lines[1]:
    different.append("metrics.jsonl")
  a, b = (json.loads((w / "summary.json").read_text()) for w in (one, other))
  if a | {"seconds": 0} != b | {"seconds": 0}:
    different.append("summary.json")
  a, b = (_last_digest(w) for w in (one, other))
  if a != b:
    different.append("parameters or optimizer")
  return different


def _same(a, b) -> bool:
  return a.dtype == b.dtype and np.array_equal(
    a.values, b.values, equal_nan=a.dtype.kind == "f"
  )


def _last_digest(workdir: pathlib.Path) -> str:
  """Of the last checkpoint's arrays, without the seconds beside them."""
  steps = [int(p.name) for p in workdir.glob("checkpoints/[0-9]*")]
  place = (workdir / "checkpoints" / str(max(steps))).absolute()
  leaves = jax.tree.leaves_with_path(ocp.load(place))
  return str(
    [(str(p), np.asarray(x).dtype, np.asarray(x).tobytes()) for p, x in leaves]
  )


def trial(
  kinds: Sequence[str], kills: int, seed: int, after: float = 0.0
) -> list[dict]:
  """Kills spread over the kinds, up to five to a run; a record for every run.

  Args:
    kinds: of `KINDS`.
    kills: in all.
    seed: of the moments.
    after: share of a whole run's time that is over before any kill.
  """
  rng, records = random.Random(seed), []
  with tempfile.TemporaryDirectory() as folder:
    base = pathlib.Path(folder)
    seconds = {}
    for kind in kinds:
      whole(kind, base / f"{kind}-first")  # Compiles; the next one is timed.
      seconds[kind] = whole(kind, base / kind)
      assert not differences(kind, base / f"{kind}-first", base / kind), kind
    left, count = kills, 0
    while left:
      kind = kinds[count % len(kinds)]
      whole_time = seconds[kind]
      moments = [
        rng.uniform(after * whole_time, 1.2 * whole_time)
        for _ in range(min(5, left))
      ]
      workdir = base / f"{kind}-{count}"
      doing = killed(kind, workdir, moments)
      whole(kind, workdir)
      record = {
        "kind": kind,
        "killed after": [round(m, 2) for m in moments[: len(doing)]],
        "doing": doing,
        "differences": differences(kind, base / kind, workdir),
      }
      print(json.dumps(record), flush=True)
      records.append(record)
      shutil.rmtree(workdir)
      if not doing:  # It is faster by now, and ended before all moments.
        seconds[kind] *= 0.8
      left, count = left - len(doing), count + 1
  return records


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--kills", type=int, default=50, help="SIGKILLs in all")
  parser.add_argument("--seed", type=int, default=0, help="of the moments")
  parser.add_argument(
    "--kinds", nargs="+", default=list(KINDS), choices=KINDS, help="of runs"
  )
  parser.add_argument(
    "--after", type=float, default=0.0, help="share of a run left in peace"
  )
  flags = parser.parse_args()
  records = trial(flags.kinds, flags.kills, flags.seed, flags.after)
  doing = [what for record in records for what in record["doing"]]
  for what in sorted(set(doing)):
    print(f"{doing.count(what)} kills {what}")
  wrong = [record for record in records if record["differences"]]
  print(f"{len(records)} runs, {len(wrong)} differ from their twin")
  sys.exit(bool(wrong))


if __name__ == "__main__":
  main()
