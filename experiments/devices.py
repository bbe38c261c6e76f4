"""Flags of every entry point: which devices, and how many processes."""

import os

import jax
from absl import flags

_PLATFORM = flags.DEFINE_enum(
  "platform",
  None,
  ["cpu", "cuda", "tpu"],
  "Where to compute. Default: an accelerator, if JAX finds one.",
)
_DISTRIBUTED = flags.DEFINE_bool(
  "distributed",
  False,
  "Train together with other processes that were started alike. Under SLURM,"
  " Open MPI, GKE and on TPU pods they find each other; elsewhere give"
  " --coordinator, --processes and --process.",
)
_COORDINATOR = flags.DEFINE_string(
  "coordinator", None, "host:port of the first process."
)
_PROCESSES = flags.DEFINE_integer("processes", None, "How many in all.", 1)
_PROCESS = flags.DEFINE_integer("process", None, "Which this is, from 0.", 0)
_HEARTBEAT = flags.DEFINE_integer(
  "heartbeat_s", 100, "Seconds after which a silent process is given up.", 1
)


def start() -> None:
  """Chooses devices and meets the other processes, before JAX does anything.

  Raises:
    ValueError: flags that do not go together.
  """
  if _PLATFORM.value is not None:
    jax.config.update("jax_platforms", _PLATFORM.value)
  given = {
    "coordinator": _COORDINATOR.value,
    "processes": _PROCESSES.value,
    "process": _PROCESS.value,
  }
  missing = [name for name, value in given.items() if value is None]
  if not _DISTRIBUTED.value:
    if len(missing) < len(given):
      raise ValueError(
        f"--{next(n for n in given if n not in missing)}: means nothing without"
        " --distributed"
      )
    return
  if 0 < len(missing) < len(given):
    raise ValueError(
      f"--{missing[0]} is missing: --coordinator, --processes and --process go"
      " together"
    )
  if not missing and _PROCESS.value >= _PROCESSES.value:
    raise ValueError(
      f"--process={_PROCESS.value}: must be below --processes="
      f"{_PROCESSES.value}"
    )
  jax.distributed.initialize(
    _COORDINATOR.value,
    _PROCESSES.value,
    _PROCESS.value,
    heartbeat_timeout_seconds=_HEARTBEAT.value,
  )


def lost(error: Exception) -> bool:
  """Whether an error of the runtime says that another process is gone."""
  words = ("gloo", "connection", "coordination", "unavailable", "heartbeat")
  text = str(error).lower()
  return jax.process_count() > 1 and any(word in text for word in words)


def leave() -> None:
  """Ends the process without waiting for others that will never come."""
  os._exit(75)
