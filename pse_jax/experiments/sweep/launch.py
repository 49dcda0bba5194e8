"""Runs the trials, one after the other, each as its own process of `python -m pse_jax train`.

A process of its own frees its memory, and takes nothing with it when it crashes. When the sweep is
asked to stop (SIGTERM), it asks the process, which saves; resumed, the sweep resumes the trial.
"""

import contextlib
import logging
import shlex
import subprocess
import sys
import time
from collections.abc import Callable

from tqdm import tqdm

from pse_jax import progress
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
    make_folder(trial.folder, "the folder of a run")
    trial.exit_status.unlink(missing_ok=True)
    status = start(trial, lambda step: bar.update(before + step - bar.n))
    write_whole(trial.exit_status, f"{status}\n", "the exit status of a run")
    bar.update(before + trial.config.optimizer.steps - bar.n)
    numbers = read_numbers(trial)
    if numbers is None:
        return f"FAILED with exit status {status}, see {trial.output}"
    ap = "-" if numbers["AP"] is None else f"{100 * numbers['AP']:.1f}"
    return f"AP {ap} in {progress.duration(time.perf_counter() - since)}"
