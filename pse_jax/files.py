"""Files that appear whole or not at all, and reading that never waits for another program."""

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

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


_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO (named pipe)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_regular(path: str | os.PathLike) -> BinaryIO:
    """Opens a regular file, or a link to one, to be read.

    Opening a FIFO or a device waits for whoever writes to it, perhaps for ever.

    Raises:
        OSError: if it is missing, unreadable or anything but a regular file; `strerror` says which.
    """
    try:
        mode = os.stat(path).st_mode
    except ValueError as error:  # a NUL, or half of a surrogate pair
        raise OSError(errno.EINVAL, f"no file can have this name ({error})") from error
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "something else")
        raise OSError(errno.EINVAL, f"it is {kind}, not a regular file", os.fspath(path))
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))


def read_regular(path: str | os.PathLike) -> bytes:
    """All bytes of a regular file; OSError as `open_regular`."""
    with open_regular(path) as file:
        return file.read()


def is_regular(path: str | os.PathLike) -> bool:
    """Whether there is a regular file, or a link that leads to one; never an error."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False
