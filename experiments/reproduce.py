"""Reproduce the figures and check the claims made of them.

    python -m experiments.reproduce --preset=quick --figure=all --workdir=DIR

Writes figures/*.png and *.svg, claims.json and a self-contained report.html,
which cover all figures that DIR has, those of earlier commands too. Training
runs are kept in DIR/runs: an interrupted reproduction goes on where it stopped,
and `--fresh` starts over. With `--jobs=2` two figures are made at a time, each
by a process of its own whose output is in DIR/logs.
"""

import json
import pathlib
import shutil
import subprocess
import sys
import time
from concurrent import futures

from absl import flags

from experiments.figures import ALL, FIGURES, MAZES, expected
from experiments.shell import console, output

_PRESET = flags.DEFINE_enum(
  "preset",
  "quick",
  ["quick", "full", "long", "paper"],
  "quick is minutes, full hours; mazes also have long and paper. long is quick"
  " with five times the steps, paper the published size.",
)
_FIGURE = flags.DEFINE_string(
  "figure",
  "all",
  f"all, all_mazes, or some of {', '.join(FIGURES)}; comma-separated.",
)
_WORKDIR = flags.DEFINE_string(
  "workdir", "runs/reproduce", "Folder for figures, claims, report and runs."
)
_JOBS = flags.DEFINE_integer(
  "jobs", 1, "Figures made at a time; leave 1 on an accelerator.", 1
)
_FRESH = flags.DEFINE_bool("fresh", False, "Delete stored runs and start over.")


def main(argv) -> None:
  console.no_arguments(argv)
  names = _chosen(_FIGURE.value, _PRESET.value)
  from experiments.shell import workdirs

  workdir = pathlib.Path(_WORKDIR.value)
  workdirs.make(workdir)
  if _FRESH.value:
    shutil.rmtree(workdir / "runs", ignore_errors=True)
  output.say(
    f"{expected(names, _PRESET.value, _JOBS.value)}; runs that"
    f" {workdir / 'runs'} has are not repeated"
  )
  start = time.time()
  if _JOBS.value > 1:
    _make_side_by_side(names, workdir)
  else:
    for name in names:
      output.say(f"figure {name} …")
      seconds = _make(name, workdir)
      output.say(f"  done in {seconds:.0f} s")
      _report(workdir)
  output.say(f"took {(time.time() - start) / 60:.1f} minutes")
  _tell(_report(workdir), workdir / "report.html")


def _tell(claims: list, report: pathlib.Path) -> None:
  """The outcome of every claim that the folder has."""
  lines = [f"{'holds' if c.holds else 'FAILS'}  {c.id}" for c in claims]
  record = {"claims": {claim.id: claim.holds for claim in claims}}
  files = {"report": str(report)}
  output.result(report, "\n".join([*lines, str(report)]), record | files)


def _make(name: str, workdir: pathlib.Path) -> float:
  """Makes and saves one figure; returns the seconds it took."""
  from experiments.reports import results
  from experiments.shell import workdirs
  from maxrl_jax import plotting

  start = time.time()
  with plotting.styled():
    result = FIGURES[name](_PRESET.value, workdir)
    seconds = time.time() - start
    made_by = (
      f"python -m experiments.reproduce --preset={_PRESET.value}"
      f" --figure={name}: {seconds / 60:.1f} minutes, without stored runs,"
      f" on {workdirs.machine()}."
    )
    results.save(result._replace(made_by=made_by), name, workdir)
  return seconds


def _make_side_by_side(names: list[str], workdir: pathlib.Path) -> None:
  """Makes figures in processes of their own, several at a time.

  Raises:
    Failed: a figure could not be made; the others are.
  """
  logs = workdir / "logs"
  logs.mkdir(exist_ok=True)
  jobs = _together(names)

  def make(job: str) -> tuple[str, int]:
    command = [
      *(sys.executable, "-m", "experiments.reproduce"),
      *(f"--preset={_PRESET.value}", f"--figure={job}", f"--workdir={workdir}"),
    ]
    with (
      open(logs / f"{job}.log", "w") as log,
      subprocess.Popen(command, stdout=log, stderr=log) as process,
    ):
      started.append(process)
    return job, process.returncode

  failed: list[str] = []
  started: list[subprocess.Popen] = []
  with futures.ThreadPoolExecutor(_JOBS.value) as pool:
    waiting = [pool.submit(make, job) for job in jobs]
    done = futures.as_completed(waiting)
    bar = output.bar(done, total=len(jobs), unit="figure")
    try:
      for job, code in (one.result() for one in bar):
        output.say(f"figure {job} {'failed' if code else 'done'}")
        failed += [job] * (code != 0)
    except KeyboardInterrupt:
      pool.shutdown(wait=False, cancel_futures=True)
      for process in started:
        process.terminate()  # They save what they are at.
      raise
  if failed:
    raise console.Failed(
      f"figure = {failed[0]!r} failed, see {logs / failed[0]}.log"
      + (f"; so did {', '.join(failed[1:])}" if failed[1:] else "")
    )


def _together(names: list[str]) -> list[str]:
  """Figures as jobs; those that are drawn from the same runs are one job."""
  jobs = list(names)
  for group in (["bimodal", "jensen"], MAZES):
    members = [name for name in names if name in group]
    if members:
      jobs[jobs.index(members[0])] = ",".join(members)
      jobs = [job for job in jobs if job not in members[1:]]
  return jobs


def _report(workdir: pathlib.Path) -> list:
  """Writes claims.json and report.html anew after every figure; the claims."""
  from experiments.reports import report, results

  loaded = (results.load(name, workdir) for name in FIGURES)
  found = [result for result in loaded if result]
  claims = [claim for result in found for claim in result.claims]
  text = json.dumps([claim._asdict() for claim in claims], indent=2)
  results.write_whole(workdir / "claims.json", text + "\n")
  results.write_whole(workdir / "report.html", report.render(found))
  return claims


def _chosen(value: str, preset: str) -> list[str]:
  groups = {"all": ALL, "all_mazes": MAZES}
  names = groups.get(value) or [name.strip() for name in value.split(",")]
  for name in names:
    if name not in FIGURES:
      raise ValueError(f"figure = {name!r}: choose from {[*groups, *FIGURES]}")
    if preset in ("long", "paper") and not name.startswith("maze"):
      raise ValueError(
        f"preset = {preset!r}: figure {name!r} has quick and full; only {MAZES}"
        f" have {preset} too (--figure=all_mazes)"
      )
  return names


if __name__ == "__main__":
  console.run(main)
