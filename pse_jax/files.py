"""Files that appear whole or not at all, whenever the process is killed or the disk fills up."""

import contextlib
import errno
import os
import tempfile
from pathlib import Path

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
