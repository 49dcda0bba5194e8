"""Files and folders that may be elsewhere: `gs://bucket/run`, and what else etils.epath serves.

A local path is a `pathlib.Path`; a remote one is epath's, which no function of `os` takes. What is
remote is an object store: a file appears whole or not at all when it is written, there is no
renaming, and a folder is there while something is in it.
"""

import errno
import os
import posixpath
import re
import uuid
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pse_jax.errors import UserError, WriteError
from pse_jax.files import make_folder, read_regular, reason

if TYPE_CHECKING:  # epath's class has the same methods
    Place = Path
else:
    Place = Any

T = TypeVar("T")

ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/(/?)(.*)", re.DOTALL)
SERVED = {  # what needs a package of its own, and how to get it
    "gs": 'pip install "pse-jax[gcs]"',
    "s3": 'pip install "pse-jax[s3]"',
    "az": "pip install adlfs",
    "hf": "pip install huggingface_hub",
}
ACCESS = (
    "check the address, the network and this machine's credentials (Google: `gcloud auth "
    "application-default login`, or the service account of the machine; Amazon: `aws configure`)"
)

_stands_for: dict[str, str] = {}  # local folders, and the addresses that they are copies of


def place(text: str | os.PathLike) -> Place:
    """A file or folder by its path, `~` being the home folder, or by its address.

    Raises:
        UserError: for an address that nothing here can serve, or that is misspelt.
    """
    match = ADDRESS.match(os.fspath(text))
    if match is None:
        return Path(text).expanduser()
    scheme, slash, rest = match.groups()
    scheme, rest = scheme.lower(), rest.rstrip("/")
    if not slash:
        raise UserError(
            f"{text}: an address begins with two slashes; write {scheme}://{rest}, or for a local "
            f"folder of that name its path from the root, {Path.cwd() / text}"
        )
    if scheme == "file":
        raise UserError(f"{text}: of a local file give the path alone, /{rest.strip('/')}")
    if not rest or rest.startswith("/"):
        raise UserError(f"{text} names no bucket; write {scheme}://BUCKET/FOLDER")
    if {".", ".."} & set(rest.split("/")):
        raise UserError(f"{text}: an address cannot have . or .. as one of its names")
    remote = _remote(f"{scheme}://{rest}")
    exists(remote)  # whatever keeps it from being served is known now
    return remote


def local(text: str | os.PathLike) -> Path:
    """As `place`, where only this machine's own files can be used.

    Raises:
        UserError: for an address.
    """
    if ADDRESS.match(os.fspath(text)):
        raise UserError(f"{text}: it must be on a local disk; give a path, and copy what is there")
    return Path(text).expanduser()


def is_remote(path: Place) -> bool:
    """Whether it is an address."""
    return not isinstance(path, Path)


def absolute(path: Place) -> Place:
    """The same file or folder for a process with another working folder."""
    return path if is_remote(path) else path.absolute()


def join(folder: Place, name: str) -> Place:
    """What a name means in a folder: it may climb, or be a path from the root."""
    if not is_remote(folder):
        return folder / name
    if posixpath.isabs(name):
        return Path(name)
    scheme, _, rest = f"{folder}/{name}".partition("://")
    return _remote(f"{scheme}://{posixpath.normpath(rest)}")  # an object store knows no `..`


def read(path: Place) -> bytes:
    """All bytes of a file.

    Raises:
        OSError: if it is missing or unreadable; `strerror` says why.
    """
    return asked(path, path.read_bytes) if is_remote(path) else read_regular(path)


def write(path: Place, content: bytes) -> None:
    """Writes a remote file, whole or not at all.

    Raises:
        OSError: if it cannot be written; `strerror` says why.
    """
    asked(path, lambda: path.write_bytes(content))


def exists(path: Place) -> bool:
    """Whether there is a file or folder.

    Raises:
        UserError: if an address cannot be asked.
    """
    if not is_remote(path):
        return os.path.exists(path)
    try:
        return asked(path, path.exists)
    except OSError as error:
        raise UserError(f"{path} cannot be reached: {reason(error)}") from error


def names(folder: Place) -> list[str]:
    """Names of the files and folders in a remote folder; none if it is not there.

    Raises:
        OSError: if it cannot be listed; `strerror` says why.
    """
    try:
        found = asked(folder, lambda: list(folder.iterdir()))
    except (FileNotFoundError, NotADirectoryError):
        return []
    # Some stores have an object for the folder itself.
    return sorted({entry.name for entry in found if entry != folder})


def remove(path: Place) -> None:
    """Removes a remote file or folder, if it is there.

    Raises:
        OSError: if it cannot be removed; `strerror` says why.
    """

    def removed() -> None:
        if path.is_dir():
            path.rmtree()  # pyright: ignore[reportAttributeAccessIssue]
        else:
            path.unlink()

    try:
        asked(path, removed)
    except FileNotFoundError:
        pass


def make(folder: Place, what: str) -> None:
    """`files.make_folder`, also of an address: a file can be written there.

    Raises:
        WriteError: if that is not so.
    """
    if not is_remote(folder):
        return make_folder(folder, what)
    probe = folder / f".probe-{uuid.uuid4().hex}"
    try:
        write(probe, b"")
        remove(probe)
    except OSError as error:
        raise WriteError(f"{folder} cannot be {what}: {reason(error)}") from error


def asked(path: Place, ask: Callable[[], T]) -> T:
    """What a remote store answers; all that it and its libraries raise becomes an OSError."""
    try:
        return ask()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise type(error)(error.errno or errno.ENOENT, "it does not exist", str(path)) from error
    except ImportError as error:
        scheme = str(path).split("://")[0]
        how = f"{error}: {SERVED.get(scheme, 'install what serves it')}"
        raise OSError(errno.ENOPKG, how, str(path)) from error
    except Exception as error:  # of Google's, Amazon's, TensorFlow's own
        said = " ".join(str(error).split())[:300].rstrip(". ") or type(error).__name__
        raise OSError(errno.EIO, f"{said}; {ACCESS}", str(path)) from error


def stands_for(folder: Path, address: Place) -> None:
    """From now on messages name the address in place of the local folder, its copy."""
    _stands_for[str(folder)] = str(address)


def named(text: str) -> str:
    """A message with addresses in place of the local folders that stand for them."""
    for folder, address in _stands_for.items():
        text = text.replace(folder, address)
    return text


def _remote(address: str) -> Place:
    from etils import epath

    _know_no_old_listings()
    try:
        return epath.Path(address)  # pyright: ignore[reportReturnType]
    except KeyError:
        scheme = address.split("://")[0]
        raise UserError(
            f"{address}: nothing here serves {scheme}://; there are local folders and "
            + ", ".join(f"{known}://" for known in SERVED)
        ) from None


@cache
def _know_no_old_listings() -> None:
    """Folders are listed anew each time: other machines write to them."""
    from fsspec.config import conf

    for protocol in ("gcs", "gs", "s3", "s3a", "abfs", "az", "hf"):
        conf.setdefault(protocol, {}).setdefault("use_listings_cache", False)
