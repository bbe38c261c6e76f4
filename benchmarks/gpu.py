"""Times on one accelerator, within eight minutes.

    python -m benchmarks.gpu --out=FILE.json [--parts=weights,steps,…] [--small]

Each part is a process: its failures and its memory do not affect others.
Writes its rows to FILE.json as they come and prints a markdown table, also in
FILE.md. PyTorch and transformers are measured on the same device if they are
installed. --small checks that everything runs, on a CPU too.

Shares of the peak are XLA's count of operations or bytes over the measured
time; it counts the body of a loop once, so they are lower bounds. Memory is
arguments, results and temporaries as compiled.
"""

import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks import ahead, mazes, timing, weights
from configs import bandit, digits, imagenet
from experiments.shell import console
from maxrl_jax import estimators, symmetric
from maxrl_jax.learning import training
from maxrl_jax.runs import files, folders, slices

_OUT = flags.DEFINE_string("out", None, "JSON file for the rows.")
_PARTS = flags.DEFINE_list("parts", None, "Parts to run; all if not set.")
_SMALL = flags.DEFINE_bool("small", False, "Small sizes, to test the command.")
_SECONDS = flags.DEFINE_integer("seconds", 480, "Time for all parts.", 1)
_ALONE = flags.DEFINE_bool("alone", False, "Run the part in this process.")


class Peak(NamedTuple):
  """Peaks by the makers' data sheets, dense, per second."""

  float32: float
  bfloat16: float
  bytes: float


PEAKS = {  # By a part of the name of the device.
  "H100": Peak(67e12, 989e12, 3.35e12),
  "H200": Peak(67e12, 989e12, 4.8e12),
  "A100": Peak(19.5e12, 312e12, 2.04e12),
  "v5 lite": Peak(197e12, 197e12, 0.82e12),
}


class Row(NamedTuple):
  """One program; `ratio` is its time over another one's, or the inverse."""

  name: str
  ms: float
  rate: str = ""
  against: str = ""
  ratio: float | None = None
  goal: str = ""
  operations: float | None = None
  bandwidth: float | None = None
  memory_mb: float | None = None


def main() -> None:
  if _OUT.value is None:
    raise ValueError("out = None: name a JSON file for the rows")
  names = _PARTS.value or list(PARTS)
  for name in names:
    if name not in PARTS:
      raise ValueError(f"parts: {name!r}: choose from {', '.join(PARTS)}")
  out = pathlib.Path(_OUT.value)
  if _ALONE.value:
    (name,) = names
    _run(name, out, _SMALL.value)
    return
  end = time.monotonic() + _SECONDS.value
  record: dict[str, Any] = {"machine": "", "parts": {}}
  for name in names:
    record["parts"][name] = _in_process(
      name, end - time.monotonic(), _SMALL.value
    )
    record["machine"] = record["parts"][name].pop("machine", record["machine"])
    files.write_json(out, record)
  table = _table(record)
  files.write_text(out.with_suffix(".md"), table)
  print(table)


def _in_process(name: str, seconds: float, small: bool) -> dict:
  """Rows of a part, and why it ended early if it did."""
  if seconds < 10:
    return {"rows": [], "error": "no time left"}
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, "part.json")
    command = [sys.executable, "-m", "benchmarks.gpu", f"--out={path}"]
    command += [f"--parts={name}", "--alone", f"--small={small}"]
    # Otherwise JAX would reserve the memory that PyTorch needs.
    environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    error = ""
    try:
      done = subprocess.run(
        command, env=environment, timeout=seconds, stderr=subprocess.PIPE
      )
      if done.returncode:
        message = done.stderr.decode(errors="replace").strip()[-2000:]
        error = message or f"ended with {done.returncode}"
    except subprocess.TimeoutExpired:
      error = f"stopped after {seconds:.0f} s"
    record = json.loads(path.read_text()) if path.exists() else {"rows": []}
  return record | ({"error": error} if error else {})


def _run(name: str, out: pathlib.Path, small: bool) -> None:
  record: dict[str, Any] = {"machine": folders.machine(), "rows": []}
  files.write_json(out, record)
  for make in PARTS[name](small):
    try:
      record["rows"] += [row._asdict() for row in make()]
    except Exception as error:  # One failure loses its rows only.
      (first, *_) = str(error).splitlines() or [""]
      record["error"] = f"{type(error).__name__}: {first}"
      record["traceback"] = traceback.format_exc()
    files.write_json(out, record)


