"""Runs the trials, one or a few at a time, each as its own process of `python -m pse_jax train`.

A process of its own frees its memory, and takes nothing with it when it crashes. When the sweep is
asked to stop (SIGTERM), it asks the process, which saves; resumed, the sweep resumes the trial.
"""

import contextlib
import logging
import os
import queue
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed

from tqdm import tqdm

from pse_jax import processors, progress
from pse_jax.experiments.sweep.plan import Trial, read_numbers
from pse_jax.files import make_folder, write_whole
from pse_jax.runs.folder import Run, read_metrics
from pse_jax.runs.lock import held

logger = logging.getLogger(__name__)

POLL = 1.0  # seconds between looks at a trial's metrics
PATIENCE = 300.0  # seconds that a trial has to save when it is asked to stop
PROGRAM = (sys.executable, "-m", "pse_jax", "train")

Start = Callable[[Trial, Callable[[int], object]], int]  # trains; reports steps; the exit status


def command(trial: Trial, config_file: str) -> list[str]:
    """The training command of a trial; typed by hand it does the same."""
    return [*PROGRAM, "--config", config_file, "--workdir", str(trial.folder), *trial.flags]


def train_process(config_file: str) -> Start:
    """The `Start` that trains, once no other process does so in the trial's folder.

    A sweep that was killed leaves the process that it had started, which trains on.
    """

    def start(trial: Trial, report: Callable[[int], object]) -> int:
        with held(trial.folder, wait=True):
            pass
        words = command(trial, config_file)
        with trial.output.open("ab") as output:
            output.write(f"$ {shlex.join(words)}\n".encode())
            output.flush()
            # A session of its own: Ctrl-C reaches the sweep alone, which then asks it to save.
            with subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            ) as process:
                return _wait(process, trial, report)

    return start


def _wait(process: subprocess.Popen, trial: Trial, report: Callable[[int], object]) -> int:
    try:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(POLL)
            report(last_step(trial))
    except BaseException:
        logger.warning("%s is asked to save and stop", trial)
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
        raise


def last_step(trial: Trial) -> int:
    """The last step in a trial's metrics; 0 before the first."""
    rows, _ = read_metrics(Run(trial.folder).metrics)
    return rows[-1][0] if rows else 0


def run_all(trials: list[Trial], start: Start, jobs: int = 1) -> None:
    """Trains these; a trial that fails is noted, and the next one begins.

    Args:
        trials: in the order in which they begin.
        start: trains one.
        jobs: how many at a time. Of several, each has its own share of the processors (on Linux).
    """
    with progress.bar(sum(trial.config.optimizer.steps for trial in trials), "sweep") as bar:
        runs = _Runs(start, bar, len(trials))
        workers = ThreadPoolExecutor(jobs, "run", _settle, (_shares(jobs),))
        try:
            futures = [workers.submit(runs.run, n, trial) for n, trial in enumerate(trials, 1)]
            for future in as_completed(futures):
                future.result()
        finally:  # of all, or at Ctrl-C, which arrives here alone
            runs.stopping.set()
            workers.shutdown(cancel_futures=True)


class _Runs:
    """What the threads that each wait for a run have in common."""

    def __init__(self, start: Start, bar: tqdm, count: int):
        self.start, self.bar, self.count = start, bar, count
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.began, self.ended = time.perf_counter(), 0

    def run(self, number: int, trial: Trial) -> None:
        """Trains one and logs how it went."""
        if self.stopping.is_set():
            return
        which = f"{number}/{self.count}: {trial}"
        self.bar.set_description(which)
        logger.info("run %s, in %s", which, trial.folder)
        try:
            outcome = self._train(trial)
        except BaseException:
            self.stopping.set()
            raise
        with self.lock:
            self.ended += 1
            eta = (time.perf_counter() - self.began) / self.ended * (self.count - self.ended)
        logger.info("run %s, %s; eta %s", which, outcome, progress.duration(eta))

    def _train(self, trial: Trial) -> str:
        """Returns how it went, in words."""
        since, seen = time.perf_counter(), 0

        def report(step: int) -> None:
            nonlocal seen
            if self.stopping.is_set():
                raise KeyboardInterrupt
            with self.lock:
                self.bar.update(step - seen)
            seen = step

        make_folder(trial.folder, "the folder of a run")
        trial.exit_status.unlink(missing_ok=True)
        status = self.start(trial, report)
        write_whole(trial.exit_status, f"{status}\n", "the exit status of a run")
        with self.lock:
            self.bar.update(trial.config.optimizer.steps - seen)
        numbers = read_numbers(trial)
        if numbers is None:
            return f"FAILED with exit status {status}, see {trial.output}"
        ap = "-" if numbers["AP"] is None else f"{100 * numbers['AP']:.1f}"
        return f"AP {ap} in {progress.duration(time.perf_counter() - since)}"


def _shares(jobs: int) -> queue.SimpleQueue[set[int]]:
    """The processors of each job, as equal as can be; none where there is nothing to share."""
    shares: queue.SimpleQueue[set[int]] = queue.SimpleQueue()
    if jobs > 1 and (numbers := processors.numbers()):
        for job in range(jobs):
            shares.put(set(numbers[job::jobs]))
    return shares


def _settle(shares: queue.SimpleQueue[set[int]]) -> None:
    """Keeps this thread, and so the processes that it starts, on a share of the processors."""
    with contextlib.suppress(queue.Empty):
        os.sched_setaffinity(0, shares.get_nowait())
