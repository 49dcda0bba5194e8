"""From a folder of anybody's to one in COCO's format."""

import dataclasses
import logging
from collections import Counter
from pathlib import Path
from typing import Any

from pse_jax.data.formats import choose, coco_folder, voc, write, yolo
from pse_jax.data.formats.advice import advice
from pse_jax.data.formats.look import Found, look
from pse_jax.data.formats.source import Notes, Options, Source
from pse_jax.errors import DataError

logger = logging.getLogger(__name__)

READERS = {
    "voc": voc.read,
    "yolo": yolo.read,
    "coco": coco_folder.read,
    "roboflow": coco_folder.read,
}


@dataclasses.dataclass(frozen=True)
class Converted:
    """What was written."""

    folder: Path
    found: Found
    images: dict[str, int]  # by split
    boxes: dict[str, int]
    categories: list[str]
    counts: Counter[str]  # what was corrected or left out


def convert(path: Path, destination: Path, options: Options) -> Converted:
    """Reads a data set, and writes it in COCO's format; run again, it goes on from a kill.

    Raises:
        DataError: if it is none that can be converted, or something in it cannot be used.
        WriteError: if it cannot be written.
    """
    found = _regrouped(_found(path), options)
    _require_val(found, options)
    inside = destination.resolve()
    if inside == found.path.resolve() or inside in found.path.resolve().parents:
        raise DataError(f"{destination} is or holds the source; give a folder of its own")
    record = {
        "source": str(found.path.resolve()),
        "kind": found.kind,
        **dataclasses.asdict(options),
    }
    partial = write.prepare(destination, record)
    source, counts = _read(found, options)
    write.write(source, partial, destination, link=options.images == "link")
    boxes = {
        split: sum(len(example.annotations) for example in them)
        for split, them in source.splits.items()
    }
    images = {split: len(them) for split, them in source.splits.items()}
    names = [row["name"] for row in source.categories]
    return Converted(destination, found, images, boxes, names, counts)


def _found(path: Path) -> Found:
    if not path.exists():
        raise DataError(f"there is nothing at {path}; check the path")
    found = look(path)
    if found.kind not in READERS:
        raise DataError(f"{path} is {found.what}; {found.remedy}")
    logger.info("%s is %s", found.path, found.what)
    return found


def _regrouped(found: Found, options: Options) -> Found:
    """The same with its splits put together as was asked for."""
    if options.splits is None:
        return found
    for name, sources in options.splits.items():
        for source in sources:
            if source not in found.parts:
                asked, there = f"{name}={'+'.join(sources)}", ", ".join(found.parts)
                raise DataError(f"--splits {asked}: {found.path} has no {source}, only {there}")
    parts = {
        name: tuple(part for source in sources for part in found.parts[source])
        for name, sources in options.splits.items()
    }
    return dataclasses.replace(found, parts=parts)


def _require_val(found: Found, options: Options) -> None:
    """A detector cannot be judged without a val split: says so before hours of copying."""
    if "val" in found.parts and options.val_share:
        raise DataError(f"{found.path} has a val split of its own; leave out --val-share")
    if "val" not in found.parts and options.val_share is None:
        raise DataError(
            f"{found.path} is {found.what}: there is no val split to evaluate on; take a fifth of "
            "the images of train for it with --val-share=0.2, or go without with --val-share=0"
        )
    if "train" not in found.parts and options.val_share:
        raise DataError(f"{found.path} has no train split that --val-share could divide")


def _read(found: Found, options: Options) -> tuple[Source, Counter[str]]:
    notes = Notes(found.path, options)
    source = READERS[found.kind](found, options, notes)
    notes.finish()
    if not any(source.splits.values()):
        raise DataError(f"{found.path}: no image is left to convert; {advice(found)}")
    if options.val_share:
        source = choose.with_val(source, options.val_share, options.seed)
    _note_shared(source, notes)
    notes.problems.report()
    return source, notes.problems.counts


def _note_shared(source: Source, notes: Notes) -> None:
    """Images that are in two splits: what is learnt by heart is then judged."""
    first: dict[Any, str] = {}
    for split, them in source.splits.items():
        for example in them:
            before = first.setdefault(example.file, split)
            if before != split:
                notes.add(f"image in both {before} and {split}, kept in both", example.name)
