"""The fields of the configuration as a table in Markdown, by verbs/fields.py."""

import dataclasses
import re
import typing
from typing import Any

from pse_jax.config import Config, get
from pse_jax.verbs.fields import comments_of, shown, type_in_words


def table(path: str) -> list[str]:
    """The lines of the table of one section; `path` is `config` for the fields of no section."""
    node = Config() if path == "config" else get(Config(), path)
    prefix = "" if path == "config" else f"{path}."
    lines = ["| field | default | values | meaning |", "|---|---|---|---|"]
    for name, kind, default, comment in rows(node):
        cells = (f"`{prefix}{name}`", f"`{default}`" if default else "", kind, comment)
        escaped = [re.sub(r"(--[\w.-]+)", r"`\1`", cell).replace("|", r"\|") for cell in cells]
        lines.append(f"| {' | '.join(escaped)} |")
    return lines


def rows(node: Any) -> list[tuple[str, str, str, str]]:
    """Name, type in words, default and comment of every field of a section."""
    hints = typing.get_type_hints(type(node), include_extras=True)
    comments = comments_of(type(node))
    return [
        (name, type_in_words(hints[name]), shown(value), comments[name])
        for name, value in vars(node).items()
        if not dataclasses.is_dataclass(value)
    ]
