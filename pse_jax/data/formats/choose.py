"""A val split where the source has none: chosen by a hash, so that it is the same everywhere."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from pse_jax import progress
from pse_jax.data.formats.source import THREADS, Source
from pse_jax.errors import DataError
from pse_jax.files import read_regular


def for_val(names: Sequence[str], digests: Sequence[bytes], share: float, seed: int) -> set[int]:
    """The numbers of the images that become val: a share of them, at least one, never all.

    Which they are depends on the names and the seed alone, and an image keeps its place in the
    order, whatever else is added to the data set. Versions of one photo that Roboflow has made
    (`NAME.rf.HASH.jpg`) and images with the same digest stay together.

    Args:
        names: of the images.
        digests: of their contents; b"" where that is not known.
        share: of the photos, in 0..1.
        seed: another one gives another split.

    Raises:
        DataError: if there are fewer than two different photos.
    """
    photos = [name.split(".rf.")[0] for name in names]
    same: dict[str | bytes, str] = {}  # the first photo of each content

    def first(photo: str) -> str:
        while same.get(photo, photo) != photo:
            photo = same[photo]
        return photo

    for photo, digest in sorted(zip(photos, digests, strict=True)):
        other = first(same.setdefault(digest, photo)) if digest else photo
        a, b = sorted((first(photo), other))
        same[b] = a
    groups: dict[str, set[int]] = {}
    for number, photo in enumerate(photos):
        groups.setdefault(first(photo), set()).add(number)
    if len(groups) < 2:
        raise DataError(f"there is {len(groups)} image to choose val from; it takes two at least")

    def rank(name: str) -> bytes:
        return hashlib.sha256(f"{seed}/{name}".encode(errors="surrogateescape")).digest()

    count = min(max(round(share * len(groups)), 1), len(groups) - 1)
    return set().union(*(groups[name] for name in sorted(groups, key=rank)[:count]))


def with_val(source: Source, share: float, seed: int) -> Source:
    """Takes a share of the images of train for val: `for_val`.

    Raises:
        DataError: if there are too few images.
    """
    train = source.splits["train"]
    files = [example.file for example in train]
    digests = list(progress.each(_digest, files, "look for copies", THREADS))
    chosen = for_val([example.name for example in train], digests, share, seed)
    split = {
        which: [one for n, one in enumerate(train) if (n in chosen) == (which == "val")]
        for which in ("train", "val")
    }
    return Source(source.categories, source.splits | split)


def _digest(file: Path) -> bytes:
    try:
        return hashlib.blake2b(read_regular(file), digest_size=16).digest()
    except OSError:  # copying says why
        return b""
