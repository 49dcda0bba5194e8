"""Runs the trials, one after the other, each as its own process of `python -m pse_jax train`.

A process of its own frees its memory, and takes nothing with it when it crashes. When the sweep is
asked to stop (SIGTERM), it asks the process, which saves; resumed, the sweep resumes the trial.
"""

import contextlib
import fcntl
import json
import logging
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tqdm import tqdm

from pse_jax import progress
from pse_jax.experiments.sweep.plan import Trial, read_numbers
from pse_jax.runs.folder import Run

logger = logging.getLogger(__name__)

POLL = 1.0  # seconds between looks at a trial's metrics
PATIENCE = 300.0  # seconds that a trial has to save when it is asked to stop
PROGRAM = (sys.executable, "-m", "pse_jax", "train")

Start = Callable[[Trial, Callable[[int], object]], int]  # trains; reports steps; the exit status


def command(trial: Trial, config_file: str) -> list[str]:
    """The training command of a trial; typed by hand it does the same."""
    return [*PROGRAM, "--config", config_file, "--workdir", str(trial.folder), *trial.flags]


def train_process(config_file: str, lock: int) -> Start:
    """The `Start` that trains; its process holds the file descriptor `lock` as long as it lives."""

    def start(trial: Trial, report: Callable[[int], object]) -> int:
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
                pass_fds=(lock,),
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
    try:
        lines = Run(trial.folder).metrics.read_text().splitlines()
        return int(json.loads(lines[-1])["step"])
    except (FileNotFoundError, IndexError, json.JSONDecodeError):
        return 0


def run_all(trials: list[Trial], start: Start) -> None:
    """Trains what is not finished; a trial that fails is noted, and the next one begins.

    Raises:
        ConfigError: if a finished trial has another configuration.
    """
    left = [trial for trial in trials if read_numbers(trial) is None]
    if len(left) < len(trials):
        logger.info("%d of %d runs are already finished", len(trials) - len(left), len(trials))
    began = time.perf_counter()
    with progress.bar(sum(trial.config.optimizer.steps for trial in left), "sweep") as bar:
        for number, trial in enumerate(left, 1):
            which = f"{number}/{len(left)}: {trial}"
            bar.set_description(which)
            logger.info("run %s, in %s", which, trial.folder)
            outcome = _run_one(trial, start, bar)
            eta = (time.perf_counter() - began) / number * (len(left) - number)
            logger.info("run %s, %s; eta %s", which, outcome, progress.duration(eta))


def _run_one(trial: Trial, start: Start, bar: tqdm) -> str:
    """Trains one; returns how it went, in words."""
    before, since = bar.n, time.perf_counter()
    trial.folder.mkdir(parents=True, exist_ok=True)
    trial.exit_status.unlink(missing_ok=True)
    status = start(trial, lambda step: bar.update(before + step - bar.n))
    trial.exit_status.write_text(f"{status}\n")
    bar.update(before + trial.config.optimizer.steps - bar.n)
    numbers = read_numbers(trial)
    if numbers is None:
        return f"FAILED with exit status {status}, see {trial.output}"
    ap = "-" if numbers["AP"] is None else f"{100 * numbers['AP']:.1f}"
    return f"AP {ap} in {progress.duration(time.perf_counter() - since)}"


@contextlib.contextmanager
def locked(out: Path) -> Iterator[int]:
    """Holds OUT/lock, waiting for it; gives its file descriptor, for the trials to hold as well.

    A sweep that was killed leaves the process that it had started, which trains on: the lock keeps
    a second process out of its folder.
    """
    out.mkdir(parents=True, exist_ok=True)
    with (out / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.warning("waiting for another sweep in %s, or a run that it left behind", out)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()
