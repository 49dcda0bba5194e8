"""Connections between the processes of a job, and the thread that watches them.

Each process has one, by TCP, with process 0. That of a process which dies is closed by its system:
this is noticed at once. A thread of every process sends a beat every few seconds, also while the
main thread compiles, computes or waits: who is silent for longer than the heartbeat is suspended,
deadlocked or cut off. The beat says how many batches the process has begun, so that the one that
all others wait for can be named.
"""

import contextlib
import dataclasses
import json
import logging
import os
import secrets
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

logger = logging.getLogger(__name__)

LOST = 3  # the exit status of those that a process leaves behind
PATIENCE = 5.0  # seconds that process 0 gives the others to end first
LONGEST = 1 << 20  # bytes of a message
LONGEST_BEAT = 5.0  # seconds between two beats, at most
SAFE = "What was saved is safe: the same command, on every process, resumes"
GONE = (
    " is gone: killed, out of memory, preempted, or its host is lost; its own output may say more. "
)


@dataclasses.dataclass(frozen=True)
class News:
    """What a process says to the others."""

    process: int
    host: str
    text: str = ""  # why it ends early, what follows "process 3 (host)"; empty: it is done
    status: int = 0  # the exit status, of all


@dataclasses.dataclass
class Peer:
    """Whoever is at the other end of a connection."""

    process: int
    host: str
    silent: float = 0.0  # seconds, counted while this process itself runs
    batches: int = 0  # that it has begun


class Link:
    """This process's connections, watched by a thread that ends the process on bad news."""

    def __init__(
        self,
        process: int,
        listener: socket.socket | None,
        token: str,
        heartbeat: float,
        shutdown: float,
    ):
        self.process, self.host, self.token = process, socket.gethostname(), token
        self.heartbeat, self.shutdown = heartbeat, shutdown  # seconds
        self.batches = 0  # that this process has begun
        self.slowest, self.stalled, self.reported = (0, 0), 0.0, False
        self.names: dict[socket.socket, Peer] = {}  # who is at the other end
        self.unread: dict[socket.socket, bytes] = {}
        self.done: set[socket.socket] = set()
        self.selector = selectors.DefaultSelector()
        self.listener = listener
        if listener is not None:
            self.selector.register(listener, selectors.EVENT_READ)
        self.finishing = False
        self.status: int | None = None  # once it is known that all end early
        self.deadline = 0.0
        self.last: Callable[[], None] | None = None  # called before the end
        self.lock, self.sending = threading.Lock(), threading.Lock()
        self.thread = threading.Thread(target=self._watch, name="peers", daemon=True)

    def add(self, connection: socket.socket) -> None:
        """Watches one more connection."""
        self.unread[connection] = b""
        self.selector.register(connection, selectors.EVENT_READ)

    def tell(self, news: News, but: socket.socket | None = None) -> None:
        """Sends to everyone at the other end of a connection."""
        self._send(json.dumps(dataclasses.asdict(news)), but)

    def _send(self, line: str, but: socket.socket | None = None) -> None:
        for connection in list(self.names):
            if connection is not but:
                with contextlib.suppress(OSError), self.sending:
                    connection.sendall(line.encode() + b"\n")

    def end(self, news: News, source: socket.socket | None = None) -> None:
        """Passes bad news on and lets the watching thread end this process."""
        with self.lock:
            if self.status is not None:
                return
            # JAX's service lives in process 0: without it the others die before they can speak.
            self.deadline = time.monotonic() + (PATIENCE if self.process == 0 else 0)
            self.tell(news, but=source)
            if news.process != self.process or source is not None:
                level = logging.ERROR if news.status else logging.WARNING
                logger.log(level, "process %d (%s)%s", news.process, news.host, news.text)
            self.status = news.status  # from here on the thread ends this process

    def _watch(self) -> None:
        every, last = min(self.heartbeat / 10, LONGEST_BEAT), time.monotonic()
        while self.status is None or (self.names and time.monotonic() < self.deadline):
            if self.finishing and self.done >= set(self.names):
                return
            if (passed := time.monotonic() - last) >= every:
                last += passed
                self._send(str(self.batches))
                # Of the time that this process was itself suspended, little counts.
                self._look_for_silence(min(passed, 2 * every))
            for key, _ in self.selector.select(timeout=0.1):
                if self.listener is not None and key.fileobj is self.listener:
                    with contextlib.suppress(OSError):
                        self.add(self.listener.accept()[0])
                else:
                    self._read(key.fileobj)  # pyright: ignore[reportArgumentType]
        if self.last is not None:
            self.last()
        exit_now(self.status)

    def _look_for_silence(self, passed: float) -> None:
        """Ends all if one has not been heard for too long."""
        for connection, peer in list(self.names.items()):
            peer.silent += passed
            if peer.silent > self.heartbeat and connection not in self.done:
                text = (
                    f" has not answered for {self.heartbeat:g} s (--heartbeat): it is suspended or "
                    f"deadlocked, or its host is lost or cut off. {SAFE}"
                )
                self.end(News(peer.process, peer.host, text, LOST))
        self._look_for_stalls(passed)

    def _look_for_stalls(self, passed: float) -> None:
        """Process 0 says, once, which process the others wait for: it lives, but does not go on."""
        if self.process != 0 or not self.names:
            return
        ours = Peer(0, self.host, batches=self.batches)
        last = min([ours, *self.names.values()], key=lambda peer: peer.batches)
        ahead = max(self.batches, *(peer.batches for peer in self.names.values())) - last.batches
        if self.slowest != (last.process, last.batches) or not ahead:
            self.slowest, self.stalled, self.reported = (last.process, last.batches), 0.0, False
        self.stalled += passed
        if self.stalled > self.heartbeat and not self.reported:
            self.reported = True
            logger.warning(
                "process %d (%s) has begun no batch for %.0f s and is %d behind: the others wait "
                "for it. It may wait for its data; its own output may say more",
                last.process, last.host, self.stalled, ahead,
            )  # fmt: skip

    def _read(self, connection: socket.socket) -> None:
        try:
            received = connection.recv(1 << 16)
        except OSError:
            received = b""
        *lines, self.unread[connection] = (self.unread[connection] + received).split(b"\n")
        try:
            for line in lines:
                self._hear(connection, json.loads(line))
        except (ValueError, TypeError, KeyError, AttributeError):  # whoever this is, it is no peer
            received = b""
        if not received or len(self.unread[connection]) > LONGEST:
            self.selector.unregister(connection)
            connection.close()
            who = self.names.pop(connection, None)
            if who and connection not in self.done:
                self.end(News(who.process, who.host, GONE + SAFE, LOST))

    def _hear(self, connection: socket.socket, message: Any) -> None:
        if connection not in self.names:
            if not secrets.compare_digest(message.pop("token", ""), self.token):
                raise ValueError("not one of this job")
            self.names[connection] = Peer(message["process"], message["host"])
            return
        self.names[connection].silent = 0.0
        if isinstance(message, int):  # a beat
            self.names[connection].batches = message
            return
        news = News(**message)
        if news.text:
            self.end(news, connection)
        else:
            self.done.add(connection)


def exit_now(status: int) -> None:
    """Ends this process without what Python and JAX do at the end, which waits for the others."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)
