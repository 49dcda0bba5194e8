"""Every field of the configuration in words: what config.py says of it is the only source."""

import ast
import dataclasses
import inspect
import io
import textwrap
import tokenize
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

from pse_jax import config

WIDTH = 100
TYPES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def help_text() -> str:
    """All fields by section, each with its type, bound, default and comment."""
    types = {path: kind for path, kind, _ in config.leaves(config.Config())}
    lines = [
        "fields of the configuration, with the values that they have unless --config says else"
    ]
    for section, node in sections(config.Config()):
        lines += ["", f"{section or 'config'}: {inspect.getdoc(type(node)) or ''}"]
        said = comments_of(type(node))
        for name, value in vars(node).items():
            if dataclasses.is_dataclass(value):
                continue
            path = f"{section}.{name}" if section else name
            lines.append(f"  --config.{path}={shown(value)}  ({type_in_words(types[path])})")
            indent = " " * 6
            lines += textwrap.wrap(
                said[name], WIDTH, initial_indent=indent, subsequent_indent=indent
            )
    return "\n".join(lines)


def sections(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted path and value of every section; the configuration itself has an empty path."""
    yield path, node
    for name, value in vars(node).items():
        if dataclasses.is_dataclass(value):
            yield from sections(value, f"{path}.{name}" if path else name)


def comments_of(section: type) -> dict[str, str]:
    """What the source of a dataclass says of each field: above it, and on its line."""
    source = inspect.getsource(section)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    by_line = {
        token.start[0]: (token.string.lstrip("# "), not token.line[: token.start[1]].strip())
        for token in tokens
        if token.type == tokenize.COMMENT
    }
    found = {}
    for item in next(
        node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)
    ).body:
        if not isinstance(item, ast.AnnAssign) or not isinstance(item.target, ast.Name):
            continue
        first, last = item.lineno, item.end_lineno or item.lineno
        while by_line.get(first - 1, ("", False))[1]:  # a line that is a comment only
            first -= 1
        parts = [by_line[n][0] for n in range(first, last + 1) if n in by_line]
        found[item.target.id] = " ".join(parts)
    return found


def type_in_words(kind: Any) -> str:
    """`a whole number, greater than 0`; `one of fcos, mmdet`."""
    if get_origin(kind) is Annotated:
        base, bound = get_args(kind)[:2]
        return f"{type_in_words(base)}, {bound.must_be}"
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, get_args(kind)))
    parts = get_args(kind)
    if not parts:
        return TYPES[kind]
    count = "" if ... in parts else f"{len(parts)} "
    return f"{count}{TYPES[parts[0]].removeprefix('a ')}s, with commas between them"


def shown(value: Any) -> str:
    """A value as it is written on the command line."""
    if isinstance(value, tuple):
        return f"({','.join(map(str, value))}{',' * (len(value) == 1)})"
    return str(value).lower() if isinstance(value, bool) else f"{value}"
