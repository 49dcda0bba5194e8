"""YOLO: a text file an image, a line an object: its class, and shares of the image's sides.

An image without a label file has nothing on it. `yolo_labels.py` reads one file.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from pse_jax import progress
from pse_jax.data.formats import files
from pse_jax.data.formats.layouts import Found
from pse_jax.data.formats.parts import Part
from pse_jax.data.formats.source import (
    THREADS,
    Example,
    Notes,
    Options,
    Source,
    images_below,
    stored_size,
    upright_hw,
)
from pse_jax.data.formats.yolo_labels import read_labels
from pse_jax.data.formats.yolo_layout import read_yaml
from pse_jax.data.rows import shown
from pse_jax.errors import DataError, ImageError
from pse_jax.files import is_regular, read_regular, reason


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
    examples = progress.each(one, items, "read", THREADS)
    for item, (example, remarks, broken) in zip(items, examples, strict=True):
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
    if not isinstance(names, list | dict):
        raise DataError(f"{file}: names is {shown(names)}; it must be a list of names")
    pairs = dict(names if isinstance(names, dict) else enumerate(names))
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
