"""Equations, tables and code set apart in docstrings stay as typed."""


def _set_apart(app, what, name, obj, options, lines):
  """Marks what stands four spaces deep after an empty line as literal.

  Arguments are less deep, and their second lines follow no empty one. Bars
  elsewhere are those of |y − ŷ| or m(z|x), not reStructuredText's.
  """
  found, literal = [], False
  for before, line in zip(["", *lines], lines, strict=False):
    deep = line.startswith("    ")
    if deep and not before and not literal:
      found += ["::", ""]
      literal = True
    elif line and not deep:
      literal = False
    found.append(line if literal else line.replace("|", r"\|"))
  lines[:] = found


def setup(app):
  # Before Napoleon, which connects with the usual priority.
  app.connect("autodoc-process-docstring", _set_apart, priority=400)
  return {"parallel_read_safe": True}
