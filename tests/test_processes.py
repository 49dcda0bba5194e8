"""train.py as people run it: killed, asked to stop, and spread over two processes."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from pse_jax.runs.folder import Run
from pse_jax.runs.load import load_run

ROOT = Path(__file__).parents[1]


STEPS = 300  # of some 15 ms: enough for a signal to arrive on the way


class Command:
    """train.py on the tiny configuration, in a process of its own."""

    def __init__(self, cache: Path, workdir: Path, *flags: str, **environment: str):
        self.workdir = workdir
        self.process = subprocess.Popen(
            [
                sys.executable,
                "train.py",
                "--config=tests/tiny_run.py",
                f"--workdir={workdir}",
                f"--config.data.cache_dir={cache}",
                f"--config.optimizer.steps={STEPS}",
                "--config.optimizer.milestones=(200,)",
                "--config.train.checkpoint_every=20",
                *flags,
            ],
            cwd=ROOT,
            env={**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def steps(self) -> list[dict]:
        """What metrics.jsonl holds so far."""
        path = self.workdir / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    def wait_until(self, condition) -> None:
        deadline = time.time() + 120
        while not condition():
            assert self.process.poll() is None and time.time() < deadline, (
                self.process.communicate()
            )
            time.sleep(0.02)

    def finish(self) -> str:
        output, _ = self.process.communicate(timeout=240)
        assert self.process.returncode == 0, output
        return output

    def parameters(self):
        return jax.device_get(load_run(Run(self.workdir), "latest").variables["params"])


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def straight(cache, tmp_path_factory):
    """A run that nothing interrupts."""
    command = Command(cache, tmp_path_factory.mktemp("straight"))
    command.finish()
    return command


def test_killed_then_asked_to_stop_then_finished(straight, cache, tmp_path):
    """The parameters end the same, bit for bit."""
    command = Command(cache, tmp_path)
    command.wait_until(lambda: (tmp_path / "checkpoints" / "20").is_dir())
    command.process.kill()
    command.process.communicate()

    command = Command(cache, tmp_path, "--config.train.checkpoint_every=1000")
    logged = len(command.steps())
    command.wait_until(lambda: len(command.steps()) > logged)
    command.process.send_signal(signal.SIGTERM)
    output = command.finish()  # with exit status 0
    assert "resumed from a checkpoint" in output
    saved = re.search(r"step (\d+) is saved; the same command resumes", output)
    assert saved, output
    assert 20 < int(saved[1]) < STEPS

    command = Command(cache, tmp_path)
    assert f"steps       {saved[1]} to {STEPS} (resumed from a checkpoint)" in command.finish()
    jax.tree.map(np.testing.assert_array_equal, command.parameters(), straight.parameters())


def test_two_processes_train_the_same_detector(straight, cache, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    commands = [
        Command(
            cache,
            tmp_path,
            "--config.optimizer.steps=6",
            JAX_COORDINATOR_ADDRESS=address,
            JAX_NUM_PROCESSES="2",
            JAX_PROCESS_ID=str(index),
        )
        for index in range(2)
    ]
    outputs = [command.finish() for command in commands]
    assert "2 process(es)" in outputs[0]
    together, alone = commands[0].steps(), straight.steps()
    for ours, theirs in zip(together[:3], alone[:3], strict=True):
        assert ours["step"] == theirs["step"] <= 6
        for name in ("loss", "cls", "box", "assoc", "positives", "grad_norm"):
            # The order of the sums differs, and each step starts from the last one's rounding.
            assert ours[name] == pytest.approx(theirs[name], rel=1e-4), (ours, theirs)
