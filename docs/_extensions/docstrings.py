"""Docstrings as they are written here, made fit for autodoc."""

import re

import jax
import numpy.typing
from sphinx.util.typing import stringify_annotation

# Every Flax module takes these, and nobody gives them by hand.
_FLAX = re.compile(r"(, |(?<=\())parent: [^=]+ = [^=]+, name: [^=]+ = None\)$")

# As autodoc writes them; the words that stand for them are shorter.
_ARRAY_LIKE = [
  stringify_annotation(union, "smart")
  for union in (jax.typing.ArrayLike, numpy.typing.ArrayLike)
]

# "num: N." is no list that begins with item N.
_LETTER = re.compile(r"^( +[\w*]+: )(\w\.)$")

_NOT_OURS = ("Alias for field number", "Returns a new object replacing")


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
    if not literal:
      line = _LETTER.sub(r"\1\\\2", line.replace("|", r"\|"))
    found.append(line)
  lines[:] = found


def _only_ours(app, what, name, obj, skip, options):
  """What tuples and dataclasses bring is left out."""
  words = getattr(obj, "__doc__", None) or ""
  return True if words.startswith(_NOT_OURS) else None


def _readable(app, what, name, obj, options, signature, returns):
  """Without what Flax adds, and with … for defaults that cannot be typed."""
  if not signature:
    return None
  for union in _ARRAY_LIKE:
    signature = signature.replace(union, "~jax.typing.ArrayLike")
  return re.sub(r"<[^<>]+>", "...", _FLAX.sub(")", signature)), returns


def _from_the_top(app, env, node, contnode):
  """`symmetric.METHODS` is found whatever module speaks of it."""
  if node.get("reftype") != "obj" or "." not in node["reftarget"]:
    return None
  place, name = node.get("refdoc"), f"maxrl_jax.{node['reftarget']}"
  python = env.domains["py"]
  return python.resolve_xref(
    env, place, app.builder, "obj", name, node, contnode
  )


def setup(app):
  app.connect("missing-reference", _from_the_top)
  # Before Napoleon, which connects with the usual priority.
  app.connect("autodoc-process-docstring", _set_apart, priority=400)
  app.connect("autodoc-skip-member", _only_ours)
  app.connect("autodoc-process-signature", _readable)
  return {"parallel_read_safe": True}
