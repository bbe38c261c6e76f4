"""Reproduce the figures and check the claims made of them.

    python -m experiments.reproduce --preset=quick --figure=all --workdir=DIR

Writes figures/*.png and *.svg, claims.json and a self-contained report.html.
Training runs are kept in DIR/runs: an interrupted reproduction goes on where it
stopped, and `--fresh` starts over.
"""

import json
import pathlib
import shutil
import time

import matplotlib

matplotlib.use("Agg")  # Before pyplot: no display is needed.

import matplotlib.pyplot as plt
from absl import flags

from experiments import console, report
from experiments.figures import FIGURES
from experiments.results import Result
from maxrl_jax import plotting

_PRESET = flags.DEFINE_enum(
  "preset", "quick", ["quick", "full"], "Minutes on a laptop, or over an hour."
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
  (workdir / "figures").mkdir(parents=True, exist_ok=True)
  start, results = time.time(), {}
  for name in names:
    print(f"figure {name} …", flush=True)
    with plt.rc_context(plotting.STYLE):
      results[name] = FIGURES[name](_PRESET.value, workdir)
      _save(results[name], workdir / "figures")
    print(f"  done after {time.time() - start:.0f} s", flush=True)
  claims = [c._asdict() for result in results.values() for c in result.claims]
  _write(workdir / "claims.json", json.dumps(claims, indent=2) + "\n")
  command = (
    f"python -m experiments.reproduce --preset={_PRESET.value}"
    f" --figure={_FIGURE.value}"
  )
  with plt.rc_context(plotting.STYLE):
    page = report.render(results, command, time.time() - start)
  _write(workdir / "report.html", page)
  for claim in claims:
    print(f"{'holds' if claim['holds'] else 'FAILS'}  {claim['id']}")
  print(f"{workdir / 'report.html'}")


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


def _save(result: Result, folder: pathlib.Path) -> None:
  for drawing in result.drawings:
    drawing.figure.savefig(folder / f"{drawing.name}.png")
    # Without the date, the same numbers make the same file.
    drawing.figure.savefig(
      folder / f"{drawing.name}.svg", metadata={"Date": None}
    )
    plt.close(drawing.figure)


def _write(path: pathlib.Path, text: str) -> None:
  path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
  console.run(main)
