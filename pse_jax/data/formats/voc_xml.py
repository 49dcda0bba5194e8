"""One of Pascal VOC's XML files."""

import dataclasses
import math
import xml.etree.ElementTree as ET
from pathlib import Path

from pse_jax.data.rows import shown
from pse_jax.errors import DataError
from pse_jax.files import open_regular, reason

LARGEST_XML = 1 << 24  # bytes
CORNERS = ("xmin", "ymin", "xmax", "ymax")
Corners = tuple[float, float, float, float]


@dataclasses.dataclass(frozen=True)
class Object:
    """One object of an XML file."""

    name: str
    corners: Corners
    difficult: bool


@dataclasses.dataclass(frozen=True)
class Labels:
    """What an XML file says."""

    objects: list[Object]
    wh: tuple[int, int] | None  # None: it gives no size
    filename: str


def read_xml(file: Path) -> Labels:
    """The objects of an XML file.

    Raises:
        DataError: if it is none of VOC's, or an object of it cannot be used.
    """
    try:
        with open_regular(file) as stream:
            content = stream.read(LARGEST_XML + 1)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {reason(error)}") from error
    if len(content) > LARGEST_XML:
        raise DataError(f"{file} has over {LARGEST_XML:,} bytes; no image has so many objects")
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:  # entities can grow without bounds
        raise DataError(f"{file} has a document type or entities; take them out: VOC has none")
    try:
        root = ET.fromstring(content)
    except (ET.ParseError, ValueError, LookupError) as error:
        raise DataError(f"{file} is not valid XML ({error}); was it cut off in a copy?") from error
    if root.tag != "annotation":
        raise DataError(f"{file} is XML, but <{root.tag}>; VOC's files start with <annotation>")
    size = [_whole(root.findtext(f"size/{key}")) for key in ("width", "height")]
    wh = (size[0], size[1]) if size[0] > 0 and size[1] > 0 else None
    objects = [_object(file, k, node) for k, node in enumerate(root.findall("object"))]
    return Labels(objects, wh, (root.findtext("filename") or "").strip())


def _whole(text: str | None) -> int:
    try:
        value = float(text or "")
        return int(value) if value == int(value) else 0
    except (ValueError, OverflowError):
        return 0


def _object(file: Path, index: int, node: ET.Element) -> Object:
    where = f"{file}: object[{index}]"
    name = " ".join((node.findtext("name") or "").split())
    if not name:
        raise DataError(f"{where} has no name; give it one")
    box = node.find("bndbox")
    if box is None:
        has = ", ".join(child.tag for child in node)
        raise DataError(f"{where} ({name}) has no bndbox, only {has}; give it one, or take it out")
    corners = []
    for key in CORNERS:
        text = box.findtext(key)
        try:
            corners.append(float(text or ""))
        except ValueError:
            corners.append(math.nan)
        if not abs(corners[-1]) <= 1e9:
            remedy = "it must be a number of pixels, up to 1e9"
            raise DataError(f"{where} ({name}) has {key} {shown(text)}; {remedy}")
    return Object(name, (*corners,), (node.findtext("difficult") or "").strip() in ("1", "true"))
