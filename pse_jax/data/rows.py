"""Rows of COCO's JSON files, checked a column at a time.

Every message names the file, the row, its id and value, and the remedy. These are the only rules:
what is trained on, scored against and analysed is read by them.
"""

import json
import logging
import os
import reprlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from jaxtyping import Bool, Float, Int

from pse_jax import addresses
from pse_jax.data.formats.advice import explained
from pse_jax.errors import DataError, UserError

logger = logging.getLogger(__name__)

EXAMPLES_SHOWN = 3  # of each kind of problem in the log
REQUIRED = object()
IDS = range(-(2**63), 2**63)  # int64, as NumPy and pycocotools hold them
SIDE = 2**24  # px, the longest side of an image
FARTHEST = 1e9  # px, the largest number of a box
LARGEST = FARTHEST**2  # px², the largest area
HIGHEST = 1e30  # the largest score: its fourth power is finite
LONGEST = 4096  # characters of a name, as many as a path may have
BBOX = (
    "a bbox is [x, y, width, height] in pixels: finite numbers up to 1e9, width and height not "
    "negative"
)


def read_json(value: Any, what: str) -> tuple[str, Any]:
    """A name for messages and the content of a JSON file, or of what is in memory already.

    Raises:
        DataError: if the file is missing, unreadable, no regular file or not JSON, or if an object
            in it has a key twice.
    """
    if not isinstance(value, str | os.PathLike):
        return f"<{what} in memory>", value
    file = addresses.place(value)
    try:
        return str(file), json.loads(addresses.read(file), object_pairs_hook=_object)
    except FileNotFoundError:
        raise DataError(f"no {what} at {file}; check the path") from None
    except OSError as error:
        said = explained(file, f"{what} in a JSON file") if file.is_dir() else ""
        raise DataError(said or f"{file} cannot be read: {error.strerror}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:  # not JSON, or not even text
        said = explained(file, f"{what} in a JSON file")
        cut = f"{file} is not valid JSON ({error}); was it cut off in a copy?"
        raise DataError(said or cut) from error
    except ValueError as error:  # a repeated key, or an integer of thousands of digits
        raise DataError(f"{file} cannot be used: {str(error).split(';')[0]}") from error
    except RecursionError:
        raise DataError(f"{file} is nested too deeply; is it the right file?") from None
    except MemoryError:
        raise DataError(f"{file} does not fit into this machine's memory") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; of a key that comes twice, the first value would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        key = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"an object has the key {shown(key)} twice, which loses a value")
    return found


