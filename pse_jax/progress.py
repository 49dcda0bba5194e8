"""Progress a person can see: a live bar on a terminal, plain lines in a log."""

import contextlib
import errno
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

FORMAT = logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S")
FILE_FORMAT = logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S")


class _AboveBar(logging.Handler):
    """Writes to standard error, above a bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            tqdm.write(self.format(record), file=sys.stderr)
            sys.stderr.flush()
        except OSError as error:  # a line of the log is no reason to end
            if error.errno in (errno.EIO, errno.EPIPE):
                _lose_stderr()


def _lose_stderr() -> None:
    """The terminal is closed, or who read our output is gone: from now on it goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError, ValueError):
        os.dup2(nowhere, sys.stderr.fileno())
    os.close(nowhere)


def show_log() -> None:
    """Sends this package's log lines to standard error; other packages' stay where they are."""
    logger = logging.getLogger("pse_jax")
    if any(isinstance(handler, _AboveBar) for handler in logger.handlers):
        return
    handler = _AboveBar()
    handler.setFormatter(FORMAT)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


@contextlib.contextmanager
def log_to(file: Path | None) -> Iterator[None]:
    """Sends this package's log lines also to a file; with None, nowhere else."""
    logger = logging.getLogger("pse_jax")
    handler = logging.FileHandler(file) if file else logging.NullHandler()
    handler.setFormatter(FILE_FORMAT)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


def bar(total: int, description: str, initial: int = 0, unit: str = "it") -> tqdm:
    """A bar on standard error; nothing at all where that is no terminal. Bytes are unit "B"."""
    return tqdm(
        total=total,
        unit=unit,
        unit_scale=unit == "B",
        desc=description,
        initial=initial,
        disable=None,
        dynamic_ncols=True,
        leave=False,
    )


def duration(seconds: float) -> str:
    """`5h12m`, `3m07s` or `42s`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{seconds:02d}s" if minutes else f"{seconds}s"
