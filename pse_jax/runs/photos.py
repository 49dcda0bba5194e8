"""Photos given on a command line: which they are, and what a detector finds in each."""

import contextlib
import dataclasses
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from PIL import Image

from pse_jax import progress
from pse_jax.data.transforms import reason
from pse_jax.detections import Detections
from pse_jax.detector import BATCH, Detector, Prepared

CHUNK = 4 * BATCH  # images that are held at once
THREADS = 8


@dataclasses.dataclass(frozen=True)
class Photo:
    """A file that was given, or that lies in a folder that was given."""

    path: Path
    name: str  # below the folder that was given; of a file that was given, its last part


@dataclasses.dataclass(frozen=True)
class Found:
    """What came of a photo: its detections, or why there are none."""

    photo: Photo
    size_hw: tuple[int, int] | None = None  # px of the upright image, as the boxes
    detections: Detections | None = None
    failure: str = ""


@dataclasses.dataclass
class Listing:
    """The photos that some paths lead to, and what was left aside."""

    photos: list[Photo] = dataclasses.field(default_factory=list)
    failures: list[Found] = dataclasses.field(default_factory=list)  # no image can be there
    others: list[str] = dataclasses.field(default_factory=list)  # files that are no images by name
    folders: list[str] = dataclasses.field(default_factory=list)  # that were not looked into


def photos_of(
    paths: Sequence[Path], *, recursive: bool = False, but: Path | None = None
) -> Listing:
    """Every file that is given, and of a folder those whose names end as an image's do, by name.

    Args:
        paths: files and folders. One that is missing, or a folder without images, is a failure.
        recursive: whether the folders in a folder are looked into; links to folders never are.
        but: a folder in which nothing is looked at: where the drawn images go.
    """
    Image.init()
    endings = {end for end, form in Image.registered_extensions().items() if form in Image.OPEN}
    listing = Listing()
    for path in paths:
        if not os.path.isdir(path):  # unlike Path.is_dir, False for a name that is too long
            listing.photos.append(Photo(path, path.name or str(path)))
            continue
        before = len(listing.photos)
        try:
            _walk(path, path, endings, recursive, but, listing)
            why = "this folder holds no images" + " (look below it: --recursive)" * (not recursive)
        except OSError as error:
            why = error.strerror or str(error)
        if len(listing.photos) == before:
            listing.failures.append(Found(Photo(path, str(path)), failure=why))
    listing.photos = list(dict.fromkeys(listing.photos))
    return listing


def _walk(
    top: Path, folder: Path, endings: set[str], recursive: bool, but: Path | None, listing: Listing
) -> None:
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        path = folder / entry.name
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            if recursive and (but is None or path.resolve() != but.resolve()):
                try:
                    _walk(top, path, endings, True, but, listing)
                except OSError as error:
                    why = error.strerror or str(error)
                    listing.failures.append(Found(Photo(path, str(path)), failure=why))
            elif not recursive:
                listing.folders.append(str(path))
        elif path.suffix.lower() in endings:
            listing.photos.append(Photo(path, path.relative_to(top).as_posix()))
        else:
            listing.others.append(str(path))


def detect_photos(
    detector: Detector, photos: Sequence[Photo], thresholds: Mapping[int, float]
) -> Iterator[Found]:
    """What a detector finds in each photo from the threshold of each category id on, in order.

    Some are decoded by threads while those before them go through the network; one that cannot be
    decoded is a `failure`, and the others go on.
    """

    def load(photo: Photo) -> Prepared | str:
        try:
            return detector.prepare(photo.path)
        except Exception as error:  # a hostile file may raise anything
            why = reason(error).removeprefix(f"{photo.path} cannot be read: ")
            return why.removeprefix(f"{photo.path} cannot be decoded: ")

    loaded = progress.ahead(load, photos, THREADS, CHUNK)
    with contextlib.closing(loaded), progress.bar(len(photos), "predict") as bar:
        for start in range(0, len(photos), CHUNK):
            chunk = photos[start : start + CHUNK]
            ones = list(itertools.islice(loaded, len(chunk)))
            found = iter(detector.run(one for one in ones if not isinstance(one, str)))
            for photo, one in zip(chunk, ones, strict=True):
                if isinstance(one, str):
                    yield Found(photo, failure=one)
                else:
                    yield Found(photo, one.original_hw, next(found).above(thresholds))
                bar.update()


def free_names(names: Sequence[str]) -> list[str]:
    """A name for the drawn image of each photo: its own if JPEG or PNG, else with .png after it.

    Two that would be one file, also where letters' case does not matter, are told apart by a
    number: a.jpg, a-2.jpg.
    """
    taken: set[str] = set()
    free = []
    for name in names:
        path = Path(name)
        if path.suffix.lower() not in (".jpg", ".jpeg", ".png"):
            path = path.with_name(path.name + ".png")
        candidate, number = path, 1
        while candidate.as_posix().lower() in taken:
            number += 1
            candidate = path.with_stem(f"{path.stem}-{number}")
        taken.add(candidate.as_posix().lower())
        free.append(candidate.as_posix())
    return free
