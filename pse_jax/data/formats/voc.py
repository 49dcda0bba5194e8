"""Pascal VOC: an XML file an image, the splits in ImageSets/Main (the VOC2012 development kit).

Corners: VOC counts pixels from 1 and its corners are pixels that belong to the object, so the box
[xmin, ymin, xmax, ymax] is xmin - 1, ymin - 1, xmax, ymax with exclusive edges. Other tools write
VOC's layout with corners from 0; a corner under 1 anywhere shows it, and holds for the whole set.

Difficult objects: VOC trains on them or not as one likes, and in its evaluation finding or missing
one counts for nothing. That is "voc": an ordinary object in train, iscrowd=1 in val and test.
"""

import dataclasses
import logging
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
    annotation,
    stored_size,
    upright_hw,
)
from pse_jax.data.formats.voc_xml import Labels, Object, read_xml
from pse_jax.data.rows import shown
from pse_jax.errors import DataError, ImageError
from pse_jax.files import open_regular

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Item:
    """One image of a split before it is read."""

    split: str
    xml: Path
    images: dict[str, list[str]]  # file names in `folder` by their stem
    folder: Path


def read(found: Found, options: Options, notes: Notes) -> Source:
    """The whole data set.

    Raises:
        DataError: for an XML file that cannot be used, naming it and the object.
    """
    items = [
        item
        for split, parts in found.parts.items()
        for part in parts
        for item in _items(split, part, notes)
    ]
    read = list(progress.each(lambda item: _read(item, options.exif), items, "read", THREADS))
    one_based = _one_based(items, read, options.corners)
    splits: dict[str, list[Example]] = {split: [] for split in found.parts}
    labels_of: list[tuple[str, Example, Labels]] = []
    for item, (labels, example, problems) in zip(items, read, strict=True):
        for broken, kind, text in problems:
            (notes.breaks if broken else notes.add)(kind, text)
        if example:
            splits[item.split].append(example)
            labels_of.append((item.split, example, labels))
    names = sorted({o.name for _, _, labels in labels_of for o in labels.objects})
    ids = {name: k for k, name in enumerate(names, 1)}
    for split, example, labels in labels_of:
        for o in labels.objects:
            row = _annotation(ids[o.name], o, one_based, notes, example)
            if o.difficult and (options.difficult == "drop"):
                notes.add("difficult object, left out", example.name)
                continue
            if o.difficult:
                row["difficult"] = 1
                voc = options.difficult == "voc" and split != "train"
                row["iscrowd"] = int(voc or options.difficult == "crowd")
            example.annotations.append(row)
    categories = [{"id": k, "name": name, "supercategory": "none"} for name, k in ids.items()]
    return Source(categories, {split: them for split, them in splits.items() if them})


def _annotation(category: int, o: Object, one_based: bool, notes: Notes, example: Example) -> dict:
    x1, y1, x2, y2 = o.corners
    if x1 > x2 or y1 > y2:
        notes.add(
            "box with its corners in the wrong order, put right", f"{example.name} {o.corners}"
        )
        x1, x2, y1, y2 = min(x1, x2), max(x1, x2), min(y1, y2), max(y1, y2)
    first = 1 if one_based else 0
    return annotation(category, x1 - first, y1 - first, x2, y2)


def _items(split: str, part: Part, notes: Notes) -> Iterator[Item]:
    """The images of one part of a split."""
    by_stem: dict[str, list[str]] = {}
    for name in files.names_in(part.images):
        if files.is_image(name):
            by_stem.setdefault(Path(name).stem, []).append(name)
    there = {Path(n).stem for n in files.names_in(part.labels) if n.lower().endswith(".xml")}
    if part.listing is None:
        stems = sorted(there)
        for stem in sorted(by_stem.keys() - there):
            notes.add("image without an XML file, left out", by_stem[stem][0])
    else:
        stems = list(_listed(part.listing, there | by_stem.keys(), notes))
        lacking = [stem for stem in stems if stem not in there]
        if lacking and len(lacking) == len(stems) and split == "test":
            notes.add("list of images without any XML file, left out", part.listing.name)
            return
        for stem in lacking:
            notes.breaks("image listed without an XML file", f"{stem} in {part.listing.name}")
        stems = [stem for stem in stems if stem in there]
    yield from (Item(split, part.labels / f"{s}.xml", by_stem, part.images) for s in stems)


def _listed(file: Path, known: set[str], notes: Notes) -> Iterator[str]:
    """The images of a list; a line may also have the 1, 0 or -1 of a list of one class."""
    seen = set()
    try:
        with open_regular(file) as stream:
            lines = stream.read().decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read ({error}); it lists images, one a line") from error
    for line in filter(None, map(str.strip, lines)):
        stem = line if line in known else line.split()[0]
        stem = Path(stem).stem if stem not in known and files.is_image(stem) else stem
        if stem in seen:
            notes.add("image listed twice, taken once", f"{stem} in {file.name}")
        else:
            seen.add(stem)
            yield stem


Problem = tuple[bool, str, str]  # whether it is an error, its kind, an example


def _read(item: Item, exif: str) -> tuple[Labels, Example | None, list[Problem]]:
    """One XML file and the header of its image."""
    labels, problems = read_xml(item.xml), []
    names = item.images.get(item.xml.stem, [])
    given = Path(labels.filename.replace("\\", "/")).name
    if len(names) > 1 and given in names:
        names = [given]
    if not names and given in item.images.get(Path(given).stem, []):
        names = [given]
        problems.append(
            (False, "image found by its filename in the XML", f"{given}, {item.xml.name}")
        )
    if len(names) != 1:
        why = (
            f"XML file with {len(names)} images of its name"
            if names
            else "XML file without its image"
        )
        return labels, None, [(True, why, item.xml.name)]
    file = item.folder / names[0]
    try:
        wh, orientation = stored_size(file)
    except ImageError as error:
        return labels, None, [(True, "image that cannot be read", str(error))]
    hw = upright_hw(wh, orientation, exif)
    turned = (wh[1], wh[0]) if orientation >= 5 else wh
    if labels.wh and labels.wh in (wh, turned):
        hw = (labels.wh[1], labels.wh[0])
    else:
        said = "x".join(map(str, labels.wh)) if labels.wh else "none"
        example = f"{item.xml.name}: {said}, the image has {hw[1]}x{hw[0]}"
        problems.append(
            (False, "size in the XML that is not the image's, the image's taken", example)
        )
    return labels, Example(file, names[0], hw, []), problems


def _one_based(items: list[Item], read: list, corners: str) -> bool:
    """Whether corners count from 1; says so where the data tell otherwise."""
    low = [
        f"{item.xml.name} has {shown(list(o.corners))}"
        for item, (labels, _, _) in zip(items, read, strict=True)
        for o in labels.objects
        if min(o.corners) < 1
    ]
    if not low or corners == "zero-based":
        return corners != "zero-based"
    if corners == "one-based":
        logger.warning(
            "%s boxes have a corner under 1, though corners are to count from 1: %s",
            f"{len(low):,}",
            low[0],
        )
        return True
    logger.warning(
        "corners are read as counting from 0, unlike Pascal VOC's own: %s boxes have a corner "
        "under 1 (%s); --voc-corners=one-based overrules this",
        f"{len(low):,}",
        low[0],
    )
    return False
