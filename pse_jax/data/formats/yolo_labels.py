"""One of YOLO's label files.

Five numbers are a class and a box's centre and size; more are a polygon, or a box and key points,
of which the surrounding box is taken.
"""

import math
from pathlib import Path

from pse_jax.data.formats.source import annotation
from pse_jax.data.rows import shown
from pse_jax.errors import DataError
from pse_jax.files import is_regular, read_regular, reason

BEYOND = 0.01  # how far a share may leave 0..1: rounding, and objects that stick out of the image
POLYGON = "polygon, its surrounding box taken"
KEY_POINTS = "key points, only the box taken"


def read_labels(
    file: Path, names: dict[int, str], size_hw: tuple[int, int], key_points: bool = False
) -> tuple[list[dict], list[tuple[str, str]]]:
    """COCO's annotations of one image, and remarks (kind, example); none if there is no file.

    Raises:
        DataError: for a line that cannot be used.
    """
    rows, remarks = [], []
    if not is_regular(file):
        return rows, remarks
    height, width = size_hw
    for index, line in enumerate(read_text(file).splitlines(), 1):
        if not line.strip():
            continue
        number, values = _parse(f"{file}, line {index}", line, names, key_points)
        if len(values) == 4 or key_points:
            cx, cy, w, h = values[:4]
            x1, y1, x2, y2 = cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2
        else:
            xs, ys = values[::2], values[1::2]
            x1, y1, x2, y2 = min(xs), min(ys), max(xs), max(ys)
        if len(values) > 4:
            remarks.append((KEY_POINTS if key_points else POLYGON, f"{file.name}, line {index}"))
        rows.append(annotation(number + 1, x1 * width, y1 * height, x2 * width, y2 * height))
    return rows, remarks


def read_text(file: Path) -> str:
    """A label file.

    Raises:
        DataError: if it cannot be read or is no text.
    """
    try:
        return read_regular(file).decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{file} cannot be read: {reason(error)}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is no text ({error}); is it YOLO's?") from error


def _parse(
    where: str, line: str, names: dict[int, str], key_points: bool
) -> tuple[int, list[float]]:
    """The class and the other numbers of a line."""
    try:
        values = [float(word) for word in line.split()]
    except ValueError:
        raise DataError(f"{where} is {shown(line)}; it must be numbers only") from None
    if not all(map(math.isfinite, values)):
        raise DataError(f"{where} is {shown(line)}; its numbers must be finite")
    if values[0] not in names:
        known = f"0 to {max(names)}" if len(names) == max(names) + 1 else str([*names])
        raise DataError(
            f"{where} has the class {line.split()[0]}, and there are names for {known}; correct "
            "the line or add the name"
        )
    shares = values[1:]
    if len(shares) == 5 and not key_points:
        raise DataError(
            f"{where} has 6 numbers; are these detections, with a confidence at the end? Labels "
            "have a class and 4 numbers, or a class and the corners of a polygon"
        )
    if len(shares) < 4 or (len(shares) % 2 and not key_points):
        remedy = "a class and 4 numbers, or a class and the corners of a polygon"
        raise DataError(f"{where} has {len(values)} numbers; it must be {remedy}")
    _check_shares(where, shares[:4] if key_points else shares)
    return int(values[0]), shares


def _check_shares(where: str, shares: list[float]) -> None:
    wrong = next((v for v in shares if not -BEYOND <= v <= 1 + BEYOND), None)
    if wrong is not None:
        raise DataError(
            f"{where} has {wrong:g}; coordinates are shares of the image's width and height, from "
            "0 to 1 (are these pixels?)"
        )
    if len(shares) == 4 and min(shares[2:]) < 0:
        raise DataError(f"{where} has a negative width or height; correct it")
