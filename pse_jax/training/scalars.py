"""Scalars by step, in files; and how long a step takes."""

import contextlib
import json
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pse_jax import distributed
from pse_jax.errors import WriteError
from pse_jax.files import append_line, reason, write_whole
from pse_jax.runs.folder import Run, read_metrics

if TYPE_CHECKING:
    from tensorboardX.event_file_writer import EventsWriter

logger = logging.getLogger(__name__)

Batch = TypeVar("Batch")
Key = tuple[int, bool]  # step; and whether it is of an evaluation, which follows the step's own


class ScalarWriter:
    """Writes to the run's metrics.jsonl and tensorboard/, on the main process alone.

    There is one row per step and kind, in order. What cannot be written is tried again with the
    next row, and never ends a run.
    """

    def __init__(self, run: Run, start: int, tensorboard: bool):
        self.path, self.main = run.metrics, distributed.is_main()
        self.rows: dict[Key, str] = {}
        self.unwritten = 0  # rows that metrics.jsonl lacks
        self.board = Board(run.tensorboard, start) if tensorboard and self.main else None
        if self.main:
            self._resume(start)

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """One row; what is not finite becomes null, as JSON knows no NaN."""
        if not self.main:
            return
        clean = {k: v if math.isfinite(v) else None for k, v in scalars.items()}
        key, line = _key(step, scalars), json.dumps({"step": step, **clean})
        if self.rows.get(key) == line:  # a repeated evaluation
            return
        last = max(self.rows, default=(-1, False))
        self.rows[key] = line
        try:
            if self.unwritten or key <= last:
                self._rewrite()
            else:
                append_line(self.path, line)
        except (OSError, WriteError) as error:
            self._failed(error)
        if self.board is not None:
            self.board.add(step, scalars)

    def close(self) -> None:
        """Writes what could not be written before, and says what is missing if it still cannot."""
        if self.unwritten:
            try:
                self._rewrite()
            except (OSError, WriteError):
                logger.error("%s: %d rows are missing at its end", self.path, self.unwritten)
        if self.board is not None:
            self.board.close()

    def _resume(self, start: int) -> None:
        """Drops rows of steps that a resumed run takes again, repeated ones and damaged lines."""
        rows, damaged = read_metrics(self.path)
        for step, row in rows:
            if step <= start:
                self.rows[_key(step, row)] = json.dumps(row)
        if damaged:
            logger.warning("%s: %d damaged lines are left out", self.path, damaged)
        if (later := sum(step > start for step, _ in rows)) > 0:
            logger.info("%s: %d rows of steps after %d are dropped", self.path, later, start)
        try:
            if self._content() != (self.path.read_bytes() if self.path.exists() else b""):
                self._rewrite()
        except (OSError, WriteError) as error:
            self._failed(error)

    def _content(self) -> bytes:
        return "".join(f"{self.rows[key]}\n" for key in sorted(self.rows)).encode()

    def _rewrite(self) -> None:
        write_whole(self.path, self._content(), "the metrics")
        if self.unwritten:
            logger.warning("%s is whole again: %d rows were late", self.path, self.unwritten)
        self.unwritten = 0

    def _failed(self, error: OSError | WriteError) -> None:
        if not self.unwritten:
            logger.error("metrics are kept in memory until they can be written: %s", error)
        self.unwritten += 1


def _key(step: int, row: Mapping[str, Any]) -> Key:
    return step, "loss" not in row


class Board:
    """TensorBoard's event files, written at once: tensorboardX's thread hangs on a full disk."""

    def __init__(self, folder: Path, start: int):
        self.folder, self.start = folder, start
        self.writer: EventsWriter | None = None  # opened by the first row, for the rest of the run
        self.opened = self.missing = 0

    def add(self, step: int, scalars: dict[str, float]) -> None:
        """Writes a row; on failure the next one begins another file, as this one may be cut."""
        values = [{"tag": name, "simple_value": value} for name, value in scalars.items()]
        try:
            self.writer = self.writer or self._open()
            self._event(step, summary={"value": values})
            self.writer.flush()
        except OSError as error:
            if not self.missing:
                logger.error("%s cannot be written: %s", self.folder, reason(error))
            self.missing += 1
            self._close_file()

    def close(self) -> None:
        """Says what is missing."""
        self._close_file()
        if self.missing:
            logger.error("%s: %d rows are missing", self.folder, self.missing)

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


class Clock:
    """Time per step, without those that compile: they would spoil the rate and the ETA."""

    def __init__(self) -> None:
        self.seconds = self.steps = 0.0
        self.last_wait = 0.0  # mean seconds per step waited for data in the last window
        self.start()

    def timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The same batches; counts them, and the time spent waiting for each."""
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                return
            self.waited += time.perf_counter() - began
            self.window += 1
            yield batch

    def start(self) -> None:
        """Begins a window of steps."""
        self.window, self.waited, self.started = 0, 0.0, time.perf_counter()

    def stop(self, compiled: bool) -> None:
        """Ends the window; one in which a program was compiled does not count."""
        if not compiled:
            self.seconds += time.perf_counter() - self.started
            self.steps += self.window
        self.last_wait = self.waited / max(self.window, 1)
        self.start()

    @property
    def step_seconds(self) -> float | None:
        """Mean seconds per step so far; None before the first window that counts."""
        return self.seconds / self.steps if self.steps else None
