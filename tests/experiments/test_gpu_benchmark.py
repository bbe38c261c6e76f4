"""The benchmark for one accelerator, at small sizes on a CPU."""

import json
import subprocess
import sys

import pytest

from benchmarks import gpu

NAMES = {
  "weights": ["weights, 4 × 16, T = N", "GRPO, 4 × 16"],
  "steps": ["2 steps of digits, maxrl, N = 8"],
  "sweep": ["a chunk of 8 bandit runs"],
  "mazes": ["128 tokens of mazes sampled", "an RL step on mazes"],
  "images": ["a step of a small ResNet, 2 images of 32²"],
}


@pytest.mark.long
def test_every_part_has_its_rows(tmp_path):
  out = tmp_path / "rows.json"
  command = [sys.executable, "-m", "benchmarks.gpu", "--small", f"--out={out}"]
  printed = subprocess.run(command, check=True, capture_output=True, text=True)
  record = json.loads(out.read_text())
  assert list(record["parts"]) == list(gpu.PARTS) == list(NAMES)
  table = out.with_suffix(".md").read_text()
  assert table in printed.stdout
  for part, names in NAMES.items():
    assert "error" not in record["parts"][part]
    rows = {row["name"]: row for row in record["parts"][part]["rows"]}
    assert set(names) <= set(rows)
    assert all(row["ms"] > 0 and row["memory_mb"] > 0 for row in rows.values())
    assert all(f"| {name} |" in table for name in rows)


def test_a_failure_loses_its_rows_only(tmp_path, monkeypatch):
  def fails():
    raise RuntimeError("out of memory\nand more")

  parts = {"part": lambda small: [lambda: [gpu.Row("a", 1)], fails, fine]}
  fine = lambda: [gpu.Row("b", 2)]  # noqa: E731
  monkeypatch.setattr(gpu, "PARTS", parts)
  gpu._run("part", tmp_path / "rows.json", small=True)
  record = json.loads((tmp_path / "rows.json").read_text())
  assert [row["name"] for row in record["rows"]] == ["a", "b"]
  assert record["error"] == "RuntimeError: out of memory"
  table = gpu._table({"machine": "", "parts": {"part": record}})
  assert "| part: RuntimeError: out of memory |" in table


def test_a_part_that_ends_its_process_is_reported(monkeypatch):
  monkeypatch.setattr(gpu.sys, "executable", "/bin/false")
  ended = gpu._in_process("weights", 60, small=True)
  assert ended == {"rows": [], "error": "ended with 1"}
  late = gpu._in_process("weights", 1, small=True)
  assert late["error"] == "no time left"


def test_shares_of_the_peak(monkeypatch):
  class Device:
    device_kind = "NVIDIA H200"

  program = gpu.Program(lambda x: x @ x, gpu.jnp.ones((64, 64)))
  monkeypatch.setattr(gpu.jax, "devices", lambda: [Device])
  row = program.row("product", ms=1e-3)
  assert row.operations == pytest.approx(2 * 64**3 / 1e-6 / 67e12, rel=0.02)
  assert row.bandwidth == pytest.approx(2 * 64 * 64 * 4 / 1e-6 / 4.8e12)
  assert row.memory_mb == pytest.approx(2 * 64 * 64 * 4 / 1e6, rel=0.5)
