"""Hooks of one's own into training: `train(config, folder, callbacks=[...])`."""

import dataclasses
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pse_jax.config import Config

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class RunInfo:
    """What is about to be trained."""

    config: Config
    folder: Path  # of the run; of a run at an address, its local copy
    start: int  # the step that it begins or resumes from
    steps: int  # the last one
    facts: dict[str, str]  # what the log says before the first step


class Callback:
    """Does nothing; a subclass overrides what it needs.

    Called on the main process alone, by the thread that trains, which waits. An exception in one is
    logged and ends nothing.
    """

    def on_start(self, run: RunInfo) -> None:
        """Before the first step."""

    def on_scalars(self, step: int, scalars: dict[str, float]) -> None:
        """Every `train.log_every` steps: what metrics.jsonl gets; NaN where it gets null."""

    def on_evaluation(self, step: int, numbers: dict[str, Any]) -> None:
        """After an evaluation: what eval_STEP.json holds; its files are written."""

    def on_end(self, outcome: str) -> None:
        """At the end: "finished", "stopped early", "interrupted" (resumable) or "failed"."""


class Callbacks:
    """All of them, in their order; on the main process alone."""

    def __init__(self, callbacks: Sequence[Callback] = ()):
        self.callbacks = callbacks
        self.failed: set[tuple[int, str]] = set()

    def call(self, name: str, *arguments: Any) -> None:
        """Calls the method of that name; its first exception is logged with its traceback."""
        for number, callback in enumerate(self.callbacks):
            method: Callable[..., object] = getattr(callback, name)
            try:
                method(*arguments)
            except Exception as error:
                again = (number, name) in self.failed
                self.failed.add((number, name))
                what = f"{type(callback).__name__}.{name}"
                text = "the callback %s failed, training goes on: %s: %s"
                logger.error(
                    text, what, type(error).__name__, error, exc_info=None if again else error
                )
