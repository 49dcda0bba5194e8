"""Progress a person can see: a live bar on a terminal, plain lines in a log."""

import contextlib
import logging
import sys
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TextIO, TypeVar, cast

from tqdm import tqdm

from pse_jax.addresses import named
from pse_jax.errors import UserError
from pse_jax.files import append_line

In = TypeVar("In")
Out = TypeVar("Out")
FORMAT = logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S")
FILE_FORMAT = logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S")
OWN_TEXT = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
LOST = (OSError, ValueError, AttributeError)  # of a stream that is broken, closed, or None


class Lines(logging.Handler):
    """Writes log lines; one that fails (a full disk, a closed terminal) is counted, not raised."""

    def __init__(self, where: str, write: Callable[[str], object]):
        super().__init__()
        self.where, self.write = where, write
        self.missing, self.why = 0, ""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a line, and before it how many are missing since the last that was written."""
        line = named(self.format(record))
        if self.missing:
            line = f"\n{self.report()}\n{line}"
        try:
            self.write(line)
            self.missing = 0
        except LOST as error:
            self.missing += 1
            self.why = str(getattr(error, "strerror", None) or error)

    def report(self) -> str:
        """`train.log: 3 lines could not be written (No space left on device)`."""
        lines = "line" if self.missing == 1 else "lines"
        return f"{named(self.where)}: {self.missing} {lines} could not be written ({self.why})"


class _Standard:
    """Standard error for a bar: what cannot be shown does not end the work."""

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)

    def __eq__(self, other: object) -> bool:
        return other is sys.stderr  # so that log lines know that they share it with a bar

    def write(self, text: str) -> None:
        with contextlib.suppress(*LOST):
            sys.stderr.write(text)

    def flush(self) -> None:
        with contextlib.suppress(*LOST):
            sys.stderr.flush()


def _above_bar(line: str) -> None:
    """Writes to standard error, above a bar instead of through it."""
    if sys.stderr is not None:  # it is where the process was started without one
        tqdm.write(line, file=sys.stderr)
        sys.stderr.flush()


def show_log() -> None:
    """Sends this package's log lines to standard error; other packages' stay where they are."""
    logger = logging.getLogger("pse_jax")
    if any(
        isinstance(handler, Lines) and handler.write is _above_bar for handler in logger.handlers
    ):
        return
    handler = Lines("standard error", _above_bar)
    handler.setFormatter(FORMAT)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


@contextlib.contextmanager
def log_to(file: Path | None) -> Iterator[None]:
    """Sends this package's log lines also to a file; with None, nowhere else.

    An exception that ends it is written to the file, too. At the end each log says how many lines
    are missing in another.
    """
    logger = logging.getLogger("pse_jax")
    handler = Lines(str(file), partial(append_line, file)) if file else logging.NullHandler()
    handler.setFormatter(FILE_FORMAT)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    except Exception as error:  # shown elsewhere by whoever catches it
        known = isinstance(error, UserError)
        text = f"error: {error}" if known else "".join(traceback.format_exception(error)).rstrip()
        handler.handle(logging.makeLogRecord({"msg": "%s", "args": (text,)}))
        raise
    finally:
        for log in list(logger.handlers):
            if isinstance(log, Lines) and log.missing:
                logger.warning(log.report())
        logger.removeHandler(handler)
        handler.close()


def bar(
    total: int, description: str, initial: int = 0, unit: str = "it", own_text: bool = False
) -> tqdm:
    """A bar on standard error; nothing at all where that is no terminal.

    Args:
        total: units of work.
        description: of the work.
        initial: units that are done already.
        unit: its name; bytes are "B".
        own_text: whether its postfix says the rate and the time left, in place of tqdm's own.
    """
    return tqdm(
        total=total,
        file=cast(TextIO, _Standard()),
        unit=unit,
        unit_scale=unit == "B",
        desc=description,
        initial=initial,
        disable=None,
        dynamic_ncols=True,
        leave=False,
        bar_format=OWN_TEXT if own_text else None,
    )


def each(
    function: Callable[[In], Out], items: Sequence[In], description: str, threads: int
) -> Iterator[Out]:
    """What a function makes of each item, in their order, computed by threads, with a bar.

    The first error ends it, and so does Ctrl-C, without waiting for the rest.
    """
    made = ahead(function, items, threads, len(items))
    with contextlib.closing(made), bar(len(items), description) as shown:
        for one in made:
            yield one
            shown.update()


def ahead(
    function: Callable[[In], Out], items: Iterable[In], threads: int, depth: int
) -> Generator[Out]:
    """What a function makes of each item, in their order, by threads that are `depth` ahead."""
    executor, coming = ThreadPoolExecutor(threads), deque()
    try:
        for item in items:
            coming.append(executor.submit(function, item))
            if len(coming) > depth:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
    finally:
        executor.shutdown(cancel_futures=True)


def duration(seconds: float) -> str:
    """`5h12m`, `3m07s` or `42s`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{seconds:02d}s" if minutes else f"{seconds}s"
