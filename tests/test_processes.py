"""train.py as people run it: killed, asked to stop, spread over processes, started by Slurm.

The slow part is every signal at every moment: pytest -n 0 -m slow tests/test_processes.py
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from pse_jax.data import sources
from pse_jax.runs.evaluate import evaluate_run
from pse_jax.runs.folder import Run
from pse_jax.runs.load import load_run
from tests import tiny_run

ROOT = Path(__file__).parents[1]
STEPS = 300  # of some 15 ms: enough for a signal to arrive on the way
EVALUATED = 12  # the step of the one evaluation before a signal arrives


def environment(**more: str) -> dict[str, str]:
    """Of a process of one CPU device that compiles faster, to run slower."""
    fast = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    own = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1", "XLA_FLAGS": fast}
    return {**os.environ, **own, **more}


def words(cache: Path, workdir: Path, *flags: str) -> list[str]:
    """The flags of a tiny run."""
    return [
        "--config=tests/tiny_run.py",
        f"--workdir={workdir}",
        f"--config.data.cache_dir={cache}",
        f"--config.optimizer.steps={STEPS}",
        "--config.optimizer.milestones=(200,)",
        "--config.train.checkpoint_every=20",
        *flags,
    ]


class Command:
    """train.py on the tiny configuration, in a process of its own."""

    PROGRAM = "train.py"

    def __init__(self, cache: Path, workdir: Path, *flags: str, **more: str):
        self.workdir = workdir
        self.process = subprocess.Popen(
            [sys.executable, self.PROGRAM, *words(cache, workdir, *flags)],
            cwd=ROOT,
            env=environment(**more),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,  # `communicate` does not return what `readline` has buffered
        )
        self.seen = ""

    def wait_for(self, text: str) -> None:
        """Reads what it prints until a line has that text."""
        stream = self.process.stdout
        assert stream is not None
        while text not in self.seen:
            line = stream.readline()
            assert line, self.seen
            self.seen += line.decode()

    def end(self) -> tuple[int, str]:
        """Waits for the end: exit status, and all that was printed."""
        output, _ = self.process.communicate(timeout=600)
        return self.process.returncode, self.seen + output.decode()

    def steps(self) -> list[dict]:
        """What metrics.jsonl holds so far."""
        path = self.workdir / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    def wait_until(self, condition) -> None:
        deadline = time.time() + 120
        while not condition():
            if self.process.poll() is not None or time.time() > deadline:
                self.process.kill()
                pytest.fail(self.end()[1])
            time.sleep(0.02)

    def finish(self) -> str:
        status, output = self.end()
        assert status == 0, output
        return output

    def parameters(self):
        return jax.device_get(load_run(Run(self.workdir), "latest").variables["params"])


@pytest.fixture(autouse=True, scope="module")
def signals_of_a_terminal():
    """What a process started here hears, also when the tests run in the background or by nohup."""
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def several(cache, workdir, *flags, each=((), ()), program=Command):
    """One command in several processes; `each` has more flags of every one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    return [
        program(
            cache,
            workdir,
            *flags,
            *more,
            JAX_COORDINATOR_ADDRESS=address,
            JAX_NUM_PROCESSES=str(len(each)),
            JAX_PROCESS_ID=str(index),
        )
        for index, more in enumerate(each)
    ]


def assert_resumable(output):
    """The last line is the command, with nothing of a traceback before it."""
    assert "Traceback" not in output
    last = output.strip().splitlines()[-1]
    assert re.search(r"to resume: \S+ train\.py --config=tests/tiny_run.py --workdir=", last), (
        output
    )


def slurm(cache: Path, folder: Path, *flags: str) -> subprocess.Popen:
    """docs/slurm.sbatch as sbatch runs it, for two tasks of two devices each."""
    folder.mkdir()
    srun = folder / "srun"
    srun.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT}/tests/fake_srun.py "$@"\n')
    srun.chmod(0o755)
    with socket.socket() as probe:  # JAX makes the port of the job's number: one that is free
        for number in range(1, 4096):
            if probe.connect_ex(("localhost", 61440 + number)):
                break
    return subprocess.Popen(
        ["bash", "docs/slurm.sbatch", *words(cache, folder / "run", *flags)],
        cwd=ROOT,
        env=environment(
            PATH=f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            FAKE_SRUN=str(folder),
            SLURM_JOB_ID=str(number),
            SLURM_NTASKS="2",
            SLURM_SUBMIT_DIR=str(ROOT),
            JAX_NUM_CPU_DEVICES="2",
        ),
    )


