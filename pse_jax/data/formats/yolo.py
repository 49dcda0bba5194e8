"""YOLO: a text file an image, a line an object: its class, and shares of the image's sides.

Five numbers are a class and a box's centre and size; more are a polygon, or a box and key points,
of which the surrounding box is taken. An image without a label file has nothing on it.
"""

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

from pse_jax.data.formats import files
from pse_jax.data.formats.look import Found
from pse_jax.data.formats.parts import Part
from pse_jax.data.formats.source import (
    Example,
    Notes,
    Options,
    Source,
    annotation,
    each,
    images_below,
    stored_size,
    upright_hw,
)
from pse_jax.data.formats.yolo_layout import read_yaml
from pse_jax.data.rows import shown
from pse_jax.errors import DataError, ImageError
from pse_jax.files import is_regular, read_regular, reason

BEYOND = 0.01  # how far a share may leave 0..1: rounding, and objects that stick out of the image
POLYGON = "polygon, its surrounding box taken"
KEY_POINTS = "key points, only the box taken"


@dataclasses.dataclass(frozen=True)
class Item:
    """One image of a split before it is read."""

    split: str
    image: Path
    name: str
    labels: Path


def read(found: Found, options: Options, notes: Notes) -> Source:
    """The whole data set.

    Raises:
        DataError: for class names or a line that cannot be used, naming the file and the line.
    """
    names, key_points = class_names(found)
    items = [
        item
        for split, parts in found.parts.items()
        for part in parts
        for item in _items(split, part, notes)
    ]
    if not any(is_regular(item.labels) for item in items):
        raise DataError(
            f"{found.path}: none of the {len(items):,} images has a label file; the first would be "
            f"{items[0].labels if items else 'labels/NAME.txt'}"
        )

    def one(item: Item) -> tuple[Example | None, list[tuple[str, str]], str]:
        try:
            wh, orientation = stored_size(item.image)
        except ImageError as error:
            return None, [], str(error)
        hw = upright_hw(wh, orientation, options.exif)
        rows, remarks = read_labels(item.labels, names, hw, key_points)
        return Example(item.image, item.name, hw, rows), remarks, ""

    splits: dict[str, list[Example]] = {split: [] for split in found.parts}
    for item, (example, remarks, broken) in zip(items, each(one, items, "read"), strict=True):
        if broken:
            notes.breaks("image that cannot be read", broken)
        for kind, text in remarks:
            notes.add(kind, text)
        if example:
            splits[item.split].append(example)
    categories = [{"id": k + 1, "name": n, "supercategory": "none"} for k, n in names.items()]
    return Source(categories, {split: them for split, them in splits.items() if them})


def class_names(found: Found) -> tuple[dict[int, str], bool]:
    """The names of the classes by their number, and whether labels have key points.

    Raises:
        DataError: if there are none, or they are no names.
    """
    file = found.names
    if file is None:
        raise DataError(
            f"{found.path} says nowhere what its classes are called; write {found.path}/data.yaml "
            "with a line such as `names: [cat, dog]`, in the order of the numbers in the labels"
        )
    if file.suffix.lower() in (".yaml", ".yml"):
        content = read_yaml(file)
        names = content.get("names")
        if isinstance(names, str):
            names = _lines(file.parent / names)
    else:
        content, names = {}, _lines(file)
    pairs = dict(names if isinstance(names, dict) else enumerate(names or []))
    for number, name in pairs.items():
        if type(number) is not int or number < 0 or not isinstance(name, str | int | float):
            raise DataError(
                f"{file}: names has {shown(number)}: {shown(name)}; it must be a list of names, or "
                "whole numbers with a name each"
            )
    if not pairs:
        raise DataError(f"{file} has no names; add a line such as `names: [cat, dog]`")
    return {number: str(name) for number, name in sorted(pairs.items())}, "kpt_shape" in content


def _lines(file: Path) -> list[str]:
    """The lines of a text file that are not empty, without blanks around them."""
    try:
        lines = read_regular(file).decode("utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(f"{file} cannot be read: {reason(error)}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is no text ({error})") from error
    return [line.strip() for line in lines if line.strip()]


def _items(split: str, part: Part, notes: Notes) -> Iterator[Item]:
    """The images of one part of a split, and where their labels are."""
    if part.listing:
        for line in _lines(part.listing):
            image = _listed(part, line)
            if image:
                yield Item(split, image, image.name, _labels_of(image))
            else:
                notes.breaks("image listed but not there", f"{line} in {part.listing.name}")
        return
    used = set()
    for image in images_below(part.images, files.is_image):
        name = image.relative_to(part.images).as_posix()
        labels = (part.labels / name).with_suffix(".txt")
        used.add(labels.name)
        if not is_regular(labels):
            notes.add("image without a label file, taken as empty", f"{split}: {name}")
        yield Item(split, image, name, labels)
    for other in files.names_in(part.labels):
        file = part.labels / other
        if file.suffix == ".txt" and other not in used and files.kind(file) == "YOLO labels":
            notes.breaks("label file without an image", f"{split}: {other}")


def _listed(part: Part, line: str) -> Path | None:
    """The image that a line of a list names, also if it was written on another machine."""
    assert part.listing is not None
    tried = Path(line.replace("\\", "/"))
    places = [part.images / tried, part.listing.parent / tried]
    places += [part.images.joinpath(*tried.parts[k:]) for k in range(1, len(tried.parts))]
    return next((place for place in places if is_regular(place)), None)


def _labels_of(image: Path) -> Path:
    """The last `images` of a path becomes `labels`, as Ultralytics do; else beside the image."""
    parts = list(image.parts)
    for k in reversed(range(len(parts) - 1)):
        if parts[k] == "images":
            labels = Path(*parts[:k], "labels", *parts[k + 1 :]).with_suffix(".txt")
            return labels
    return image.with_suffix(".txt")


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
