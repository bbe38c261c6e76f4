"""Reproduce the figures and check the claims made of them.

    python -m experiments.reproduce --preset=quick --figure=all --workdir=DIR

Writes figures/*.png and *.svg, claims.json and a self-contained report.html,
which cover all figures that DIR has, those of earlier commands too. Training
runs are kept in DIR/runs, and an interrupted reproduction goes on where it
stopped. With `--jobs=2` two figures are made at a time, with logs in DIR/logs.
"""

import json
import pathlib
import shutil
import sys
import time
from collections.abc import Callable

from absl import flags

from experiments.figures import ALL, FIGURES, MAZES, expected
from experiments.shell import children, console, output
from experiments.shell.interruptions import Stopped
from maxrl_jax.runs import files

_PRESET = flags.DEFINE_enum(
  "preset",
  "quick",
  ["quick", "full", "long", "paper"],
  "quick is minutes, full hours, paper mazes as published, long five times the"
  " steps of quick for mazes, maze_baselines, maze_rates.",
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
_FRESH = flags.DEFINE_bool(
  "fresh",
  False,
  "Delete all stored runs first, mazes' too.",
)


def main(argv) -> None:
  console.no_arguments(argv)
  names = _chosen(_FIGURE.value, _PRESET.value)
  if _FRESH.value and _FIGURE.value != "all":
    raise ValueError(
      "--fresh: deletes the runs of all figures, not only of"
      f" {_FIGURE.value!r}; leave it out, and choose another workdir"
    )
  workdir = pathlib.Path(_WORKDIR.value)
  if children.followed():  # The folder is its parent's, and so is the report.
    _raise(_make_all(names, workdir, lambda: None), "above")
    return
  from experiments.shell import workdirs

  workdirs.make(workdir)
  with workdirs.locked(workdir):
    _reproduce(names, workdir)


def _reproduce(names: list[str], workdir: pathlib.Path) -> None:
  """Makes figures; then tells of those there are, and of those that failed."""
  if _FRESH.value:
    _delete_runs(workdir)
  output.say(
    f"{expected(names, _PRESET.value, _JOBS.value)}; runs that"
    f" {workdir / 'runs'} has are not repeated"
  )
  start = time.time()
  if _JOBS.value > 1:
    failed = _make_side_by_side(names, workdir)
    where = f"{workdir / 'logs'}/{''.join(failed[:1])}.log"
  else:
    failed = _make_all(names, workdir, lambda: _report(workdir))
    where = "above"
  output.say(f"took {(time.time() - start) / 60:.1f} minutes")
  _tell(_report(workdir), workdir / "report.html")
  _raise(failed, where)


def _delete_runs(workdir: pathlib.Path) -> None:
  """All stored runs, if it was this command that stored them."""
  runs = workdir / "runs"
  if runs.exists() and not (workdir / "claims.json").exists():
    raise ValueError(
      f"--fresh: '{runs}' is there and no claims.json, so it may not be a"
      " reproduction's; delete it yourself, or choose another workdir"
    )
  shutil.rmtree(runs, ignore_errors=True)


def _raise(failed: list[str], where: str) -> None:
  """Of work that was not all done, when the rest has been told."""
  if failed:
    more = f"; so did {', '.join(failed[1:])}" if failed[1:] else ""
    raise console.Failed(f"figure = {failed[0]!r} failed, see {where}{more}")


def _tell(claims: list, report: pathlib.Path) -> None:
  """The outcome of every claim that the folder has."""
  lines = [f"{'holds' if c.holds else 'FAILS'}  {c.id}" for c in claims]
  record = {"claims": {claim.id: claim.holds for claim in claims}}
  files = {"report": str(report)}
  output.result(report, "\n".join([*lines, str(report)]), record | files)


def _make_all(
  names: list[str], workdir: pathlib.Path, each: Callable
) -> list[str]:
  """Makes figures one after the other; those that failed, told why.

  Args:
    names: of figures.
    workdir: where to.
    each: is called after every figure.
  """
  failed = []
  for name in names:
    output.say(f"figure {name} …")
    try:
      seconds = _make(name, workdir)
    except Stopped:
      raise
    except Exception as error:
      console.tell(error)
      failed.append(name)
      continue
    output.say(f"  done in {seconds:.0f} s")
    each()
  return failed


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
      f" on {workdirs.machine()}, revision {workdirs.revision()}."
    )
    results.save(result._replace(made_by=made_by), name, workdir)
  return seconds


def _make_side_by_side(names: list[str], workdir: pathlib.Path) -> list[str]:
  """Makes figures in processes of their own, several at a time; the failed."""
  # All flags as they were given; of two that are the same the last one counts.
  same = [sys.executable, "-m", "experiments.reproduce", *sys.argv[1:]]
  jobs = _together(names)
  commands = {
    job: [*same, f"--figure={job}", "--jobs=1", "--nofresh"] for job in jobs
  }
  failed: list[str] = []
  with output.bar(total=len(jobs), unit="figure") as bar:

    def each(job: str, code: int) -> None:
      bar.update()
      output.say(f"figure {job} {'failed' if code else 'done'}")
      failed.extend([job] * (code != 0))
      _report(workdir)

    children.run(commands, workdir / "logs", _JOBS.value, each)
  return failed


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
  files.write_whole(workdir / "claims.json", text + "\n")
  files.write_whole(workdir / "report.html", report.render(found))
  return claims


def _chosen(value: str, preset: str) -> list[str]:
  mazes = [name for name in MAZES if preset in FIGURES[name].presets]
  groups = {"all": ALL, "all_mazes": mazes}
  names = groups.get(value) or [name.strip() for name in value.split(",")]
  for name in names:
    if name not in FIGURES:
      raise ValueError(f"figure = {name!r}: choose from {[*groups, *FIGURES]}")
    presets = FIGURES[name].presets
    if preset not in presets:
      having = [n for n in FIGURES if preset in FIGURES[n].presets]
      raise ValueError(
        f"preset = {preset!r}: figure {name!r} has {', '.join(presets)}; only"
        f" {having} have {preset} too (--figure=all_mazes)"
      )
  return names


if __name__ == "__main__":
  console.run(main)