def wait_until(condition, job: subprocess.Popen, log: Path) -> None:
    deadline = time.time() + 600
    while not condition():
        assert job.poll() is None and time.time() < deadline, log.read_text()
        time.sleep(0.02)


def rows_of(workdir: Path) -> dict[int, dict]:
    """Of training, by step."""
    rows = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return {row["step"]: row for row in rows if "loss" in row}


@pytest.mark.slow
def test_two_tasks_of_slurm_stop_together_and_one_process_goes_on(cache, tmp_path):
    """Two of two devices each train as one of four; only the main one scores."""
    flags = [f"--config.train.eval_every={EVALUATED}", "--config.train.checkpoint_every=1000"]
    flags += ["--config.inference.score_threshold=0.001"]  # so that there are detections
    flags += ["--config.train.keep_checkpoints=9"]
    folder = tmp_path / "slurm"
    job, logs = slurm(cache, folder, *flags), [folder / "0.log", folder / "1.log"]
    try:
        numbers = folder / "run" / f"eval_{EVALUATED}.json"
        wait_until(lambda: numbers.exists(), job, logs[0])
        os.kill(int((folder / "1.pid").read_text()), signal.SIGTERM)
        assert job.wait(timeout=600) == 0, logs[0].read_text() + logs[1].read_text()
    finally:
        job.terminate()  # which a fake srun passes on
    outputs = [log.read_text() for log in logs]
    for index, output in enumerate(outputs):
        first = next(line for line in output.splitlines() if " job " in line)
        said = (
            rf"job +2 processes on 1 host, 4 devices \(cpu\); this is process {index} on .* with 2"
        )
        assert re.search(said, first), output
        assert_resumable(output)
    assert outputs[0].count("evaluated 10 images") == 1 and "evaluated" not in outputs[1]
    assert "the main process scores it" in outputs[1]
    (step,) = {int(re.search(r"step (\d+) is saved", output)[1]) for output in outputs}
    assert EVALUATED < step < 2 * EVALUATED

    more = [f"--config.optimizer.steps={step + 4}", *flags[1:]]
    four = {"JAX_NUM_CPU_DEVICES": "4"}
    output = Command(cache, folder / "run", *more, **four).finish()
    assert f"steps       {step} to {step + 4} (resumed from a checkpoint)" in output
    straight = Command(cache, tmp_path / "straight", *more, **four)
    assert "job         1 process on 1 host, 4 devices (cpu)\n" in straight.finish()
    ours, theirs = rows_of(folder / "run"), rows_of(tmp_path / "straight")
    assert list(ours) == list(theirs) and max(ours) == step + 4
    for at in theirs:  # the same images in the same order
        assert ours[at]["positives"] == theirs[at]["positives"] > 0
    for at in (2, 4, 6):  # the order of the sums differs, and each step starts from the last one's
        for name in ("loss", "cls", "box", "assoc", "grad_norm"):
            assert ours[at][name] == pytest.approx(theirs[at][name], rel=1e-4), (ours, theirs)

    run = Run(folder / "run")
    evaluate_run(run, run.config(), str(EVALUATED), tmp_path / "again")  # by one, of eight devices
    name = f"detections_{EVALUATED}.json"
    found, again = (json.loads((at / name).read_text()) for at in (run.folder, tmp_path / "again"))
    assert len(found) == len(again) > 50
    assert [d["image_id"] for d in found] == [d["image_id"] for d in again]
    assert len({d["image_id"] for d in found}) == 10  # batches of 8: the last one is filled up
    np.testing.assert_allclose([d["score"] for d in found], [d["score"] for d in again], atol=1e-4)
    np.testing.assert_allclose([d["bbox"] for d in found], [d["bbox"] for d in again], atol=0.05)


def as_coco(root: Path) -> list[str]:
    """Flags that read generated data as anybody's COCO folder."""
    return [
        "--config.data.source=coco",
        f"--config.data.root={root}",
        "--config.data.train_annotations=annotations/instances_train.json",
        "--config.data.val_annotations=annotations/instances_val.json",
        "--config.data.train_images=train",
        "--config.data.val_images=val",
    ]


