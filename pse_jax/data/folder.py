"""Images that are files of one folder."""

import dataclasses
import os
from pathlib import Path

from pse_jax.data.rows import EXAMPLES_SHOWN, Problems
from pse_jax.errors import DataError
from pse_jax.evaluation.arrays import GroundTruth


@dataclasses.dataclass(frozen=True)
class Folder:
    """Images in a folder, by their file names."""

    path: Path
    files: tuple[str, ...]

    def read(self, key: int) -> bytes:
        """The bytes of an image file."""
        return (self.path / self.files[key]).read_bytes()

    def name(self, key: int) -> str:
        """Its path."""
        return str(self.path / self.files[key])


def find_files(folder: Path, wanted: list[str], truth: GroundTruth, problems: Problems) -> Folder:
    """The images of a data set, under the names that they really have.

    Args:
        folder: where they are.
        wanted: their names in the annotations.
        truth: whose images they are.
        problems: takes what was corrected.

    Raises:
        DataError: if the folder or any of the images is missing.
    """
    if not folder.is_dir():
        raise DataError(
            f"no image folder at {folder}, which {truth.source} needs; unpack the images there, or "
            "see --config.data.root, train_images and val_images"
        )
    present: dict[Path, set[str]] = {}  # per folder: a call per file is slow over a network

    def there(name: str) -> bool:
        path = folder / name
        if path.parent not in present:
            present[path.parent] = set(os.listdir(path.parent)) if path.parent.is_dir() else set()
        return path.name in present[path.parent]

    names, owner, missing = [], {}, []
    for name, image_id in zip(wanted, truth.image_ids.tolist(), strict=True):
        example = f"{name}, image {image_id}"
        if not there(name):
            if "\\" not in name or not there(name.replace("\\", "/")):
                missing.append((name, image_id))
                continue
            name = name.replace("\\", "/")
            problems.add("file name with backslashes, read as slashes", example)
        if owner.setdefault(name, image_id) != image_id:
            problems.add("file listed under several image ids", f"{example} and {owner[name]}")
        names.append(name)
    if missing:
        some = ", ".join(f"{name} (image id {i})" for name, i in missing[:EXAMPLES_SHOWN])
        raise DataError(
            f"{folder} lacks {len(missing)} of the {len(wanted)} images that {truth.source} lists: "
            f"{some}{', ...' if len(missing) > EXAMPLES_SHOWN else ''}; "
            + _remedy(missing[0][0], folder, present)
        )
    return Folder(folder, tuple(names))


def _remedy(name: str, folder: Path, present: dict[Path, set[str]]) -> str:
    """What to do about a missing image: it may be there under a similar name."""
    bare = name.replace("\\", "/").split("/")[-1]
    if bare != name and (folder / bare).is_file():
        return f"but {folder / bare} is there: take the folders off the file names"
    path = folder / name
    for other in sorted(present[path.parent]):
        if other.lower() == path.name.lower() or Path(other).stem == path.stem:
            return f"but {path.parent / other} is there: the names must agree to the letter"
    return "copy them there or remove them from the annotations"
