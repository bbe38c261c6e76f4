"""What all entry points share: help, one-line errors, exit codes."""

import errno
import logging
import os
import signal
import sys
import traceback
import warnings

from absl import app, flags
from absl import logging as absl_logging

from experiments.shell import blame, command_line, devices, output, usage
from experiments.shell.interruptions import RESUMABLE, Stopped

FAILED, WRONG = 1, 2  # Exit codes; 75 is `RESUMABLE`.


# What a path that was given can be.
_PATHS = (
  FileNotFoundError,
  IsADirectoryError,
  NotADirectoryError,
  PermissionError,
)


class Failed(Exception):
  """Work that was asked for rightly and could not be done: told in a line."""


def run(main, *, together: bool = False) -> None:
  """absl's app.run, with mistakes as one line and an exit code that tells.

  Args:
    main: takes what is left of the command line.
    together: whether it can be one of several processes.
  """
  help = usage.asked_for(sys.argv)
  if help == "help":
    output.write(usage.screen(), sys.stdout)
    return
  if help == "helpfull":
    usage.everything()

  def guarded(argv):
    if not flags.FLAGS["verbosity"].present:
      # Orbax tells a lot, and what fails comes as an exception too.
      absl_logging.set_verbosity(absl_logging.FATAL)
    # Like Ctrl-C, where nothing is to be saved first.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
      _check_output()
      devices.start(together=together)
      main(argv)
    except Exception as error:
      if isinstance(error, Stopped):
        # All is on disk: an impatient Ctrl-C changes nothing but the code.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
      code = tell(error)
      devices.leave(code)
    except KeyboardInterrupt:
      kept = usage.keeps()
      output.tell("stopped" + "; what is finished is kept" * kept)
      devices.leave(RESUMABLE if kept else FAILED, at_once=True)

  warnings.showwarning = _warn
  os.environ["MPLBACKEND"] = "Agg"  # No display is needed.
  # Which accelerators are not there is no news.
  logging.getLogger("jax._src.xla_bridge").setLevel(logging.WARNING)
  # What a damaged checkpoint does to Orbax's tasks, we tell in one line.
  logging.getLogger("asyncio").setLevel(logging.CRITICAL)
  app.run(guarded, flags_parser=_parse)


def tell(error: Exception) -> int:
  """Prints what went wrong, and how; the exit code."""
  if isinstance(error, Stopped):
    output.tell(str(error))
    return RESUMABLE
  if devices.lost(error):
    output.tell(f"error: {devices.GONE}")
    return RESUMABLE
  config = blame.of_config(error)
  if config:
    output.tell(_line(config))
    return WRONG
  if isinstance(error, OSError) and error.errno == errno.ENOSPC:
    error = OSError(_no_space())
  wrong = isinstance(error, ValueError) and blame.foreseen(error)
  if wrong or isinstance(error, (ImportError, *_PATHS)):
    output.tell(_line(error))
    return WRONG
  if isinstance(error, (Failed, FloatingPointError, OSError)):
    output.tell(_line(error))
  else:
    traceback.print_exception(error)
  return FAILED


def _no_space() -> str:
  if not usage.keeps():
    return "no space left on the disk"
  return (
    f"no space left on the disk of '{flags.FLAGS.workdir}'; what is finished is"
    " whole: make room, and the same command goes on"
  )


def _parse(argv):
  try:
    return command_line.parse(argv)
  except ValueError as error:
    output.tell(_line(error))
    sys.exit(WRONG)


def _warn(message, *_, **__) -> None:
  """One line, without the place in our sources where it was noticed."""
  output.tell(f"warning: {' '.join(str(message).split())}")


def _line(error) -> str:
  return f"error: {' '.join(str(error).split())}"


def _check_output() -> None:
  if flags.FLAGS["output"].present and not usage.keeps():
    raise ValueError("--output: means nothing here; leave it out")


def no_arguments(argv) -> None:
  """Refuses what is not a flag: a forgotten '--' would be ignored else."""
  if len(argv) > 1:
    raise ValueError(f"{argv[1]!r} is not a flag: all options start with --")
