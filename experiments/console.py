"""What all entry points share: one-line errors, and no stray arguments."""

import errno
import logging
import signal
import sys
import warnings

import jax
from absl import app, flags
from absl import logging as absl_logging

from experiments import devices
from experiments.interruptions import RESUMABLE, Stopped


def run(main) -> None:
  """absl's app.run, with a user's mistake as one line and exit code 1."""

  def guarded(argv):
    if not flags.FLAGS["verbosity"].present:
      absl_logging.set_verbosity(absl_logging.WARNING)  # Orbax tells a lot.
    # Like Ctrl-C, where nothing is to be saved first.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
      devices.start()
      main(argv)
    except Stopped as stopped:
      print(stopped, file=sys.stderr)
      sys.exit(RESUMABLE)
    except KeyboardInterrupt:
      print("stopped; what is finished is kept", file=sys.stderr)
      sys.exit(RESUMABLE)
    except jax.errors.JaxRuntimeError as error:
      if not devices.lost(error):
        raise
      print(
        "error: another process of this run is gone; start all of them again,"
        " and they go on from the last checkpoint",
        file=sys.stderr,
        flush=True,
      )
      devices.leave()
    except (ValueError, FloatingPointError, OSError, ImportError) as error:
      if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        error = (
          f"no space left on the disk of '{flags.FLAGS.workdir}'; what is"
          " finished is whole: make room, and the same command goes on"
        )
      _exit(error)

  warnings.showwarning = _warn
  # Which accelerators are not there is no news.
  logging.getLogger("jax._src.xla_bridge").setLevel(logging.WARNING)
  # What a damaged checkpoint does to Orbax's tasks, we tell in one line.
  logging.getLogger("asyncio").setLevel(logging.CRITICAL)
  app.run(guarded, flags_parser=_parse)


def _parse(argv):
  """Config files are read, and their fields set, while flags are parsed."""
  try:
    return flags.FLAGS(argv)
  except (AttributeError, KeyError) as error:
    _exit(f"no such config field, see configs/default.py: {error.args[0]}")
  except (flags.Error, TypeError, ValueError, OSError) as error:
    _exit(error)


def _warn(message, *_, **__) -> None:
  """One line, without the place in our sources where it was noticed."""
  print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)


def _exit(error) -> None:
  sys.exit(f"error: {' '.join(str(error).split())}")


def no_arguments(argv) -> None:
  """Refuses what is not a flag: a forgotten '--' would be ignored else."""
  if len(argv) > 1:
    raise ValueError(f"{argv[1]!r} is not a flag: all options start with --")