def _table(record: dict) -> str:
  lines = [
    record["machine"],
    "",
    "| | ms | | against | ratio | goal | of peak operations | of bandwidth |"
    " memory, MB |",
    "|---" * 9 + "|",
  ]
  for name, part in record["parts"].items():
    for row in map(lambda x: Row(**x), part["rows"]):
      cells = (
        *(row.name, f"{row.ms:.3g}", row.rate, row.against),
        "" if row.ratio is None else f"{row.ratio:.3g}×",
        row.goal,
        *(_percent(x) for x in (row.operations, row.bandwidth)),
        "" if row.memory_mb is None else f"{row.memory_mb:.0f}",
      )
      lines.append(f"| {' | '.join(cells)} |")
    if "error" in part:
      last = part["error"].strip().splitlines()[-1]
      lines.append(f"| {name}: {last} |" + " |" * 8)
  return "\n".join(lines) + "\n"


def _percent(x: float | None) -> str:
  return "" if x is None else f"{100 * x:.2g} %"


class Program:
  """A compiled function with its arguments, called until it is ready."""

  def __init__(self, function: Callable, *arguments: Any) -> None:
    self.arguments = arguments
    self.compiled = jax.jit(function).lower(*arguments).compile()

  def __call__(self) -> Any:
    return jax.block_until_ready(self.compiled(*self.arguments))

  def row(self, name: str, ms: float, dtype: str = "float32", **more) -> Row:
    cost = self.compiled.cost_analysis() or {}
    kind = jax.devices()[0].device_kind
    peak = next((x for part, x in PEAKS.items() if part in kind), None)
    share = lambda count, most: count / (ms / 1e3) / most  # noqa: E731
    if peak is not None:
      more["operations"] = share(cost.get("flops", 0), getattr(peak, dtype))
      more["bandwidth"] = share(cost.get("bytes accessed", 0), peak.bytes)
    memory = slices.memory_of(self.compiled) / 1e6
    return Row(name, ms, memory_mb=memory, **more)


def _compare(
  name: str,
  program: Program,
  others: Mapping[str, tuple[Callable, str]] = MappingProxyType({}),
  faster: bool = True,
  rate: Callable[[float], str] = lambda ms: "",
  dtype: str = "float32",
) -> list[Row]:
  """One row for each (other call, goal), interleaved; or one alone."""
  calls = {"": program} | {label: call for label, (call, _) in others.items()}
  times = timing.medians(calls, 7)
  ms = times.pop("")
  row = functools.partial(program.row, name, ms, dtype, rate=rate(ms))
  return [
    row(
      against=f"{label}, {other:.3g} ms",
      ratio=other / ms if faster else ms / other,
      goal=others[label][1],
    )
    for label, other in times.items()
  ] or [row()]


Rows = Iterator[Callable[[], list[Row]]]


def _weights(small: bool) -> Rows:
  """Weights of 256 × 1024 likelihoods, and advantages of every kind."""
  prompts, size = (4, 16) if small else (256, 1024)
  l = jax.random.uniform(jax.random.key(0), (prompts, size))
  torch = weights.torch_functions(l, _torch_device())

  def plain(function: Callable) -> Program:
    return Program(jax.vmap(function), l)

  def largest() -> list[Row]:
    others: dict[str, Any] = {
      "plain formula, JAX": (plain(weights.plain_quadrature), "≥ 20×")
    }
    if torch:
      others["plain formula, PyTorch"] = (_synchronized(torch[0]), "≥ 50×")
    name = f"weights, {prompts} × {size}, T = N"
    return _compare(
      name, plain(lambda x: symmetric.loo_weights(x, size)), others
    )

  def smaller() -> list[Row]:
    order = size // 4
    scans = plain(lambda x: symmetric.loo_weights(x, order, method="scan"))
    others: dict[str, Any] = {"two scans, JAX": (scans, "≥ 20×")}
    if torch:
      pytorch = functools.partial(torch[1], order)
      others["two scans, PyTorch"] = (_synchronized(pytorch), "≥ 50×")
    name = f"weights, {prompts} × {size}, T = N/4"
    return _compare(
      name, plain(lambda x: symmetric.loo_weights(x, order)), others
    )

  def series() -> list[Row]:
    a = jnp.ones(size)
    fastest, scans = (
      plain(
        lambda x, method=method: symmetric.series_weights(x, a, method=method)
      )
      for method in (None, "scan")
    )
    name = f"weights, {prompts} × {size}, any series"
    return _compare(name, fastest, {"two scans, JAX": (scans, "")})

  def advantages(name: str, function: Callable, x: jax.Array) -> list[Row]:
    program = Program(jax.vmap(function), x)
    return _compare(f"{name}, {prompts} × {size}", program)

  yield from (largest, smaller, series)
  for name, function, x in (
    ("MaxRL", estimators.maxrl, l),
    ("MaxRL, boolean", estimators.maxrl, l < 0.1),
    ("pass@8", functools.partial(estimators.pass_at_k, k=8), l),
    ("power", functools.partial(estimators.power, alpha=0.5), l),
    ("TailRL", estimators.tail_rl, l),
    ("GRPO", estimators.grpo, l),
  ):
    yield functools.partial(advantages, name, function, x)


