"""Writes a data set in COCO's format, whole or not at all.

It is written beside its place, as .NAME.unfinished, and takes its name when all of it is there: a
conversion that was interrupted, even by SIGKILL or a full disk, continues when it is started again.
"""

import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pse_jax import progress
from pse_jax.data.formats.parts import SPLITS
from pse_jax.data.formats.source import THREADS, Example, Source
from pse_jax.errors import DataError, WriteError
from pse_jax.files import make_folder, reason, write_whole

logger = logging.getLogger(__name__)

RECORD = "conversion.json"  # where the data set came from


def unfinished(destination: Path) -> Path:
    """Where a data set is written before it is whole."""
    return destination.with_name(f".{destination.name}.unfinished")


def prepare(destination: Path, record: dict[str, Any]) -> Path:
    """The folder to write into: a new one, or that of the same conversion that was interrupted.

    Raises:
        DataError: if there is something else at the destination already.
        WriteError: if nothing can be written there.
    """
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        same = "" if _record(destination) != record else ", by this very conversion"
        raise DataError(
            f"{destination} is there already{same}; give another folder, or remove it first"
        )
    partial = unfinished(destination)
    if partial.exists():
        before = _record(partial)
        if before == record:
            logger.info("%s: continuing an interrupted conversion", partial)
            return partial
        if before is None and any(partial.iterdir()):
            raise DataError(f"{partial} is not of a conversion; move it away")
        logger.info("%s: left of a conversion of another source or kind, removed", partial)
        shutil.rmtree(partial)
    make_folder(partial, "the folder of the new data set")
    write_whole(partial / RECORD, json.dumps(record, indent=1), "where the data set came from")
    return partial


def _record(folder: Path) -> Any:
    try:
        return json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def write(source: Source, partial: Path, destination: Path, *, link: bool) -> None:
    """Writes images, then annotations, and gives the folder its name.

    Raises:
        WriteError: if the disk is full or not writable; the same command continues from here.
        DataError: if an image of the source is gone meanwhile.
    """
    named = {s: _names(source.splits[s]) for s in SPLITS if s in source.splits}
    jobs = [
        (example.file, partial / split / name)
        for split, them in named.items()
        for name, example in them.items()
    ]
    try:
        for folder in {target.parent for _, target in jobs} | {partial / "annotations"}:
            folder.mkdir(parents=True, exist_ok=True)
        doing = "link" if link else "copy"
        for _ in progress.each(lambda job: _place(*job, link), jobs, doing, THREADS):
            pass
        _remove_others(partial, {target for _, target in jobs} | {partial / RECORD})
        for split, content in _contents(source, named):
            file = partial / "annotations" / f"instances_{split}.json"
            write_whole(file, json.dumps(content), f"the annotations of {split}")
        os.sync()  # the images last before the folder's name says that they do
        if destination.is_dir():
            destination.rmdir()
        partial.rename(destination)
    except OSError as error:
        raise WriteError(
            f"{destination}: cannot write the data set: {reason(error)}. Make room or the folder "
            "writable; the same command then continues from here"
        ) from error


def _names(examples: list[Example]) -> dict[str, Example]:
    """The images of a split under names of their own, in order; cases of letters do not differ."""
    taken: set[str] = set()
    named = {}
    for example in sorted(examples, key=lambda e: (e.name, str(e.file))):
        name, k = example.name, 1
        while name.lower() in taken:
            k += 1
            stem, suffix = os.path.splitext(example.name)
            name = f"{stem}_{k}{suffix}"
        taken.add(name.lower())
        named[name] = example
    return named


def _place(file: Path, target: Path, link: bool) -> None:
    """Copies an image, or links to it, unless that is done already."""
    try:
        wanted = file.stat()
    except OSError as error:
        raise DataError(f"{file} is gone or cannot be read: {reason(error)}") from error
    if link:
        if target.is_symlink() and os.readlink(target) == str(file.resolve()):
            return
        target.unlink(missing_ok=True)
        target.symlink_to(file.resolve())
        return
    if target.is_file() and not target.is_symlink():
        there = target.stat()
        if (there.st_size, there.st_mtime_ns) == (wanted.st_size, wanted.st_mtime_ns):
            return
    part = target.with_name(f".{target.name}.part")
    shutil.copyfile(file, part)
    os.utime(part, ns=(wanted.st_atime_ns, wanted.st_mtime_ns))
    os.replace(part, target)


def _remove_others(folder: Path, kept: set[Path]) -> None:
    """Removes what an interrupted conversion left and this one does not have."""
    for where, _, names in os.walk(folder):
        for name in names:
            if Path(where, name) not in kept:
                Path(where, name).unlink()


def _contents(
    source: Source, named: dict[str, dict[str, Example]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """COCO's three lists of every split; ids are unique over all of them."""
    own = [example.id for them in named.values() for example in them.values()]
    keep = None not in own and len({*own}) == len(own)
    ids = iter(own if keep else range(1, len(own) + 1))
    annotation_id = 0
    for split, them in named.items():
        images, annotations = [], []
        for name, example in them.items():
            image_id = next(ids)
            height, width = example.size_hw
            size = {"width": width, "height": height}
            images.append({"id": image_id, "file_name": name, **size})
            for row in example.annotations:
                annotation_id += 1
                annotations.append({"id": annotation_id, "image_id": image_id, **row})
        content = {"images": images, "annotations": annotations, "categories": source.categories}
        yield split, {"info": {"description": f"converted by pse_jax, {split}"}, **content}
