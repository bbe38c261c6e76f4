"""What all entry points share: one-line errors, and no stray arguments."""

import sys

from absl import app


def run(main) -> None:
  """absl's app.run, with a user's mistake as one line and exit code 1."""

  def guarded(argv):
    try:
      main(argv)
    except (ValueError, FloatingPointError, OSError, ImportError) as error:
      sys.exit(f"error: {error}")

  try:
    app.run(guarded)
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    # Config flags are set while absl parses the command line.
    sys.exit(f"error: {error}")


def no_arguments(argv) -> None:
  """Refuses what is not a flag: a forgotten '--' would be ignored else."""
  if len(argv) > 1:
    raise ValueError(f"{argv[1]!r} is not a flag: all options start with --")
