"""Local folders that stand for remote ones while a process works in them."""

import atexit
import contextlib
import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from pse_jax import addresses
from pse_jax.addresses import Place
from pse_jax.errors import WriteError
from pse_jax.files import reason

logger = logging.getLogger(__name__)

_open: dict[Path, IO] = {}  # the staging folders of this process, and the locks that say so


def make(address: Place) -> Path:
    """A new folder on the local disk (TMPDIR), removed when this process ends.

    What a killed process left there is removed by the next one.

    Raises:
        WriteError: if there is no room.
    """
    try:
        root = Path(tempfile.gettempdir(), f"pse_jax-{os.getuid()}").absolute()
        root.mkdir(mode=0o700, exist_ok=True)
        _sweep(root)
        folder = Path(tempfile.mkdtemp(prefix="remote-", dir=root))
        lock = folder.with_suffix(".lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError as error:
        raise WriteError(
            f"{address} needs room for a copy on the local disk, in {tempfile.gettempdir()}: "
            f"{reason(error)}. Make room, or set TMPDIR to another folder"
        ) from error
    atexit.unregister(_remove_all)
    atexit.register(_remove_all)
    _open[folder] = lock
    addresses.stands_for(folder, address)
    return folder


def keep(folder: Path) -> Path:
    """What is in it stays when this process ends; returns where."""
    kept = folder.with_name(folder.name.replace("remote-", "kept-"))
    if folder in _open:
        _open.pop(folder).close()
        folder.rename(kept)
        folder.with_suffix(".lock").unlink(missing_ok=True)
    return kept


def remove(folder: Path) -> None:
    """Removes it before this process ends."""
    if folder in _open:
        shutil.rmtree(folder, ignore_errors=True)
        folder.with_suffix(".lock").unlink(missing_ok=True)
        _open.pop(folder).close()


def _remove_all() -> None:
    for folder in list(_open):
        remove(folder)


def _sweep(root: Path) -> None:
    """Removes the folders of processes that have ended: the kernel has released their locks."""
    for file in root.glob("remote-*.lock"):
        with contextlib.suppress(OSError), file.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(file.with_suffix(""), ignore_errors=True)
            file.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(out: Place) -> Iterator[Path]:
    """A local folder to write to; at the end its files are copied to `out`, if that is remote.

    Raises:
        WriteError: if nothing can be written there, at once; or at the end, and says where what
            was written is kept.
    """
    if not addresses.is_remote(out):
        yield out
        return
    addresses.make(out, "a folder to write to")
    folder = make(out)
    yield folder
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    try:
        for file in files:
            addresses.write(out / file.relative_to(folder).as_posix(), file.read_bytes())
    except OSError as error:
        kept = keep(folder)
        raise WriteError(
            f"{out} cannot be written: {reason(error)}. What belongs there is in {kept}"
        ) from error
    remove(folder)
