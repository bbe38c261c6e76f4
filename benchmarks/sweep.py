"""One sweep against the same runs as sequential processes.

    python -m benchmarks.sweep [--singles=96]

96 bandit runs (6 orders × 16 seeds, 2000 steps), including start-up and
compilation, without a cache between processes. With fewer `--singles`, evenly
distributed over the orders, their total time is extrapolated.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import time

from absl import flags
from tqdm import tqdm

from experiments.shell import console
from maxrl_jax.runs import folders

_SINGLES = flags.DEFINE_integer("singles", 96, "Processes to time.", 1, 96)
_ORDERS, _SEEDS = (1, 2, 4, 8, 16, 31), 16


def main() -> None:
  print(folders.machine())
  runs = [(order, seed) for seed in range(_SEEDS) for order in _ORDERS]
  with tempfile.TemporaryDirectory() as folder:
    orders = ",".join(map(str, _ORDERS))
    sweep = _seconds(
      "sweep",
      f"--grid=estimator.order={orders}",
      f"--seeds={_SEEDS}",
      f"--workdir={folder}/sweep",
    )
    print(f"one sweep of {len(runs)} runs: {sweep:.1f} s", flush=True)
    singles = [
      _seconds(
        "train",
        f"--config.estimator.order={order}",
        f"--config.seed={seed}",
        f"--workdir={folder}/{order}-{seed}",
      )
      for order, seed in tqdm(runs[: _SINGLES.value], unit="run")
    ]
  total = sum(singles) * len(runs) / len(singles)
  scaled = "" if len(singles) == len(runs) else f", scaled from {len(singles)}"
  print(
    f"sequential single runs: {total:.1f} s{scaled};"
    f" ratio {total / sweep:.1f}× (≥ 5×"
    f" {'met' if total >= 5 * sweep else 'NOT met'})"
  )


def _seconds(module: str, *arguments) -> float:
  """Wall-clock time of a process that runs configs/bandit.py."""
  environment = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith("JAX_COMPILATION_CACHE")
  }
  start = time.perf_counter()
  subprocess.run(
    [
      sys.executable,
      "-m",
      f"experiments.{module}",
      "--config=configs/bandit.py",
      *arguments,
    ],
    check=True,
    capture_output=True,
    env=environment,
    cwd=pathlib.Path(__file__).parents[1],
  )
  return time.perf_counter() - start


if __name__ == "__main__":
  console.run(main)
