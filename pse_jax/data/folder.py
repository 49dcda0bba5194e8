"""Images that are files of one folder."""

import dataclasses
import os
from pathlib import Path

from pse_jax import addresses
from pse_jax.addresses import Place
from pse_jax.data.rows import EXAMPLES_SHOWN, Problems
from pse_jax.errors import DataError, ImageError
from pse_jax.evaluation.arrays import GroundTruth
from pse_jax.files import is_regular, open_regular

LARGEST_FILE = 1 << 30  # bytes; the pixels of no image that Pillow decodes need more


@dataclasses.dataclass(frozen=True)
class Folder:
    """Images in a folder, or at its address, by their file names."""

    path: Place
    files: tuple[str, ...]
    outside: bool = False  # whether names may lead out of the folder

    def read(self, key: int) -> bytes:
        """The bytes of an image file.

        Raises:
            ImageError: if it is missing, unreadable, outside the folder or no regular file.
        """
        if not self.outside and leads_out(self.files[key]):
            raise ImageError(f"{self.files[key]} leads out of {self.path}; {INSIDE}")
        path = addresses.join(self.path, self.files[key])
        try:
            if addresses.is_remote(path):
                return addresses.read(path)
            with open_regular(path) as file:
                size = os.fstat(file.fileno()).st_size
                if size > LARGEST_FILE:
                    raise ImageError(f"{self.name(key)} has {size:,} bytes; no image is so large")
                return file.read()
        except OSError as error:
            raise ImageError(f"{self.name(key)} cannot be read: {error.strerror}") from error

    def name(self, key: int) -> str:
        """Its path."""
        return str(addresses.join(self.path, self.files[key]))


INSIDE = "correct the name, or allow it with --config.data.outside_images=true"


def leads_out(name: str) -> bool:
    """Whether a file name is absolute or climbs out of its folder; links may lead anywhere.

    What `..` would undo is taken off first: `a/../b.jpg` stays inside.
    """
    return os.path.isabs(name) or os.path.normpath(name).split(os.sep)[0] == os.pardir


def find_files(
    folder: Place,
    wanted: list[str],
    truth: GroundTruth,
    problems: Problems,
    outside: bool = False,
    require: bool = True,
) -> Folder:
    """The images of a data set, under the names that they really have.

    Args:
        folder: where they are.
        wanted: their names in the annotations.
        truth: whose images they are.
        problems: takes what was corrected.
        outside: whether names may lead out of the folder.
        require: whether it is an error if images are missing or outside; or only to read them.

    Raises:
        DataError: if the folder is missing or, where they are required, any of the images.
    """
    if not (addresses.exists(folder) if addresses.is_remote(folder) else folder.is_dir()):
        raise DataError(
            f"no image folder at {folder}, which {truth.source} needs; unpack the images there, or "
            "see --config.data.root, train_images and val_images"
        )
    present: dict[Place, set[str]] = {}  # per folder: a call per file is slow over a network

    def there(name: str) -> bool:
        path = addresses.join(folder, name)
        if path.parent not in present:
            present[path.parent] = _files_in(path.parent)
        return path.name in present[path.parent]

    names, owner, missing, out = [], {}, [], []
    for name, image_id in zip(wanted, truth.image_ids.tolist(), strict=True):
        example = f"{name}, image {image_id}"
        if not outside and leads_out(name.replace("\\", "/")):
            out.append((name, image_id))
        elif not there(name):
            if "\\" in name and there(name.replace("\\", "/")):
                name = name.replace("\\", "/")
                problems.add("file name with backslashes, read as slashes", example)
            else:
                missing.append((name, image_id))
        if owner.setdefault(name, image_id) != image_id:
            problems.add("file listed under several image ids", f"{example} and {owner[name]}")
        names.append(name)
    if out and require:
        raise DataError(
            f"{len(out)} of the {len(wanted)} file names in {truth.source} lead out of {folder}: "
            f"{_some(out)}; {INSIDE}"
        )
    if missing and require:
        raise DataError(
            f"{folder} lacks {len(missing)} of the {len(wanted)} images that {truth.source} lists: "
            f"{_some(missing)}; {_remedy(missing[0][0], folder, present)}"
        )
    return Folder(folder, tuple(names), outside)


def _files_in(folder: Place) -> set[str]:
    """Names of regular files and of links; the directory itself tells, no file is asked."""
    try:
        if addresses.is_remote(folder):
            return set(addresses.names(folder))
        with os.scandir(folder) as entries:
            return {e.name for e in entries if e.is_symlink() or e.is_file(follow_symlinks=False)}
    except OSError:
        return set()


def _is_file(path: Place) -> bool:
    return addresses.exists(path) if addresses.is_remote(path) else is_regular(path)


def _some(names: list[tuple[str, int]]) -> str:
    some = ", ".join(f"{name} (image id {i})" for name, i in names[:EXAMPLES_SHOWN])
    return some + (", ..." if len(names) > EXAMPLES_SHOWN else "")


def _remedy(name: str, folder: Place, present: dict[Place, set[str]]) -> str:
    """What to do about a missing image: it may be there under a similar name."""
    bare = name.replace("\\", "/").split("/")[-1]
    beside = addresses.join(folder, bare)
    if bare != name and _is_file(beside):
        return f"but {beside} is there: take the folders off the file names"
    path = addresses.join(folder, name)
    if not addresses.is_remote(path) and os.path.lexists(path):
        return f"{path} is there, but is not a regular file: replace it"
    for other in sorted(present[path.parent]):
        if other.lower() == path.name.lower() or Path(other).stem == path.stem:
            return f"but {path.parent / other} is there: the names must agree to the letter"
    return "copy them there or remove them from the annotations"
