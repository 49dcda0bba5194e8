"""Scalars by step, in files."""

import json
import logging
import math
from collections.abc import Mapping
from typing import Any

from pse_jax import distributed
from pse_jax.errors import WriteError
from pse_jax.files import append_line, write_whole
from pse_jax.runs.folder import Run, read_metrics
from pse_jax.training.board import Board

logger = logging.getLogger(__name__)

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

    def evaluations(self) -> list[tuple[int, float]]:
        """Step and AP of every evaluation so far, on the main process; 0 where there is no AP."""
        rows = {step: json.loads(line) for (step, other), line in self.rows.items() if other}
        return [(step, rows[step].get("AP") or 0.0) for step in sorted(rows)]

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
