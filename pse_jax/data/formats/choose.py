"""A val split where the source has none: chosen by a hash, so that it is the same everywhere."""

import hashlib

from pse_jax.data.formats.source import Example, Source
from pse_jax.errors import DataError


def with_val(source: Source, share: float, seed: int) -> Source:
    """Takes a share of the images of train for val.

    Versions of one photo that Roboflow has made (`NAME.rf.HASH.jpg`) stay together. An image keeps
    its place in the order, whatever else is added to the data set.

    Raises:
        DataError: if there are too few images.
    """
    groups: dict[str, list[Example]] = {}
    for example in source.splits["train"]:
        groups.setdefault(example.name.split(".rf.")[0], []).append(example)
    if len(groups) < 2:
        raise DataError(f"there is {len(groups)} image to choose val from; it takes two at least")

    def rank(name: str) -> bytes:
        return hashlib.sha256(f"{seed}/{name}".encode(errors="surrogateescape")).digest()

    count = min(max(round(share * len(groups)), 1), len(groups) - 1)
    chosen = {*sorted(groups, key=rank)[:count]}
    split = {
        which: [
            one
            for name, them in groups.items()
            if (name in chosen) == (which == "val")
            for one in them
        ]
        for which in ("train", "val")
    }
    return Source(source.categories, source.splits | split)
