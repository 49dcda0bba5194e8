"""Files that appear whole or not at all, and reading that never waits for another program."""

import contextlib
import errno
import os
import stat
import tempfile
from pathlib import Path
from typing import BinaryIO

from pse_jax.errors import WriteError

# What the system says when there is no room, or nothing may be written.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
REMEDY = "Make room or the folder writable, and run the same command again"


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
    write_together({path: content}, what)


def write_together(contents: dict[Path, str | bytes], what: str) -> None:
    """`write_whole` of several files: none takes its name before all are written.

    Raises:
        WriteError: as `write_whole`.
    """
    beside = {path: path.with_name(f".{path.name}.{os.getpid()}.part") for path in contents}
    path = next(iter(contents))
    try:
        for path, content in contents.items():
            with beside[path].open("wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
        for path in contents:
            os.replace(beside[path], path)
            _sync_folder(path.parent)
    except OSError as error:
        for part in beside.values():
            with contextlib.suppress(OSError):
                part.unlink()
        there = os.path.exists(path)  # unlike Path.exists, False where the system does not say
        held = "the file of that name is as it was" if there else "nothing was written"
        raise WriteError(
            f"{path}: cannot write {what}: {reason(error)}; {held}. {REMEDY}"
        ) from error


def append_line(path: Path, line: str) -> None:
    """Adds a line to a log in one write call.

    Raises:
        OSError: if it cannot be written; a part of it may have been.
    """
    content = (line + "\n").encode(errors="backslashreplace")
    with path.open("ab", buffering=0) as file:
        if file.write(content) < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def make_folder(path: Path, what: str) -> None:
    """Makes a folder and those above it, unless it is there; a file can be written into it.

    Args:
        path: the folder.
        what: it is, for the message: "the folder of the run".

    Raises:
        WriteError: if that is not so.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        raise WriteError(
            f"{path} cannot be {what}: {_in_the_way(path) or reason(error)}"
        ) from error


def _in_the_way(path: Path) -> str | None:
    """What stands where a folder is to be made."""
    for place in reversed((path, *path.parents)):
        if os.path.islink(place) and not os.path.exists(place):
            return f"{place} is a link to {os.readlink(place)}, which does not exist"
        if os.path.exists(place) and not os.path.isdir(place):
            return f"{place} is a file"
    return None


def reason(error: OSError) -> str:
    """`No space left on device`, without number and path."""
    return error.strerror or str(error)


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
