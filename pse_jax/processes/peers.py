"""The other processes of this job: when one ends early or hangs, all the others end and say why.

Each process keeps a connection with process 0, which passes the news on.
"""

import ctypes
import json
import logging
import secrets
import signal
import socket
from collections.abc import Callable

from pse_jax.processes.link import LOST, Link, News, Peer

logger = logging.getLogger(__name__)

_link: Link | None = None


def listen(heartbeat: float, shutdown: float) -> str:
    """Called by process 0, of several; returns what the others pass to `join`.

    Args:
        heartbeat: seconds of silence after which a process is taken for hung.
        shutdown: seconds that processes may end after each other.
    """
    global _link
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    listener = socket.create_server(
        ("", 0), family=family, dualstack_ipv6=family == socket.AF_INET6, backlog=1024
    )
    token = secrets.token_hex(16)
    _link = Link(0, listener, token, heartbeat, shutdown)
    _link.thread.start()
    return f"{listener.getsockname()[1]} {token} {_link.host}"


def join(process: int, address: str, invitation: str, heartbeat: float, shutdown: float) -> None:
    """Called by every other process.

    Args:
        process: its number.
        address: of process 0, as this host names it.
        invitation: what `listen` returned there.
        heartbeat: seconds of silence after which a process is taken for hung.
        shutdown: seconds that processes may end after each other.
    """
    global _link
    port, token, host = invitation.split(" ", 2)
    try:
        connection = socket.create_connection((address, int(port)), timeout=30)
    except OSError as error:
        logger.warning(
            "process %d cannot reach process 0 (%s) at %s:%s (%s): should one of them die or hang, "
            "the other notices by JAX's own heartbeat alone, which does not name the process. "
            "Open all ports between these hosts",
            process, host, address, port, error,
        )  # fmt: skip
        return
    connection.settimeout(None)
    _link = Link(process, None, token, heartbeat, shutdown)
    hello = {"token": token, "process": process, "host": _link.host}
    connection.sendall(json.dumps(hello).encode() + b"\n")
    _link.add(connection)
    _link.names[connection] = Peer(0, host)
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


def begin_batch() -> None:
    """Counts a batch that this process begins, of training or of an evaluation."""
    if _link is not None:
        _link.batches += 1


def finish(seconds: float | None = None) -> None:
    """Says that this process is done, and waits until all are; ends it by name if one stays.

    Args:
        seconds: to wait, instead of the shutdown time of this job, and then to go on.
    """
    global _link
    link = _link
    if link is not None:
        link.tell(News(link.process, link.host))
        link.finishing = True
        link.thread.join(link.shutdown if seconds is None else seconds)
        missing = [peer for connection, peer in link.names.items() if connection not in link.done]
        if seconds is None and link.thread.is_alive() and missing:
            text = f" has not ended within {link.shutdown:g} s (--shutdown-timeout) of process "
            text += f"{link.process} ({link.host}), which was done"
            link.end(News(missing[0].process, missing[0].host, text, LOST))
            link.thread.join()
        _link = None


def linked() -> bool:
    """Whether there are other processes."""
    return _link is not None
