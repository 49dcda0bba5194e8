"""Files that appear whole or not at all, whenever the process is killed or the disk fills up."""

import contextlib
import os
from pathlib import Path

from pse_jax.errors import WriteError


def write_whole(path: Path, content: str | bytes, what: str) -> None:
    """Writes beside the file, flushes to the disk and renames: readers see the old or the new.

    Args:
        path: the file; its folder exists.
        content: text is written as UTF-8.
        what: it is, for the message: "the evaluation of step 6".

    Raises:
        WriteError: if the disk is full, the folder is read-only or gone. What `path` held before is
            unharmed.
    """
    data = content.encode() if isinstance(content, str) else content
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        _sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        held = "the file of that name is as it was" if path.exists() else "nothing was written"
        raise WriteError(
            f"{path}: cannot write {what}: {error.strerror or error}; {held}. "
            "Make room or the folder writable, and run the same command again"
        ) from error


def _sync_folder(folder: Path) -> None:
    """Makes the rename itself last; some file systems refuse, and need it not."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
