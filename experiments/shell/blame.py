"""Whose an error is: a config file's, our checks' of input, or a bug."""

import traceback

# An error that another package raises is one that we did not foresee.
_OURS = ("maxrl_jax", "experiments", "configs", "benchmarks", "__main__")
# What ml_collections and `experiments.sweep` call the module of --config.
_CONFIG = ("config_config", "swept")


def foreseen(error: BaseException) -> bool:
  """Whether our code itself raised it, as it does where input is wrong."""
  return _owners(error)[-1:] in (["ours"], ["config"])


def of_config(error: BaseException) -> str | None:
  """Error, file and line, if the config file's code is what went wrong."""
  cause: BaseException | None = error
  while cause is not None:
    known = [owner for owner in _owners(cause) if owner]
    if known[-1:] == ["config"]:
      return _line(cause)
    # ml_collections raises another error, which has lost the line.
    cause = cause.__cause__ or cause.__context__
  return None


def _line(error: BaseException) -> str:
  file, line = next(
    (frame.f_code.co_filename, number)
    for frame, number in reversed([*traceback.walk_tb(error.__traceback__)])
    if _owner(frame) == "config"
  )
  if file in str(error):  # It says by itself what was meant for --config.
    return str(error)
  return at(error, file, line)


def at(error: BaseException, file: str | None, line: int | None) -> str:
  """An error of a config, and where it was."""
  return f"--config: {type(error).__name__} in {file}, line {line}: {error}"


def _owners(error: BaseException) -> list[str]:
  return [_owner(f) for f, _ in traceback.walk_tb(error.__traceback__)]


def _owner(frame) -> str:
  name = str(frame.f_globals.get("__name__"))
  if name in _CONFIG:
    return "config"
  return "ours" if name.split(".")[0] in _OURS else ""