class Rows:
    """A list of JSON objects, by column.

    Args:
        rows: the list as it was read.
        source: the file, for messages.
        part: what the list is called in it.
        error: raised for whatever is wrong.

    Raises:
        UserError: of the type `error`, here and in every method.
    """

    def __init__(
        self, rows: Any, source: str, part: str, error: type[UserError] = DataError
    ) -> None:
        self.rows, self.source, self.part, self.error = rows, source, part, error
        if not isinstance(rows, Sequence) or isinstance(rows, str):
            raise error(f"{source}: {part} is {shown(rows)}; it must be a list")
        for index, row in enumerate(rows):
            if not isinstance(row, Mapping):
                raise error(f"{source}: {part}[{index}] is {shown(row)}, not an object {{...}}")

    def name(self, index: int) -> str:
        """`annotations[2] (id 3)`."""
        identity = self.rows[index].get("id")
        return f"{self.part}[{index}]" + (
            f" (id {shown(identity)})" if identity is not None else ""
        )

    def fail(self, index: int, problem: str, remedy: str) -> NoReturn:
        """Raises for one row."""
        raise self.error(f"{self.source}: {self.name(index)} {problem}; {remedy}")

    def column(self, key: str, default: Any = REQUIRED) -> list[Any]:
        """The value of every row; one without it is an error unless there is a default."""
        if default is REQUIRED:
            for index, row in enumerate(self.rows):
                if key not in row:
                    self.fail(index, f"has no {key!r}, only {shown([*row])}", f"add its {key!r}")
        return [row.get(key, default) for row in self.rows]

    def ids(self) -> list[int]:
        """Unique whole numbers under "id", of 64 bits."""
        if not self.rows:
            raise self.error(f"{self.source} lists no {self.part}; is this the right file?")
        first: dict[int, int] = {}
        for index, value in enumerate(self.column("id")):
            if not _is_whole(value):
                self.fail(index, "has an id that is not a whole number", "renumber the ids")
            if value not in IDS:
                self.fail(index, "has an id of more than 64 bits", "renumber the ids")
            if value in first:
                self.fail(index, f"has the id of {self.part}[{first[value]}]", "make ids unique")
            first[value] = index
        return list(first)

    def texts(self, key: str, remedy: str, *, optional: bool = False) -> list[str]:
        """Non-empty text under a key; "" for a row without the key, if it is optional."""
        values = self.column(key, "") if optional else self.column(key)
        for index, value in enumerate(values):
            if key not in self.rows[index]:
                continue
            if not isinstance(value, str) or not value:
                self.fail(index, f"has {key} {shown(value)}", remedy)
            if len(value) > LONGEST:
                what = f"has a {key} of {len(value):,} characters, {shown(value)}"
                self.fail(index, what, f"at most {LONGEST:,} can be used")
            if "\0" in value or not (value.isascii() or _is_unicode(value)):
                what = f"has {key} {shown(value)} with a NUL or half a surrogate pair"
                self.fail(index, what, "take it out; names are valid Unicode")
        return values

    def positions(self, key: str, ids: Sequence[int], remedy: str) -> Int[np.ndarray, " n"]:
        """The position of every value in `ids`."""
        position = {value: index for index, value in enumerate(ids)}
        values = self.column(key)
        try:
            found = [position[value] for value in values]
        except (KeyError, TypeError):  # an unknown value, or one that cannot be a key
            found = []
        if len(found) < len(values) or not all(map(_is_whole, values)):
            for index, value in enumerate(values):
                if not _is_whole(value) or value not in position:
                    known = f"{key} must be one of {some(ids)}"
                    self.fail(index, f"has {key} {shown(value)}", f"{known}: {remedy}")
        return np.array(found, np.int64)

    def numbers(
        self, key: str, remedy: str, low: float, high: float, *, optional: bool = False
    ) -> Float[np.ndarray, " n"]:
        """Numbers from `low` to `high`; NaN for a row without the key, if it is optional."""
        values: list[Any] = self.column(key, None) if optional else self.column(key)
        out = np.full(len(values), np.nan)
        for index, value in enumerate(values):
            if key in self.rows[index]:
                if not _is_number(value) or not low <= value <= high:  # NaN is neither
                    self.fail(index, f"has {key} {shown(value)}", remedy)
                out[index] = value
        return out

    def boxes(self) -> Float[np.ndarray, "n 4"]:
        """Every row's bbox, xywh."""
        values = self.column("bbox")
        plain = all(isinstance(box, list | tuple) and len(box) == 4 for box in values)
        kinds = {type(value) for box in values for value in box} if plain else {str}
        if not all(_is_number_type(kind) for kind in kinds):
            for index, box in enumerate(values):
                four = isinstance(box, list | tuple) and len(box) == 4
                if not four or not all(map(_is_number, box)):
                    self.fail(index, f"has bbox {shown(box)}", BBOX)
        try:
            boxes = np.array(values, np.float64).reshape(-1, 4)
        except OverflowError:  # an integer beyond float64
            values_cut = [[max(-1e300, min(value, 1e300)) for value in box] for box in values]
            boxes = np.array(values_cut, np.float64)
        near = (np.abs(boxes) <= FARTHEST).all(axis=1)
        for index in np.flatnonzero(~near | (boxes[:, 2:] < 0).any(axis=1))[:1]:
            corners = " (are these two corners, xyxy?)" if (boxes[index, 2:] < 0).any() else ""
            self.fail(int(index), f"has bbox {shown(values[index])}", BBOX + corners)
        return boxes

    def flags(self, key: str) -> Bool[np.ndarray, " n"]:
        """0 or 1; absent is 0."""
        values = self.column(key, 0)
        for index, value in enumerate(values):
            if not isinstance(value, int) or value not in (0, 1):
                self.fail(index, f"has {key} {shown(value)}", "it must be 0 or 1")
        return np.array(values, bool)


def some(values: Sequence[int]) -> str:
    """The first and last of many."""
    shown = [str(value) for value in values]
    return ", ".join(shown if len(shown) <= 12 else [*shown[:6], "...", *shown[-2:]])


def _is_number_type(kind: type) -> bool:
    return issubclass(kind, int | float | np.integer | np.floating) and kind is not bool


def _is_number(value: Any) -> bool:
    return _is_number_type(type(value))


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxtuple, _SHORT.maxdict = 3, 8, 8, 8
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60


def shown(value: Any) -> str:
    """A value as messages show it, however long, deep or odd it is."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # an integer of thousands of digits
        return f"a number of about {value.bit_length() * 3 // 10:,} digits"


class Problems:
    """Counts what was corrected or left out, keeps a few examples, and logs them at the end."""

    def __init__(self, source: str | os.PathLike):
        self.source, self.counts, self.examples = source, Counter(), {}

    def add(self, kind: str, example: str) -> None:
        """One more of this kind."""
        self.counts[kind] += 1
        shown = self.examples.setdefault(kind, [])
        if len(shown) < EXAMPLES_SHOWN:
            shown.append(example)

    def report(self) -> None:
        """Logs one line per kind."""
        for kind, count in self.counts.items():
            shown = "; ".join(self.examples[kind]) + ("; ..." if count > EXAMPLES_SHOWN else "")
            logger.warning("%s: %d x %s (%s)", self.source, count, kind, shown)
