"""What the site takes from the code itself, so that it cannot go stale.

`{config-fields} loss` is the table of a section of pse_jax/config.py; `{verb-helps}` has a section
for every verb, with what `python -m pse_jax VERB --help` prints.
"""

import contextlib
import dataclasses
import importlib
import inspect
import io
import os
import re

import fields
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from pse_jax import config
from pse_jax.__main__ import VERBS
from pse_jax.verbs.fields import comments_of

MODULES = re.compile(r"~?\b(?:jaxtyping|jaxlib\._jax|jax|numpy|collections\.abc|typing)\.(?=\w)")


class ConfigFields(SphinxDirective):
    """The fields of one section of the configuration, in a table."""

    required_arguments = 1  # the dotted path of the section, or `config` for the fields of none

    def run(self) -> list[nodes.Node]:
        """The table."""
        self.env.note_dependency(inspect.getfile(config))
        content = StringList(fields.table(self.arguments[0]), source=inspect.getfile(config))
        parent = nodes.Element()
        self.state.nested_parse(content, self.content_offset, parent)
        return parent.children


class VerbHelps(SphinxDirective):
    """A section for every verb, with its help."""

    def run(self) -> list[nodes.Node]:
        """The sections."""
        lines: list[str] = []
        for verb, purpose in VERBS.items():
            lines += [f"## {verb}", "", f"{purpose[0].upper()}{purpose[1:]}.", ""]
            lines += ["```text", help_of(verb), "```", ""]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def help_of(verb: str) -> str:
    """What --help prints, 80 columns wide."""
    os.environ["COLUMNS"] = "82"  # argparse leaves two of them free
    module = importlib.import_module(f"pse_jax.verbs.{verb.replace('-', '_')}")
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        module.main(["--help"])
    return out.getvalue().rstrip()


def plain_signature(app, what, name, obj, options, signature, returns):
    """Shapes as they are written: Float[Array, "n 4"] in place of its full name."""
    return tuple(text and MODULES.sub("", text) for text in (signature, returns))


def plain_text(app, what, name, obj, options, lines):
    """Docstrings are plain text, not reStructuredText: `code` is code, and | and * are themselves.

    The fields of a dataclass are described by the comments beside them.
    """
    if dataclasses.is_dataclass(obj) and isinstance(obj, type):
        described = {name: text for name, text in comments_of(obj).items() if text}
        lines += ["Attributes:", *(f"    {name}: {text}" for name, text in described.items()), ""]
    for at, line in enumerate(lines):
        parts = re.split(r"`+([^`]+)`+", line)
        parts[::2] = [re.sub(r"([|*\\])", r"\\\1", text) for text in parts[::2]]
        parts[1::2] = [f"``{code}``" for code in parts[1::2]]
        lines[at] = "".join(parts)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("config-fields", ConfigFields)
    app.add_directive("verb-helps", VerbHelps)
    app.connect("autodoc-process-docstring", plain_text, priority=400)  # before napoleon
    app.connect("autodoc-process-signature", plain_signature)
    return {"parallel_read_safe": True}
