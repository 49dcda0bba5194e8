"""TensorBoard's event files: scalars in groups, pictures, text."""

import contextlib
import logging
import os
import struct
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pse_jax.files import reason

if TYPE_CHECKING:
    from tensorboardX.event_file_writer import EventsWriter

logger = logging.getLogger(__name__)

TIMES = ("images_per_second", "data_share")  # scalars of a training row that are about speed


def group_of(name: str, row: Mapping[str, object]) -> str:
    """The group in which TensorBoard shows a scalar: time, train, or eval (a row without loss)."""
    if name in TIMES:
        return "time"
    return "train" if "loss" in row else "eval"


@contextlib.contextmanager
def _without_torch() -> Iterator[None]:
    """Within, PyTorch looks as if it were not installed: tensorboardX takes seconds to import it.

    It is for tensors, of which there are none here.
    """
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None  # pyright: ignore[reportArgumentType]
    try:
        yield
    finally:
        del sys.modules["torch"]


class Board:
    """Written at once, by this thread: tensorboardX's own hangs on a full disk.

    What cannot be written is counted and never ends a run.
    """

    def __init__(self, folder: Path, start: int):
        with _without_torch():
            import tensorboardX  # noqa: F401
        self.folder, self.start = folder, start
        self.writer: EventsWriter | None = None  # opened by the first event, for the whole run
        self.opened = self.missing = 0

    def add(self, step: int, scalars: Mapping[str, float]) -> None:
        """One row, each scalar as GROUP/NAME."""
        values = [
            {"tag": f"{group_of(name, scalars)}/{name}", "simple_value": value}
            for name, value in scalars.items()
        ]
        self._write(lambda: self._event(step, summary={"value": values}))

    def add_image(self, step: int, tag: str, png: bytes) -> None:
        """A picture; `tag` as GROUP/NAME.

        Raises:
            ValueError: if the bytes are no PNG file.
        """
        if png[:8] != b"\x89PNG\r\n\x1a\n" or len(png) < 24:
            raise ValueError(f"the picture {tag} is not a PNG file")
        width, height = struct.unpack(">II", png[16:24])  # of the header, which comes first
        size = {"height": height, "width": width, "colorspace": 3}
        value = {"tag": tag, "image": {**size, "encoded_image_string": png}}
        self._write(lambda: self._event(step, summary={"value": [value]}))

    def add_text(self, tag: str, text: str, step: int | None = None) -> None:
        """Text, as Markdown; by default of the step from which this process trains."""
        from tensorboardX.summary import text as summary_of

        at = self.start if step is None else step
        self._write(lambda: self._event(at, summary=summary_of(tag, text)))

    def close(self) -> None:
        """Says what is missing."""
        self._close_file()
        if self.missing:
            logger.error("%s: %d rows are missing", self.folder, self.missing)

    def _write(self, write: Callable[[], None]) -> None:
        """On failure the next event begins another file, as this one may be cut."""
        try:
            self.writer = self.writer or self._open()
            write()
            self.writer.flush()
        except OSError as error:
            if not self.missing:
                logger.error("%s cannot be written: %s", self.folder, reason(error))
            self.missing += 1
            self._close_file()

    def _open(self) -> "EventsWriter":
        from tensorboardX.event_file_writer import EventsWriter

        self.folder.mkdir(parents=True, exist_ok=True)
        self.opened += 1
        suffix = f".{os.getpid()}.{time.time_ns()}"  # opening a file of the same name empties it
        self.writer = EventsWriter(str(self.folder / "events"), suffix)
        if self.opened == 1:  # what a killed run wrote after the step from which this one resumes
            self._event(self.start + 1, session_log={"status": "START"})
        return self.writer

    def _event(self, step: int, **content: object) -> None:
        from tensorboardX.proto.event_pb2 import Event  # pyright: ignore

        assert self.writer is not None
        self.writer.write_event(Event(wall_time=time.time(), step=step, **content))

    def _close_file(self) -> None:
        if self.writer is not None:
            with contextlib.suppress(OSError):
                self.writer.close()
        self.writer = None
