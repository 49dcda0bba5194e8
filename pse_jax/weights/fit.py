"""Named arrays into a model: every name, shape and setting must fit, and a report lists them."""

import dataclasses
import difflib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from pse_jax.config import ModelConfig
from pse_jax.errors import WeightsError
from pse_jax.models import Variables


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What became of the arrays of a file and of the variables of a model, by name."""

    loaded: list[str]
    missing: list[str]  # not in the file, as expected: unchanged
    unexpected: list[str]  # in the file, but not in the model
    mismatched: list[str]  # of another shape in the file, with both shapes; all re-initialised
    reinitialised: list[str]  # unchanged, because the caller allowed it

    def __str__(self) -> str:
        parts = [
            ("loaded", _brief(self.loaded)),
            ("not in the file, left as initialised", _brief(self.missing)),
            ("in the file, not used", _brief(self.unexpected)),
            ("different shapes", "; ".join(self.mismatched)),
            ("re-initialised", _brief(self.reinitialised)),
        ]
        return "\n".join(f"{what}: {names}" for what, names in parts if names)


def check_settings(model: ModelConfig, expects: Mapping[str, Any], what: str) -> None:
    """Raises WeightsError, with the flags to set, where a model's fields are not as expected.

    Args:
        model: the model that is to have the weights.
        expects: values of its fields, with which alone the weights keep their meaning.
        what: the file and what it holds, for the message.
    """

    def differs(name: str) -> bool:
        ours, theirs = getattr(model, name), expects[name]
        # Means and deviations are published with two digits or with six.
        return not np.allclose(ours, theirs, atol=1e-2) if "pixel" in name else ours != theirs

    def text(value: object) -> str:
        text = str(value).lower() if isinstance(value, bool) else str(value).replace(" ", "")
        return f"'{text}'" if "(" in text else text

    flags = [f"--config.model.{name}={text(expects[name])}" for name in expects if differs(name)]
    if flags:
        raise WeightsError(
            f"{what}, whose weights would mean something else in this model; set "
            f"{' '.join(flags)}, or use other weights"
        )


def nothing(path: str) -> bool:
    """For `fit`: no exceptions."""
    return False


def fit(
    template: Variables,
    found: Mapping[str, np.ndarray],
    *,
    may_reinitialise: Callable[[str], bool] = nothing,
    expected_missing: Callable[[str], bool] = nothing,
    names_in_file: Mapping[str, str] | None = None,
    unused: Sequence[str] = (),
    source: str = "the weights",
) -> tuple[Variables, Fitted]:
    """The template with arrays in the places that their paths name.

    Args:
        template: variables, or their shapes; where nothing is loaded, they are returned.
        found: by path ("params/backbone/stem/conv1/kernel"); copied, to the template's types.
        may_reinitialise: paths that may be absent or have another shape; they keep their values.
        expected_missing: paths that the file is known not to hold; they keep their values.
        names_in_file: what the file calls the arrays of these paths, for errors.
        unused: names in the file that are left out on purpose, for the report.
        source: the file, for errors.

    Raises:
        WeightsError: for any other name, shape or value that does not fit, with the nearest name.
    """
    leaves = {path_of(keys): leaf for keys, leaf in jax.tree_util.tree_leaves_with_path(template)}
    originals = names_in_file or {}
    values: dict[str, np.ndarray] = {}
    missing, mismatched, reinitialised, problems = [], [], [], []

    def called(path: str) -> str:
        return f"{path} ({originals[path]} in the file)" if path in originals else path

    for path, leaf in leaves.items():
        if path not in found:
            if may_reinitialise(path):
                reinitialised.append(path)
            elif expected_missing(path):
                missing.append(path)
            else:
                problems.append(f"{path} is missing{_nearest(path, found.keys() - leaves.keys())}")
        elif found[path].shape != leaf.shape:
            text = f"{called(path)} has shape {found[path].shape}, in the model {leaf.shape}"
            mismatched.append(text)
            if may_reinitialise(path):
                reinitialised.append(path)
            else:
                problems.append(text)
        else:
            values[path] = np.array(found[path], leaf.dtype, order="C")
            if not np.isfinite(values[path]).all():
                problems.append(f"{called(path)} holds values that are not finite")
    for path in [path for path in found if path not in leaves]:
        near = _nearest(path, leaves.keys() - found.keys() or leaves.keys())
        problems.append(f"{called(path)} is not in the model{near}")
    if problems:
        more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise WeightsError(f"{source} does not fit the model: {'; '.join(problems[:5])}{more}")
    filled = jax.tree_util.tree_map_with_path(
        lambda keys, leaf: values.get(path_of(keys), leaf), template
    )
    return filled, Fitted(list(values), missing, list(unused), mismatched, reinitialised)


def path_of(keys: Sequence[Any]) -> str:
    """`params/backbone/stem/conv1/kernel` of JAX's key path."""
    return "/".join(key.key for key in keys)


def _nearest(path: str, candidates: Iterable[str]) -> str:
    close = difflib.get_close_matches(path, sorted(candidates), n=1)
    return f" (the nearest is {close[0]})" if close else ""


def _brief(names: Sequence[str]) -> str:
    """All names, or for many of them the number of each kind."""
    if len(names) <= 4:
        return ", ".join(names)
    # head/class_tower of params/head/class_tower/conv0/kernel; layer*.bn*.weight in other names
    kinds = Counter(
        "/".join(name.split("/")[1:3]) if "/" in name else re.sub(r"\d+", "*", name)
        for name in names
    )
    listed = [f"{kind} ({count})" if count > 1 else kind for kind, count in kinds.items()]
    return f"{len(names)}: " + ", ".join(listed[:12]) + (", ..." if len(listed) > 12 else "")
