"""An object store for tests: what gs:// and s3:// serve, in files of one local folder.

As the real ones: an object appears whole when its file is closed, a folder is there while an object
is below it, listings are up to date, and nothing can be renamed.
"""

import contextlib
import io
import os
import re
from pathlib import Path
from unittest import mock
from urllib.parse import quote, unquote

from etils.epath import backend, gpath, stat_utils


class Store(backend.Backend):
    """Served instead of the network. `fail` may raise before anything is done."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(exist_ok=True)
        self.calls = []  # what was done to which object, in order
        self.fail = lambda what, path: None

    def _file(self, path):
        return self.folder / quote(str(path), safe="")

    def _ask(self, what, path):
        path = str(path)
        assert re.match(r"(gs|s3)://[^/]", path) and "//" not in path[5:], path
        self.calls.append((what, path))
        self.fail(what, path)
        return path

    def keys(self, below=""):
        """All objects, sorted."""
        start = quote(below, safe="")
        names = (
            name for name in os.listdir(self.folder) if name[0] != "." and name.startswith(start)
        )
        return sorted(map(unquote, names))

    def open(self, path, mode):
        path = self._ask("write" if "w" in mode else "read", path)
        if "w" in mode:
            return _Upload(self._file(path))
        assert mode in ("r", "rb")
        content = self._file(path).read_bytes() if self._file(path).exists() else None
        if content is None:
            raise FileNotFoundError(path)
        return io.BytesIO(content)

    def exists(self, path):
        path = self._ask("exists", path)
        return self._file(path).exists() or bool(self.keys(f"{path}/"))

    def isdir(self, path):
        return bool(self.keys(f"{self._ask('isdir', path)}/"))

    def listdir(self, path):
        path = self._ask("list", path)
        below = self.keys(f"{path}/")
        if not below and self._file(path).exists():
            return [path.split("/")[-1]]  # as fsspec's
        if not below:
            raise FileNotFoundError(path)
        return sorted({key[len(path) + 1 :].split("/")[0] for key in below})

    def remove(self, path):
        path = self._ask("remove", path)
        if not self._file(path).exists():
            raise FileNotFoundError(path)
        self._file(path).unlink()

    def rmtree(self, path):
        below = self.keys(f"{self._ask('rmtree', path)}/")
        if not below:
            raise FileNotFoundError(path)
        for key in reversed(below):  # one after the other, in no order that one may rely on
            self.fail("remove", key)
            self._file(key).unlink(missing_ok=True)

    def stat(self, path):
        size = self._file(self._ask("stat", path)).stat().st_size
        return stat_utils.StatResult(is_directory=False, length=size, mtime=0, owner=None,
                                     group=None, mode=None)  # fmt: skip

    def _no(self, *args, **kwargs):
        raise AssertionError("nothing that an object store cannot do, or not safely")

    glob = walk = makedirs = mkdir = rename = replace = copy = _no


class _Upload(io.BytesIO):
    def __init__(self, file):
        super().__init__()
        self.file = file

    def close(self):
        if not self.closed:
            part = self.file.with_name("." + self.file.name[-200:])
            part.write_bytes(self.getvalue())
            part.replace(self.file)
        super().close()


@contextlib.contextmanager
def served(folder):
    """Within, gs:// and s3:// are a `Store` in a local folder."""
    store = Store(folder)
    serves = {**gpath._PREFIX_TO_BACKEND, "gs": store, "s3": store}
    with (
        mock.patch.object(gpath, "_PREFIX_TO_BACKEND", serves),
        mock.patch.object(gpath, "_is_tf_installed", lambda: False),
    ):
        yield store
