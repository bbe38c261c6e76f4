"""The documentation site: `make docs` writes it to build/docs."""

import pathlib
import sys

_HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(_HERE.parent), str(_HERE / "_extensions")]

project = "maxrl_jax"
extensions = [
  "myst_parser",
  "sphinx.ext.autodoc",
  "sphinx.ext.napoleon",
  "sphinx_copybutton",
  "docstrings",
  # The site works without a network, so no MathJax: formulas become MathML
  # when the site is built. What the converter does not know is an error.
  "mathml",
  "numbers_of_tables",
  "verbatim",
]
exclude_patterns = ["_*"]

# Pages.
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

# Docstrings: one look for all, whatever of the extras is installed.
autodoc_mock_imports = ["torch", "trl", "tunix", "verl"]
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_inherit_docstrings = False
napoleon_custom_sections = [("Attributes", "params_style")]
python_maximum_signature_line_length = 78
add_module_names = False
# `name` in a docstring links to what has that name, and is code otherwise.
default_role = "py:obj"
nitpicky = True
nitpick_ignore_regex = [
  # Arguments, fields and other libraries have no entry to link to.
  ("py:obj", r".*"),
  # Neither have types from outside: inventories would have to be downloaded.
  ("py:(class|exc)", r"(?!maxrl_jax).*"),
]

# Look.
html_theme = "furo"
html_math_renderer = "mathml"
highlight_language = "text"
html_title = "maxrl_jax"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = html_show_copyright = False
# Summaries of what is found would be fetched, which file:// pages may not.
html_show_search_summary = False
html_domain_indices = False  # The sidebar has all modules.
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
pygments_style = "default"
copybutton_selector = "div.highlight-python pre, div.highlight-bash pre"
