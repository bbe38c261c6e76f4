"""Programs compiled for an H100 and a TPU v5e stay within recorded budgets.

Skipped for a device whose plugin is not installed (extras cuda12, cuda13, tpu).
Counts are those of constraints.txt for a TPU and of constraints-3.12.txt for an
H100; others compile otherwise.
"""

import functools
import math
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import ahead
from maxrl_jax import estimators
from tests.estimators.test_transforms import CASES

# Largest number of kernels on an H100, and of megabytes accessed on a TPU; None
# takes minutes to compile there or is larger than one chip.
BUDGETS = {
  "MaxRL, order N − 1, N = 32": (4, 1.5),
  "MaxRL, order 8, N = 32": (10, 4),
  "MaxRL, order N/4, N = 32": (10, 4),
  "MaxRL, boolean, N = 32": (3, 0.5),
  "MaxRL, traced order, N = 32": (13, 4),
  "MaxRL, traced order, masked, N = 32": (46, 5.5),
  "series of N terms, N = 32": (15, 21),
  "pass@K, K = N/4, N = 32": (11, 21),
  "TailRL, N = 32": (5, 1.2),
  "GRPO, N = 32": (1, 0.5),
  "MaxRL, order N − 1, N = 1024": (7, 27),
  "MaxRL, order 8, N = 1024": (11, 50),
  "MaxRL, order N/4, N = 1024": (10, 46),
  "MaxRL, boolean, N = 1024": (3, 3),
  "MaxRL, traced order, N = 1024": (17, 57),
  "MaxRL, traced order, masked, N = 1024": (109, 78),
  "series of N terms, N = 1024": (53, 4200),
  "pass@K, K = N/4, N = 1024": (53, 3400),
  "TailRL, N = 1024": (9, 66),
  "GRPO, N = 1024": (1, 12),
  "a step of bandit": (28, 12),
  "a step of digits": (64, 225),
  "a step of bimodal": (57, 46),
  "a step of digits, sequential": (96, 238),
  "a chunk of bandit": (2620, 12.5),
  "a chunk of digits": (6040, 280),
  "a chunk of bimodal": (5240, 48),
  "a chunk of maze": (19_600, 4010),
  "a chunk of maze_paper": (130_400, None),
  "a chunk of noisy_regression, published": (30_700, 19_400),
  "a chunk of imagenet, random images": (23_640, None),
  "a chunk of 1024 bandit runs": (3320, 11_300),
}
# Of all other programs 4 MB.
TEMPORARY_MB = {
  ("MaxRL, traced order, masked, N = 1024", "h100"): 45,
  ("MaxRL, traced order, masked, N = 1024", "v5e"): 2200,
  ("series of N terms, N = 1024", "h100"): 27.5,
  ("series of N terms, N = 1024", "v5e"): 180,
  ("pass@K, K = N/4, N = 1024", "h100"): 25.5,
  ("pass@K, K = N/4, N = 1024", "v5e"): 41,
  ("TailRL, N = 1024", "h100"): 4.3,
  ("a step of digits", "h100"): 22.2,
  ("a step of digits, sequential", "h100"): 4.3,
  ("a chunk of digits", "h100"): 23.3,
  ("a chunk of maze", "h100"): 226,
  ("a chunk of maze", "v5e"): 130,
  ("a chunk of maze_paper", "h100"): 4880,
  ("a chunk of noisy_regression, published", "h100"): 2730,
  ("a chunk of noisy_regression, published", "v5e"): 1930,
  ("a chunk of imagenet, random images", "h100"): 11_640,
  ("a chunk of 1024 bandit runs", "h100"): 60,
  ("a chunk of 1024 bandit runs", "v5e"): 52,
}

# The collectives of a chunk on 4 and on 16 TPU chips, and the largest megabytes
# that one of each kind returns.
GRADIENT = 4 * 874_472 / 1e6  # In float32.
COLLECTIVES = {
  ("digits", "2x2"): {"all-reduce": GRADIENT},
  ("digits", "4x4"): {"all-reduce": GRADIENT},
  # Gradients of two prompts' 1000 logits; N booleans each; random words.
  ("digits, 2 prompts, rollouts over 4", "2x2"): {
    "all-reduce": 8e-3,
    "all-gather": 2048e-6,
    "collective-permute": 2e-3,
  },
  # One prompt on each half.
  ("digits, 2 prompts, rollouts over 4", "4x4"): {
    "all-reduce": GRADIENT,
    "all-gather": 1024e-6,
    "collective-permute": 2e-3,
  },
  # A metric of all runs and steps.
  ("1024 bandit runs", "2x2"): {"all-gather": 4 * 1024 * 100 / 1e6},
  ("1024 bandit runs", "4x4"): {"all-gather": 4 * 1024 * 100 / 1e6},
  # Activations of all tokens of a device: 8 or 2 prompts, 32 rollouts each.
  ("maze, weights over 2", "2x2"): {
    "all-reduce": 4 * 64 * 8 * (32 * 17 + 94) / 1e6
  },
  ("maze, weights over 2", "4x4"): {
    "all-reduce": 4 * 64 * 2 * (32 * 17 + 94) / 1e6
  },
}


