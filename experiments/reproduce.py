"""Reproduce the figures and check their claims.

    python -m experiments.reproduce --preset=quick --figure=first --workdir=DIR
    python -m experiments.reproduce --figure=bandit --set=orders=1,3,63
      --set=rollouts=64 --workdir=DIR

Writes figures/*.png, *.svg and *.csv, claims.json and a self-contained
report.html, which cover all figures in DIR, also of earlier commands, and are
rewritten after every figure. Training runs are cached in DIR/runs, and an
interrupted reproduction resumes. With `--jobs=2` two figures run at a time,
with logs in DIR/logs.
"""

import json
import pathlib
import shutil
import sys
import time
from collections.abc import Callable

from absl import flags

from experiments import figures
from experiments.figures import FIGURES, FIRST, MAZES, MORE
from experiments.shell import children, console
from maxrl_jax.runs import files, progress
from maxrl_jax.runs.interrupts import Stopped

_PRESET = flags.DEFINE_enum(
  "preset",
  "quick",
  ["quick", "full", "paper"],
  "quick takes minutes, full hours; paper, of mazes only, is as published.",
)
_FIGURE = flags.DEFINE_string(
  "figure",
  "first",
  "first (a first look), more (the rest that takes minutes), all (both),"
  f" all_mazes, or some of {', '.join(FIGURES)}; comma-separated.",
)
_SET = flags.DEFINE_multi_string(
  "set",
  [],
  "FIELD=VALUE of a figure's settings, such as orders=1,3,63; repeatable.",
)
_WORKDIR = flags.DEFINE_string(
  "workdir", "runs/reproduce", "Folder for figures, claims, report and runs."
)
_JOBS = flags.DEFINE_integer(
  "jobs", 1, "Figures run at a time; leave 1 on an accelerator.", 1
)
_FRESH = flags.DEFINE_bool("fresh", False, "Delete all cached runs first.")


def main() -> None:
  names = _chosen(_FIGURE.value, _PRESET.value)
  chosen = {
    name: figures.settings(name, _PRESET.value, _SET.value) for name in names
  }
  if _FRESH.value and _FIGURE.value not in ("first", "all"):
    raise ValueError(
      "--fresh: deletes the runs of all figures, not only of"
      f" {_FIGURE.value!r}; leave it out, and choose another workdir"
    )
  workdir = pathlib.Path(_WORKDIR.value)
  if children.is_child():  # The parent locks the folder and writes the report.
    _raise(_make_all(chosen, workdir, lambda: None), "above")
    return
  from maxrl_jax.runs import folders

  for name in ("config.json", "sweep.json"):
    if (workdir / name).exists():
      raise ValueError(
        f"workdir = '{workdir}': has a {name}, so it is a folder of another"
        " command; choose another one"
      )
  folders.make(workdir)
  with folders.locked(workdir):
    _reproduce(chosen, workdir)


def _reproduce(chosen: dict, workdir: pathlib.Path) -> None:
  """Makes figures, reports on all in the folder, and raises if any failed."""
  if _FRESH.value:
    _delete_runs(workdir)
  progress.info(
    f"{figures.expected(list(chosen), _PRESET.value, _JOBS.value)}; runs cached"
    f" in {workdir / 'runs'} are not repeated; {workdir / 'report.html'} is"
    " rewritten after every figure"
  )
  start = time.time()
  if _JOBS.value > 1 and len(chosen) > 1:
    failed = _make_side_by_side(list(chosen), workdir)
    where = f"{workdir / 'logs'}/{''.join(failed[:1])}.log"
  else:
    failed = _make_all(chosen, workdir, lambda: _report(workdir))
    where = "above"
  progress.info(f"took {(time.time() - start) / 60:.1f} minutes")
  claims, report = _report(workdir), workdir / "report.html"
  lines = [f"{'holds' if c.holds else 'FAILS'}  {c.id}" for c in claims]
  record = {"claims": {claim.id: claim.holds for claim in claims}}
  text = "\n".join([*lines, str(report)])
  console.result(report, text, record | {"report": str(report)})
  _raise(failed, where)


