"""Where the time of a run goes, how fast its steps are, and when it will be done."""

import contextlib
import datetime
import json
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pse_jax.errors import WriteError
from pse_jax.files import write_whole

logger = logging.getLogger(__name__)

# What a run spends its time on: until the first batch is asked for; compiling the step; waiting for
# data; computing steps; evaluating; waiting for a checkpoint.
KINDS = ("start", "compile", "data", "step", "evaluate", "save")
RECENT = 10  # windows of steps from whose pace the time left is computed
WRITE_EVERY = 10.0  # seconds


class Clock:
    """At every moment the time belongs to one of KINDS, so that together they are all the time."""

    def __init__(self, now: Callable[[], float] = time.perf_counter):
        self.now, self.kind, self.since = now, "start", now()
        self.seconds = dict.fromkeys(KINDS, 0.0)
        self.counts = dict.fromkeys(KINDS, 0)  # how often each was entered by `during`
        self.windows: deque[tuple[float, int]] = deque(maxlen=RECENT)  # seconds and steps
        self.began, self.steps = (0.0, 0.0), 0  # of the window: its data and step; steps finished
        self.data_share = 0.0  # of the last window, spent waiting for data

    def turn_to(self, kind: str) -> None:
        """From now on the time belongs to `kind`."""
        now = self.now()
        self.seconds[self.kind] += now - self.since
        self.kind, self.since = kind, now

    @contextlib.contextmanager
    def during(self, kind: str) -> Iterator[None]:
        """Within, the time belongs to `kind`; afterwards to what it belonged to before."""
        before = self.kind
        self.turn_to(kind)
        try:
            yield
        finally:
            self.turn_to(before)
            self.counts[kind] += 1

    def finished(self, steps: int = 1) -> None:
        """So many more steps of the window are computed."""
        self.steps += steps

    def close_window(self) -> None:
        """Ends a window of steps; one without a finished step says nothing."""
        data, step = self._window()
        if self.steps:
            self.windows.append((data + step, self.steps))
            self.data_share = data / max(data + step, 1e-9)
        self.began, self.steps = (self.seconds["data"], self.seconds["step"]), 0

    @property
    def step_seconds(self) -> float | None:
        """Seconds per step in the last window; None before a step is finished."""
        seconds, steps = self.windows[-1] if self.windows else (sum(self._window()), self.steps)
        return seconds / steps if steps else None

    def left(self, steps: int, others: Mapping[str, int]) -> float | None:
        """Seconds until the end; None before a step is finished.

        Args:
            steps: to be taken, at the pace of the last windows.
            others: how often something else is still to be done, at its mean duration up to now;
                what was never done yet counts as nothing, as nobody knows.
        """
        if (pace := self.step_seconds) is None:
            return None
        if self.windows:
            pace = sum(seconds for seconds, _ in self.windows) / sum(n for _, n in self.windows)
        return steps * pace + sum(n * (self.mean(kind) or 0.0) for kind, n in others.items())

    def mean(self, kind: str) -> float | None:
        """Seconds that something took on average; None if it was not done yet."""
        return self.seconds[kind] / self.counts[kind] if self.counts[kind] else None

    def _window(self) -> tuple[float, float]:
        """Seconds for data and for steps in the present window."""
        self.turn_to(self.kind)
        return self.seconds["data"] - self.began[0], self.seconds["step"] - self.began[1]


class Times:
    """times.json: the seconds of every process that has trained this run, and their sum.

    {"seconds": {kind: s}, "sessions": [{"began": ISO 8601, "from_step", "to_step", "seconds"}]}
    """

    def __init__(self, path: Path, clock: Clock, start: int):
        self.path, self.clock, self.start = path, clock, start
        self.sessions = read_times(path)["sessions"]
        self.began = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self.written = -WRITE_EVERY
        self.failed = False

    def write(self, step: int, *, now: bool = False) -> None:
        """Writes the file, if it is some seconds old or if asked to; never ends a run."""
        self.clock.turn_to(self.clock.kind)
        if not now and self.clock.since - self.written < WRITE_EVERY:
            return
        self.written = self.clock.since
        seconds = {kind: round(value, 3) for kind, value in self.clock.seconds.items()}
        span = {"began": self.began, "from_step": self.start, "to_step": step}
        sessions = [*self.sessions, {**span, "seconds": seconds}]
        content = {"seconds": _sum(sessions), "sessions": sessions}
        try:
            write_whole(self.path, json.dumps(content, indent=2) + "\n", "the times")
        except (OSError, WriteError) as error:
            if not self.failed:
                logger.error("the times of this run are not kept: %s", error)
            self.failed = True


def read_times(path: Path) -> dict[str, Any]:
    """What times.json holds; no session if it is missing or damaged."""
    try:
        content = json.loads(path.read_bytes())
        sessions = [s for s in content["sessions"] if set(s["seconds"]) >= set(KINDS)]
        return {"seconds": _sum(sessions), "sessions": sessions}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {"seconds": dict.fromkeys(KINDS, 0.0), "sessions": []}


def _sum(sessions: list[dict[str, Any]]) -> dict[str, float]:
    return {kind: round(sum(s["seconds"][kind] for s in sessions), 3) for kind in KINDS}