def device(name):
  return pytest.param(
    name,
    marks=pytest.mark.skipif(
      ahead.missing(name), reason=f"no plugin that compiles for a {name}"
    ),
  )


@functools.cache
def programs():
  every = (*ahead.groups(), *ahead.steps(), *ahead.chunks())
  return {name: call for name, *call in every}


@pytest.mark.long
@pytest.mark.parametrize("name", [device("h100"), device("v5e")])
@pytest.mark.parametrize("program", BUDGETS)
def test_budget(program, name, monkeypatch):
  kernels, accessed_mb = BUDGETS[program]
  budget = kernels if name == "h100" else accessed_mb
  if budget is None:
    pytest.skip(f"{program} is not compiled for a {name}")
  # libtpu ends the process at flags of XLA that are the CPU's.
  monkeypatch.delenv("XLA_FLAGS", raising=False)
  function, arguments = programs()[program]
  compiled = ahead.compile_for(ahead.find_device(name), function, *arguments)
  text = compiled.as_text()
  assert "callback" not in text
  counts = ahead.count(compiled)
  assert counts.temporary_mb <= TEMPORARY_MB.get((program, name), 4)
  assert (counts.kernels if name == "h100" else counts.accessed_mb) <= budget


@pytest.mark.long
def test_every_program_has_a_budget():
  assert set(programs()) == set(BUDGETS)


@pytest.mark.long
@pytest.mark.parametrize("name", [device("h100")])
def test_draws_are_not_compared_with_every_class(name, monkeypatch):
  """Of 128 × 1024 draws each is compared with twice 32 of 1000 classes."""
  monkeypatch.delenv("XLA_FLAGS", raising=False)
  function, arguments = programs()["a step of digits"]
  compiled = ahead.compile_for(ahead.find_device(name), function, *arguments)
  shapes = re.findall(r"\[(\d[\d,]*)\]", compiled.as_text())
  largest = max(math.prod(map(int, shape.split(","))) for shape in shapes)
  assert largest == 128 * 1024 * 32


@pytest.mark.long
@pytest.mark.parametrize("name", [device("h100"), device("v5e")])
@pytest.mark.parametrize("estimator", CASES)
def test_no_estimator_takes_a_step_for_each_rollout(
  estimator, name, monkeypatch
):
  """256 groups of 1024 likelihoods."""
  monkeypatch.delenv("XLA_FLAGS", raising=False)
  kind, options = CASES[estimator]
  if "waves" in options:
    options = options | {"waves": np.arange(1024) // 16}
  f = functools.partial(getattr(estimators, kind), **options)
  l = jax.ShapeDtypeStruct((256, 1024), jnp.float32)
  compiled = ahead.compile_for(ahead.find_device(name), jax.vmap(f), l)
  assert "callback" not in compiled.as_text()
  counts = ahead.count(compiled)
  # Sequential: of each rollout, at each node of the quadrature.
  largest = 410 if estimator == "sequential" else 180 if name == "v5e" else 32
  assert counts.temporary_mb < largest
  if name == "h100":  # A TPU's programs do not say how often a loop runs.
    assert counts.kernels <= 60


@pytest.mark.long
@pytest.mark.parametrize("name", [device("v5e")])
@pytest.mark.parametrize(("program", "topology"), COLLECTIVES)
def test_collectives(program, topology, name, monkeypatch):
  monkeypatch.delenv("XLA_FLAGS", raising=False)
  devices = ahead.find_devices(name, topology)
  function, arguments = ahead.chunk(**ahead.meshes()[program], devices=devices)
  compiled = ahead.compile_for(devices[0], function, *arguments)
  moved = ahead.collectives(compiled)
  expected = COLLECTIVES[program, topology]
  assert moved == pytest.approx(expected, rel=0.01, abs=1e-4)


def test_bytes_of_collectives():
  compiled = types.SimpleNamespace(
    as_text=lambda: (
      """
  %a = (f32[1000]{0}, pred[8,4]{1,0:T(8)}, bf16[]) all-reduce(%x, %y, %z)
  %b = f32[3]{0} all-reduce-start(%x)
  %c = s32[2,5]{1,0} all-gather(%b), metadata={op_name="f/all-reduce(x)"}
"""
    )
  )
  assert ahead.collectives(compiled) == {
    "all-reduce": pytest.approx(4034e-6),
    "all-gather": pytest.approx(40e-6),
  }


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
