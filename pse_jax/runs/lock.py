"""One process at a time writes to a folder: numbered leases, renewed while they are held.

DIR/lock_N.json says who has the folder; the highest N counts. To take it is to create the next one,
which every file system, network ones included, grants to one process only. No one ever removes or
replaces the lease of another process that may be alive.

A holder on this machine is alive if its process is: after a SIGKILL the folder is free at once. A
holder on another machine is alive if it renews its lease, and is given EXPIRES seconds to do so.
"""

import contextlib
import json
import logging
import os
import re
import shlex
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pse_jax.errors import LockError, WriteError
from pse_jax.files import reason

logger = logging.getLogger(__name__)

RENEW = 10.0  # seconds between two renewals of a lease
EXPIRES = 60.0  # seconds without one after which a holder on another machine counts as dead
POLL = 0.5  # seconds between two looks at the lease of another process

Holder = dict[str, Any]  # the content of a lease


@contextlib.contextmanager
def held(folder: Path, wait: bool = False) -> Iterator["Lock"]:
    """Keeps other processes out of an existing folder meanwhile.

    Args:
        folder: to write to.
        wait: for another process to leave it, instead of raising.

    Raises:
        LockError: if another process holds it; says which.
        WriteError: if no lease can be written.
    """
    said = False
    while True:
        try:
            lock = Lock(folder)
            break
        except LockError as error:
            if not wait:
                raise
            if not said:
                logger.warning("waiting: %s", error)
            said = True
            time.sleep(POLL)
    try:
        yield lock
    finally:
        lock.release()


class Lock:
    """A lease on a folder, taken; raises as `held` does."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.content = holder_of_this_process()
        self.number = self._take()
        self.file = _file(folder, self.number)
        for number in _numbers(folder):
            if number < self.number:  # ended long ago
                with contextlib.suppress(OSError):
                    _file(folder, number).unlink()
        self.released = threading.Event()
        threading.Thread(target=self._renew, name="lock", daemon=True).start()

    def check(self) -> None:
        """Raises LockError if the lease was lost: removed, or taken over while this slept."""
        try:
            newest = max(_numbers(self.folder), default=0)
            found = _read(_file(self.folder, newest))
        except FileNotFoundError:  # the folder is gone as well
            newest, found = 0, None
        except OSError:  # cannot be known now
            return
        if newest == self.number and found and found[0] == self.content:
            return
        how = f"taken over by {described(found[0])}" if found else f"freed: {self.file} is gone"
        raise LockError(
            f"{self.folder} was {how}. This process stops, so that no two write there; what it has "
            "saved is in the folder, and the same command resumes"
        )

    def release(self) -> None:
        """Lets other processes have the folder; the lease stays, as a note of who had it last."""
        self.released.set()
        try:
            self.check()
        except LockError:  # it is another process's now
            return
        content = json.dumps(self.content | {"released": _now()}, indent=2) + "\n"
        # In place, which needs no room on a full disk; if it fails, this process's end frees it.
        with contextlib.suppress(OSError), self.file.open("r+") as file:
            file.write(content)

    def _take(self) -> int:
        content = json.dumps(self.content, indent=2) + "\n"
        while True:
            number = max(_numbers(self.folder), default=0)
            if number and not _is_free(_file(self.folder, number)):
                raise LockError(_refusal(self.folder, _file(self.folder, number)))
            try:
                _create(_file(self.folder, number + 1), content)
            except FileExistsError:  # another process was faster
                continue
            if max(_numbers(self.folder), default=0) == number + 1:
                return number + 1
            _file(self.folder, number + 1).unlink()  # several were, and one ended: begin again

    def _renew(self) -> None:
        while not self.released.wait(RENEW):
            with contextlib.suppress(OSError):
                os.utime(self.file)


def _file(folder: Path, number: int) -> Path:
    return folder / f"lock_{number}.json"


def _numbers(folder: Path) -> list[int]:
    matches = (re.fullmatch(r"lock_(\d{1,18})\.json", name) for name in os.listdir(folder))
    return [int(match[1]) for match in matches if match]


def _create(file: Path, content: str) -> None:
    """Writes a file that must not exist yet.

    Raises:
        FileExistsError: if it does.
        WriteError: if it cannot be written.
    """
    try:
        with file.open("x") as opened:
            try:
                opened.write(content)
                opened.flush()
                os.fsync(opened.fileno())
            except OSError:
                file.unlink()
                raise
    except FileExistsError:
        raise
    except OSError as error:
        raise WriteError(f"{file}: cannot write the folder's lock: {reason(error)}") from error


def _read(file: Path) -> tuple[Holder, float] | None:
    """Who holds a lease, and when it was renewed; None if the file is gone.

    A holder of which nothing is known is one that writes its lease right now, or a damaged file.
    """
    try:
        with file.open("rb") as opened:  # opening makes a network file system look again
            content, renewed = opened.read(), os.fstat(opened.fileno()).st_mtime
    except FileNotFoundError:
        return None
    try:
        holder = json.loads(content)
    except ValueError:
        holder = None
    return holder if isinstance(holder, dict) else {}, renewed


def _is_free(file: Path) -> bool:
    """Whether the holder of a lease has released it or is dead."""
    first = None
    while True:
        found = _read(file)
        if found is None or "released" in found[0]:
            return True
        holder, renewed = found
        if (alive := alive_here(holder)) is not None:
            return not alive
        age = _clock_of(file.parent) - renewed
        if age > EXPIRES:
            return True
        if first is None:
            first = renewed
            left = EXPIRES - age
            logger.info("waiting up to %.0f s for a sign of %s", left, described(holder))
        elif renewed != first:
            return False
        time.sleep(POLL)


def alive_here(holder: Holder) -> bool | None:
    """Whether a holder is a process of this machine that runs; None if it is of another one."""
    return _is_alive(holder) if holder.get("machine") == _machine() else None


def _is_alive(holder: Holder) -> bool:
    """Whether a process of this machine still runs, and is not another one of the same number."""
    pid = holder.get("pid")
    if not isinstance(pid, int) or not 0 < pid < 1 << 31:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it belongs to someone else
        pass
    began = _began(pid)
    return began is None or began == holder.get("began")


def _began(pid: int) -> str | None:
    """When a process began, as the kernel counts; "ended" if it has; None where none can tell."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()  # the name before may hold blanks
    return "ended" if state in "ZX" else fields[18]


def _machine() -> str:
    """The same for all processes that see each other's process numbers."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))  # containers number their own
    return " ".join(parts)


def _clock_of(folder: Path) -> float:
    """The present time by the clock that dates a folder's files: a network file system's own."""
    with tempfile.TemporaryFile(dir=folder) as file:
        return os.fstat(file.fileno()).st_mtime


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %z")


def holder_of_this_process() -> Holder:
    """Who this process is, for a lease."""
    pid = os.getpid()
    return {
        "host": socket.gethostname(),
        "pid": pid,
        "since": _now(),
        "command": shlex.join(sys.orig_argv)[:1000],
        "machine": _machine(),
        "began": _began(pid),
    }


def described(holder: Holder) -> str:
    """A holder, for messages."""
    if not holder:
        return "an unidentified process"
    host, pid, since, command = (holder.get(key) for key in ("host", "pid", "since", "command"))
    return f"process {pid} on {host} since {since} (`{command}`)"


def _refusal(folder: Path, file: Path) -> str:
    holder, _ = _read(file) or ({}, 0)
    return (
        f"{folder} is in use by {described(holder)}. Wait until it ends, or stop it (then the same "
        f"command resumes), or give another folder. If it has surely ended, delete {file}"
    )
