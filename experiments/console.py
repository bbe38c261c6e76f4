"""What all entry points share: one-line errors, and no stray arguments."""

import errno
import logging
import signal
import sys
import traceback
import warnings

from absl import app, flags
from absl import logging as absl_logging

from experiments import devices
from experiments.interruptions import RESUMABLE, Stopped

# Mistakes of a user, or of the machine: told in a line.
_USERS = (ValueError, FloatingPointError, OSError, ImportError)


def run(main, *, together: bool = False) -> None:
  """absl's app.run, with a user's mistake as one line and exit code 1.

  Args:
    main: takes what is left of the command line.
    together: whether it can be one of several processes.
  """

  def guarded(argv):
    if not flags.FLAGS["verbosity"].present:
      # Orbax tells a lot, and what fails comes as an exception too.
      absl_logging.set_verbosity(absl_logging.FATAL)
    # Like Ctrl-C, where nothing is to be saved first.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
      devices.start(together=together)
      main(argv)
    except Exception as error:
      code = _tell(error)
      devices.leave(code)
    except KeyboardInterrupt:
      print("stopped; what is finished is kept", file=sys.stderr)
      devices.leave(RESUMABLE)

  warnings.showwarning = _warn
  # Which accelerators are not there is no news.
  logging.getLogger("jax._src.xla_bridge").setLevel(logging.WARNING)
  # What a damaged checkpoint does to Orbax's tasks, we tell in one line.
  logging.getLogger("asyncio").setLevel(logging.CRITICAL)
  app.run(guarded, flags_parser=_parse)


def _tell(error: Exception) -> int:
  """Prints what went wrong, and how; the exit code."""
  if isinstance(error, Stopped):
    print(error, file=sys.stderr)
    return RESUMABLE
  if devices.lost(error):
    print(
      "error: another process of this run is gone; start all of them again,"
      " and they go on from the last checkpoint",
      file=sys.stderr,
    )
    return RESUMABLE
  if isinstance(error, OSError) and error.errno == errno.ENOSPC:
    error = OSError(
      f"no space left on the disk of '{flags.FLAGS.workdir}'; what is"
      " finished is whole: make room, and the same command goes on"
    )
  if isinstance(error, _USERS):
    print(_line(error), file=sys.stderr)
  else:
    traceback.print_exception(error)
  return 1


def _parse(argv):
  """Config files are read, and their fields set, while flags are parsed."""
  try:
    return flags.FLAGS(argv)
  except (AttributeError, KeyError) as error:
    sys.exit(
      _line(f"no such config field, see configs/default.py: {error.args[0]}")
    )
  except (flags.Error, TypeError, ValueError, OSError) as error:
    sys.exit(_line(error))


def _warn(message, *_, **__) -> None:
  """One line, without the place in our sources where it was noticed."""
  print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)


def _line(error) -> str:
  return f"error: {' '.join(str(error).split())}"


def no_arguments(argv) -> None:
  """Refuses what is not a flag: a forgotten '--' would be ignored else."""
  if len(argv) > 1:
    raise ValueError(f"{argv[1]!r} is not a flag: all options start with --")