def _delete_runs(workdir: pathlib.Path) -> None:
  """Deletes all cached runs, unless they may not be a reproduction's."""
  runs = workdir / "runs"
  if runs.exists() and not (workdir / "claims.json").exists():
    raise ValueError(
      f"--fresh: '{runs}' exists without claims.json, so it may not be a"
      " reproduction's; delete it yourself, or choose another workdir"
    )
  shutil.rmtree(runs, ignore_errors=True)


def _raise(failed: list[str], where: str) -> None:
  """Raises `Failed` if figures failed."""
  if failed:
    more = f"; so did {', '.join(failed[1:])}" if failed[1:] else ""
    raise console.Failed(f"figure = {failed[0]!r} failed, see {where}{more}")


def _make_all(chosen: dict, workdir: pathlib.Path, each: Callable) -> list[str]:
  """Makes figures one after the other; returns those that failed.

  Args:
    chosen: settings by figure.
    workdir: for results.
    each: is called after every figure.
  """
  failed = []
  for name, settings in chosen.items():
    progress.info(f"figure {name} …")
    try:
      seconds = _make(name, settings, workdir)
    except Stopped:
      raise
    except Exception as error:
      if len(chosen) == 1:  # The exit code depends on the error.
        raise
      console.report(error)
      failed.append(name)
      continue
    progress.info(f"  done in {seconds:.0f} s")
    each()
  return failed


def _make(name: str, settings, workdir: pathlib.Path) -> float:
  """Makes and saves one figure; returns the seconds it took."""
  from experiments.reports import results
  from maxrl_jax import plotting
  from maxrl_jax.runs import folders

  start = time.time()
  with plotting.styled():
    result = figures.make(name, settings, workdir / "runs")
    seconds = time.time() - start
    flags_set = "".join(f" --set={change}" for change in _SET.value)
    made_by = (
      f"python -m experiments.reproduce --preset={_PRESET.value}"
      f" --figure={name}{flags_set}: {seconds / 60:.1f} minutes, without cached"
      f" runs, on {folders.machine()}, revision {folders.revision()}."
    )
    results.save(result._replace(made_by=made_by), name, workdir)
  return seconds


def _make_side_by_side(names: list[str], workdir: pathlib.Path) -> list[str]:
  """Makes figures in processes, some at a time; returns those that failed."""
  # This command with flags appended: the last value of a flag counts.
  this = [sys.executable, "-m", "experiments.reproduce", *sys.argv[1:]]
  jobs = _jobs(names)
  commands = {
    job: [*this, f"--figure={job}", "--jobs=1", "--nofresh"] for job in jobs
  }
  failed: list[str] = []
  with progress.bar(total=len(jobs), unit="figure") as bar:

    def each(job: str, code: int) -> None:
      bar.update()
      progress.info(f"figure {job} {'failed' if code else 'done'}")
      failed.extend([job] * (code != 0))
      _report(workdir)

    children.run(commands, workdir / "logs", _JOBS.value, each)
  return failed


def _jobs(names: list[str]) -> list[str]:
  """Figures as jobs; those of mazes share runs and are one, comma-separated."""
  mazes = [name for name in names if name in MAZES]
  others = [name for name in names if name not in MAZES]
  return [*others, *filter(None, [",".join(mazes)])]


def _report(workdir: pathlib.Path) -> list:
  """Writes claims.json and report.html; returns the claims."""
  from experiments.reports import report, results

  loaded = (results.load(name, workdir) for name in FIGURES)
  present = [result for result in loaded if result]
  claims = [claim for result in present for claim in result.claims]
  text = json.dumps([claim._asdict() for claim in claims], indent=2)
  files.write_text(workdir / "claims.json", text + "\n")
  files.write_text(workdir / "report.html", report.render(present))
  return claims


def _chosen(value: str, preset: str) -> list[str]:
  """The figures that --figure names."""
  groups = {
    "first": FIRST,
    "more": MORE,
    "all": [*FIRST, *MORE],
    "all_mazes": [name for name in MAZES if preset in FIGURES[name].presets],
  }
  names: list[str] = []
  for name in value.split(","):
    names += groups.get(name.strip(), [name.strip()])
  return list(dict.fromkeys(names))


if __name__ == "__main__":
  console.run(main)
