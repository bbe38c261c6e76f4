"""Cells of numbers do not break within: no '1e-' above '4'."""

import re

from docutils import nodes

_NUMBERS = re.compile(r"[\d\s.,;:/%×≤≥≈~±+−\[\]()e-]{1,24}(ms|s|GiB|MiB)?")


def _mark(app, doctree, name):
  for cell in doctree.findall(nodes.entry):
    if _NUMBERS.fullmatch(cell.astext()):
      cell["classes"].append("number")


def setup(app):
  app.connect("doctree-resolved", _mark)
  return {"parallel_read_safe": True, "parallel_write_safe": True}
