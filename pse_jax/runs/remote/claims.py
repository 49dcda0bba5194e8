"""One process at a time writes to a remote folder: claims, renewed while it is held.

An object store has no file that only one process can create, so each writes a claim of its own,
DIR/claims/ID.json, and then lists those of the others: if it finds one of a process that may be
alive, it withdraws its own. Of two that begin at the same moment each sees the other, and both
withdraw; chance decides who tries again first. This is exact where listings are up to date, as
Google's and Amazon's are.

A holder on this machine is alive if its process is. One on another machine renews its claim, and is
given EXPIRES seconds to do so. One that slept longer may write until it next looks, at most RENEW
seconds later.
"""

import contextlib
import json
import logging
import random
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

from pse_jax import addresses
from pse_jax.addresses import Place
from pse_jax.errors import LockError, WriteError
from pse_jax.files import reason
from pse_jax.runs.lock import alive_here, described, holder_of_this_process

logger = logging.getLogger(__name__)

RENEW = 15.0  # seconds between two renewals of a claim
EXPIRES = 90.0  # seconds without one after which a holder on another machine counts as dead
POLL = 3.0  # seconds between two looks at the claim of another process
TRIES = 3  # to take a folder that others try to take at the same moment
WAIT = 1.0  # seconds; each try waits up to twice as long as the one before

Claim = dict[str, Any]


@contextlib.contextmanager
def held(folder: Place) -> Iterator["RemoteLock"]:
    """Keeps other processes out of a remote folder meanwhile.

    Raises:
        LockError: if another process holds it; says which.
        WriteError: if no claim can be written.
    """
    lock = RemoteLock(folder)
    try:
        yield lock
    finally:
        lock.release()


class RemoteLock:
    """A claim on a folder, which no other process has; raises as `held` does."""

    def __init__(self, folder: Place):
        self.folder, self.claims = folder, folder / "claims"
        self.name = f"{uuid.uuid4().hex}.json"
        self.content = holder_of_this_process()
        self.renewed = 0
        self.lost = ""  # how, once it is
        self.released = threading.Event()
        try:
            self._take()
        except OSError as error:
            raise WriteError(f"{self.claims} cannot be written: {reason(error)}") from error
        self.thread = threading.Thread(target=self._renew, name="claim", daemon=True)
        self.thread.start()

    def check(self) -> None:
        """Raises LockError if the claim was lost, as the last renewal found."""
        if self.lost:
            raise LockError(
                f"{self.folder} was {self.lost}. This process stops, so that no two write there; "
                "what it has saved is in the folder, and the same command resumes"
            )

    def check_now(self) -> None:
        """`check`, and looks."""
        self._look()
        self.check()

    def release(self) -> None:
        """Lets other processes have the folder."""
        self.released.set()
        self.thread.join()  # or it might write once more
        if not self.lost:
            with contextlib.suppress(OSError):  # it expires
                addresses.remove(self.claims / self.name)

    def _take(self) -> None:
        for attempt in range(TRIES):
            self._free()
            self._write()
            others = self._others()
            if not others:
                return
            addresses.remove(self.claims / self.name)
            time.sleep(random.uniform(0, WAIT * 2**attempt))
        name, claim = next(iter(others.items()))
        raise LockError(self._refusal(name, claim))

    def _free(self) -> None:
        """Removes the claims of the dead; raises LockError if one is of a living process."""
        first, began = self._others(), time.monotonic()
        waiting = {}
        for name, claim in first.items():
            alive = alive_here(claim)
            if alive:
                raise LockError(self._refusal(name, claim))
            if alive is None:
                waiting[name] = claim
                logger.info("waiting up to %.0f s for a sign of %s", EXPIRES, described(claim))
            else:
                addresses.remove(self.claims / name)
        while waiting:
            now = self._others()
            for name, claim in list(waiting.items()):
                if name not in now:  # it was released
                    del waiting[name]
                elif now[name] != claim:
                    raise LockError(self._refusal(name, now[name]))
                elif time.monotonic() - began > EXPIRES:
                    addresses.remove(self.claims / name)
                    del waiting[name]
            if waiting:
                time.sleep(POLL)

    def _others(self) -> dict[str, Claim]:
        found = {}
        for name in addresses.names(self.claims):
            if name == self.name:
                continue
            try:
                claim = json.loads(addresses.read(self.claims / name))
            except FileNotFoundError:
                continue
            except ValueError:
                claim = {}
            found[name] = claim if isinstance(claim, dict) else {}
        return found

    def _write(self) -> None:
        content = json.dumps(self.content | {"renewed": self.renewed}, indent=2) + "\n"
        addresses.write(self.claims / self.name, content.encode())

    def _look(self) -> None:
        with contextlib.suppress(OSError):  # what cannot be known now is not lost
            if self.name not in addresses.names(self.claims):
                others = list(self._others().values())
                by = f"taken over by {described(others[0])}" if others else "freed"
                self.lost = self.lost or f"{by}: {self.claims / self.name} is gone"

    def _renew(self) -> None:
        last = time.time()
        while not self.released.wait(RENEW) and not self.lost:
            self._look()
            if self.lost:
                return
            self.renewed += 1
            with contextlib.suppress(OSError):
                self._write()
                late, last = time.time() - last > EXPIRES / 2, time.time()
                if late and (others := list(self._others().values())):
                    # It was taken for dead, and has just come back.
                    self.lost = f"taken over by {described(others[0])}, as it did not answer"
                    addresses.remove(self.claims / self.name)

    def _refusal(self, name: str, claim: Claim) -> str:
        return (
            f"{self.folder} is in use by {described(claim)}. Wait until it ends, or stop it (then "
            "the same command resumes), or give another folder. If it has surely ended, remove "
            f"{self.claims / name}"
        )