def test_a_host_with_other_data_or_values_ends_all_at_once_and_says_in_what(cache, tmp_path):
    """One box has moved by a pixel; nothing is compiled."""
    data = Path(sources.locate(tiny_run.config(cache).data).root)
    other = Path(shutil.copytree(data, tmp_path / "other"))
    file = other / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["bbox"][0] += 1
    file.write_text(json.dumps(content))
    each = (
        (*as_coco(data), "--config.seed=1"),
        (*as_coco(other), "--config.optimizer.steps=9", "--config.data.threads=1"),
    )
    for command in several(cache, tmp_path / "run", each=each):
        status, output = command.end()
        assert status == 2 and "Traceback" not in output, output
        assert re.search(r"config.seed: 1 in process 0 \(.*\); 0 in process 1 \(", output), output
        assert re.search(r"config.optimizer.steps: 300 in process 0 .*; 9 in process 1", output)
        boxes = (
            r"the boxes of the training data: \d+ \(\w+\) in process 0 .*; \d+ \(\w+\) in process 1"
        )
        assert re.search(boxes, output), output
        assert output.count(" data: ") == 1  # nothing else of them
        assert "threads" not in output and "compiled the step" not in output


def test_a_killed_process_is_named_by_the_other_at_once(cache, tmp_path):
    """Within the heartbeat, that is; process 0 and a mere hang: test_peers.py, and below."""
    sooner = ("--config.model.norm=frozen_bn", "--config.model.frozen_stages=5")  # compiled
    commands = several(cache, tmp_path, "--heartbeat=20", *sooner)
    commands[0].wait_for("step 4/")
    commands[1].process.kill()
    killed = time.time()
    status, output = commands[0].end()
    assert time.time() - killed < 20
    assert status == 3, output
    assert re.search(r"process 1 \(.*\) is gone: killed, out of memory", output), output


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("name", ["SIGKILL", "SIGSTOP"])
def test_a_process_that_is_gone_or_hangs_is_named_in_time(cache, tmp_path, victim, name):
    commands = several(cache, tmp_path, "--heartbeat=8")
    commands[0].wait_for("step 4/")
    commands[victim].process.send_signal(getattr(signal, name))
    sent = time.time()
    status, output = commands[1 - victim].end()
    assert time.time() - sent < (20 if name == "SIGSTOP" else 8)
    assert status == 3, output
    says = "is gone: killed" if name == "SIGKILL" else "has not answered for 8 s"
    # JAX's own report of a dead process 0 may be written at the same moment.
    assert re.search(rf"process {victim} \(.*\) {says}", output), output
    if name == "SIGSTOP":
        commands[victim].process.send_signal(signal.SIGCONT)
        assert commands[victim].end()[0] != 0


@pytest.mark.slow
def test_killed_then_asked_to_stop_then_finished(cache, tmp_path_factory, tmp_path):
    """The parameters end the same, bit for bit."""
    straight = Command(cache, tmp_path_factory.mktemp("straight"))
    straight.finish()
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


@pytest.mark.slow
def test_ctrl_c_saves_and_says_how_to_resume(cache, tmp_path):
    command = Command(cache, tmp_path, "--config.train.checkpoint_every=1000")
    command.wait_for("step 4/")
    command.process.send_signal(signal.SIGINT)
    status, output = command.end()
    assert status == 0, output
    saved = re.search(r"step (\d+) is saved; the same command resumes", output)
    assert saved and (tmp_path / "checkpoints" / saved[1]).is_dir(), output
    assert_resumable(output)


