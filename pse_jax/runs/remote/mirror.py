"""A run whose folder is remote: a local copy, in which all work is done, and what copies it.

What is written is the same as in a local run's folder, so that a folder may be copied by other
programs either way. A checkpoint counts when its `meta/metadata` is there: that is copied last and
removed first. Everything else is in it then, or its checksums say what is not.
"""

import errno
import functools
import logging
import os
import re
import shutil
import threading
import weakref
from collections.abc import Iterable
from pathlib import Path

from pse_jax import addresses
from pse_jax.addresses import Place
from pse_jax.errors import CheckpointError, UserError, WriteError
from pse_jax.files import reason
from pse_jax.runs.remote import staging, transfer

logger = logging.getLogger(__name__)

EVERY = 30.0  # seconds between two copies of what a run has written
METRICS = "metrics.jsonl"
MARKER = "meta/metadata"  # of a checkpoint, which is whole where it has one
CHECKPOINTS = ("best", "checkpoints")
# What a run that resumes reads, or adds to; detections are large, and only whether they are there
# is asked.
READ = re.compile(
    r"(config|data|job|times)\.json|(config_history|metrics)\.jsonl|\w+\.log|eval_\d+\.json"
)
ASKED_FOR = re.compile(r"detections_\d+\.json")


class Mirror:
    """A remote folder and its local copy.

    Raises:
        UserError: if it cannot be read.
    """

    def __init__(self, address: Place):
        self.address, self.folder = address, staging.make(address)
        self.known: dict[str, tuple[int, int]] = {}  # files that are there: size and time, local
        self.there: set[str] = set()  # checkpoints that are whole there, as "checkpoints/6"
        self.partial: set[str] = set()  # those that are not
        self.here: set[str] = set()  # those of which the local copy is whole
        self.failures = 0  # to copy, since it last succeeded
        self._busy = threading.RLock()
        _mirrors.add(self)
        weakref.finalize(self, staging.remove, self.folder)
        self.look()

    # From there to here

    def look(self) -> None:
        """Makes the local copy anew: the small files, and an empty folder for each checkpoint."""
        with self._busy:
            for path in self.folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            for known in (self.known, self.there, self.partial, self.here):
                known.clear()
            try:
                self._look()
            except OSError as error:
                raise UserError(f"{self.address} cannot be read: {reason(error)}") from error

    def _look(self) -> None:
        for name in addresses.names(self.address):
            if READ.fullmatch(name):
                self._take(name, addresses.read(self.address / name))
            elif ASKED_FOR.fullmatch(name):
                self._take(name, b"")
        for kind in CHECKPOINTS:
            for name in addresses.names(self.address / kind):
                key = f"{kind}/{name}"
                if not name.isdecimal() or addresses.exists(self.address / key / MARKER):
                    (self.folder / key).mkdir(parents=True)
                    self.there.add(key)
                else:
                    self.partial.add(key)

    def _take(self, name: str, content: bytes) -> None:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        self.known[name] = transfer.stamp(file)

    def fetch(self, path: Path) -> None:
        """Copies a folder of the run to the local disk, a checkpoint for one, unless it is here.

        Raises:
            CheckpointError: if it cannot be read.
        """
        key = path.relative_to(self.folder).as_posix()
        with self._busy:
            if key not in self.there - self.here:
                return
            part = self.folder / f".{path.name}.part"
            shutil.rmtree(part, ignore_errors=True)
            try:
                files = transfer.files_below(self.address / key)
                if not files:
                    raise FileNotFoundError(errno.ENOENT, "it is gone; run the command again")
                transfer.all_at_once(
                    lambda name: transfer.download(self.address / key, name, part), files
                )
                os.replace(part, path)
            except OSError as error:
                raise CheckpointError(
                    f"{self.address / key} cannot be read: {reason(error)}"
                ) from error
            self.here.add(key)

    def fetch_file(self, path: Path) -> None:
        """Copies a file of the run to the local disk, to be added to, unless it is here.

        Raises:
            UserError: if it is there and cannot be read.
        """
        name = path.relative_to(self.folder).as_posix()
        with self._busy:
            # Of detections only the name is here, and an empty file.
            here = name in self.known and bool(self.known[name][0])
            if here or not addresses.exists(self.address / name):
                return
            try:
                self._take(name, addresses.read(self.address / name))
            except OSError as error:
                raise UserError(f"{self.address / name} cannot be read: {reason(error)}") from error

    def fetch_all(self) -> None:
        """Copies every whole checkpoint to the local disk; says which are not whole."""
        for key in sorted(self.partial):
            logger.warning("%s/%s was not copied to its end: passed over", self.address, key)
        for key in sorted(self.there):
            if key.split("/")[1].isdecimal():
                self.fetch(self.folder / key)

    # From here to there

    def push(self, checkpoints: bool) -> None:
        """Copies what has changed here, in an order in which it may end anywhere.

        Metrics are there before the checkpoint that they lead to; the results of an evaluation and
        the best parameters before the row of metrics that says that it is complete.

        Args:
            checkpoints: also these, and removes those that are no longer here; only for the one
                process that trains.

        Raises:
            OSError: if it cannot be written; the next call goes on.
        """
        with self._busy:
            keys = self._checkpoints_here() if checkpoints else []
            metrics = self.folder / METRICS
            stamp = transfer.stamp(metrics) if metrics.exists() else None
            rows = metrics.read_bytes() if stamp else b""
            for name in self._changed():
                file = self.folder / name
                now, content = transfer.stamp(file), file.read_bytes()
                self._write(name, content, now)
            for name in [name for name in self.known if not (self.folder / name).exists()]:
                addresses.remove(self.address / name)
                del self.known[name]
            self._push_checkpoints(key for key in keys if key.startswith("best/"))
            if stamp and self.known.get(METRICS) != stamp:
                self._write(METRICS, rows, stamp)
            self._push_checkpoints(key for key in keys if key.startswith("checkpoints/"))
            if checkpoints:
                for key in sorted((self.there | self.partial) - set(keys)):
                    self._remove(key)

    def _write(self, name: str, content: bytes, stamp: tuple[int, int]) -> None:
        addresses.write(self.address / name, content)
        self.known[name] = stamp

    def _changed(self) -> list[str]:
        """Files that are not there as they are here, in the order in which they were written."""
        found = []
        for folder, folders, files in os.walk(self.folder):
            top = Path(folder) == self.folder
            folders[:] = [
                name for name in folders if name[0] != "." and not (top and name in CHECKPOINTS)
            ]
            for name in (name for name in files if name[0] != "."):
                path = Path(folder, name)
                key = path.relative_to(self.folder).as_posix()
                if key != METRICS and self.known.get(key) != (stamp := transfer.stamp(path)):
                    found.append((stamp[1], key))
        return [key for _, key in sorted(found)]

    def _checkpoints_here(self) -> list[str]:
        """Those that Orbax has finished, and those that were set aside; the oldest first."""
        found = []
        for kind in CHECKPOINTS:
            for path in (self.folder / kind).glob("*"):
                step, *rest = path.name.split(".")
                if step.isdecimal() and (not rest or rest[0].startswith("damaged")):
                    found.append((int(step), f"{kind}/{path.name}"))
        return [key for _, key in sorted(found)]

    def _push_checkpoints(self, keys: Iterable[str]) -> None:
        for key in keys:
            if key in self.there:
                continue
            if key in self.partial:  # leave nothing of another that was not copied to its end
                self._remove(key)
            self.partial.add(key)
            files = transfer.local_files(self.folder / key)
            rest = [name for name in files if name != MARKER]
            try:
                transfer.all_at_once(functools.partial(self._upload, key), rest)
                if transfer.local_files(self.folder / key) != files or not files:
                    continue  # it was being removed meanwhile; the next call removes it there
                if MARKER in files:
                    self._upload(key, MARKER)
            except FileNotFoundError:
                if (self.folder / key).exists():
                    raise
                continue
            self.partial.discard(key)
            self.there.add(key)
            self.here.add(key)
            logger.info("copied %s/%s", self.address, key)

    def _upload(self, key: str, name: str) -> None:
        addresses.write(self.address / key / name, (self.folder / key / name).read_bytes())

    def _remove(self, key: str) -> None:
        self.there.discard(key)
        self.partial.add(key)
        addresses.remove(self.address / key / MARKER)
        addresses.remove(self.address / key)
        self.partial.discard(key)

    def try_push(self) -> bool:
        """`push` of a run that trains; what fails is said once, and tried again by the next."""
        try:
            self.push(checkpoints=True)
        except OSError as error:
            if not self.failures:
                logger.error(
                    "%s cannot be written: %s. Training continues; it is retried every %.0f s",
                    self.address,
                    reason(error),
                    EVERY,
                )
            self.failures += 1
            return False
        if self.failures:
            logger.warning("%s is up to date; %d attempts failed", self.address, self.failures)
        self.failures = 0
        return True

    def publish(self) -> None:
        """Copies the results of an evaluation.

        Raises:
            WriteError: if they cannot be written; says where they are kept.
        """
        try:
            self.push(checkpoints=False)
        except OSError as error:
            raise self.kept(error) from error

    def kept(self, error: OSError) -> WriteError:
        """Keeps the local copy when this process ends, and says so."""
        where = staging.keep(self.folder)
        return WriteError(
            f"{self.address} lacks what was written last: {reason(error)}. It is kept in {where}; "
            "copy it there when that is possible again, or run the same command again"
        )


_mirrors: weakref.WeakSet[Mirror] = weakref.WeakSet()  # of this process


def fetch(path: Path) -> None:
    """Copies a checkpoint to the local disk, if it is one of a remote run and not yet here."""
    for mirror in list(_mirrors):
        if path.is_relative_to(mirror.folder):
            mirror.fetch(path)


def known_steps(address: Place) -> set[int]:
    """The steps of which a state is at an address, as this process last heard; asks nobody."""
    there = {key for mirror in list(_mirrors) if mirror.address == address for key in mirror.there}
    states = [key.split("/")[1] for key in there if key.startswith("checkpoints/")]
    return {int(name) for name in states if name.isdecimal()}
