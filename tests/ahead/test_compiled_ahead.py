"""Programs compiled for an H100 and a TPU v5e stay within recorded budgets.

Skipped for a device whose plugin is not installed (extras cuda12, cuda13, tpu).
"""

import functools

import pytest

from benchmarks import ahead

# Largest number of kernels on an H100, and of megabytes accessed on a TPU.
BUDGETS = {
  "MaxRL, order N − 1, N = 32": (4, 1.5),
  "MaxRL, order 8, N = 32": (10, 4),
  "MaxRL, order N/4, N = 32": (10, 4),
  "MaxRL, boolean, N = 32": (6, 0.5),
  "MaxRL, traced order, N = 32": (13, 4),
  "TailRL, N = 32": (6, 150),
  "GRPO, N = 32": (4, 0.5),
  "MaxRL, order N − 1, N = 1024": (7, 25),
  "MaxRL, order 8, N = 1024": (11, 50),
  "MaxRL, order N/4, N = 1024": (10, 50),
  "MaxRL, boolean, N = 1024": (11, 4),
  "MaxRL, traced order, N = 1024": (17, 55),
  "TailRL, N = 1024": (8, 1300),
  "GRPO, N = 1024": (4, 12),
  "a step of bandit": (34, 90),
  "a step of digits": (103, 1500),
  "a step of bimodal": (80, 120),
}
TEMPORARY_MB = 32


def device(name):
  return pytest.param(
    name,
    marks=pytest.mark.skipif(
      ahead.missing(name), reason=f"no plugin that compiles for a {name}"
    ),
  )


@functools.cache
def programs():
  return {name: call for name, *call in (*ahead.groups(), *ahead.steps())}


@pytest.mark.long
@pytest.mark.parametrize("name", [device("h100"), device("v5e")])
@pytest.mark.parametrize("program", BUDGETS)
def test_budget(program, name, monkeypatch):
  # libtpu ends the process at flags of XLA that are the CPU's.
  monkeypatch.delenv("XLA_FLAGS", raising=False)
  function, arguments = programs()[program]
  compiled = ahead.compile_for(ahead.find_device(name), function, *arguments)
  text = compiled.as_text()
  assert "callback" not in text
  counts = ahead.count(compiled)
  kernels, accessed_mb = BUDGETS[program]
  assert counts.temporary_mb <= TEMPORARY_MB
  if name == "h100":
    assert counts.kernels <= kernels
  else:
    assert counts.accessed_mb <= accessed_mb


def test_every_program_has_a_budget():
  assert set(programs()) == set(BUDGETS)


def test_a_loop_counts_as_often_as_it_runs():
  text = """HloModule jit_f

%body (p: f32[8]) -> f32[8] {
  %p = f32[8] parameter(0)
  %a = f32[8] fusion(%p), kind=kLoop, calls=%inner
  ROOT %b = f32[8] fusion(%a), kind=kLoop, calls=%inner
}

ENTRY %main (x: f32[8]) -> f32[8] {
  %x = f32[8] parameter(0)
  %c = f32[8] copy(%x)
  ROOT %w = f32[8] while(%c), condition=%cond, body=%body, \
backend_config={"known_trip_count":{"n":"5"}}
}
"""
  assert ahead.kernels(text) == 1 + 5 * 2
