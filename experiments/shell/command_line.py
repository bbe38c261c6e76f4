"""A command line read, with what is wrong with it in words that say the fix."""

import pathlib
import re
from collections.abc import Sequence
from typing import Any

from absl import flags

from experiments.shell import blame


def parse(argv: Sequence[str]) -> list[str]:
  """Sets all flags, reads the config file and sets its fields.

  Returns:
    what is no flag, as absl does.

  Raises:
    ValueError: in words for a person, whatever is wrong.
  """
  unset: list[str] = []
  if "config" in flags.FLAGS:
    _check_file(argv)
    argv, unset = _apart(argv)
  try:
    rest = flags.FLAGS(argv)
    for field in unset:
      _unset(flags.FLAGS.config, field)
    return rest
  except Exception as error:  # Anything can be wrong in a config file.
    raise ValueError(blame.of_config(error) or _words(error, argv)) from None


def _apart(argv: Sequence[str]) -> tuple[list[str], list[str]]:
  """Without the fields set to None, and these: no flag has that for a value."""
  found = [re.fullmatch(r"--?config\.([\w.]+)=None", word) for word in argv]
  kept = [
    word for word, is_unset in zip(argv, found, strict=True) if not is_unset
  ]
  return kept, [match[1] for match in found if match]


def _unset(config: Any, field: str) -> None:
  *path, last = field.split(".")
  for part in path:
    config = config[part]
  if hasattr(config[last], "keys"):
    raise ValueError(f"--config.{field}=None: is a block, not a field")
  config[last] = None


def _words(error: Exception, argv: Sequence[str]) -> str:
  if isinstance(error, flags.Error):
    return _of_flag(error)
  if isinstance(error, (AttributeError, KeyError)):
    return _of_field(str(error.args[0]), argv)
  if isinstance(error, (TypeError, ValueError)):
    return str(error)
  if isinstance(error, SyntaxError):
    return blame.at(error, error.filename, error.lineno)
  raise error  # A bug.


def _check_file(argv: Sequence[str]) -> None:
  """Told before its fields are: without the file they are unknown flags."""
  for word, following in zip(argv, [*argv[1:], ""], strict=True):
    name, equals, value = word.lstrip("-").partition("=")
    if not word.startswith("-") or name != "config":
      continue
    path = (value if equals else following).split(":")[0]
    if not pathlib.Path(path).is_file():
      ours = pathlib.Path(__file__).parents[2] / "configs"
      names = sorted(p.name for p in ours.glob("[a-z]*.py"))
      raise ValueError(
        f"--config={path}: no such file; configs/ has {', '.join(names)}"
      )


def _of_flag(error: flags.Error) -> str:
  text = str(error)
  missing = re.findall(r"(--\w+) must have a value", text)
  if missing:
    return f"{', '.join(missing)} must be given; --help says what for"
  if isinstance(error, flags.UnrecognizedFlagError):
    if "config" in flags.FLAGS:
      return f"{text}; see --help, and --config.FIELD=VALUE sets a field"
    return f"{text}; see --help"
  if "parsing config file" in text:
    return text.strip().splitlines()[-1].removeprefix("ValueError: ")
  block = re.match(r"flag (--\S+)=.*as a ConfigDict", text)
  if block:
    return f"{block[1]} is a block: set one of its fields, {block[1]}.NAME=…"
  for theirs, ours in (
    (r"invalid literal for int\(\).*", "must be a whole number"),
    (r"could not convert string to float.*", "must be a number"),
    (r"\('Non-boolean argument.*", "must be true or false"),
  ):
    text = re.sub(theirs, ours, text, flags=re.DOTALL)
  return text


def _of_field(text: str, argv: Sequence[str]) -> str:
  if "get_config" in text:
    return "--config: the file has no get_config(), see docs/config.md"
  name = re.findall(r"\w+", text)[0]
  given = [word for word in argv if f".{name}" in word] or ["--config"]
  near = re.search(r'Did you mean "(\w+)"', text)
  meant = near[1] if near else _elsewhere(name)
  hint = f"did you mean {meant}?" if meant else "see docs/config.md"
  return f"{given[0]}: the config has no field {name}; {hint}"


def _elsewhere(name: str) -> str | None:
  """A field of that name in another block."""
  from maxrl_jax.config import default
  from maxrl_jax.runs import grid

  return grid.nearest(name, default())
