"""What every reader of a layout gives: images with their size and objects, by split."""

import dataclasses
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from pse_jax.data.rows import EXAMPLES_SHOWN, Problems
from pse_jax.data.transforms import orientation_of
from pse_jax.errors import DataError, ImageError
from pse_jax.files import open_regular, reason

THREADS = 8  # that read headers and copy files
Side = int | float  # px
SKIP = "--skip-broken"


@dataclasses.dataclass(frozen=True)
class Options:
    """How a conversion decides what a layout leaves open."""

    difficult: Literal["voc", "keep", "crowd", "drop"] = "voc"  # VOC's hard objects: voc.py
    corners: Literal["auto", "one-based", "zero-based"] = "auto"  # of VOC's boxes: voc.py
    exif: str = "apply"  # as config.data.exif: in which orientation YOLO's shares were drawn
    skip_broken: bool = False  # leave out what is missing or cannot be read, instead of an error
    val_share: float | None = (
        None  # of the images of train that become val; None: a fifth, if there is none
    )
    seed: int = 0  # of that choice
    # what each split is made of, {"train": ("train", "val"), "val": ("test",)}; None: as it is
    splits: dict[str, tuple[str, ...]] | None = None
    images: Literal["copy", "link"] = "copy"  # link: symbolic links to the source


@dataclasses.dataclass
class Example:
    """One image and what is on it."""

    file: Path
    name: str  # its path below the folder of its split, with slashes
    size_hw: tuple[int, int]  # px, in the orientation in which it was annotated
    annotations: list[dict[str, Any]]  # COCO's, without id and image_id
    id: int | None = None  # the source's own


@dataclasses.dataclass
class Source:
    """A data set as it was read; nothing is written yet."""

    categories: list[dict[str, Any]]  # COCO's
    splits: dict[str, list[Example]]


class Notes:
    """What was corrected or left out of a data set, and what is broken in it."""

    def __init__(self, path: Path, options: Options):
        self.path, self.options = path, options
        self.problems = Problems(path)
        self.broken = Problems(path)

    def add(self, kind: str, example: str) -> None:
        """Counts what was corrected, or left out without harm."""
        self.problems.add(kind, example)

    def breaks(self, kind: str, example: str) -> None:
        """Counts what is an error unless `skip_broken` leaves it out."""
        (self.problems if self.options.skip_broken else self.broken).add(kind, example)

    def finish(self) -> None:
        """Raises DataError if anything is broken."""
        if self.broken.counts:
            kinds = "; ".join(
                f"{count:,} x {kind} ({', '.join(self.broken.examples[kind])}"
                + (", ...)" if count > EXAMPLES_SHOWN else ")")
                for kind, count in self.broken.counts.items()
            )
            raise DataError(
                f"{self.path}: {kinds}; repair them, or leave them out with {SKIP}, which counts "
                "them"
            )


def stored_size(file: Path) -> tuple[tuple[int, int], int]:
    """Width and height of an image as stored, by its header, and its EXIF orientation.

    Raises:
        ImageError: if it cannot be read or is no image.
    """
    try:
        with open_regular(file) as stream, Image.open(stream) as image:
            return image.size, orientation_of(image)
    except OSError as error:
        why = reason(error) if error.errno else "it is not an image that can be read"
        raise ImageError(f"{file}: {why}") from error
    except Exception as error:  # Pillow raises many kinds for broken files
        raise ImageError(f"{file}: {error}") from error


def upright_hw(wh: tuple[int, int], orientation: int, exif: str) -> tuple[int, int]:
    """Height and width of an image as people see it; as stored if `exif` is "ignore"."""
    width, height = wh
    turned = orientation >= 5 and exif == "apply"
    return (width, height) if turned else (height, width)


def number(value: Side) -> Side:
    """Whole, or rounded to 0.01 px."""
    rounded = round(float(value), 2)
    return int(rounded) if rounded.is_integer() else rounded


def annotation(category: Any, left: Side, top: Side, right: Side, bottom: Side) -> dict[str, Any]:
    """One of COCO's, of exclusive corners in px."""
    left, top, right, bottom = map(number, (left, top, right, bottom))
    width, height = number(right - left), number(bottom - top)
    return {
        "category_id": category,
        "bbox": [left, top, width, height],
        "area": number(width * height),
        "iscrowd": 0,
    }


def images_below(folder: Path, is_image: Callable[[str], bool]) -> Iterable[Path]:
    """Every image in a folder and in those in it, in order."""
    for where, inner, names in os.walk(folder, followlinks=True):
        inner.sort()
        yield from (Path(where, name) for name in sorted(names) if is_image(name))