@pytest.mark.slow
def test_data_that_one_process_lacks_end_all_with_its_message(cache, tmp_path):
    command = Command(cache, tmp_path / "first", "--config.optimizer.steps=2")
    command.finish()
    data = next(cache.glob("shapes-*"))
    empty = tmp_path / "empty"
    empty.mkdir()
    commands = several(
        cache, tmp_path / "run", *as_coco(data), each=((), (f"--config.data.root={empty}",))
    )
    (status, output), (own_status, own_output) = [command.end() for command in commands]
    assert (status, own_status) == (2, 2), output + own_output
    assert f"error: {empty}" in own_output or f"at {empty}" in own_output
    assert re.search(rf"process 1 \(.*\): .*{empty}", output), output


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP", "SIGTERM"])
def test_a_signal_to_one_process_saves_and_ends_both(cache, tmp_path, name, victim):
    commands = several(cache, tmp_path, "--config.train.checkpoint_every=1000")
    commands[0].wait_for("step 4/")
    commands[victim].process.send_signal(getattr(signal, name))
    for command in commands:
        status, output = command.end()
        assert status == 0, output
        saved = re.search(r"step (\d+) is saved", output)
        assert saved and (tmp_path / "checkpoints" / saved[1]).is_dir(), output
        assert_resumable(output)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP", "SIGTERM"])
@pytest.mark.parametrize(
    "moment, says", [("steps       0 to", "before the first step"), ("evaluate:", "evaluation")]
)
def test_where_nothing_is_to_be_saved_a_signal_ends_at_once(cache, tmp_path, name, moment, says):
    """Before the first step, and in an evaluation of some 2,000 batches."""
    flags = ["--config.train.eval_every=2", "--config.data.shapes.val_images=2000"]
    flags += ["--config.inference.batch_size=1"]
    command = Command(cache, tmp_path, *(flags if says == "evaluation" else ()))
    if says == "evaluation":
        command.wait_until(lambda: (tmp_path / "checkpoints" / "2").is_dir())
    else:
        command.wait_for(moment)
    command.process.send_signal(getattr(signal, name))
    sent = time.time()
    status, output = command.end()
    assert status == 0 and time.time() - sent < 30, output
    assert says in output and "nothing is lost" in output
    assert_resumable(output)


@pytest.mark.slow
def test_a_second_ctrl_c_stops_at_once_and_says_what_is_safe(cache, tmp_path):
    command = Command(cache, tmp_path)
    command.wait_until(lambda: (tmp_path / "checkpoints" / "20").is_dir())
    command.process.send_signal(signal.SIGINT)
    command.wait_for("asked to stop (Ctrl-C)")
    command.process.send_signal(signal.SIGINT)
    status, output = command.end()
    if status:  # it may have been saved before the second
        assert status == 130 and re.search(
            r"stopped at once by Ctrl-C; step \d+ in .* is safe", output
        )
    assert_resumable(output)


@pytest.mark.slow
def test_a_closed_terminal_does_not_keep_it_from_saving(cache, tmp_path):
    """Nobody reads its output any more: every line that it writes fails."""
    command = Command(cache, tmp_path, "--config.train.checkpoint_every=1000")
    command.wait_for("step 4/")
    command.process.stdout.close()
    command.process.send_signal(signal.SIGHUP)
    assert command.process.wait(timeout=240) == 0
    assert re.search(r"step (\d+) is saved", (tmp_path / "train.log").read_text())


@pytest.mark.slow
def test_under_nohup_a_closed_terminal_changes_nothing(cache, tmp_path):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # inherited, as nohup has it
    try:
        command = Command(cache, tmp_path, "--config.optimizer.steps=40")
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # for the processes of other tests
    command.wait_for("step 4/")
    command.process.send_signal(signal.SIGHUP)
    status, output = command.end()
    assert status == 0 and "step 40/40" in output and "asked to stop" not in output


class Evaluation(Command):
    PROGRAM = "eval.py"


@pytest.mark.slow
def test_ctrl_c_ends_an_evaluation_with_one_line(cache, tmp_path):
    Command(cache, tmp_path, "--config.optimizer.steps=2").finish()
    command = Evaluation(cache, tmp_path)
    command.wait_for("evaluating step 2")
    command.process.send_signal(signal.SIGINT)
    status, output = command.end()
    assert status == 130, output
    assert output.strip().splitlines()[-1] == "stopped by Ctrl-C" and "Traceback" not in output


@pytest.mark.slow
def test_evaluations_that_disagree_end_at_once_and_say_in_what(cache, tmp_path):
    Command(cache, tmp_path, "--config.optimizer.steps=2").finish()
    each = ((), ("--config.inference.nms_threshold=0.5",))
    for command in several(cache, tmp_path, each=each, program=Evaluation):
        status, output = command.end()
        assert status == 2, output
        assert re.search(r"config.inference.nms_threshold: 0.6 in process 0 .*; 0.5 in", output)
