"""The other processes of this job: when one ends early, all the others end at once and say why.

Each process keeps a TCP connection with process 0, which passes the news on. Nothing is sent while
all is well. The connection of a process that dies is closed by its system, and a host that is lost
stops answering TCP's probes, which the systems answer, not Python: a process that compiles,
computes or is suspended for long is never taken for dead.
"""

import contextlib
import ctypes
import dataclasses
import json
import logging
import os
import secrets
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)

HOST_LOST_SECONDS = 60  # until a host that is cut off is noticed; a process that dies is at once
LOST = 3  # the exit status of those that a process leaves behind
PATIENCE = 5.0  # seconds that process 0 gives the others to end first
LONGEST = 1 << 20  # bytes of a message
FINISH_SECONDS = 300.0  # that processes may take to end normally after each other


@dataclasses.dataclass(frozen=True)
class News:
    """What a process says to the others."""

    process: int
    host: str
    text: str = ""  # why it ends early, what follows "process 3 (host)"; empty: it is done
    status: int = 0  # the exit status, of all


def _lost(process: int, host: str) -> News:
    text = (
        " is gone: killed, out of memory, preempted, or its host is lost; its own output may say "
        "more. What was saved is safe: the same command, on every process, resumes"
    )
    return News(process, host, text, LOST)


class Link:
    """This process's connections, watched by a thread that ends the process on bad news."""

    def __init__(self, process: int, listener: socket.socket | None, token: str):
        self.process, self.host, self.token = process, socket.gethostname(), token
        self.names: dict[socket.socket, tuple[int, str]] = {}  # who is at the other end
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
        self.lock = threading.Lock()
        self.thread = threading.Thread(target=self._watch, name="peers", daemon=True)

    def add(self, connection: socket.socket) -> None:
        """Watches one more connection."""
        _probe(connection)
        self.unread[connection] = b""
        self.selector.register(connection, selectors.EVENT_READ)

    def tell(self, news: News, but: socket.socket | None = None) -> None:
        """Sends to everyone at the other end of a connection."""
        line = json.dumps(dataclasses.asdict(news)).encode() + b"\n"
        for connection in list(self.names):
            if connection is not but:
                with contextlib.suppress(OSError):
                    connection.sendall(line)

    def end(self, news: News, source: socket.socket | None = None) -> None:
        """Passes bad news on and lets the watching thread end this process."""
        with self.lock:
            if self.status is not None:
                return
            # JAX's service lives in process 0: without it the others die before they can speak.
            self.deadline = time.monotonic() + (PATIENCE if self.process == 0 else 0)
            self.tell(news, but=source)
            self.status = news.status
        if news.process != self.process:
            level = logging.ERROR if news.status else logging.WARNING
            logger.log(level, "process %d (%s)%s", news.process, news.host, news.text)

    def _watch(self) -> None:
        while self.status is None or (self.names and time.monotonic() < self.deadline):
            if self.finishing and self.done >= set(self.names):
                return
            for key, _ in self.selector.select(timeout=0.1):
                if self.listener is not None and key.fileobj is self.listener:
                    with contextlib.suppress(OSError):
                        self.add(self.listener.accept()[0])
                else:
                    self._read(key.fileobj)  # pyright: ignore[reportArgumentType]
        if self.last is not None:
            self.last()
        exit_now(self.status)

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
                self.end(_lost(*who))

    def _hear(self, connection: socket.socket, message: dict) -> None:
        if connection not in self.names:
            if not secrets.compare_digest(message.pop("token", ""), self.token):
                raise ValueError("not one of this job")
            self.names[connection] = (message["process"], message["host"])
            return
        news = News(**message)
        if news.text:
            self.end(news, connection)
        else:
            self.done.add(connection)


_link: Link | None = None


def listen() -> str:
    """Called by process 0, of several; returns what the others pass to `join`."""
    global _link
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    listener = socket.create_server(
        ("", 0), family=family, dualstack_ipv6=family == socket.AF_INET6, backlog=1024
    )
    token = secrets.token_hex(16)
    _link = Link(0, listener, token)
    _link.thread.start()
    return f"{listener.getsockname()[1]} {token} {_link.host}"


def join(process: int, address: str, invitation: str) -> None:
    """Called by every other process.

    Args:
        process: its number.
        address: of process 0, as this host names it.
        invitation: what `listen` returned there.
    """
    global _link
    port, token, host = invitation.split(" ", 2)
    try:
        connection = socket.create_connection((address, int(port)), timeout=30)
    except OSError as error:
        logger.warning(
            "process %d cannot reach process 0 (%s) at %s:%s (%s): should one of them die, the "
            "other notices after minutes. Open all ports between these hosts",
            process, host, address, port, error,
        )  # fmt: skip
        return
    connection.settimeout(None)
    _link = Link(process, None, token)
    hello = {"token": token, "process": process, "host": _link.host}
    connection.sendall(json.dumps(hello).encode() + b"\n")
    _link.add(connection)
    _link.names[connection] = (0, host)
    _link.thread.start()
    _delay_abort()


def _delay_abort() -> None:
    """Lets a process speak before JAX aborts it, which it does when process 0 dies.

    The handler of SIGABRT is `sleep`, called with the signal's number: six seconds.
    """
    libc = ctypes.CDLL(None)
    libc.signal.argtypes, libc.signal.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
    libc.signal(signal.SIGABRT, ctypes.cast(libc.sleep, ctypes.c_void_p))


def end_all(text: str, status: int, last: Callable[[], None] | None = None) -> None:
    """Ends this process and all others, each with that status; returns only if there are none.

    Args:
        text: why, what follows "process 3 (host)" in the message of the others.
        status: the exit status of all.
        last: is called before this process ends.
    """
    if _link is not None:
        _link.last = last
        _link.end(News(_link.process, _link.host, text, status))
        _link.thread.join()


def wait_for_bad_news(seconds: float = 2.0) -> None:
    """Gives the watching thread time to end this process, if there are others."""
    if _link is not None:
        _link.thread.join(seconds)


def finish(seconds: float = FINISH_SECONDS) -> None:
    """Says that this process is done, and waits, at most so long, until all are."""
    global _link
    if _link is not None:
        _link.tell(News(_link.process, _link.host))
        _link.finishing = True
        _link.thread.join(seconds)
        _link = None


def linked() -> bool:
    """Whether there are other processes."""
    return _link is not None


def _probe(connection: socket.socket) -> None:
    """Lets the system find out that the other host is lost."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", HOST_LOST_SECONDS // 3),
        ("TCP_KEEPINTVL", HOST_LOST_SECONDS // 6),
        ("TCP_KEEPCNT", 4),
    ):
        if hasattr(socket, option):  # not on every system
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def exit_now(status: int) -> None:
    """Ends this process without what Python and JAX do at the end, which waits for the others."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)
