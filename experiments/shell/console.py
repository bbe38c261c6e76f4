"""Parts of all entry points: flags, results on stdout, errors, exit codes.

Exit codes: 0 success, 2 wrong input, 75 stopped (run again to resume), 1 other
errors.
"""

import errno
import json
import logging
import math
import os
import pathlib
import re
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from absl import app, flags
from absl import logging as absl_logging

from experiments.shell import devices
from maxrl_jax.runs import progress
from maxrl_jax.runs.interrupts import RESUMABLE, Stopped

FAILED, WRONG = 1, 2  # Exit codes; 75 is `RESUMABLE`.

_OUTPUT = flags.DEFINE_enum(
  "output",
  "text",
  ["text", "quiet", "json"],
  "What is printed on stdout: text, only the path of the results, or a JSON"
  " object. Messages and progress are on stderr; quiet leaves only warnings and"
  " errors there.",
)

# Part of absl's error at a required flag that is None.
_NO_CONFIG = "--config must have a value"
# Errors that a wrong path on the command line causes.
_PATHS = (
  FileNotFoundError,
  IsADirectoryError,
  NotADirectoryError,
  PermissionError,
)


class Failed(Exception):
  """A failure that is reported in one line."""


def run(main: Callable, *, together: bool = False) -> None:
  """absl's app.run, with errors as one line and exit codes.

  Args:
    main: takes nothing.
    together: whether it can run in several processes.
  """

  def guarded(argv: Sequence[str]) -> None:
    # Like Ctrl-C, until there is something to save.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    progress.set_quiet(_OUTPUT.value == "quiet")
    try:
      _no_arguments(argv)
      if "workdir" in flags.FLAGS and flags.FLAGS.workdir == "":
        raise ValueError("--workdir=: is empty; name a folder")
      devices.start(together=together)
      main()
    except Exception as error:
      if isinstance(error, Stopped):  # All is saved: Ctrl-C has no effect.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
      devices.leave(report(error))
    except KeyboardInterrupt:
      saves = "workdir" in flags.FLAGS
      progress.warn("stopped" + "; finished work is saved" * saves)
      devices.leave(RESUMABLE if saves else FAILED, at_once=True)

  warnings.showwarning = _warn
  os.environ["MPLBACKEND"] = "Agg"  # No display is needed.
  # Orbax logs a lot, and errors of config files are reported in one line.
  absl_logging.set_verbosity(absl_logging.FATAL)  # Until --verbosity.
  # Missing accelerators are expected.
  logging.getLogger("jax._src.xla_bridge").setLevel(logging.WARNING)
  # Damaged checkpoints are reported in one line.
  logging.getLogger("asyncio").setLevel(logging.CRITICAL)
  app.run(guarded, flags_parser=_parse)


def report(error: Exception) -> int:
  """Prints an error; returns its exit code.

  One line for expected errors, a traceback for others; with `--verbosity=1`
  always a traceback.
  """
  if isinstance(error, Stopped):
    progress.warn(str(error))
    return RESUMABLE
  if devices.lost(error):
    progress.warn(f"error: {devices.GONE}")
    return RESUMABLE
  if isinstance(error, OSError) and error.errno == errno.ENOSPC:
    error = OSError(_no_space())
  wrong = isinstance(error, (ValueError, ImportError, *_PATHS))
  known = (Failed, FloatingPointError, OSError)
  detailed = flags.FLAGS.is_parsed() and flags.FLAGS.verbosity > 0
  if detailed or not (wrong or isinstance(error, known)):
    traceback.print_exception(error)
  else:
    progress.warn(f"error: {' '.join(str(error).split())}")
  return WRONG if wrong else FAILED


def _no_space() -> str:
  """The message on a full disk."""
  if "workdir" not in flags.FLAGS:
    return "no space left on the disk"
  return (
    f"no space left on the disk of '{flags.FLAGS.workdir}'; finished work is"
    " saved: make room, and run the same command again to resume"
  )


def _parse(argv: Sequence[str]) -> list[str]:
  """Sets all flags; `--config.FIELD=None` unsets a field."""
  pattern = re.compile(r"--?config\.([\w.]+)=None")
  unset = [m[1] for m in map(pattern.fullmatch, argv) if m]
  try:
    file = _config_file(argv)
    rest = flags.FLAGS([w for w in argv if not pattern.fullmatch(w)])
    if file and flags.FLAGS.config is None:
      raise ValueError(_NO_CONFIG)
    for field in unset:
      *path, last = field.split(".")
      block = flags.FLAGS.config
      for part in path:
        block = block[part]
      if hasattr(block[last], "keys"):
        raise ValueError(f"--config.{field}=None: is a block, not a field")
      block[last] = None
    return rest
  except SystemExit:  # --help has been printed.
    sys.exit(0)
  except Exception as error:  # A config file can raise anything.
    progress.warn(f"error: {_one_line(error, argv)}; see --help")
    sys.exit(WRONG)


