"""Scalars by step, in files; and how long a step takes."""

import json
import logging
import math
import time
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pse_jax import distributed
from pse_jax.errors import WriteError
from pse_jax.files import append_line, write_whole
from pse_jax.runs.folder import Run, read_metrics
from pse_jax.training.board import Board

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

    def add_image(self, step: int, tag: str, png: bytes) -> None:
        """A picture for TensorBoard, `tag` as GROUP/NAME; nothing where it is off."""
        if self.board is not None:
            self.board.add_image(step, tag, png)

    def add_text(self, tag: str, text: str) -> None:
        """Text for TensorBoard, as Markdown; nothing where it is off."""
        if self.board is not None:
            self.board.add_text(tag, text)

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
