"""The connections between processes, in processes that do nothing else: who ends, how and why."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What each process does once all are connected; `me` is its number.
PROGRAM = """
import pathlib, sys, time
from pse_jax.processes import peers
from pse_jax.progress import show_log
show_log()
me, count, folder = int(sys.argv[1]), int(sys.argv[2]), pathlib.Path(sys.argv[3])
patience = float(sys.argv[4]), float(sys.argv[5])
invitation = folder / "invitation"
def wait_for(file):
    while not file.exists():
        time.sleep(0.01)
if me == 0:
    (folder / "part").write_text(peers.listen(*patience))
    (folder / "part").rename(invitation)
    while len(peers._link.names) < count - 1:
        time.sleep(0.01)
    (folder / "ready").touch()
else:
    wait_for(invitation)
    peers.join(me, "127.0.0.1", invitation.read_text(), *patience)
wait_for(folder / "ready")
print("ready", flush=True)
"""


class Group:
    """So many processes, connected; each then runs `after`."""

    def __init__(self, count, folder, after="time.sleep(120)", heartbeat=100, shutdown=300):
        words = [sys.executable, "-c", PROGRAM + after]
        self.processes = [
            subprocess.Popen(
                [*words, *map(str, (i, count, folder, heartbeat, shutdown))],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,  # `communicate` does not return what `readline` has buffered
            )
            for i in range(count)
        ]
        self.before = [self.until_ready(process) for process in self.processes]

    def until_ready(self, process):
        """What it printed before: another one may have ended all already."""
        before = b""
        while (line := process.stdout.readline()) not in (b"ready\n", b""):
            before += line
        return before

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.communicate()

    def outcomes(self, seconds=60):
        """Exit status and output of each."""
        outputs = [process.communicate(timeout=seconds)[0] for process in self.processes]
        return [
            (process.returncode, (before + output).decode())
            for process, before, output in zip(self.processes, self.before, outputs, strict=True)
        ]


@pytest.mark.parametrize("victim", [0, 2], ids=["process 0", "another"])
def test_the_death_of_one_ends_all_others_by_name(tmp_path, victim):
    with Group(3, tmp_path) as group:
        group.processes[victim].kill()
        outcomes = group.outcomes(seconds=30)  # of 120 that they would sleep
    for process, (status, output) in enumerate(outcomes):
        if process != victim:
            assert status == 3, output
            assert f"process {victim} (" in output and ") is gone: killed, out of" in output
            assert "the same command, on every process, resumes" in output


@pytest.mark.parametrize("culprit", [0, 2], ids=["process 0", "another"])
def test_the_error_of_one_ends_all_others_with_its_message_and_status(tmp_path, culprit):
    after = f"me == {culprit} and peers.end_all(': no annotations at /x', 2)\ntime.sleep(120)"
    with Group(3, tmp_path, after) as group:
        outcomes = group.outcomes(seconds=30)
    for process, (status, output) in enumerate(outcomes):
        assert status == 2, output
        assert ("): no annotations at /x" in output) == (process != culprit)
        if process != culprit:
            assert f"process {culprit} (" in output


def test_processes_that_end_normally_one_after_the_other_are_not_missed(tmp_path):
    after = "time.sleep(me * 0.4)\npeers.finish()\nprint('end', me)"
    with Group(3, tmp_path, after) as group:
        outcomes = group.outcomes()
    assert outcomes == [(0, f"end {i}\n") for i in range(3)]
    (tmp_path / "other").mkdir()
    after = "time.sleep((2 - me) * 0.4)\npeers.finish()\nprint('end', me)"
    with Group(3, tmp_path / "other", after) as group:
        outcomes = group.outcomes()
    assert outcomes == [(0, f"end {i}\n") for i in range(3)]


@pytest.mark.parametrize("victim", [0, 2], ids=["process 0", "another"])
def test_one_that_hangs_is_named_by_all_others_within_the_heartbeat(tmp_path, victim):
    """It lives, as far as its system knows; when it goes on, it learns that it was given up."""
    with Group(3, tmp_path, heartbeat=2) as group:
        group.processes[victim].send_signal(signal.SIGSTOP)
        stopped = time.time()
        others = [process for i, process in enumerate(group.processes) if i != victim]
        for process in others:
            assert process.wait(timeout=30) == 3
        assert 1 < time.time() - stopped < 12  # process 0 gives the others 5 s to end first
        group.processes[victim].send_signal(signal.SIGCONT)
        outcomes = group.outcomes(seconds=30)
    for status, output in outcomes:
        assert status == 3 and "the same command, on every process, resumes" in output, output
        said = rf"process {victim} \(.*\) (has not answered for 2 s|is gone)"
        assert re.search(said, output) or "process 0 (" in output, output
    for process, (_, output) in enumerate(outcomes):
        if process != victim:
            assert f"process {victim} (" in output and "has not answered for 2 s" in output


def test_the_process_that_the_others_wait_for_is_named_once(tmp_path):
    """Its threads live, so that nobody is ended: it may only have slow data."""
    after = """
for _ in range(3 if me == 1 else 5):
    peers.begin_batch()
time.sleep(3)
peers.finish()
"""
    with Group(3, tmp_path, after, heartbeat=1) as group:
        outcomes = group.outcomes()
    assert [status for status, _ in outcomes] == [0, 0, 0]
    assert outcomes[0][1].count("has begun no batch for 1 s and is 2 behind") == 1
    assert re.search(r"process 1 \(.*\) has begun no batch", outcomes[0][1])
    assert outcomes[1][1] == outcomes[2][1] == ""


@pytest.mark.parametrize("slow", [0, 1])
def test_one_that_does_not_end_is_ended_by_name(tmp_path, slow):
    after = f"me == {slow} and time.sleep(60)\npeers.finish()"
    with Group(2, tmp_path, after, shutdown=1) as group:
        outcomes = group.outcomes(seconds=20)
    for status, output in outcomes:
        assert status == 3
        assert re.search(rf"process {slow} \(.*\) has not ended within 1 s", output), output


def test_who_is_busy_or_suspended_is_not_taken_for_dead(tmp_path):
    """One process holds Python's lock in a single long operation, another is stopped."""
    after = "me == 1 and len(str(3 ** 400_000))\nme == 2 or time.sleep(2)\npeers.finish()"
    after = "import sys; sys.set_int_max_str_digits(0)\n" + after
    with Group(3, tmp_path, after) as group:
        group.processes[0].send_signal(signal.SIGSTOP)
        time.sleep(1.5)  # what is tested: that nothing happens meanwhile
        assert [process.poll() for process in group.processes] == [None] * 3
        group.processes[0].send_signal(signal.SIGCONT)
        assert group.outcomes() == [(0, "")] * 3


def test_a_stranger_that_connects_is_ignored(tmp_path):
    after = """
import json, socket
if me == 1:
    port = int(invitation.read_text().split()[0])
    for hello in (b"GET / HTTP/1.1", b'{"token": "x", "process": 1}', b"[1]", b"1", b"\\xff", b""):
        with socket.create_connection(("127.0.0.1", port)) as stranger:
            stranger.sendall(hello and hello + b"\\n")
peers.finish()
"""
    with Group(2, tmp_path, after) as group:
        assert group.outcomes() == [(0, "")] * 2
