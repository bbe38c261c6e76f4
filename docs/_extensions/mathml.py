"""Formulas as MathML, which browsers draw without scripts or a network."""

import re

from docutils import nodes
from math_core import LatexError, LatexToMathML
from sphinx.util import logging

_convert = LatexToMathML(fancy_error=False).convert_with_local_state
_logger = logging.getLogger(__name__)


# Sphinx numbers a block; a number for each of its lines too would be two.
_NUMBERED = re.compile(r"^\\begin\{(\w+)\}(.*)\\end\{\1\}\s*$", re.S)


def _markup(node, displaystyle: bool) -> str:
  latex = node.astext()
  if "amsmath" in node["classes"]:
    latex = _NUMBERED.sub(r"\\begin{\1*}\2\\end{\1*}", latex)
  try:
    return _convert(latex, displaystyle=displaystyle)
  except LatexError as error:
    _logger.warning("formula: %s", error, location=node)
    return latex


def _inline(translator, node):
  markup = _markup(node, displaystyle=False)
  translator.body.append(f'<span class="inline-formula">{markup}</span>')
  raise nodes.SkipNode


def _display(translator, node):
  anchor = f' id="{node["ids"][0]}"' if node["ids"] else ""
  number = f'<span class="eqno">({node["number"]})</span>'
  translator.body.append(
    f'<div class="formula"{anchor}>{_markup(node, displaystyle=True)}'
    f"{number if node['number'] else ''}</div>\n"
  )
  raise nodes.SkipNode


def setup(app):
  app.add_html_math_renderer("mathml", (_inline, None), (_display, None))
  return {"parallel_read_safe": True, "parallel_write_safe": True}
