"""Checksums of a checkpoint's arrays and metadata: whether what is read is what was saved."""

import json
import zlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

Tree = Any
Described = dict[str, dict[str, Any]]


def describe(trees: Tree) -> Described:
    """Shape, type and CRC-32 of every array of a tree, by its path: `params/head/scales`.

    Args:
        trees: of arrays on the host or, the same on every process, on devices.
    """
    found = {}
    for name, leaf in _leaves(trees):
        array = leaf.addressable_data(0) if isinstance(leaf, jax.Array) else leaf
        content = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        found[name] = {**_form(leaf), "crc32": f"{zlib.crc32(content):08x}"}
    return found


def mismatch(described: Described, trees: Tree) -> str | None:
    """The first array whose name, shape or type is not as described; None where all are.

    Args:
        described: what `describe` returned when the checkpoint was saved.
        trees: of arrays, or of their shapes.
    """
    here = {name: _form(leaf) for name, leaf in _leaves(trees)}
    for name in sorted(here.keys() | described.keys()):
        saved = {k: v for k, v in described.get(name, {}).items() if k != "crc32"}
        if saved != here.get(name, {}):
            return f"{name} is {_text(saved)} there and {_text(here.get(name))} here"
    return None


def damaged(described: Described, trees: Tree) -> str | None:
    """What is wrong with arrays that were read; None where all are as they were saved."""
    if other := mismatch(described, trees):
        return other
    here = describe(trees)
    wrong = [name for name, saved in described.items() if saved["crc32"] != here[name]["crc32"]]
    if not wrong:
        return None
    others = f" and of {len(wrong) - 1} other arrays" if wrong[1:] else ""
    return f"the values of {wrong[0]}{others} are not those that were saved"


def of_json(content: dict[str, Any]) -> str:
    """The CRC-32 of a JSON object, whatever the order of its names; `crc32` itself left out."""
    rest = {name: value for name, value in content.items() if name != "crc32"}
    return f"{zlib.crc32(json.dumps(rest, sort_keys=True).encode()):08x}"


def _leaves(trees: Tree) -> Iterator[tuple[str, Any]]:
    for path, leaf in jax.tree_util.tree_leaves_with_path(trees):
        yield jax.tree_util.keystr(path, simple=True, separator="/"), leaf


def _form(array: Any) -> dict[str, Any]:
    return {"shape": list(array.shape), "dtype": str(array.dtype)}


def _text(form: dict[str, Any] | None) -> str:
    return f"{form['dtype']}{form['shape']}" if form else "missing"
