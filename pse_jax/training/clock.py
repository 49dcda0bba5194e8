"""Where the time of a run goes, how fast its steps are, and when it will be done."""

import contextlib
import datetime
import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import jax

from pse_jax.errors import WriteError
from pse_jax.files import write_whole
from pse_jax.runs.times import KINDS, read_times, summed

logger = logging.getLogger(__name__)

RECENT = 10  # windows of steps from whose pace the time left is computed
WRITE_EVERY = 10.0  # seconds
COMPILED = "/jax/core/compile/backend_compile_duration"  # what JAX calls it


class Clock:
    """At every moment the time belongs to one of KINDS, so that together they are all the time."""

    def __init__(self, now: Callable[[], float] = time.perf_counter):
        self.now, self.kind, self.since = now, "start", now()
        self.seconds = dict.fromkeys(KINDS, 0.0)
        self.last = dict.fromkeys(KINDS, 0.0)  # seconds of the last `during`, without compiling
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
        before, so_far = self.kind, self.seconds[kind]
        self.turn_to(kind)
        try:
            yield
        finally:
            self.turn_to(before)
            self.last[kind] = self.seconds[kind] - so_far

    @contextlib.contextmanager
    def hearing_of_compilers(self) -> Iterator[None]:
        """Within, the time in which JAX compiles in this thread belongs to "compile"."""
        thread = threading.get_ident()

        def heard(event: str, seconds: float, **_: object) -> None:
            if event == COMPILED and threading.get_ident() == thread:
                self.seconds[self.kind] -= seconds
                self.seconds["compile"] += seconds

        jax.monitoring.register_event_duration_secs_listener(heard)
        try:
            yield
        finally:
            jax.monitoring.unregister_event_duration_listener(heard)

    def finished(self) -> None:
        """One more step of the window is computed."""
        self.steps += 1

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
            others: how often something else is still to be done, for as long as the last time;
                what was never done yet counts as nothing, as nobody knows.
        """
        pace = self.step_seconds
        if pace is None:
            return None
        if self.windows:
            pace = sum(seconds for seconds, _ in self.windows) / sum(n for _, n in self.windows)
        return steps * pace + sum(times * self.last[kind] for kind, times in others.items())

    def _window(self) -> tuple[float, float]:
        """Seconds for data and for steps in the present window."""
        self.turn_to(self.kind)
        return self.seconds["data"] - self.began[0], self.seconds["step"] - self.began[1]


class Times:
    """Keeps the run's times.json, which has a session for every process that trained it."""

    def __init__(self, path: Path, clock: Clock, start: int):
        self.path, self.clock, self.start = path, clock, start
        self.sessions = read_times(path)["sessions"]
        self.began = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self.written, self.failed = float("-inf"), False

    def write(self, step: int, *, now: bool = False) -> None:
        """Writes the file, if it is some seconds old or if asked to; never ends a run."""
        self.clock.turn_to(self.clock.kind)
        if not now and self.clock.since - self.written < WRITE_EVERY:
            return
        self.written = self.clock.since
        seconds = {kind: round(value, 3) for kind, value in self.clock.seconds.items()}
        span = {"began": self.began, "from_step": self.start, "to_step": step}
        content = summed([*self.sessions, {**span, "seconds": seconds}])
        try:
            write_whole(self.path, json.dumps(content, indent=2) + "\n", "the times")
        except (OSError, WriteError) as error:
            if not self.failed:
                logger.error("the times of this run are not kept: %s", error)
            self.failed = True
