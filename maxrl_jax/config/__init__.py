"""Configs: their fields, and the task, policy and optimizer that they name."""

from maxrl_jax.config.build import (
  initial_params,
  make_optimizer,
  make_policy,
  make_task,
)
from maxrl_jax.config.checks import check, check_type
from maxrl_jax.config.defaults import default
from maxrl_jax.config.hyper import (
  RATE,
  check_names,
  flatten,
  may_vary,
  overlay,
  values_of,
)

__all__ = [
  "RATE",
  "check",
  "check_names",
  "check_type",
  "default",
  "flatten",
  "initial_params",
  "make_optimizer",
  "make_policy",
  "make_task",
  "may_vary",
  "overlay",
  "values_of",
]
