"""Scalars by step, in files; and how long a step takes."""

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pse_jax import distributed
from pse_jax.runs.folder import Run

Batch = TypeVar("Batch")


class ScalarWriter:
    """Writes to the run's metrics.jsonl and tensorboard/, on the main process alone."""

    def __init__(self, run: Run, start: int, tensorboard: bool):
        self.file, self.board = None, None
        if not distributed.is_main():
            return
        _drop_after(run.metrics, start)
        self.file = run.metrics.open("a")
        if tensorboard:
            from tensorboardX import SummaryWriter

            self.board = SummaryWriter(str(run.tensorboard), purge_step=start + 1)

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """One line; what is not finite becomes null, as JSON knows no NaN."""
        if self.file is None:
            return
        clean = {k: v if math.isfinite(v) else None for k, v in scalars.items()}
        self.file.write(json.dumps({"step": step, **clean}) + "\n")
        self.file.flush()
        if self.board is not None:
            for name, value in scalars.items():
                self.board.add_scalar(name, value, step)

    def close(self) -> None:
        """Writes out what is buffered."""
        for stream in (self.file, self.board):
            if stream is not None:
                stream.close()


def _drop_after(path: Path, step: int) -> None:
    """Drops lines of steps that a resumed run takes again."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:  # the line during which the run was killed
            continue
        if entry["step"] <= step:
            kept.append(line)
    path.write_text("".join(line + "\n" for line in kept))


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
