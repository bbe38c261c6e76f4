"""Options by name: those a function takes, and those it needs."""

import inspect
from collections.abc import Callable, Collection


def check(
  name: str,
  function: Callable,
  options: dict,
  *,
  block: str = "",
  given: Collection[str] = (),
  unlisted: Collection[str] = (),
) -> None:
  """Raises ValueError at an option that is not taken, or needed and missing.

  Args:
    name: of the function, as whoever chose it knows it.
    function: its parameters are the options.
    options: by name.
    block: what errors put before an option's name, such as 'task.'.
    given: parameters that are no options: the caller sets them.
    unlisted: parameters that errors do not offer.
  """
  parameters = inspect.signature(function).parameters
  taken = {k: p for k, p in parameters.items() if k not in given}
  for option, value in options.items():
    if option not in taken:
      offered = sorted(set(taken) - set(unlisted))
      raise ValueError(
        f"{block}{option} = {value!r}: {name!r} takes {offered or 'no options'}"
      )
  for option, parameter in taken.items():
    if parameter.default is parameter.empty and option not in options:
      raise ValueError(f"{block}{option} is not set: {name!r} needs it")
