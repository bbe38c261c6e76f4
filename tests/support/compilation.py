"""Quick compilation, for tests of programs that are many and run briefly."""

from typing import Any

import jax


def _is_known(option: str, value: Any) -> bool:
  """Newer versions of XLA refuse options that they no longer have."""
  try:
    jax.jit(lambda: 0).lower().compile(compiler_options={option: value})
  except jax.errors.JaxRuntimeError:
    return False
  return True


# Two fifths of the usual time, and slower programs.
QUICK = {
  option: value
  for option, value in {
    "xla_backend_optimization_level": 0,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
  }.items()
  if _is_known(option, value)
}
FLAGS = " ".join(f"--{name}={str(QUICK[name]).lower()}" for name in QUICK)
