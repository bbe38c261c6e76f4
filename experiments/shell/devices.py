"""Flags of every entry point: devices, and several processes.

JAX is imported where it is used: it is slow to import, and --help and wrong
flags do not need it.
"""

import ctypes
import os
import pathlib
import signal
import sys
from typing import NoReturn

from absl import flags

from maxrl_jax.runs.interrupts import RESUMABLE

GONE = (
  "another process of this run is gone; start all of them again, and they"
  " resume from the last checkpoint"
)

_PLATFORM = flags.DEFINE_enum(
  "platform",
  None,
  ["cpu", "cuda", "tpu"],
  "Where to compute. Default: an accelerator, if JAX finds one.",
)
_CACHE = flags.DEFINE_string(
  "compilation_cache",
  None,
  "Folder for compiled programs, which later runs reuse; runs may share it."
  " Default: $JAX_COMPILATION_CACHE_DIR, which make sets to .cache/jax.",
)
_DISTRIBUTED = flags.DEFINE_bool(
  "distributed",
  False,
  "Train together with other processes of the same command. Under SLURM,"
  " Open MPI, GKE and on TPU pods they find each other; elsewhere give"
  " --coordinator, --processes and --process.",
)
_COORDINATOR = flags.DEFINE_string(
  "coordinator", None, "host:port of the first process."
)
_PROCESSES = flags.DEFINE_integer("processes", None, "Number of processes.", 1)
_PROCESS = flags.DEFINE_integer(
  "process", None, "Index of this process, from 0.", 0
)
_HEARTBEAT = flags.DEFINE_integer(
  "heartbeat_s", 100, "Seconds after which a silent process counts as lost.", 1
)


def start(*, together: bool) -> None:
  """Chooses devices and connects the processes, before JAX does anything.

  Args:
    together: whether this entry point can run in several processes.

  Raises:
    ValueError: flags that contradict each other, or have no effect here.
  """
  import jax

  if _PLATFORM.value is not None:
    # The CPU too: `integrations.groups` computes there.
    platforms = dict.fromkeys((_PLATFORM.value, "cpu"))
    jax.config.update("jax_platforms", ",".join(platforms))
  if _CACHE.value is not None:
    _make_cache(pathlib.Path(_CACHE.value))
    jax.config.update("jax_compilation_cache_dir", _CACHE.value)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
  _check(together)
  if _DISTRIBUTED.value:
    _connect()
  if _PLATFORM.value is not None:
    try:
      jax.devices(_PLATFORM.value)
    except RuntimeError as error:
      raise ValueError(f"--platform={_PLATFORM.value}: {error}") from None


def _make_cache(folder: pathlib.Path) -> None:
  """Creates the folder; if it cannot be, JAX would only warn, per program."""
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise ValueError(
      f"--compilation_cache={folder}: cannot be created ({error.strerror});"
      " choose another folder"
    ) from None


def _check(together: bool) -> None:
  """Raises ValueError at flags of --distributed that do not fit."""
  given = {
    "coordinator": _COORDINATOR.value,
    "processes": _PROCESSES.value,
    "process": _PROCESS.value,
  }
  missing = [name for name, value in given.items() if value is None]
  if not _DISTRIBUTED.value:
    if len(missing) < len(given):
      raise ValueError(
        f"--{next(n for n in given if n not in missing)}: has no effect without"
        " --distributed"
      )
    return
  if not together:
    raise ValueError(
      "--distributed: only experiments.train runs in several processes; without"
      " it one process uses all devices of its machine"
    )
  if 0 < len(missing) < len(given):
    raise ValueError(
      f"--{missing[0]} is missing: --coordinator, --processes and --process go"
      " together"
    )
  process, processes = _PROCESS.value, _PROCESSES.value
  if process is not None and processes is not None and process >= processes:
    raise ValueError(
      f"--process={process}: must be below --processes={processes}"
    )


def _connect() -> None:
  """Connects this process to the others."""
  import jax

  ctypes.CDLL(None).signal(signal.SIGABRT, _aborted)
  # This service would handle SIGTERM and, before training begins, ignore it.
  jax.config.update("jax_enable_preemption_service", False)
  try:
    jax.distributed.initialize(
      _COORDINATOR.value,
      _PROCESSES.value,
      _PROCESS.value,
      heartbeat_timeout_seconds=_HEARTBEAT.value,
    )
  except ValueError as error:
    if _COORDINATOR.value is not None:
      raise ValueError(f"--coordinator={_COORDINATOR.value}: {error}") from None
    raise ValueError(
      f"--distributed: no cluster was detected ({error}); give --coordinator,"
      " --processes and --process"
    ) from None


@ctypes.CFUNCTYPE(None, ctypes.c_int)
def _aborted(_) -> None:
  """Exits with code 75 when JAX aborts because other processes are silent.

  A Python signal handler would wait for the main thread, which does not run
  then, and JAX fails to call a Python callback (std::bad_cast, 0.10.2).
  """
  message = f"error: JAX aborted; unless there is another error above, {GONE}\n"
  os.write(2, message.encode())  # Python may hold a lock on sys.stderr.
  os._exit(RESUMABLE)


def lost(error: BaseException) -> bool:
  """Whether an error says that another process of this run is gone."""
  import jax

  words = ("gloo", "nccl", "connection", "coordination", "heartbeat")
  text = str(error).lower()
  return jax.distributed.is_initialized() and any(w in text for w in words)


def leave(code: int, *, at_once: bool = False) -> NoReturn:
  """Exits without waiting for other processes.

  Args:
    code: of the process.
    at_once: whether JAX may be computing: its threads crash while Python shuts
      down.
  """
  import jax

  if not at_once and not jax.distributed.is_initialized():
    sys.exit(code)
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)