def _one_line(error: Exception, argv: Sequence[str]) -> str:
  """An error of the command line or of a config file, in one line."""
  text, name = str(error), type(error).__name__
  file = _config_file(argv, check=False)
  if "'get_config'" in text:
    return "--config: the file has no get_config()"
  if _NO_CONFIG in text:
    return _returned_none(file)
  missing = re.findall(r"flag --(\w+)=None: Flag", text)
  if missing:
    return f"{', '.join(f'--{flag}' for flag in missing)} must be given"
  if re.search(r"get_config\(\) takes 0 positional arguments", text):
    return f"--config={file}: has no variants, so nothing may follow a ':'"
  if isinstance(error, flags.UnrecognizedFlagError):
    return _unknown_flag(error)
  frames = traceback.extract_tb(error.__traceback__)
  of_config = "ml_collections" in frames[-1].filename
  if of_config and isinstance(error, (AttributeError, KeyError)):
    field = _wrong_field(text, file, argv)
    if field:
      return field
  block = re.match(r"flag --config\.(\w+)=(.*?): .* as a ConfigDict", text)
  if block:
    return (
      f"--config.{block[1]}={block[2]}: is a block, not a field; did you mean"
      f" --config.{block[1]}.name={block[2]}?"
    )
  number = re.match(r"flag (--.+): (invalid literal for int|could not )", text)
  if number:
    whole = number[2].startswith("invalid")
    kind = "a whole number, such as 1000" if whole else "a number, such as 0.1"
    return f"{number[1]}: must be {kind}"
  places = re.findall(r'File "(.+?)", line (\d+)', text)
  if places:  # ml_collections puts a traceback into the message.
    file, line = places[-1]
    return f"--config: {text.strip().splitlines()[-1]} ({file}, line {line})"
  line = " ".join(text.split()) or name
  if isinstance(error, (ValueError, flags.Error)):
    return line
  at = [f.lineno for f in frames if file and f.filename == str(file)]
  where = f" (line {at[-1]})" if at else ""
  return f"--config={file}: {name}: {line}{where}"


def _returned_none(file: pathlib.Path | None) -> str:
  """The error if there is no config."""
  if file is None:
    return "--config is missing: --config=configs/bandit.py"
  return (
    f"--config={file}: get_config() returned None; end it with return config"
  )


def _unknown_flag(error: flags.UnrecognizedFlagError) -> str:
  """The error, with a hint at a config field, or as absl words it."""
  text, name = str(error), error.flagname
  config = flags.FLAGS["config"].value if "config" in flags.FLAGS else None
  if not hasattr(config, "keys"):
    return text
  from maxrl_jax.runs import grid

  near = grid.nearest(name, config)
  same = near and near.split(".")[-1] == name
  if not near or ("Did you mean" in text and not same):
    return text
  return f"Unknown command line flag {name!r}; did you mean --config.{near}?"


def _wrong_field(
  text: str, file: pathlib.Path | None, argv: Sequence[str]
) -> str | None:
  """The error at a field that the config lacks; None for other errors."""
  inner = re.search(r"Attribute <.+?>\.(\w+) .* lookup: ([\w.]+)", text)
  if inner:
    block = inner[2].rpartition(f".{inner[1]}")[0]
    if not block:
      return _returned_none(file)
    return f"--config.{inner[2]}: {block} is a field, not a block"
  field = re.match(r"(?:\W*no field)?\W+(\w+)", text)
  if not field or "object has no attribute" in text:
    return None
  near = re.search(r"[Dd]id you mean \W*(\w+)", text)
  hint = f"; did you mean {near[1]}?" if near else ""
  flag = re.compile(rf"--?config\.([\w.]+)\.{field[1]}\b")
  blocks = [f"{m[1]} has " for m in map(flag.match, argv) if m]
  return f"--config: {''.join(blocks[:1])}no {field[1]}{hint}"


def _config_file(
  argv: Sequence[str], *, check: bool = True
) -> pathlib.Path | None:
  """The path in --config=FILE, or None.

  Raises:
    ValueError: no such file; otherwise its fields would be unknown flags.
  """
  if "config" not in flags.FLAGS:
    return None
  for word, following in zip(argv, [*argv[1:], ""], strict=True):
    name, equals, value = word.lstrip("-").partition("=")
    if word.startswith("-") and name == "config":
      path = pathlib.Path((value if equals else following).split(":")[0])
      if check and not path.is_file():
        raise ValueError(f"--config={path}: no such file")
      return path
  return None


def _no_arguments(argv: Sequence[str]) -> None:
  """Raises ValueError at a word that is not a flag, which absl would ignore."""
  if len(argv) > 1:
    raise ValueError(f"{argv[1]!r} is not a flag: all options start with --")


def _warn(message: Any, *_: Any, **__: Any) -> None:
  """A Python warning in one line."""
  progress.warn(f"warning: {' '.join(str(message).split())}")


def result(path: pathlib.Path, text: str, record: dict) -> None:
  """Prints the results of a command on stdout.

  Args:
    path: of the results; printed by --output=quiet.
    text: printed by --output=text.
    record: printed by --output=json; numbers that are not finite become null.
  """
  outputs = {
    "quiet": lambda: str(path),
    "text": lambda: text,
    "json": lambda: json.dumps(_finite(record), allow_nan=False),
  }
  progress.write(outputs[_OUTPUT.value](), sys.stdout)


def _finite(value: Any) -> Any:
  """The value with None for numbers that are not finite."""
  if isinstance(value, dict):
    return {name: _finite(inner) for name, inner in value.items()}
  if isinstance(value, (list, tuple)):
    return [_finite(inner) for inner in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value
