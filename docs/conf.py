"""How Sphinx builds the site: sphinx-build -W -b html docs docs/_build/html."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_extensions")]
os.environ["JAX_PLATFORMS"] = "cpu"  # importing the package must not take an accelerator

import pse_jax  # noqa: E402

project = "pse-jax"
release = pse_jax.__version__
copyright = "the pse-jax authors, Apache-2.0"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "generated",
]
exclude_patterns = ["_build", "_extensions"]

# The same Markdown is read on GitHub: links to headings go by GitHub's anchors.
myst_heading_anchors = 4
highlight_language = "none"
smartquotes_action = "D"  # dashes alone; flags stand in backticks

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 78
python_display_short_literal_types = True
toc_object_entries_show_parents = "hide"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_attr_annotations = False  # the signature of a class has the types of its fields

html_theme = "furo"
html_title = "pse-jax"
html_static_path = ["_static"]
html_css_files = ["site.css"]
