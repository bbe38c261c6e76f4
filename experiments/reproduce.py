"""Reproduce the figures and check the claims made of them.

    python -m experiments.reproduce --preset=quick --figure=all --workdir=DIR

Writes figures/*.png and *.svg, claims.json and a self-contained report.html,
which cover all figures that DIR has, those of earlier commands too. Training
runs are kept in DIR/runs: an interrupted reproduction goes on where it stopped,
and `--fresh` starts over.
"""

import json
import pathlib
import shutil
import time

import matplotlib

matplotlib.use("Agg")  # Before pyplot: no display is needed.

import matplotlib.pyplot as plt
from absl import flags

from experiments import console, report, results
from experiments.figures import FIGURES
from maxrl_jax import plotting

_PRESET = flags.DEFINE_enum(
  "preset", "quick", ["quick", "full"], "Minutes on a laptop, or hours."
)
_FIGURE = flags.DEFINE_string(
  "figure", "all", f"all, or some of {','.join(FIGURES)} (comma-separated)."
)
_WORKDIR = flags.DEFINE_string(
  "workdir", "runs/reproduce", "Folder for figures, claims, report and runs."
)
_FRESH = flags.DEFINE_bool("fresh", False, "Delete stored runs and start over.")


def main(argv) -> None:
  console.no_arguments(argv)
  names = _chosen(_FIGURE.value)
  workdir = pathlib.Path(_WORKDIR.value)
  if _FRESH.value:
    shutil.rmtree(workdir / "runs", ignore_errors=True)
  console.make_workdir(workdir)
  for name in names:
    print(f"figure {name} …", flush=True)
    seconds = _make(name, workdir)
    print(f"  done in {seconds:.0f} s", flush=True)
    claims = _report(workdir)
  for claim in claims:
    print(f"{'holds' if claim.holds else 'FAILS'}  {claim.id}")
  print(f"{workdir / 'report.html'}")


def _make(name: str, workdir: pathlib.Path) -> float:
  """Makes and saves one figure; returns the seconds it took."""
  start = time.time()
  with plt.rc_context(plotting.STYLE):
    result = FIGURES[name](_PRESET.value, workdir)
    seconds = time.time() - start
    made_by = (
      f"python -m experiments.reproduce --preset={_PRESET.value}"
      f" --figure={name}: {seconds / 60:.1f} minutes, without stored runs,"
      f" on {report.environment()}."
    )
    results.save(result._replace(made_by=made_by), name, workdir)
  return seconds


def _report(workdir: pathlib.Path) -> list[results.Claim]:
  """Writes claims.json and report.html anew after every figure."""
  found = [results.load(name, workdir) for name in FIGURES]
  found = [result for result in found if result]
  claims = [claim for result in found for claim in result.claims]
  text = json.dumps([claim._asdict() for claim in claims], indent=2)
  (workdir / "claims.json").write_text(text + "\n", encoding="utf-8")
  page = report.render(found)
  (workdir / "report.html").write_text(page, encoding="utf-8")
  return claims


def _chosen(value: str) -> list[str]:
  names = (
    list(FIGURES)
    if value == "all"
    else [name.strip() for name in value.split(",")]
  )
  for name in names:
    if name not in FIGURES:
      raise ValueError(f"figure = {name!r}: choose from {['all', *FIGURES]}")
  return names


if __name__ == "__main__":
  console.run(main)
