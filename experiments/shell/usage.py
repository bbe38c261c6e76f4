"""--help on one screen: the program's docstring, and a line a flag."""

import re
import sys
import textwrap

from absl import app, flags

_WIDTH, _COLUMN = 80, 26
_SHARED = """
  --output=text|quiet|json  --platform=cpu|cuda|tpu  and others: --helpfull
Exit codes: 0 done, 2 wrong input, 75 stopped (run again to go on), 1 else."""
_PRINTS = """
  --platform=cpu|cuda|tpu  and others: --helpfull
Exit codes: 0 done, 2 wrong input, 1 else."""


def asked_for(argv: list[str]) -> str | None:
  """Which help a command line asks for, if any: help or helpfull."""
  for word in argv[1:]:
    if word in ("-h", "-?", "-help", "--help", "--helpshort"):
      return "help"
    if word in ("-helpfull", "--helpfull"):
      return "helpfull"
  return None


def screen() -> str:
  """What --help prints."""
  own = flags.FLAGS.get_key_flags_for_module(sys.argv[0])
  lines = [_line(flag) for flag in sorted(own, key=lambda flag: flag.name)]
  text = (sys.modules["__main__"].__doc__ or "").strip()
  return "\n".join([text, "", *lines]) + (_SHARED if keeps() else _PRINTS)


def keeps() -> bool:
  """Whether the program keeps results in a folder, and can go on from them.

  Benchmarks only print.
  """
  return "workdir" in flags.FLAGS


def everything() -> None:
  """Prints all flags of all modules, at length, and exits."""
  app.define_help_flags()
  app.usage(shorthelp=False, writeto_stdout=True, exitcode=0)


def _line(flag) -> str:
  """Name and default, and the first sentence of what it is."""
  if flag.boolean:
    name = f"  --[no]{flag.name}"
  else:
    name = f"  --{flag.name}={'…' if flag.default is None else _default(flag)}"
  first = re.split(r"\.\s", flag.help, maxsplit=1)[0].rstrip(".")
  return textwrap.fill(
    f"{first}.",
    _WIDTH,
    initial_indent=name.ljust(_COLUMN - 2) + "  ",
    subsequent_indent=" " * _COLUMN,
  )


def _default(flag) -> str:
  return flag.default_as_str.strip("'")