def _steps(small: bool) -> Rows:
  """A step on digit strings of 1000 classes against cross-entropy."""

  def several(name: str, rollouts: int) -> Program:
    config = digits.get_config()
    config.estimator.name, config.rollouts = name, rollouts
    trainer = training.make_train(config)
    state = jax.jit(trainer.init)(jax.random.key(0))

    def run(state: Any, key: jax.Array) -> Any:
      return jax.lax.scan(lambda s, _: trainer.step(s, key), state, None, count)

    return Program(run, state, jax.random.key(1))

  def compare(name: str, rollouts: int, goal: str) -> list[Row]:
    others = {"cross-entropy": (several("cross_entropy", 1), goal)}
    label = f"{count} steps of digits, {name}, N = {rollouts}"
    return _compare(label, several(name, rollouts), others, faster=False)

  count = 2 if small else 100
  for name, rollouts, goal in (
    ("maxrl", 1024, "≤ 1.2×"),
    ("maxrl", 128, ""),
    ("grpo", 1024, ""),
  ):
    size = 8 if small else rollouts
    yield functools.partial(compare, name, size, goal)


def _sweep(small: bool) -> Rows:
  """A chunk of 1024 bandit runs in one program against one run."""

  def chunk(runs: int) -> Program:
    config = bandit.get_config()
    config.log_every = 2 if small else 100
    trainer = training.make_train(config, varying=("estimator.order",))
    keys, step_keys = trainer.keys(np.arange(runs))
    orders = jnp.resize(jnp.array([1.0, 2, 4, 8]), (runs,))
    states = trainer.start(keys, {"estimator.order": orders})

    return Program(trainer.advance, states, step_keys)

  def compare() -> list[Row]:
    runs = 8 if small else 1024
    others = {"one run": (chunk(1), "≤ 20×")}
    name = f"a chunk of {runs} bandit runs"
    return _compare(name, chunk(runs), others, faster=False)

  yield compare


def _mazes(small: bool) -> Rows:
  """Tokens and a step of a transformer of 3.9 M parameters on mazes."""
  config = mazes.paper(small)
  sample, step = mazes.programs(config)
  tokens = config.batch_size * config.rollouts * config.task.max_length

  def compare(name: str, program: tuple, method: str) -> list[Row]:
    others: dict[str, Any] = {}
    baseline = mazes.hugging_face(config, _torch_device())
    if baseline is not None:
      call = getattr(baseline, method)
      others["Hugging Face transformers"] = (_synchronized(call), "")
    rate = lambda ms: f"{1e3 * tokens / ms:.3g} tokens/s"  # noqa: E731
    return _compare(name, Program(*program), others, rate=rate)

  yield functools.partial(
    compare, f"{tokens} tokens of mazes sampled", sample, "sample"
  )
  yield functools.partial(compare, "an RL step on mazes", step, "step")


def _torch_device() -> str:
  return "cpu" if jax.default_backend() == "cpu" else "cuda"


def _synchronized(call: Callable) -> Callable:
  def wait() -> None:
    call()
    if _torch_device() == "cuda":
      sys.modules["torch"].cuda.synchronize()

  return wait


def _images(small: bool) -> Rows:
  """A step of configs/imagenet.py on random images."""

  def step() -> list[Row]:
    config = imagenet.get_config()
    side, config.batch_size = (32, 2) if small else (224, 256)
    network = "ResNet-50"
    if small:
      network = "a small ResNet"
      config.policy.stages, config.policy.channels = (1, 1), (16, 32)
    trainer = training.make_train(config, ahead.random_images(side))
    state = jax.jit(trainer.init)(jax.random.key(0))
    program = Program(trainer.step, state, jax.random.key(1))
    rate = lambda ms: f"{1e3 * config.batch_size / ms:.3g} images/s"  # noqa: E731
    name = f"a step of {network}, {config.batch_size} images of {side}²"
    return _compare(name, program, rate=rate, dtype="bfloat16")

  yield step


PARTS = {
  "weights": _weights,
  "steps": _steps,
  "sweep": _sweep,
  "mazes": _mazes,
  "images": _images,
}


if __name__ == "__main__":
  console.run(main)
