"""Asked to stop: by Ctrl-C (SIGINT), a closed terminal (SIGHUP) or the system (SIGTERM).

Python runs its handlers only between two bytecodes of the main thread, which may compile for
minutes. A thread hears of signals at once, so that nobody has to wait for it.
"""

import contextlib
import dataclasses
import logging
import shlex
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from pse_jax.processes import link, peers

logger = logging.getLogger(__name__)

PATIENCE = 5.0  # seconds that the main thread has to hear of a signal before the process is ended
INTERRUPTED = 130  # the exit status that shells give to Ctrl-C
NAMES = {
    getattr(signal, name): "Ctrl-C" if name == "SIGINT" else name
    for name in ("SIGINT", "SIGTERM", "SIGHUP")
    if hasattr(signal, name)
}


class Stopped(BaseException):
    """Raised where there is nothing to save; like KeyboardInterrupt no Exception."""


@dataclasses.dataclass
class _Training:
    """What `train` does when it is asked to stop; other commands are simply interrupted."""

    newest: Callable[[], str]  # what is safe, in words
    save: Callable[[], None] | None = None  # lets the loop save and end; None: nothing to save
    doing: str = "before the first step"
    asked: str = ""  # by what

    @property
    def farewell(self) -> str:
        return f"asked to stop ({self.asked}) {self.doing}: nothing is lost"


_training: _Training | None = None
_listening = False  # to signals, in a thread
_heard = threading.Event()  # that the main thread knows


def say_how_to_resume() -> None:
    """Logs the command line of this process, to be typed again."""
    logger.warning("to resume: %s", shlex.join(sys.orig_argv))


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Within, Ctrl-C raises KeyboardInterrupt; a second one ends the process at once.

    So does the first, if the main thread does not hear of it because it compiles or waits.
    """
    global _listening
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    before = {number: signal.getsignal(number) for number in NAMES}
    wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_listen, args=(reader,), name="signals", daemon=True).start()
    _heard.clear()
    _listening = True
    try:
        keep_handlers()
        yield
    finally:
        _listening = False
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
        signal.set_wakeup_fd(wakeup)
        writer.close()


@contextlib.contextmanager
def saving(newest: Callable[[], str]) -> Iterator[None]:
    """Within, SIGINT, SIGTERM and SIGHUP ask training to save and stop.

    A signal that was being ignored, as SIGHUP is under nohup, stays so.

    Args:
        newest: says which state is safe.
    """
    global _training
    _training = training = _Training(newest)
    keep_handlers()
    try:
        yield
    except Stopped:
        logger.warning(training.farewell)
        peers.end_all(f" was {training.farewell}", 0, last=say_how_to_resume)
    finally:
        _training = None


def keep_handlers() -> None:
    """Puts our handlers in place; again after JAX, which takes SIGTERM and only remembers it."""
    if not _listening or threading.current_thread() is not threading.main_thread():
        return
    for number in NAMES:
        if signal.getsignal(number) is not signal.SIG_IGN:
            ours = _training is not None or number == signal.SIGINT
            signal.signal(number, _on_signal if ours else signal.SIG_DFL)


def save_from_now_on(save: Callable[[], None]) -> None:
    """From here on there is something to save, and `save` makes the loop do so and end."""
    if _training is not None and _training.save is None:
        _training.save = save
        if _training.asked:
            save()


@contextlib.contextmanager
def nothing_to_save(doing: str) -> Iterator[None]:
    """Within, all that was computed is on the disk: training may be ended anywhere."""
    training = _training
    if training is None:
        yield
        return
    save, before = training.save, training.doing
    training.doing, training.save = doing, None
    if training.asked:
        raise Stopped
    yield
    training.doing = before
    if save is not None:
        save_from_now_on(save)


def _on_signal(number: int, frame: Any) -> None:
    """In the main thread, as soon as it runs Python."""
    _heard.set()
    if _training is None:
        raise KeyboardInterrupt
    _training.asked = _training.asked or NAMES[number]
    if _training.save is None:
        raise Stopped


def _listen(pipe: socket.socket) -> None:
    """In a thread: hears of every signal at once."""
    first, interrupts = True, 0
    while True:
        try:
            received = pipe.recv(1)
        except TimeoutError:
            pipe.settimeout(None)
            if not _heard.is_set():
                _end(_training)
            continue
        if not received:
            return
        if received[0] not in NAMES or (_training is None and received[0] != signal.SIGINT):
            continue
        interrupts += received[0] == signal.SIGINT
        if interrupts > 1:
            _end(_training, at_once=True)
        if first:
            first = False
            pipe.settimeout(PATIENCE)
            _ask(_training, NAMES[received[0]])


def _ask(training: _Training | None, by: str) -> None:
    if training is not None:
        training.asked = training.asked or by
        if training.save is not None:
            _heard.set()  # the loop will, whatever the main thread is at
            logger.warning("asked to stop (%s): saving; Ctrl-C, once more, stops at once", by)
            try:
                training.save()
            except Exception as error:  # or nobody would hear of the next Ctrl-C
                logger.error("the processes cannot be asked to save: %s", error)


def _end(training: _Training | None, at_once: bool = False) -> None:
    """Ends this process and its peers, whatever the main thread is at."""
    if training is None:
        text, status = "stopped by Ctrl-C", INTERRUPTED
    elif at_once:
        text, status = f"stopped at once by Ctrl-C; {training.newest()}", INTERRUPTED
    else:
        text, status = training.farewell, 0
    logger.warning(text)
    last = say_how_to_resume if training else None
    peers.end_all(f" was {text}", status, last)
    if last:
        last()
    link.exit_now(status)
