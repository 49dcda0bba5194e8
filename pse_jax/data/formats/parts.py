"""The splits of a data set and where each is."""

import dataclasses
import re
from pathlib import Path

from pse_jax.data.formats import files

SPLITS = ("train", "val", "test")
CALLED = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


@dataclasses.dataclass(frozen=True)
class Part:
    """A piece of a split."""

    labels: Path  # a folder of label files, or COCO's JSON file
    images: Path  # a folder
    listing: Path | None = None  # a text file that names the images of the split; None: all


Parts = dict[str, tuple[Part, ...]]  # by split


def split_named(text: str) -> str:
    """The split that a name speaks of (`instances_val2017`: val), or ""."""
    words = re.findall(r"[a-z]+", text.lower())
    for name, others in CALLED.items():
        if any(word in others for word in words):
            return name
    return ""


def split_folders(path: Path) -> dict[str, Path]:
    """The folders in a folder that are called like a split: train/, valid/, val2017/."""
    found = {}
    for folder in files.folders_in(path):
        name = split_named(folder.name)
        if name and re.fullmatch(r"[a-z]+[_-]?\d*", folder.name.lower()):
            found.setdefault(name, folder)
    return {name: found[name] for name in SPLITS if name in found}
