"""Tasks with more abilities, or with fewer, than others have."""

import dataclasses

from maxrl_jax.tasks import Task


def with_methods(task, **methods):
  """A task with methods besides, as a subclass of its class would have."""
  functions = {name: staticmethod(f) for name, f in methods.items()}
  kind = type(f"{type(task).__name__}WithMethods", (type(task),), functions)
  fields = {f.name: getattr(task, f.name) for f in dataclasses.fields(task)}
  return kind(**fields)


def without_pass_rate(task):
  """The task without its exact pass rate: it must be sampled."""
  fields = {f.name: getattr(task, f.name) for f in dataclasses.fields(Task)}
  return Task(**fields)
