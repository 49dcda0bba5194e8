"""What `check` proposes, as lines to read, flags to paste and a configuration to keep."""

import json
import shlex
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from pse_jax.config import Config, differences, get
from pse_jax.data.dataset import Dataset
from pse_jax.report.suggest import applied, suggestions, without_location

WIDTH, INDENT = 100, "      "  # of a line, in characters


def lines(dataset: Dataset, config: Config, base: str, given: Sequence[str]) -> Iterator[str]:
    """The proposals, the objects that they lose, and the command that trains with them.

    Args:
        dataset: what is trained on; it has boxes.
        config: it was checked with.
        base: the value of --config.
        given: flags that set its other fields.
    """
    made = suggestions(dataset, config)
    yield f"proposed for the {len(dataset):,} images to train on, building on {base}:"
    yield ""
    for one in made:
        same = " (as it is)" if get(config, one.field) == one.value else ""
        yield f"  {one.field}={_text(one.value)}{same}"
        yield from textwrap.wrap(one.why, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT)
    now, total = without_location(dataset, config)
    then, _ = without_location(dataset, applied(config, made))
    yield from (
        "",
        f"  objects without a positive location: {then:,} of {total:,}; before {now:,}",
        "",
    )
    changed = [one for one in made if get(config, one.field) != one.value]
    replaced = {f"--config.{one.field}" for one in changed}
    flags = [shlex.quote(flag) for flag in given if flag.split("=")[0] not in replaced]
    flags += [shlex.quote(f"--config.{one.field}={_text(one.value)}") for one in changed]
    yield from ("train on it with", f"  python -m pse_jax train --config {shlex.quote(base)} \\")
    yield from (f"    {flag} \\" for flag in flags[:-1])
    yield from (f"    {flag}" for flag in flags[-1:])


def config_text(dataset: Dataset, config: Config, base: Config, name: str, of: str) -> str:
    """The file of a configuration: `base` with what was given and what is proposed.

    Args:
        dataset: what is trained on; it has boxes.
        config: it was checked with.
        base: the configuration that --config named, without the flags.
        name: of the new one.
        of: what --config named.
    """
    made = {one.field: one for one in suggestions(dataset, config)}
    given = {field: now for field, (_, now) in differences(base, config).items()}
    body = [f"    config.name = {_literal(name)}"]
    for field, value in given.items():
        if field not in made and field != "name":
            body.append(f"    config.{field} = {_literal(value)}")
    for one in made.values():
        why = one.why[0].upper() + one.why[1:] + "."
        body += textwrap.wrap(why, WIDTH, initial_indent="    # ", subsequent_indent="    # ")
        body.append(f"    config.{one.field} = {_literal(one.value)}")
    return f'''"""Proposed by `python -m pse_jax check` for {len(dataset):,} images to train on.

    python -m pse_jax train --config {name}.py

Rules of thumb from the sizes and numbers of the images and objects: a place to start from. Another
configuration to build on may be given after a colon: --config {name}.py:NAME
"""

from pse_jax.config import Config
from pse_jax.verbs.flags import load_config


def get_config(base: str = {_literal(of)}) -> Config:
    config = load_config(base)
{chr(10).join(body)}
    return config
'''


def _literal(value: Any) -> str:
    """A value in Python, text in double quotes."""
    return json.dumps(value) if isinstance(value, str) else repr(value)


def _text(value: Any) -> str:
    return f"({','.join(map(str, value))})" if isinstance(value, tuple) else str(value)
