"""The fields of the configuration as a table in Markdown, from pse_jax/config.py itself."""

import dataclasses
import inspect
import io
import re
import tokenize
import typing
from typing import Any

from pse_jax.config import Config, get

PLAIN = {bool: "`true`, `false`", int: "integer", float: "number", str: "text"}


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
    found = []
    for name, value in vars(node).items():
        if not dataclasses.is_dataclass(value):
            default = str(value).lower() if isinstance(value, bool) else _short(value)
            found.append((name, in_words(hints[name]), default, comments.get(name, "")))
    return found


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) and len(repr(value)) > 8 else str(value)


def in_words(kind: Any) -> str:
    """`number, 0 or greater`; the choices of a Literal."""
    parts = typing.get_args(kind)
    if typing.get_origin(kind) is typing.Literal:
        return ", ".join(f"`{choice}`" for choice in parts)
    if typing.get_origin(kind) is typing.Annotated:
        return f"{in_words(parts[0])}, {parts[1].must_be}"
    if kind in PLAIN:
        return PLAIN[kind]
    return f"{'' if ... in parts else f'{len(parts)} '}{in_words(parts[0])}s"


def comments_of(section: type) -> dict[str, str]:
    """The comment of every field of a dataclass: the lines above it, and what stands beside it."""
    found: dict[str, str] = {}
    above: list[str] = []
    name = ""
    source = inspect.getsource(section)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            text = token.string.lstrip("# ").rstrip()
            if token.line.lstrip().startswith("#"):
                above.append(text)
            elif name in found:
                found[name] = f"{found[name]} {text}".strip()
        elif token.type == tokenize.NEWLINE:
            name = ""
        elif token.type == tokenize.NAME and not name:
            if field := re.match(r"    (\w+): ", token.line):
                name = field[1]
                found[name] = " ".join(above)
            else:
                name = token.string  # the class itself
            above = []
    return found
