"""What all entry points share: one-line errors, and no stray arguments."""

import logging
import pathlib
import sys

from absl import app, flags


def run(main) -> None:
  """absl's app.run, with a user's mistake as one line and exit code 1."""

  def guarded(argv):
    try:
      main(argv)
    except (ValueError, FloatingPointError, OSError, ImportError) as error:
      _exit(error)

  # Which accelerators are not there is no news.
  logging.getLogger("jax._src.xla_bridge").setLevel(logging.WARNING)
  app.run(guarded, flags_parser=_parse)


def _parse(argv):
  """Config files are read, and their fields set, while flags are parsed."""
  try:
    return flags.FLAGS(argv)
  except (AttributeError, KeyError) as error:
    _exit(f"no such config field, see configs/default.py: {error}")
  except (flags.Error, TypeError, ValueError, OSError) as error:
    _exit(error)


def _exit(error) -> None:
  sys.exit(f"error: {' '.join(str(error).split())}")


def no_arguments(argv) -> None:
  """Refuses what is not a flag: a forgotten '--' would be ignored else."""
  if len(argv) > 1:
    raise ValueError(f"{argv[1]!r} is not a flag: all options start with --")


def make_workdir(path: pathlib.Path) -> None:
  """Makes the folder for results, or says which flag is wrong."""
  try:
    path.mkdir(parents=True, exist_ok=True)
    probe = path / ".writable"
    probe.touch()
    probe.unlink()
  except OSError as error:
    raise ValueError(
      f"workdir = '{path}': cannot write there ({error.strerror}); choose"
      " another folder"
    ) from None
