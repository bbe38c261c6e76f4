"""What a config means: the task, policy, optimizer and loss that it names.

Names are looked up in plain dictionaries; an invalid name, option or number is
a ValueError that says which field, what value and what the choices are, before
anything compiles.
"""

from maxrl_jax.config.checks import check
from maxrl_jax.config.defaults import default
from maxrl_jax.config.losses import EXACT, make_loss
from maxrl_jax.config.models import (
  initial_params,
  make_policy,
  make_task,
)
from maxrl_jax.config.optimizers import make_optimizer
from maxrl_jax.config.varying import (
  VARYING,
  check_values,
  check_varying,
  overlay,
  values_of,
)

__all__ = [
  "EXACT",
  "VARYING",
  "check",
  "check_values",
  "check_varying",
  "default",
  "initial_params",
  "make_loss",
  "make_optimizer",
  "make_policy",
  "make_task",
  "overlay",
  "values_of",
]
