"""Maximum-likelihood reinforcement learning in JAX.

Public modules are imported when they are first used:

    import maxrl_jax
    maxrl_jax.estimators.maxrl(likelihoods, order=3)
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_MODULES = (
  *("objectives", "symmetric", "estimators", "losses", "off_policy"),
  *("likelihoods", "distributions", "marginals", "allocation"),
  *("policies", "tasks", "config", "learning", "devices"),
  *("runs", "evaluation", "integrations", "stats", "plotting"),
)


def __getattr__(name: str) -> Any:
  if name in _MODULES:
    return importlib.import_module(f"{__name__}.{name}")
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
  return sorted([*_MODULES, "__version__"])
